"""`asr serve --workers`: several processes that are one server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess

import openai
import pytest
from conftest import ROOT, SAMPLES
from serving import (
    PATIENCE_SECONDS,
    Server,
    connect,
    events_until_closed,
    make_certificate,
    pcm,
    serving,
    streamed,
    text_of,
    wait_for,
)
from websockets.sync.client import ClientConnection

from asr.acoustic.folder import find_model
from asr.recognizer import Recognizer
from asr.server.failures import ClientError
from asr.server.hotwords import HotwordRecognizers, Phrases
from asr.server.places import SharedPlaces
from asr.server.tally import Column, Tally

GREETING = SAMPLES / "greeting.wav"
FAST = ("--engine", "onnx", "--decoder", "greedy", "--workers", "2")  # no graph, so it starts quickly


@pytest.fixture(scope="module")
def server(shipped_recognizer) -> Iterator[Server]:
    """Two workers, four streams."""
    with serving(*FAST, "--max-streams", "4", "--wyoming-port", "0") as server:
        yield server
        assert server.stop() == 0
        assert not [event for event in server.log if event["level"] == "error"]
        assert not any("Traceback" in line for line in server.lines)


@pytest.fixture(scope="module")
def greeting(server) -> str:
    """What a worker hears in the greeting."""
    data, rate = pcm(GREETING)
    text = text_of(streamed(server.stream_url(sample_rate=rate), data))
    assert text
    return text


@pytest.fixture(autouse=True)
def all_places_free(request) -> None:
    """A client that closes has gone before the server knows."""
    if "server" in request.fixturenames:
        request.getfixturevalue("server").settled()


class Talk:
    """A stream under way: half of the greeting is said."""

    def __init__(self, server: Server, stack: ExitStack, trust: ssl.SSLContext | None = None) -> None:
        self.data, rate = pcm(GREETING)
        known = {event["stream"] for event in begun(server)}
        self.socket: ClientConnection = stack.enter_context(connect(server.stream_url(sample_rate=rate), ssl=trust))
        assert json.loads(self.socket.recv())["type"] == "ready"
        self.socket.send(self.data[: len(self.data) // 2])
        wait_for(lambda: {event["stream"] for event in begun(server)} - known)
        (self.worker,) = (event["worker"] for event in begun(server) if event["stream"] not in known)

    def go_on(self) -> str:
        """The whole text, after the other half."""
        self.socket.send(self.data[len(self.data) // 2 :])
        self.socket.send('{"type": "finish"}')
        return text_of(events_until_closed(self.socket))


def begun(server: Server) -> list[dict]:
    return [event for event in list(server.log) if event["event"] == "stream begins"]


def process_of(server: Server, worker: int) -> int:
    """The present process of a worker."""
    found = [
        event["process"] for event in server.log if event["event"] == "worker begins" and event["worker"] == worker
    ]
    return found[-1]


def starts(server: Server) -> int:
    return sum(event["event"] == "worker begins" for event in list(server.log))


def test_streams_are_spread_and_the_limit_is_of_all_together(server, greeting):
    with ExitStack() as stack:
        talks = [Talk(server, stack) for _ in range(4)]
        assert {talk.worker for talk in talks} == {0, 1}
        for _ in range(2):  # whichever worker is asked
            with connect(server.stream_url()) as client:
                refusal = events_until_closed(client)[-1]
            assert (refusal["code"], client.close_code) == ("busy", 1013)
            assert "all 4 streams" in refusal["message"]
        for _ in range(4):
            assert server.metrics()['rill_streams{protocol="stream"}'] == 4
        assert [talk.go_on() for talk in talks] == [greeting] * 4
    server.settled()
    with ExitStack() as stack:  # their places are free again
        assert {Talk(server, stack).worker for _ in range(4)} == {0, 1}


def test_metrics_are_of_all_workers(server, greeting):
    data, rate = pcm(GREETING)
    before = server.metrics()
    for _ in range(4):
        streamed(server.stream_url(sample_rate=rate), data)
    wait_for(lambda: server.settled()["rill_tasks"] > 0)
    answers = [server.metrics() for _ in range(4)]  # of both, as connections are spread
    name = 'rill_streams_begun_total{protocol="stream"}'
    assert {answer[name] - before[name] for answer in answers} == {4}
    name = 'rill_audio_seconds_total{protocol="stream"}'
    seconds = {answer[name] - before[name] for answer in answers}
    assert len(seconds) == 1 and min(seconds) > 3.99 * len(data) / 2 / rate
    assert {answer["rill_workers"] for answer in answers} == {2}
    assert len({answer["rill_step_seconds_count"] for answer in answers}) == 1
    assert answers[0]['rill_step_seconds_bucket{le="+Inf"}'] == answers[0]["rill_step_seconds_count"]


def test_every_protocol_reaches_the_workers(server, greeting):
    api = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    for _ in range(2):
        assert api.audio.transcriptions.create(file=GREETING, model="x").text
    with connect(f"{server.url.replace('http', 'ws')}/vosk") as vosk:
        data, rate = pcm(GREETING)
        vosk.send(json.dumps({"config": {"sample_rate": rate}}))
        vosk.send(data)
        vosk.recv()
        vosk.send('{"eof": 1}')
        assert json.loads(vosk.recv())["text"]
    server.settled()
    with ExitStack() as stack:
        for _ in range(4):
            address = ("127.0.0.1", server.wyoming_port)
            client = stack.enter_context(socket.create_connection(address, PATIENCE_SECONDS))
            client.sendall(b'{"type": "describe"}\n')
            assert json.loads(client.makefile().readline())["type"] == "info"
    found = {(event["protocol"], event["worker"]) for event in begun(server)}
    assert {("wyoming", 0), ("wyoming", 1)} <= found


def test_a_killed_worker_is_replaced_and_the_others_go_on(server, greeting):
    with ExitStack() as stack:
        talks = [Talk(server, stack) for _ in range(4)]
        assert {talk.worker for talk in talks} == {0, 1}
        before, counted = starts(server), server.metrics()
        os.kill(process_of(server, 0), signal.SIGKILL)
        for talk in talks:
            if talk.worker == 0:
                assert events_until_closed(talk.socket) is not None and talk.socket.close_code == 1006
        wait_for(lambda: starts(server) > before)  # while the others wait for the rest
        assert {talk.go_on() for talk in talks if talk.worker == 1} == {greeting}
    died = [event for event in server.log if event["event"] == "worker died"]
    assert [(event["worker"], event["status"]) for event in died] == [(0, -signal.SIGKILL)]
    after = server.settled()
    name = 'rill_streams_begun_total{protocol="stream"}'
    assert after[name] == counted[name] and after["rill_workers"] == 2
    with ExitStack() as stack:  # its places are free, and it serves
        talks = [Talk(server, stack) for _ in range(4)]
        assert {talk.worker for talk in talks} == {0, 1}
        assert [talk.go_on() for talk in talks] == [greeting] * 4


def test_a_worker_that_is_asked_to_end_loses_no_words(server, greeting):
    with ExitStack() as stack:
        talks = [Talk(server, stack) for _ in range(2)]
        before = starts(server)
        os.kill(process_of(server, 1), signal.SIGTERM)
        for talk in talks:
            if talk.worker == 1:
                events = events_until_closed(talk.socket)
                assert text_of(events) and events[-1]["code"] == "shutting_down" and talk.socket.close_code == 1012
            else:
                assert talk.go_on() == greeting
        wait_for(lambda: starts(server) > before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_loses_no_words(number, shipped_recognizer, tmp_path):
    """Over TLS. Ctrl-C in a terminal, as a service manager's signal, comes to every process."""
    certificate, key = make_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=certificate)
    with serving(*FAST, "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)) as server:
        with ExitStack() as stack:
            talks = [Talk(server, stack, trust) for _ in range(2)]
            assert {talk.worker for talk in talks} == {0, 1}
            os.killpg(server.process.pid, number)
            for talk in talks:
                events = events_until_closed(talk.socket)
                assert text_of(events) and events[-1]["code"] == "shutting_down" and talk.socket.close_code == 1012
            assert server.process.wait(PATIENCE_SECONDS) == 0
        assert not any("Traceback" in line for line in server.lines)
        assert not [event for event in server.log if event["event"] == "worker died"]


def test_workers_do_not_outlive_their_supervisor(shipped_recognizer):
    with serving(*FAST) as server, ExitStack() as stack:
        talk = Talk(server, stack)
        workers = [process_of(server, number) for number in (0, 1)]
        server.process.kill()
        events = events_until_closed(talk.socket)
        assert text_of(events) and events[-1]["code"] == "shutting_down"
        wait_for(lambda: not any(alive(process) for process in workers))


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_cannot_be_replaced_ends_the_server(shipped_recognizer, tmp_path):
    folder = shutil.copytree(find_model("rill-en-small"), tmp_path / "model")
    with serving(*FAST, "--model", str(folder)) as server, ExitStack() as stack:
        talks = [Talk(server, stack) for _ in range(2)]
        shutil.rmtree(folder)
        os.kill(process_of(server, 0), signal.SIGKILL)
        (other,) = (talk for talk in talks if talk.worker == 1)
        events = events_until_closed(other.socket)
        assert text_of(events) and events[-1]["code"] == "shutting_down" and other.socket.close_code == 1012
        assert server.process.wait(PATIENCE_SECONDS) == 2
        wait_for(lambda: any(line.startswith("asr: ") and "model" in line for line in server.lines[-1:]))
        assert starts(server) == 2
        assert not any("Traceback" in line for line in server.lines)


def refused(*options: str, **environment: str) -> CompletedProcess[str]:
    """`asr serve` with two workers that does not start."""
    command = [sys.executable, "-m", "asr", "serve", *FAST, *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert run.stdout == ""
    return run


def test_what_is_wrong_at_the_start_is_said_once(shipped_recognizer, tmp_path):
    run = refused("--port", "0", "--model", "missing")
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert run.stderr.startswith("asr: ") and "missing" in run.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = refused("--port", str(port))
    assert run.returncode == 2 and run.stderr.startswith(f"asr: cannot listen on 127.0.0.1, port {port}: ")
    assert run.stderr.count("\n") == 1
    (tmp_path / "no.pem").write_text("no certificate")
    run = refused("--port", "0", "--ssl-certfile", str(tmp_path / "no.pem"), "--ssl-keyfile", str(tmp_path / "no.pem"))
    assert run.returncode == 2 and run.stderr.startswith("asr: the certificate or its key cannot be used")
    assert run.stderr.count("\n") == 1


def test_a_worker_that_crashes_at_the_start_ends_the_server(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif '--multiprocessing-fork' in sys.orig_argv: os._exit(7)\n"
    )
    run = refused("--port", "0", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert run.returncode == 1
    assert run.stderr == "asr: a worker process ended while it started, with status 7\n"


def test_options_that_do_not_go_together(asr):
    assert "--workers must be a whole number from 1, got 0" in asr("serve", "--workers", 0).stderr
    run = asr("serve", "--workers", 2, "--ray")
    assert run.returncode == 2 and "--replicas" in run.stderr


def test_where_connections_cannot_be_handed_on_it_is_said(asr, monkeypatch):
    monkeypatch.delattr(socket, "send_fds")
    run = asr("serve", "--workers", 2, "--port", 0)
    assert run.returncode == 2
    assert run.stderr.startswith("asr: --workers 2 needs a system") and "several servers behind a proxy" in run.stderr


def test_places_are_never_taken_twice(tmp_path):
    """Four processes that want all of a hundred places at the same time."""
    code = """
import sys
from pathlib import Path
from asr.server.places import SharedPlaces
from asr.server.tally import Column, Tally
places = SharedPlaces(100, Tally(Path(sys.argv[1]), int(sys.argv[2])), Column.STREAMS)
taken = 0
print("ready", flush=True)
sys.stdin.read()
for _ in range(100):
    taken += places.another(taken)
print(taken)
"""
    tally = Tally.create(tmp_path, 4)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(row)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for row in range(4)
    ]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.close()
    taken = [int(run.stdout.read()) for run in runs]
    assert [run.wait() for run in runs] == [0] * 4
    assert sum(taken) == 100 == tally.total(Column.STREAMS)
    tally.clear(0)
    assert tally.total(Column.STREAMS) == 100 - taken[0]


def test_lists_of_hotwords_are_counted_together(tmp_path, model_folder, small_lm_folder):
    """A worker lets a list go that none of its streams uses any more, when another worker needs the place."""
    small = Recognizer.load(model_folder, lm=small_lm_folder)
    Tally.create(tmp_path, 2)
    places = [SharedPlaces(2, Tally(tmp_path, row), Column.LISTS, Column.LISTS_WANTED) for row in range(2)]
    cat, a_cat, sea = (Phrases.of([phrase]) for phrase in ("cat", "a cat", "sea"))

    async def run() -> None:
        one, two = (HotwordRecognizers(small, own) for own in places)

        async def tell() -> None:
            while True:
                one.share()
                two.share()
                await asyncio.sleep(0.05)

        telling = asyncio.create_task(tell())
        in_use = [await one.recognizer(cat), await two.recognizer(a_cat)]
        for lists in (one, two):
            with pytest.raises(ClientError, match="2 lists of hotwords are in use"):
                await lists.recognizer(sea)
        del in_use[0]  # no stream has it now, and the first worker keeps it for the next one
        in_use.append(await two.recognizer(sea))
        with pytest.raises(ClientError, match="2 lists of hotwords are in use"):
            await one.recognizer(cat)
        telling.cancel()
        one.close()
        two.close()

    asyncio.run(run())
