"""Pictures of what was heard."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES

from asr.cli.main import main
from asr.recognizer import Recognizer

GREETING = str(SAMPLES / "greeting.wav")


def plot(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["asr", "plot", *map(str, arguments)])
    return main()


def test_a_trace_is_what_the_decoder_heard(model_folder: Path, speech: np.ndarray) -> None:
    recognizer = Recognizer.load(model_folder)
    result, log_probs = recognizer.trace(speech)
    assert result == recognizer.transcribe(speech)
    assert len(log_probs) == -(-(len(speech) - 1_360) // 480) + 1  # frames of 30 ms with windows of 85
    assert np.exp(log_probs).sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert recognizer.transcribe(speech) == result, "and the recogniser is none the wiser"


def test_a_picture_has_the_words_and_their_tokens(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    picture = tmp_path / "heard.svg"
    assert plot(monkeypatch, GREETING, "--model", model_folder, "--output", picture, "--seconds", 1) == 0
    assert capsys.readouterr().out == f"{picture}\n"
    drawn = picture.read_text(encoding="utf-8")
    words = [word for word in Recognizer.load(model_folder).transcribe(GREETING).words if word.start_seconds < 1]
    assert words and all(f"<!-- {word.text} -->" in drawn for word in words)
    assert "<!-- (blank) -->" in drawn and "<!-- greeting.wav -->" in drawn
    assert drawn.count("<image") == 2


def test_a_png_is_drawn_of_the_middle(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plot(monkeypatch, GREETING, "--model", model_folder, "--start", 0.5, "--seconds", 0.5) == 0
    assert (tmp_path / "greeting.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((GREETING, "--output", "picture.doc"), 2, "must end in .png, .svg or .pdf"),
        ((GREETING, "--output", "no/such/folder.png"), 2, "cannot be written"),
        ((GREETING, "--start", "-1"), 2, "--start must be"),
        ((GREETING, "--seconds", "0"), 2, "--seconds positive"),
        ((GREETING, "--start", "1000"), 1, "is after its end"),
        (("missing.wav",), 1, "no such file"),
    ],
)
def test_wrong_options_are_one_line(arguments, status, said, model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert plot(monkeypatch, *arguments, "--model", model_folder) == status
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_a_missing_matplotlib_is_told(model_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "asr.evaluation.picture", raising=False)
    assert plot(monkeypatch, GREETING, "--model", model_folder) == 2
    assert "needs matplotlib" in capsys.readouterr().err
