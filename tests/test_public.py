"""What `import asr` offers, and what it must not do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES

import asr
from asr.recognizer import Recognizer

PUBLIC = [
    "AudioError",
    "Batching",
    "Client",
    "DamagedAudioError",
    "DataError",
    "EndpointRule",
    "ModelError",
    "OutputError",
    "Recognizer",
    "RecognizerOptions",
    "Result",
    "RillError",
    "RillWarning",
    "ServerError",
    "StabilityRule",
    "UnknownModelError",
    "UsageError",
    "Word",
    "__version__",
]


def test_the_public_names_are_these() -> None:
    assert sorted(asr.__all__) == sorted(PUBLIC) == sorted(set(dir(asr)) & set(PUBLIC))
    for name in PUBLIC:
        value = getattr(asr, name)
        assert isinstance(value, str) if name == "__version__" else value.__name__ == name
    with pytest.raises(AttributeError):
        _ = asr.Recogniser
    assert (Path(asr.__file__).parent / "py.typed").is_file()


def test_every_error_of_ours_is_public() -> None:
    from asr import errors

    ours = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert ours <= set(PUBLIC)


@pytest.mark.usefixtures("shipped_recognizer")
def test_a_run_leaves_nothing_in_the_home_but_our_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("RILL_CACHE", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "asr", "transcribe", "--plain", str(SAMPLES / "greeting.wav")]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == (SAMPLES / "greeting.txt").read_text()
    left = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {(".cache", "rill")}


def test_a_recogniser_is_made_of_one_object(model_folder: Path, speech, recognizer: Recognizer) -> None:
    options = asr.RecognizerOptions(model_folder, engine="onnx", readable=True)
    text = Recognizer.open(options).transcribe(speech).text
    assert text == Recognizer.load(model_folder, engine="onnx", readable=True).transcribe(speech).text
    assert text == recognizer.with_readable().transcribe(speech).text
    with pytest.raises(asr.UsageError, match="unknown option 'hotword'"):
        Recognizer.load(model_folder, hotword="rill")


def test_options_go_to_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    (tmp_path / "words.txt").write_text("rill\ngood morning:3\n")
    (tmp_path / "lm").mkdir()
    monkeypatch.chdir(tmp_path)
    options = asr.RecognizerOptions(hotwords="words.txt", lm="lm").for_another_process()
    monkeypatch.chdir("/")
    there = pickle.loads(pickle.dumps(options))
    assert there == options and there.lm == tmp_path / "lm" and there.model == asr.RecognizerOptions().model
    assert there.hotwords["good morning"] == 3 and set(there.hotwords) == {"rill", "good morning"}
