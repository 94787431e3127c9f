"""The Python client and the commands that use it, against a server in a second process."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES
from serving import PATIENCE_SECONDS, Server, serving, wait_for

from asr.audio.files import AudioFile
from asr.cli.main import main
from asr.client import Client
from asr.errors import AudioError, ServerError, UsageError
from asr.recognizer import Recognizer
from asr.streaming.results import Result

KEY = "open sesame"


@pytest.fixture(scope="module")
def server(readable_recognizer: Recognizer) -> Iterator[Server]:
    """One stream at a time, with a key."""
    with serving("--engine", "onnx", "--max-streams", "1", RILL_API_KEY=KEY) as server:
        yield server


@pytest.fixture(autouse=True)
def patient_and_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RILL_API_KEY", raising=False)
    for name in ("OPEN_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(f"asr.client.{name}", PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def place_free(server: Server) -> None:
    """A client that closes has gone before the server knows."""
    server.settled(KEY)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """A function that runs a command: its status, and what it prints on stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["asr", *arguments])
        status = main()
        return status, *capsys.readouterr()

    return run


def samples_of(name: str, sample_rate: int = 16_000) -> np.ndarray:
    with AudioFile(SAMPLES / f"{name}.wav", sample_rate) as file:
        return np.concatenate(list(file))


