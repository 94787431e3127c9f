"""From text to an n-gram model, and the command that makes a language model folder of it."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from test_rescoring import write_model

from asr.cli.main import main
from asr.errors import DataError, UsageError
from asr.lm.corpus import TextCorpus, WordNumbers
from asr.lm.estimate import OFTEN, NgramOptions, Texts
from asr.lm.folder import LanguageModel
from asr.lm.lstm import LstmLanguageModel
from asr.recognizer import Recognizer
from asr.words.tokens import PHONES, TokenTable

TEXT = """It was the best of times,
it was the worst of times;
4 lines hold digits
it was the age of wisdom...
--
It was the age of foolishness!
"""


def test_text_is_brought_into_normal_form(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text(TEXT)
    with gzip.open(tmp_path / "more.gz", "wt") as file:
        file.write("WE HAD EVERYTHING BEFORE US\n")
    with lzma.open(tmp_path / "most.xz", "wt") as file:
        file.write("we had nothing before us\n")
    numbers = WordNumbers()
    corpus = TextCorpus.read([tmp_path / "plain.txt", tmp_path / "more.gz", tmp_path / "most.xz"], numbers)
    names = list(numbers)
    text = " ".join(names[number] for number in corpus.tokens)
    assert text.removeprefix("<s> ").removesuffix(" </s>").split(" </s> <s> ") == [
        "it was the best of times",
        "it was the worst of times",
        "it was the age of wisdom",
        "it was the age of foolishness",
        "we had everything before us",
        "we had nothing before us",
    ]
    assert (corpus.sentences, corpus.left_out, corpus.words) == (6, 1, 34)


@pytest.mark.parametrize("content", [b"", b"\n\n...\n", b"1 2 3\n", b"\xff\xfe\x00bad"])
def test_text_without_words_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(DataError, match="text.txt"):
        TextCorpus.read([tmp_path / "text.txt"], WordNumbers())


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": 0},
        {"order": 5},
        {"prune": (1, 2)},
        {"prune": (0, 3, 2)},
        {"prune": ()},
        {"shares": (0.5, 0.4)},
        {"shares": (1.5, -0.5)},
        {"most": 0},
        {"most": 60_000, "order": 1, "prune": (0,)},
    ],
)
def test_impossible_options_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        NgramOptions(**wrong)


def test_a_folder_that_holds_something_else_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setattr("sys.argv", ["asr", "lm", "build", str(tmp_path / "text.txt"), "-o", str(tmp_path)])
    assert main() == 2
    assert "no language model folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["text.txt"]


def texts_of(tmp_path: Path, *contents: str) -> Texts:
    numbers, corpora = WordNumbers(), []
    for k, content in enumerate(contents):
        (tmp_path / f"text-{k}").write_text(content)
        corpora.append(TextCorpus.read([tmp_path / f"text-{k}"], numbers))
    return Texts(corpora, numbers)


def test_the_model_knows_what_it_read_and_the_words_it_was_told(tmp_path: Path) -> None:
    texts = texts_of(tmp_path, TEXT)
    words = texts.vocabulary(5, known=["rill", "best"])
    assert words[:3] == ["it", "was", "the"] and set(words) == {"it", "was", "the", "of", "times", "best", "rill"}
    assert texts.covered(words) == pytest.approx(19 / 24)
    model = texts.model(words, NgramOptions(prune=(0,)))
    grams = {" ".join(model.words[k] for k in gram) for n in (1, 2, 3) for gram in model.grams(n)}
    assert {"rill", "it was", "it was the", "<s> it was"} <= grams and "wisdom </s>" not in grams


def test_a_word_of_one_text_alone_must_be_frequent(tmp_path: Path) -> None:
    texts = texts_of(tmp_path, "the sea\n" * OFTEN + "the foam\n" * (OFTEN - 1), "the zebra\nfoal foal foal\n")
    assert set(texts.vocabulary(10, (0.5, 0.5))) == {"the", "sea"}
    assert texts.vocabulary(1, (0.5, 0.5), known=["foal"]) == ["the", "foal"]
    assert set(texts_of(tmp_path, "the sea\n").vocabulary(10)) == {"the", "sea"}


def test_a_language_model_is_built_and_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    model_folder: Path,
    speech: np.ndarray,
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "words.txt").write_text("rill\nfoobaz F UW B AE Z\n")
    folder = tmp_path / "lm"
    command = [
        "asr",
        "lm",
        "build",
        str(tmp_path / "text.txt"),
        "-o",
        str(folder),
        "--words",
        str(tmp_path / "words.txt"),
    ]
    monkeypatch.setattr("sys.argv", [*command, "--prune", "0"])
    assert main() == 0, capsys.readouterr().err
    assert "foobaz F UW B AE Z" in (folder / "lexicon.txt").read_text().splitlines()
    config = json.loads((folder / "config.json").read_text())
    config["weights"] = {"least_confidence": 0.0, "lone_confidence": 0.0}  # the model of the tests is sure of nothing
    (folder / "config.json").write_text(json.dumps(config))
    recognizer = Recognizer.load(model_folder, lm=folder)
    assert recognizer.decoder == "lm"
    known = {line.split()[0] for line in (folder / "lexicon.txt").read_text().splitlines()}
    said = recognizer.transcribe(speech).text.split()
    assert said and set(said) <= known


def test_texts_are_mixed_by_their_shares_and_pruned_to_a_size(tmp_path: Path) -> None:
    texts = texts_of(tmp_path, TEXT, "it was the sea\n" * 3 + "she sells shells by the sea\n")
    words = sorted(texts.numbers.keys() - {"<s>", "</s>"})
    chances = {}
    for shares in ((0.9, 0.1), (0.1, 0.9)):
        model = texts.model(words, NgramOptions(prune=(0,), shares=shares, most=45))
        assert 40 < model.size <= 45 and model.order == 3
        grams = np.array([[model.ids[word] for word in ("was", "the", last)] for last in ("age", "sea")])
        chances[shares] = model.log_probs(grams)
    assert chances[0.9, 0.1][0] > chances[0.1, 0.9][0] and chances[0.9, 0.1][1] < chances[0.1, 0.9][1]


def test_a_second_model_of_folders_of_text_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RILL_CACHE", "")
    for name, content in (("times", TEXT), ("sea", "it was the best of seas\nit was the age of the sea\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(content)
    (tmp_path / "sea" / "b.txt").write_text("the worst of times at sea\n")
    command = ["asr", "lm", "build", str(tmp_path / "times"), str(tmp_path / "sea"), "-o", str(tmp_path / "lm")]
    options = ["--shares", "0.6,0.4", "--prune", "0", "--second", "50", "--second-prune", "0", "--words"]
    (tmp_path / "words.txt").write_text("sea\n")
    monkeypatch.setattr("sys.argv", [*command, *options, str(tmp_path / "words.txt")])
    assert main() == 0
    model = LanguageModel.open(tmp_path / "lm", TokenTable(PHONES))
    second = model.second.open()
    assert second.vocabulary == len(model.words) - 1 and len(second.last) == 50
    numbers = {word: k for k, word in enumerate(model.words)}
    it, was, the, age, of = (numbers[word] for word in ("it", "was", "the", "age", "of"))
    assert second.log_prob([it, was, the, age], of) > -1 > second.log_prob([it, was, the, of], age)
    about = json.loads((tmp_path / "lm" / "config.json").read_text())
    assert about["second"]["order"] == 4 and about["second"]["shares"] == [0.6, 0.4]


def test_a_text_and_its_words_are_mixed_into_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("RILL_CACHE", "")
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "own.txt").write_text("it was the foobaz\n" * 3 + "the age of rill\n")
    (tmp_path / "words.txt").write_text("foobaz F UW B AE Z\n")
    base, adapted = tmp_path / "base", tmp_path / "adapted"
    build = ["asr", "lm", "build"]
    monkeypatch.setattr("sys.argv", [*build, str(tmp_path / "text.txt"), "-o", str(base)])
    assert main() == 0
    adapt = [*build, str(tmp_path / "own.txt"), "--adapt", str(base), "-o", str(adapted)]
    monkeypatch.setattr("sys.argv", [*adapt, "--words", str(tmp_path / "words.txt"), "--adapt-share", "0.4"])
    assert main() == 2 and "has no second model" in capsys.readouterr().err and not adapted.exists()
    monkeypatch.setattr("sys.argv", [*build, str(tmp_path / "text.txt"), "-o", str(base), "--second", "60"])
    assert main() == 0
    write_model(base / "lstm", "age", ("</s>", "<unk>", "age", "was", "it", "the"))
    monkeypatch.setattr("sys.argv", [*adapt, "--words", str(tmp_path / "words.txt"), "--adapt-share", "0.4"])
    assert main() == 0
    assert LstmLanguageModel.open(adapted / "lstm").words == LstmLanguageModel.open(base / "lstm").words
    before, after = (LanguageModel.open(folder, TokenTable(PHONES)) for folder in (base, adapted))
    assert after.words[: len(before.words)] == tuple(before.words)
    assert set(after.words) - set(before.words) == {"foobaz", "rill"}
    assert "foobaz F UW B AE Z" in (adapted / "lexicon.txt").read_text().splitlines()
    numbers = {word: k for k, word in enumerate(after.words)}
    chances = {}
    for name, model in (("before", before.second.open()), ("after", after.second.open())):
        for last in ("age", "foobaz"):
            if numbers[last] <= model.vocabulary:
                history = [numbers[word] for word in ("it", "was", "the")]
                chances[name, last] = np.exp(model.log_prob(history, numbers[last]))
    assert chances["after", "foobaz"] > 0.1
    assert 0.5 * chances["before", "age"] < chances["after", "age"] < 0.75 * chances["before", "age"]


def test_frequencies_are_those_of_the_text(tmp_path: Path) -> None:
    texts = texts_of(tmp_path, TEXT * 20)
    words = texts.vocabulary(100)
    found = texts.model(words, NgramOptions(2, prune=(0,))).frequencies(100)
    counts = texts.counts[0]
    wanted = np.array([counts[texts.numbers[word]] for word in words])
    np.testing.assert_allclose(found[1:-1], wanted / wanted.sum(), atol=0.01)
    assert found[0] == found[-1] == pytest.approx(4 / 24, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--second", "5"], "must be more than the 10 words"),
        (["--second", "50", "--second-order", "5"], "order of an n-gram model must be 1 to 4"),
        (["--second", "50", "--second-shares", "0.5,0.5"], "1 texts need as many shares, got 2"),
        (["--shares", "all"], "shares must be numbers"),
        (["--prune", "0.5"], "prune must be whole numbers"),
        (["--adapt", "nosuchmodel"], "unknown model 'nosuchmodel'"),
        (["--adapt", "rill-en-small", "--adapt-share", "1"], "share must be above 0 and below 1"),
    ],
)
def test_impossible_wishes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    command = ["asr", "lm", "build", str(tmp_path / "text.txt"), "-o", str(tmp_path / "lm")]
    monkeypatch.setattr("sys.argv", [*command, *options])
    assert main() == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "lm").exists()
