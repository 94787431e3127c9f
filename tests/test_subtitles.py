"""Subtitles and word tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import SAMPLES

from asr.cli.main import main
from asr.output.formats import (
    CUE_LINES,
    CUE_SECONDS,
    LINE_CHARACTERS,
    as_ctm,
    as_document,
    as_srt,
    as_tsv,
    as_vtt,
    cues,
)
from asr.streaming.results import Result, Word, joined


def spoken(text: str, start: float = 0.0, pace: float = 0.4) -> list[Word]:
    return [Word(word, start + k * pace, start + (k + 0.9) * pace, 0.5) for k, word in enumerate(text.split())]


LONG = "the quick brown fox jumps over the lazy dog and runs away from it as fast as its legs will carry it today " * 3
SHORT = Result.of([*spoken("good morning"), *spoken("it rains", start=3_599.9)], final=True)


def test_subtitles_are_short_enough_to_read() -> None:
    words = spoken(LONG, pace=0.25)
    found = list(cues(Result.of(words, final=True)))
    assert [word for cue in found for word in cue.words] == words
    for cue in found:
        assert cue.end_seconds - cue.start_seconds <= CUE_SECONDS
    text = as_srt("x.wav", Result.of(words, final=True))
    for block in text.split("\n\n"):
        lines = block.split("\n")[2:]
        assert 1 <= len(lines) <= CUE_LINES and max(map(len, lines)) <= LINE_CHARACTERS


def test_a_pause_begins_a_new_subtitle() -> None:
    assert [[word.text for word in cue.words] for cue in cues(SHORT)] == [["good", "morning"], ["it", "rains"]]


def test_short_subtitles_stand_for_a_second_where_there_is_room() -> None:
    def times(gap: float, seconds: float) -> list[tuple[float, float]]:
        words = [Word("yes", 1.0, 1.3, 0.9), Word("no", 1.3 + gap, 1.6 + gap, 0.9)]
        return [(cue.start_seconds, cue.end_seconds) for cue in cues(joined([Result.of(words, final=True)], seconds))]

    assert times(3.0, 60.0) == [(1.0, 2.0), (4.3, 5.3)]
    assert times(0.85, 60.0) == [(1.0, 2.0), (2.15, 3.15)]
    assert times(3.0, 4.7) == [(1.0, 2.0), (4.3, 4.7)], "not beyond the end of the recording"
    assert times(0.5, 60.0) == [(1.0, 2.1)], "no pause, one subtitle"


def test_the_forms() -> None:
    assert as_srt("x.wav", SHORT).splitlines()[:3] == ["1", "00:00:00,000 --> 00:00:01,000", "good morning"]
    assert "00:59:59,900 --> 01:00:00,660" in as_srt("x.wav", SHORT)
    assert as_vtt("x.wav", SHORT).splitlines()[:4] == ["WEBVTT", "", "00:00:00.000 --> 00:00:01.000", "good morning"]
    assert as_tsv("x.wav", SHORT).splitlines()[:2] == ["start\tend\tword\tconfidence", "0.000\t0.360\tgood\t0.5000"]
    assert as_ctm("a/my talk.wav", SHORT).splitlines()[0] == "my_talk 1 0.00 0.36 good 0.50"
    assert json.loads(as_document("x.wav", SHORT))["words"][3]["word"] == "rains"


def test_nothing_said() -> None:
    silence = Result.of([], final=True)
    assert as_srt("x.wav", silence) == as_ctm("x.wav", silence) == ""
    assert as_vtt("x.wav", silence) == "WEBVTT"


@pytest.mark.usefixtures("shipped_recognizer")
def test_each_recording_gets_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    recordings = [str(SAMPLES / "greeting.wav"), str(SAMPLES / "weather.wav")]
    command = ["asr", "transcribe", *recordings, "--format", "srt"]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 2 and "--output FOLDER" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*command, "--output", str(tmp_path / "out")])
    assert main() == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["greeting.srt", "weather.srt"]
    assert "show" in (tmp_path / "out" / "greeting.srt").read_text()
    namesake = shutil.copy(recordings[0], tmp_path)
    monkeypatch.setattr("sys.argv", [*command, namesake, "--output", str(tmp_path / "two")])
    assert main() == 2 and "both be written" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", [*command, "--output", str(tmp_path / "file")])
    assert main() == 2 and "cannot be a folder" in capsys.readouterr().err
