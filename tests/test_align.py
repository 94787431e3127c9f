"""Forced alignment of samples whose words are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE_RATE, SAMPLES

from asr.acoustic.folder import ModelPackage
from asr.audio.files import AudioFile
from asr.cli.main import main
from asr.decoding.word_alignment import WordAligner
from asr.errors import DataError
from asr.words.lexicon import Lexicon


@pytest.fixture(scope="module")
def aligner(shipped_recognizer) -> WordAligner:
    package = ModelPackage.open("rill-en-small")
    return WordAligner(package, Lexicon.load())


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, str]:
    with AudioFile(SAMPLES / "weather.wav", SAMPLE_RATE) as file:
        return np.concatenate(list(file)), (SAMPLES / "weather.txt").read_text()


def test_words_come_in_order_and_inside_the_recording(aligner: WordAligner, sample: tuple[np.ndarray, str]) -> None:
    samples, text = sample
    words = aligner.align(samples, text.upper() + ".")
    assert [word.text for word in words] == text.split()
    times = [time for word in words for time in (word.start_seconds, word.end_seconds)]
    assert times == sorted(times) and 0 <= times[0] and times[-1] <= len(samples) / SAMPLE_RATE
    assert all(word.start_seconds < word.end_seconds and 0 < word.confidence <= 1 for word in words)


def test_silence_before_moves_every_word(aligner: WordAligner, sample: tuple[np.ndarray, str]) -> None:
    samples, text = sample
    frame = aligner._engine.rates.frame_samples
    early = aligner.align(samples, text)
    late = aligner.align(np.concatenate([np.zeros(30 * frame, np.float32), samples]), text)
    shift = 30 * frame / SAMPLE_RATE
    moved = [b.start_seconds - a.start_seconds for a, b in zip(early, late, strict=True)]
    assert np.median(moved) == pytest.approx(shift, abs=0.05)


def test_the_text_that_is_spoken_is_likelier_than_another(aligner: WordAligner, sample: tuple[np.ndarray, str]) -> None:
    samples, text = sample
    right = np.mean([word.confidence for word in aligner.align(samples, text)])
    wrong = np.mean([word.confidence for word in aligner.align(samples, "please turn off the kitchen lights at once")])
    assert right > wrong + 0.2


@pytest.mark.parametrize(("text", "complaint"), [("...", "no words"), ("word " * 200, "too short"), ("4", "spell")])
def test_what_cannot_be_aligned_is_said(
    aligner: WordAligner, sample: tuple[np.ndarray, str], text: str, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        aligner.align(sample[0], text)


@pytest.mark.usefixtures("shipped_recognizer")
def test_the_command_prints_a_line_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    command = ["asr", "align", str(SAMPLES / "weather.wav"), str(SAMPLES / "weather.txt")]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[2] for line in lines] == (SAMPLES / "weather.txt").read_text().split()
    monkeypatch.setattr("sys.argv", [*command[:3], str(tmp_path / "missing.txt")])
    assert main() == 1
    assert "missing.txt" in capsys.readouterr().err
