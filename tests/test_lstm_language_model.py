"""The LSTM language model: trained, exported, read in C; chunked reading, generation, perplexity, wrong input."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.cli.main import main
from asr.errors import ModelError, UsageError
from asr.lm.lstm import UNKNOWN, WEIGHTS, LstmLanguageModel, generate, write_lstm_language_model
from asr.lm.perplexity import measure_perplexity
from asr.lm.stored_lexicon import stored_lexicon
from asr.models.language import ENDS, LanguageConfig, LanguageModelNetwork
from asr.native import library
from asr.training.language_model import LanguageTrainingOptions, export_language_model, train_language_model
from asr.training.language_text import TextBatches, encode_texts
from asr.words.tokens import PHONES, TokenTable

SENTENCE = "the quick brown fox jumps over the lazy dog"
CONFIG = LanguageConfig((4, 8, 12), (8, 6, 4), 16, 2)
OPTIONS = LanguageTrainingOptions(0.005, rows=4, steps=5, learning_rate=3e-2, forget=0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder, text file and network of a model that knows one sentence by heart."""
    folder = tmp_path_factory.mktemp("lstm")
    file = folder / "text.txt"
    file.write_text((SENTENCE + "\n") * 40)
    text = encode_texts([file], 100)
    config = LanguageConfig.for_vocabulary(len(text.words), size=32)
    network, complete = train_language_model(text, config, OPTIONS, folder, precision="float32")
    assert complete
    export_language_model(network, text, folder, OPTIONS)
    return folder, file, network


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=1, max_size=20), st.data())
def test_chunked_is_whole(words, data):
    torch.manual_seed(0)
    network = LanguageModelNetwork(CONFIG).eval()
    cut = data.draw(st.integers(0, len(words) - 1))
    read = torch.tensor(words)[:, None]
    with torch.no_grad():
        whole, end = network(read, network.initial_state(1))
        parts, state = [], network.initial_state(1)
        for part in (read[:cut], read[cut:]):
            if len(part):
                outputs, state = network(part, state)
                parts.append(outputs)
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)
    assert torch.allclose(state.cell, end.cell, atol=1e-6)


def test_probabilities_of_all_words_sum_to_one_and_agree_with_those_of_single_words():
    torch.manual_seed(0)
    words = LanguageModelNetwork(CONFIG).words
    outputs = torch.randn(12, 8)
    every = words.all_log_probs(outputs)
    assert torch.allclose(every.exp().sum(1), torch.ones(12), atol=1e-5)
    assert torch.allclose(words.log_probs(outputs, torch.arange(12)), every.diagonal(), atol=1e-5)


def test_the_folder_says_what_the_network_says(trained):
    folder, _, network = trained
    model = LstmLanguageModel.open(folder)
    ids = np.array([ENDS, *model.encode(SENTENCE.split()), ENDS])
    outputs, _ = model.read(ids[:-1, None], model.start())
    here = model.log_probs(outputs[:, 0], ids[1:])
    with torch.no_grad():
        there, _ = network.log_probs(
            torch.from_numpy(ids[:-1, None]), torch.from_numpy(ids[1:, None]), network.initial_state(1)
        )
    np.testing.assert_allclose(here, there[:, 0].numpy(), atol=0.1)  # 8 bits
    chosen = np.array([3, 0, 3])
    again = model.log_probs(outputs[:, 0], ids[1:][chosen], chosen)
    np.testing.assert_allclose(again, here[chosen], atol=1e-6)


@pytest.fixture
def kernels():
    """The number of kernels there are; what is used is put back."""
    yield 3
    library().rill_use_kernel(0)


@pytest.mark.parametrize(
    "config", [LanguageConfig((4, 8, 90), (12, 6, 5), 20, 2), LanguageConfig((9,), (5,), 7), LanguageConfig()]
)
def test_every_kernel_says_the_same_and_what_the_network_says(config, kernels, tmp_path):
    torch.manual_seed(1)
    network = LanguageModelNetwork(config).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(2)
    names = tuple(map(str, range(config.words)))
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    write_lstm_language_model(tmp_path, names, config.bands, weights, {})
    model = LstmLanguageModel.open(tmp_path)
    rows = 35  # more than are read at once
    words, following = np.random.default_rng(0).integers(0, config.words, (2, 6, rows))
    with torch.no_grad():
        network.load_state_dict({name: torch.from_numpy(value) for name, value in model.weights().items()})
        there, _ = network.log_probs(*map(torch.from_numpy, (words, following)), network.initial_state(rows))
        whole = network.words.all_log_probs(network(torch.from_numpy(words), network.initial_state(rows))[0][-1])
    found = []
    for passed_over in range(kernels):
        library().rill_use_kernel(passed_over)
        outputs, state = model.read(words[:2], model.start(rows))
        more, state = model.read(words[2:], state)
        outputs = np.concatenate([outputs, more]).reshape(-1, outputs.shape[-1])
        found.append(model.log_probs(outputs, following.reshape(-1)).reshape(6, rows))
        np.testing.assert_allclose(found[-1], found[0], atol=1e-4)
        every = model.all_log_probs(outputs[-rows:][:3])
        np.testing.assert_allclose(np.exp(every).sum(axis=1), 1, atol=1e-4)
        np.testing.assert_allclose(every, whole[:3], atol=0.3)
    assert np.abs(found[0] - there.numpy()).mean() < 0.03  # activations have 8 bits
    assert np.abs(found[0] - there.numpy()).max() < 0.5


