"""The recordings in samples/, and that the shipped model reads them."""

import wave
from pathlib import Path

import pytest

from asr import Recognizer
from asr.words.text import normalise

SAMPLES = Path(__file__).parent.parent / "samples"
RECORDINGS = sorted(SAMPLES.glob("*.wav"))
MAX_WORD_ERROR_RATE = 0.2  # over all samples; synthetic voices in a quiet room, all heard in training


def text_of(recording: Path) -> str:
    return recording.with_suffix(".txt").read_text(encoding="utf-8").rstrip("\n")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load()


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_recording_is_what_the_readme_says(recording: Path) -> None:
    text = text_of(recording)
    assert text == normalise(text) != ""
    with wave.open(str(recording)) as file:
        rate, channels, seconds = file.getframerate(), file.getnchannels(), file.getnframes() / file.getframerate()
        assert file.getsampwidth() == 2
    assert 2 <= seconds <= 8
    kind = f"{rate // 1000} kHz {'mono' if channels == 1 else 'stereo'}"
    rows = (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    row = next(row for row in rows if row.startswith(f"| `{recording.name}`"))
    assert row.endswith(f"| {kind} | {text} |")


def test_folder_is_complete_and_small() -> None:
    assert len(RECORDINGS) >= 6
    assert {path.stem for path in SAMPLES.glob("*.txt")} == {path.stem for path in RECORDINGS}
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 2_000_000


def test_shipped_model_reads_the_first_sample_exactly(recognizer: Recognizer) -> None:
    greeting = SAMPLES / "greeting.wav"  # the README's first command
    assert recognizer.transcribe(greeting).text == text_of(greeting)


def test_shipped_model_reads_the_samples(recognizer: Recognizer) -> None:
    jiwer = pytest.importorskip("jiwer")
    references = [text_of(recording) for recording in RECORDINGS]
    hypotheses = [recognizer.transcribe(recording).text for recording in RECORDINGS]
    comparison = jiwer.visualize_alignment(jiwer.process_words(references, hypotheses))
    assert jiwer.wer(references, hypotheses) <= MAX_WORD_ERROR_RATE, comparison
