"""A Ray cluster on this machine: replicas of the server, one of which is killed; recordings spread over two workers.

Ray is no part of the development install, since it is large and takes half a minute to start: pip install '.[ray]'.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES
from serving import PATIENCE_SECONDS

from asr.audio.files import AudioFile
from asr.cli.main import main
from asr.client import Client
from asr.errors import ServerError, UsageError
from asr.recognizer import Recognizer
from asr.recognizer_options import RecognizerOptions

ray = pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
serve = pytest.importorskip("ray.serve", reason="ray is installed without its server: pip install '.[ray]'")

NAMES = ("greeting", "weather", "request")


@pytest.fixture(scope="module")
def cluster(readable_recognizer: Recognizer) -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.client.OPEN_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["asr", *arguments])
        return main()

    return run


def processes(title: str) -> list[int]:
    """Processes of this machine whose title begins so."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "cmdline").read_bytes().startswith(title.encode()):
                    found.append(int(folder.name))
            except OSError:
                pass  # it has ended meanwhile
    return found


def spoken(name: str) -> Iterator[np.ndarray]:
    """A recording at the pace of speech, a tenth of a second at a time."""
    with AudioFile(SAMPLES / f"{name}.wav", 16_000) as file:
        samples = np.concatenate(list(file))
    for start in range(0, len(samples), 1_600):
        yield samples[start : start + 1_600]
        time.sleep(0.1)


@pytest.mark.usefixtures("cluster")
def test_a_replica_that_dies_takes_no_other_stream_along(readable_recognizer: Recognizer) -> None:
    from asr.server.ray_serve import Fleet, application

    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port = any_port.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(
        application(Fleet(RecognizerOptions(engine="onnx"), replicas=2, cores=0.5)), name="rill", route_prefix="/"
    )
    client = Client(f"http://127.0.0.1:{port}")
    replicas = processes("ray::ServeReplica:rill")
    assert len(replicas) == 2
    ended: list[tuple[str, str, ServerError | None]] = []

    def speak(name: str) -> None:
        finals: list[str] = []
        try:
            finals += [result.text for result in client.stream(spoken(name)) if result.final and result.text]
            ended.append((name, " ".join(finals), None))
        except ServerError as error:
            ended.append((name, " ".join(finals), error))

    speakers = [threading.Thread(target=speak, args=(name,)) for name in NAMES * 3]
    for speaker in speakers:
        speaker.start()
    time.sleep(1.5)
    os.kill(replicas[0], signal.SIGKILL)
    for speaker in speakers:
        speaker.join(PATIENCE_SECONDS)
    assert len(ended) == len(speakers)
    expected = {name: readable_recognizer.transcribe(SAMPLES / f"{name}.wav").text for name in NAMES}
    whole = [(name, text) for name, text, error in ended if error is None]
    broken = [error for _, _, error in ended if error is not None]
    assert whole and broken, "each replica had some of the streams"
    assert all(text == expected[name] for name, text in whole)
    assert all("broke off" in str(error) for error in broken)
    assert client.transcribe(SAMPLES / "greeting.wav").text == expected["greeting"], "there is room for new ones"
    for _ in range(300):
        if len(processes("ray::ServeReplica:rill")) == 2:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("no replica takes the place of the dead one")
    serve.shutdown()


@pytest.mark.usefixtures("cluster")
def test_recordings_are_spread_over_workers_and_gone_on_with(
    tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str], readable_recognizer: Recognizer
) -> None:
    corpus, texts = tmp_path / "corpus", tmp_path / "texts"
    corpus.mkdir()
    for name in NAMES:
        shutil.copy(SAMPLES / f"{name}.wav", corpus)
    (corpus / "empty.wav").touch()
    command = ("transcribe", "--ray", "--jobs", "2", "--hotwords", "rill:2", str(corpus), "--output", str(texts))
    assert run(*command) == 1
    assert "empty.wav: is empty" in capsys.readouterr().err
    for name in NAMES:
        text = readable_recognizer.transcribe(SAMPLES / f"{name}.wav").text
        assert (texts / f"{name}.txt").read_text() == text + "\n"
    (corpus / "empty.wav").unlink()
    (texts / "weather.txt").unlink()
    assert run(*command, "--resume") == 0
    assert "2 left out" in capsys.readouterr().err and (texts / "weather.txt").exists()


def test_arguments_of_rays_own_command() -> None:
    from asr.server.ray_serve import from_arguments

    given = {"replicas": "2", "max_replicas": "4", "max_streams": "8", "engine": "onnx", "readable": "1"}
    assert isinstance(from_arguments(given), serve.Application)
    for arguments in ({"replica": "2"}, {"replicas": "two"}, {"replicas": "2", "max_replicas": "1"}):
        with pytest.raises(UsageError):
            from_arguments(arguments)


@pytest.mark.usefixtures("cluster")
def test_a_model_that_is_not_there_is_one_line(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("transcribe", "--ray", "--model", "nothing", str(SAMPLES / "greeting.wav")) == 2
    error = capsys.readouterr().err.strip()
    assert "nothing" in error and "\n" not in error