def chunks_of(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def near(one: Result, other: Result) -> bool:
    """The same but for what JSON rounds off."""
    pairs = zip(one.words, other.words, strict=True)
    return one.text == other.text and all(
        abs(a.start_seconds - b.start_seconds) < 0.002 and abs(a.confidence - b.confidence) < 0.002 for a, b in pairs
    )


def test_a_stream_gives_the_results_of_a_recognizer(server: Server, readable_recognizer: Recognizer) -> None:
    chunks = chunks_of(samples_of("request", 48_000), 4_800)
    there = list(Client(server.url, KEY).stream(chunks, sample_rate=48_000))
    finals = [result for result in readable_recognizer.stream(chunks, sample_rate=48_000) if result.final]
    assert [near(one, other) for one, other in zip((r for r in there if r.final), finals, strict=True)] == [True]
    partials = [result for result in there if not result.final]
    assert partials and all(result.committed <= len(result.words) for result in partials)
    for result in partials:
        assert [word.text for word in finals[0].words][: result.committed] == [
            word.text for word in result.words[: result.committed]
        ]


def test_a_file_gives_the_result_of_a_recognizer(server: Server, readable_recognizer: Recognizer) -> None:
    there = Client(server.url, KEY).transcribe(SAMPLES / "telephone.wav")
    here = readable_recognizer.transcribe(SAMPLES / "telephone.wav")
    assert near(there, here) and there.end_seconds == here.end_seconds


def test_transcribe_asks_a_server(server: Server, run: Callable, readable_recognizer: Recognizer) -> None:
    status, out, error = run(
        "transcribe", "--server", server.url, "--api-key", KEY, str(SAMPLES / "weather.wav"), "--format", "srt"
    )
    here = run("transcribe", str(SAMPLES / "weather.wav"), "--format", "srt")
    assert (status, out, error) == here


def test_refusals_are_one_line(server: Server, run: Callable, tmp_path: Path) -> None:
    file = str(SAMPLES / "greeting.wav")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        refused = run("transcribe", "--server", address, file)
    with Client(server.url, KEY).open():
        full = run("transcribe", "--server", server.url, "--api-key", KEY, file)
    server.settled(KEY)
    answers = {
        "cannot be reached: connection refused": refused,
        "is full": full,
        "wants an API key": run("transcribe", "--server", server.url, file),
        "does not accept this API key": run("transcribe", "--server", server.url, "--api-key", "wrong", file),
        "check the address": run("transcribe", "--server", f"{server.url}/elsewhere", "--api-key", KEY, file),
        "is empty": run("transcribe", "--server", server.url, "--api-key", KEY, str(_empty(tmp_path))),
    }
    for told, (status, out, error) in answers.items():
        assert status == 1 and out == "" and told in error and len(error.splitlines()) == 1, error
    for options in (["--server", "ftp://there"], ["--server", server.url, "--lm", "here"], ["--api-key", KEY]):
        status, out, error = run("transcribe", file, *options)
        assert status == 2 and len(error.splitlines()) == 1, error
        assert run("listen", *options)[0] == 2


def test_what_drawing_chunks_raises_comes_through(server: Server) -> None:
    def chunks() -> Iterator[object]:
        yield np.zeros(1_600, np.float32)
        yield "no audio"

    with pytest.raises(AudioError):
        list(Client(server.url, KEY).stream(chunks()))
    with pytest.raises(UsageError):
        next(Client(server.url, KEY).stream(np.zeros(16_000)))


def test_a_stream_that_is_left_frees_its_place(server: Server) -> None:
    for _ in range(2):
        results = Client(server.url, KEY).stream(_spoken(samples_of("greeting")))
        assert next(results).text
        results.close()
        server.settled(KEY)


def test_a_server_that_dies_leaves_what_was_said() -> None:
    results: list[Result] = []
    with serving("--engine", "onnx") as server, pytest.raises(ServerError, match="broke off"):
        for result in Client(server.url).stream(_spoken(samples_of("greeting"), then_seconds=100)):
            results.append(result)
            if "good morning" in result.normalized:
                server.process.kill()
    assert results[-1].final and results[-1].normalized.startswith("good morning")


@pytest.mark.usefixtures("shipped_recognizer")
def test_a_recording_goes_on_when_the_server_is_back() -> None:
    """The new server's LSTM has not heard the utterances before, and counts frames anew, so here it has no say."""
    options = ("--engine", "onnx", "--rescore", "none")
    alone = Recognizer.load(engine="onnx", rescoring=False, readable=True)
    pause = np.zeros(32_000, np.float32)
    chunks = chunks_of(np.concatenate([samples_of("greeting"), pause, samples_of("weather")]), 8_000)
    told: list[str] = []
    with serving(*options) as first:
        port = first.port
        transcript = Client(first.url).transcript(told.append)
        for chunk in chunks[:-2]:
            transcript.accept(chunk)
        wait_for(lambda: transcript.accept(np.zeros(0, np.float32)) or transcript.finals)
    with serving(*options, "--port", str(port)):
        for chunk in chunks[-2:]:
            transcript.accept(chunk)
        result = transcript.result()
    assert result.normalized == alone.transcribe(np.concatenate(chunks)).normalized
    assert "broke off" in told[0] and told[-1] == "connected again"
    starts = [word.start_seconds for word in result.words]
    assert starts == sorted(starts) and result.end_seconds == pytest.approx(sum(map(len, chunks)) / 16_000)


def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.client.Client.retry_seconds", 1.0)
    with serving("--engine", "onnx") as server:
        client = Client(server.url)
        stream = client.resuming(live=False)
        stream.accept(samples_of("greeting"))
    with pytest.raises(ServerError, match="cannot be reached"):
        list(stream.finish())
    assert not client.reached, "the next recording does not wait"


def test_what_succeeded_is_counted(run: Callable, tmp_path: Path) -> None:
    files = [str(SAMPLES / f"{name}.wav") for name in ("greeting", "weather")]
    status, out, error = run(
        "transcribe", "--server", "http://127.0.0.1:1", *files, "-o", f"{tmp_path}/", "--format", "srt"
    )
    assert status == 1 and out == ""
    assert error.splitlines()[-1].startswith("asr: 0 files") and "2 failed" in error.splitlines()[-1]


def test_no_proxy_leads_to_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert Client(server.url, KEY).transcribe(SAMPLES / "greeting.wav").text
    assert Client(server.url.replace("127.0.0.1", "localhost"), KEY).transcribe(SAMPLES / "greeting.wav").text


def _spoken(samples: np.ndarray, then_seconds: float = 0) -> Iterator[np.ndarray]:
    """Piece by piece, faster than speech, with silence at its end."""
    silence = np.zeros(round(then_seconds * 16_000), np.float32)
    for chunk in chunks_of(np.concatenate([samples, silence]), 1_600):
        yield chunk
        time.sleep(0.02)


def _empty(folder: Path) -> Path:
    path = folder / "empty.wav"
    path.touch()
    return path