@pytest.mark.parametrize("bands", [[5, 10], [9, 4, 20], [4, 40], [4, 8, 90], [1_000_000]])
def test_bands_of_other_weights_are_told(trained, tmp_path, bands):
    for file in trained[0].iterdir():
        if file.suffix != ".pt":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    description = json.loads((tmp_path / "config.json").read_text())
    assert description["bands"] != bands
    (tmp_path / "config.json").write_text(json.dumps(description | {"bands": bands}))
    with pytest.raises(ModelError, match="cannot be used"):
        LstmLanguageModel.open(tmp_path)


def test_what_was_said_before_must_be_of_as_many_texts(trained):
    model = LstmLanguageModel.open(trained[0])
    with pytest.raises(ValueError, match="states"):
        model.read(np.zeros((1, 3), int), model.start(2))
    outputs, state = model.read(np.zeros((0, 2), int), model.start(2))
    assert outputs.shape[:2] == (0, 2) and not state.any()


def test_training_goes_on_from_another_model(trained, tmp_path, monkeypatch, capsys):
    folder, file, _ = trained
    command = ["asr", "lm", "train-lstm", str(file), "-o", str(tmp_path), "--start-from", str(folder), "--rows", "4"]
    monkeypatch.setattr("sys.argv", [*command, "--million-words", "0.0001", "--learning-rate", "1e-6"])
    assert main() == 0
    was, now = (LstmLanguageModel.open(one) for one in (folder, tmp_path))
    assert (was.words, was.bands, was.widths) == (now.words, now.bands, now.widths)
    for name, weights in now.weights().items():
        np.testing.assert_allclose(weights, was.weights()[name], atol=0.02)
    monkeypatch.setattr("sys.argv", [*command, "--lm", str(folder)])
    assert main() == 2
    assert "leave out --lm" in capsys.readouterr().err


def test_it_has_learnt_and_goes_on_from_a_prompt(trained):
    folder, file, _ = trained
    model = LstmLanguageModel.open(folder)
    assert measure_perplexity(file, model, carry=True).lstm < 1.5
    assert list(generate(model, ["the", "quick"], 0.1, 0, 3)) == ["brown", "fox", "jumps"]
    hot = [list(generate(model, [], 5.0, seed, 20)) for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]


def test_a_run_goes_on_where_it_was_interrupted(trained, tmp_path, monkeypatch):
    text = encode_texts([trained[1]], 100)
    options = LanguageTrainingOptions(0.0004, rows=4, steps=5)

    def run(folder, report=lambda progress: None, options=options):
        return train_language_model(text, CONFIG, options, folder, report, precision="float32", report_every=5)

    def stop(progress):
        if progress.batch == 10:
            raise KeyboardInterrupt

    (tmp_path / "whole").mkdir()
    whole, _ = run(tmp_path / "whole")
    monkeypatch.setattr("asr.training.language_model.SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop)
    again, complete = run(tmp_path)
    assert complete
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, again.state_dict()[name], atol=1e-5), name
    with pytest.raises(UsageError, match="other settings .*rows"):
        run(tmp_path, options=LanguageTrainingOptions(0.0004, rows=5, steps=5))


def test_batches_read_on_and_begin_at_sentences():
    stream = np.array([2, 3, ENDS, 4, 5, 6, ENDS, 7, ENDS] * 5, np.int32)
    batches = iter(TextBatches([stream], [1.0], 2, 4, 0.5, 0))
    _, after, _ = next(batches)
    for _ in range(20):
        words, following, kept = next(batches)
        for row in range(2):
            assert words[0, row] == (after[-1, row] if kept[row] else ENDS)
        after = following


@pytest.mark.parametrize("text", ["", "1 2 3\n", "one line\n"])
def test_too_little_text_is_told(text, tmp_path, monkeypatch, capsys):
    file = tmp_path / "text.txt"
    file.write_text(text)
    command = ["asr", "lm", "train-lstm", str(file), "--output", str(tmp_path / "out"), "--threads", "1"]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 1
    told = capsys.readouterr().err
    assert "too few to learn from" in told and "Traceback" not in told


def test_words_of_a_lexicon_are_looked_up_once(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "kept"))
    content = b"fox F AA K S\nnowhere N OW\nthe DH AH\n"
    words, _ = stored_lexicon(Path("lexicon.txt"), "a", lambda: content, TokenTable(PHONES))
    model = LstmLanguageModel.open(trained[0])
    expected = model.encode(tuple(words))
    assert expected[2] == UNKNOWN and expected[1] == model.words.index("fox")
    assert model.ids_of(words).tolist() == model.ids_of(tuple(words)).tolist() == expected
    monkeypatch.setattr(LstmLanguageModel, "_words", lambda *_: pytest.fail("they were to be found"))
    assert LstmLanguageModel.open(trained[0]).ids_of(words).tolist() == expected


def test_damaged_and_other_folders_are_told(trained, tmp_path):
    folder = trained[0]
    with pytest.raises(ModelError, match="no LSTM language model"):
        LstmLanguageModel.open(tmp_path)
    for file in folder.iterdir():
        if file.suffix != ".pt":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(ModelError, match="altered or damaged"):
        LstmLanguageModel.open(tmp_path)
    with pytest.raises(UsageError, match="temperature"):
        next(generate(LstmLanguageModel.open(folder), [], 0.0, 0, 5))
