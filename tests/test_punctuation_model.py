"""The punctuation model: what it is trained on, its training, and its arithmetic without torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.errors import DataError, ModelError, UsageError
from asr.words.tagger import CAPITAL, LOWER, MARKS, UPPER, Tagger, pause_class, suffix_id

torch = pytest.importorskip("torch")
pytest.importorskip("num2words")

from asr.models.punctuation import PunctuationConfig, PunctuationNetwork  # noqa: E402
from asr.training.punctuation import PunctuationOptions, begin_with, export_punctuation, train_punctuation  # noqa: E402
from asr.training.punctuation_rows import (  # noqa: E402
    NO_LABEL,
    habits,
    outcomes,
    pauses_before,
    read_texts,
    spoken,
    unspoken,
)
from asr.training.punctuation_text import UNKNOWN_SHAPE, tagged_words  # noqa: E402

TEXT = (
    "Good morning, London. Is it cold in Paris? Tom went to London, and Anna stayed in Paris. Where is Tom? "
    "The cat sat on the mat, and the dog lay by the door. NASA sent Tom to Paris.\n"
)


def plain(line: str) -> str:
    return " ".join(word.word + MARKS[word.mark] for word in tagged_words(line))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Well, I know.", "well, i know."),
        ('"Stop!" cried Mr. Brown; "who are you?"', "stop, cried mister brown, who are you?"),
        ("It was--he said--the best-known place.", "it was, he said, the best known place."),
        (
            "In 1995 we paid $5.50 for 20% of it.",
            "in nineteen ninety five we paid five dollars and fifty cents for twenty percent of it.",
        ),
        ("The 21st of May, at 5:30.", "the twenty first of may, at five thirty."),
        ("He lives in the U.S. and works for J. Smith.", "he lives in the u s and works for j smith."),
        ("Café, e.g. a café.", "cafe, for example a cafe."),
        ("What's O'Brien's dog's name?", "what's o'brien's dog's name?"),
        ("no capitals here.", ""),
        ("A heading without a mark", ""),
        ("It has a formula x=3 in it.", ""),
    ],
)
def test_written_text_is_read(line: str, words: str) -> None:
    assert plain(line) == words


def test_shapes_leave_out_what_the_place_decides() -> None:
    found = tagged_words("The man saw Tom. NASA knew I'm here, said McDonald.")
    shapes = {word.word: word.shape for word in found}
    assert shapes["the"] == UNKNOWN_SHAPE and shapes["man"] == LOWER and shapes["tom"] == CAPITAL
    assert shapes["nasa"] == UPPER and shapes["mcdonald"] == CAPITAL


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT * 60, encoding="utf-8")
    return read_texts([path], 100, 64, 10**6)


def test_rows_say_the_words_later_and_pauses_follow_marks(text) -> None:
    stream = text.streams[0]
    rows = unspoken(text, stream, 3)
    kept = rows.marks[3:][: len(stream.marks)]
    assert (kept == stream.marks).all() and (rows.marks[:3] == NO_LABEL).all()
    generator = np.random.default_rng(0)
    seconds = pauses_before(stream, generator)
    before = np.concatenate([[2], stream.marks[:-1]])
    assert seconds[before == 2].mean() > 2 * seconds[before == 1].mean() > 4 * seconds[before == 0].mean()
    noisy = spoken(text, stream, 3, generator)
    assert (noisy.words == 0).sum() > 3 and (noisy.pauses > 0).any()
    assert (noisy.marks != NO_LABEL).sum() == len(stream.marks)


def test_names_and_phrases_are_found(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    lines = (
        "I saw the Bank of America and the White House, and a white house on the bank of a river.",
        "They live in the United States, and London is united.",
        "He met Tom Brown and a brown dog; a good friend of the family saw the Super Bowl.",
        "Is it so?",
    )
    path.write_text("\n".join(lines * 40), encoding="utf-8")
    names = read_texts([path], 100, 64, 10**6).names
    assert {"London", "America", "Tom", "Super", "Bank of America", "United States"} <= set(names)
    assert not {"White House", "White", "Brown", "House", "Bank"} & set(names)


def test_habits_are_what_is_counted(text) -> None:
    numbers = {word: number for number, word in enumerate(text.words)}
    known = habits(text)
    capital = len(MARKS) - 1
    assert known[numbers["tom"], capital] > known[numbers["cat"], capital]
    assert known[numbers["mat"], 0] > known[numbers["cat"], 0]  # a comma follows


def test_training_learns_and_goes_on_and_numpy_computes_the_same(text, tmp_path: Path) -> None:
    config = PunctuationConfig(len(text.words), 64, outputs=outcomes(), word_width=24, size=32, joint=24, dropout=0.0)
    told = []
    options = PunctuationOptions(minutes=0.15, rows=8, steps=32, learning_rate=0.02)
    network, complete = train_punctuation(text, config, options, tmp_path, told.append, report_every=10)
    assert complete and told[-1].loss < 0.6 * told[0].loss
    assert set(told[-1].scores) == {",", ".", "?", "!", "capitals"} and told[-1].scores["."] > 60
    same, complete = train_punctuation(text, config, options, tmp_path)  # nothing is left to do
    assert complete and torch.equal(same.words.weight, network.words.weight)
    export_punctuation(network, text, tmp_path, {"minutes": 1})
    tagger = Tagger.open(tmp_path)
    words = "good morning london is it cold in brandenburg tom".split()
    pauses = [None, 0.0, 0.02, 0.9, 0.1, 0.2, 0.3, 0.0, 2.0]
    half, state = tagger.read(words[:4], pauses[:4], tagger.start())
    more, state = tagger.read(words[4:], pauses[4:], state)
    last, state = tagger.finish(state)
    found = [*half, *more, *last]
    assert len(half) == 1 and len(last) == 3 and len(found) == len(words)
    packed = PunctuationNetwork(config)
    packed.load_state_dict({name: torch.from_numpy(value) for name, value in tagger.weights.items()})
    columns = (
        [tagger.ids.get(word, 1) for word in words] + 3 * [0],
        [suffix_id(word, 64) for word in words] + 3 * [0],
        [pause_class(pause) for pause in pauses] + 3 * [0],
    )
    with torch.no_grad():
        scores, _ = packed.eval()(*(torch.tensor(column)[:, None] for column in columns), packed.initial_state(1))
    assert [MARKS[int(row[:5].argmax())] for row in scores[3:, 0]] == [tag.mark for tag in found]
    assert [int(row[5:].argmax()) for row in scores[3:, 0]] == [tag.shape for tag in found]


def test_a_wider_network_begins_as_the_model_that_it_starts_from(text, tmp_path: Path) -> None:
    config = PunctuationConfig(len(text.words), 64, outputs=outcomes(), word_width=8, size=8, layers=2, joint=8)
    export_punctuation(PunctuationNetwork(config), text, tmp_path, {})
    tagger = Tagger.open(tmp_path)
    small, wide = PunctuationNetwork(config).eval(), PunctuationNetwork(replace(config, size=12)).eval()
    for network in (small, wide):
        begin_with(network, text.words, tagger)
    ids = torch.arange(10)[:, None]
    scores = [network(ids, ids, ids % 8, network.initial_state(1))[0] for network in (small, wide)]
    assert torch.allclose(*scores, atol=1e-6) and scores[0].std() > 0
    for other in (replace(config, size=4), replace(config, look_ahead=2), replace(config, word_width=9)):
        with pytest.raises(UsageError, match="cannot start from"):
            begin_with(PunctuationNetwork(other), text.words, tagger)


def test_damaged_folders_are_named(text, tmp_path: Path) -> None:
    config = PunctuationConfig(len(text.words), 64, outputs=outcomes(), word_width=8, size=8, joint=8)
    export_punctuation(PunctuationNetwork(config), text, tmp_path, {})
    description = json.loads((tmp_path / "config.json").read_text())
    for change, message in (({"marks": ["", ";"]}, "marks"), ({"kind": "lstm"}, "kind"), ({"format": 9}, "format")):
        (tmp_path / "config.json").write_text(json.dumps({**description, **change}))
        with pytest.raises(ModelError, match=message):
            Tagger.open(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(description))
    other = tmp_path / "other"  # as of a network that is built otherwise
    export_punctuation(PunctuationNetwork(replace(config, look_ahead=1)), text, other, {"look_ahead": 3})
    with pytest.raises(ModelError, match="fit together"):
        Tagger.open(other)
    (tmp_path / "words.txt").write_text("others\n")
    with pytest.raises(ModelError, match="altered"):
        Tagger.open(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("the cat sat on the mat", "no capitals"),
        ("The cat sat on the mat", "no marks"),
        ("42", "no words"),
        ("The cat sat on the mat.", "no ','"),
        ("The cat, it sat.", "no '?'"),
    ],
)
def test_texts_to_learn_from_have_marks_and_capitals(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text(f"{line}\n" * 500, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_texts([path], 100, 64, 10**6)


def test_the_command_names_what_is_wrong(asr, tmp_path: Path) -> None:
    bare = tmp_path / "bare.txt"
    bare.write_text("the cat sat on the mat\n" * 500, encoding="utf-8")
    for wanted, code, given in (
        ("1,000 are needed", 1, ("--output", tmp_path / "model")),
        ("names a folder", 2, ("--output", bare)),
        ("minutes must be above 0, got 0", 2, ("--output", tmp_path / "model", "--minutes", "0")),
    ):
        run = asr("train-punctuation", bare, *given)
        assert run.returncode == code and wanted in run.stderr.splitlines()[-1]
