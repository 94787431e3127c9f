"""Clients that misbehave: each is told why, none disturbs another, nothing is left behind."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import ssl
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import openai
import pytest
import websockets.asyncio.client
from conftest import SAMPLES
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

GREETING = SAMPLES / "greeting.wav"
KEY = "correct horse battery staple"
MIB = 1 << 20
CONNECTS = 1_000


@pytest.fixture(scope="module")
def server(shipped_recognizer) -> Iterator[Server]:
    """A strict server: a key, few streams. Greedy decoding needs no graph, so it starts quickly."""
    with serving(
        "--engine",
        "onnx",
        "--decoder",
        "greedy",
        "--max-streams",
        "4",
        "--max-upload-mb",
        "1",
        "--wyoming-port",
        "0",
        RILL_API_KEY=KEY,
    ) as server:
        yield server
        server.settled(KEY)
        assert not [event for event in server.log if event["level"] == "error"]
        assert not any("Traceback" in line for line in server.lines)


@pytest.fixture(scope="module")
def greeting(server) -> str:
    """What the server hears in the greeting when nobody else is there."""
    data, rate = pcm(GREETING)
    text = text_of(streamed(url(server), data))
    assert text
    return text


@pytest.fixture(autouse=True)
def all_places_free(server) -> None:
    """A client that closes has gone before the server knows."""
    server.settled(KEY)


@pytest.fixture
def bystander(server, greeting) -> Iterator[None]:
    """A stream that goes on while a test runs, and whose text must not change by it."""
    data, _ = pcm(GREETING)
    over = threading.Event()
    with connect(url(server)) as other:

        def speak() -> None:
            sent = 0
            while not over.wait(0.2):
                other.send(data[sent : sent + 2_000])  # nothing at the end, which keeps the connection
                sent += 2_000
            other.send(data[sent:])

        speaking = threading.Thread(target=speak)
        speaking.start()
        yield
        over.set()
        speaking.join()
        other.send('{"type": "finish"}')
        assert text_of(events_until_closed(other)) == greeting


def url(server: Server, **query: object) -> str:
    return server.stream_url(api_key=KEY.replace(" ", "%20"), **query)


def refusal(address: str, *messages: str | bytes, headers: dict[str, str] | None = None) -> tuple[dict, int]:
    """The last event after these messages, and the code of the close."""
    with connect(address, additional_headers=headers) as client:
        for message in messages:
            client.send(message)
        events = events_until_closed(client)
        return events[-1], client.close_code


@pytest.mark.parametrize("given", ["wrong", "", "corr\u00e9ct", KEY[:-1], KEY + " x"])
def test_a_wrong_key_is_refused_on_every_protocol(server, given):
    header = {"Authorization": f"Bearer {given}".encode().decode("latin-1")}
    for path in ("v1/stream", "v1/realtime?intent=transcription"):
        event, code = refusal(f"{server.url.replace('http', 'ws')}/{path}", headers=header)
        assert (event["type"], code) == ("error", 1008)
        assert "unauthorized" in (event.get("code"), event.get("error", {}).get("code"))
    with connect(f"{server.url.replace('http', 'ws')}/vosk", additional_headers=header) as vosk:
        with pytest.raises(websockets.ConnectionClosedError, match="key"):
            vosk.recv()
    for path in ("v1/models", "metrics"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(f"{server.url}/{path}", headers=header))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        upload = urllib.request.Request(f"{server.url}/v1/audio/transcriptions", data=b"x" * 100, headers=header)
        urllib.request.urlopen(upload)


def test_the_key_is_in_no_log(server, greeting):
    log = "".join(server.lines)
    assert KEY not in log and KEY.replace(" ", "%20") not in log
    assert greeting not in log


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("hello?", "not JSON"),
        ("[1, 2]", "not list"),
        ('{"type": "dance"}', "unknown message type 'dance'"),
        ("[" * 200_000, "not JSON"),
    ],
)
def test_garbage_instead_of_audio(server, bystander, message, reason):
    event, code = refusal(url(server), message)
    assert (event["code"], code) == ("bad_request", 1007)
    assert reason in event["message"]


@pytest.mark.parametrize(
    "query", [{"sample_rate": "fast"}, {"sample_rate": 7}, {"sample_rate": 10**12}, {"format": "mp3"}]
)
def test_queries_that_make_no_sense(server, query):
    event, code = refusal(url(server, **query))
    assert (event["code"], code) == ("bad_request", 1007)


def test_floats_that_are_no_audio(server, bystander):
    event, code = refusal(url(server, format="f32le"), struct.pack("<3f", 0.1, float("nan"), 0.1))
    assert (event["code"], code) == ("bad_audio", 1007)


def test_noise_is_only_noise(server, bystander):
    noise = np.random.default_rng(0).bytes(100_001)
    assert streamed(url(server), noise)[-1]["type"] == "done"


def test_odd_byte_counts_lose_nothing(server, greeting):
    assert text_of(streamed(url(server), pcm(GREETING)[0], 1_023)) == greeting


def test_empty_streams_and_messages(server):
    assert [event["type"] for event in streamed(url(server), b"")] == ["ready", "done"]
    with connect(url(server)) as client:
        for _ in range(50):
            client.send(b"")
        client.send('{"type": "finish"}')
        assert [event["type"] for event in events_until_closed(client)] == ["ready", "done"]


def test_giant_messages_are_refused(server, bystander):
    event, code = refusal(url(server), bytes(5 * MIB))
    assert (event["code"], code) == ("too_large", 1009)
    with connect(url(server), max_size=None) as client:
        client.recv()
        with pytest.raises(websockets.ConnectionClosed):
            client.send(bytes(20 * MIB))
            client.recv()


def test_silence_on_the_line_ends_with_the_last_words(greeting):
    """A client that stalls without closing gets what it said, then the reason."""
    with serving("--engine", "onnx", "--decoder", "greedy", "--idle-seconds", "2") as impatient:
        with connect(impatient.stream_url()) as client:
            client.send(pcm(GREETING)[0])
            events = events_until_closed(client)
            assert client.close_code == 1008
    assert text_of(events) == greeting
    assert events[-1]["code"] == "idle"


def test_clients_that_vanish_are_forgotten(server, bystander):
    before = server.metrics(KEY).get('rill_drops_total{protocol="stream"}', 0)
    for _ in range(10):
        with connect(url(server)) as client:
            client.send(pcm(GREETING)[0][:20_000])
            linger = struct.pack("ii", 1, 0)  # a reset instead of a goodbye
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.socket.shutdown(socket.SHUT_RD)
            client.socket.close()
        wait_for(lambda: server.metrics(KEY)['rill_streams{protocol="stream"}'] <= 1)
    assert server.metrics(KEY)['rill_drops_total{protocol="stream"}'] >= before + 10


def test_all_streams_taken(server, greeting):
    with ExitStack() as clients:
        for _ in range(4):
            client = clients.enter_context(connect(url(server)))
            assert json.loads(client.recv())["type"] == "ready"
        event, code = refusal(url(server))
        assert (event["code"], code) == ("busy", 1013)
        api = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
        with pytest.raises(openai.InternalServerError, match="all 4 streams are taken") as error:
            api.audio.transcriptions.create(file=GREETING, model="x")
        assert error.value.status_code == 503 and error.value.response.headers["retry-after"]
    wait_for(lambda: server.metrics(KEY)['rill_streams{protocol="stream"}'] == 0)
    assert text_of(streamed(url(server), pcm(GREETING)[0])) == greeting


def test_audio_faster_than_it_is_heard_is_slowed_down(server, bystander):
    """Minutes of it at once, results never read: what waits stays bounded, and nobody else is disturbed."""
    before = server.memory_mib()
    noise = np.random.default_rng(0).bytes(MIB // 4)
    with connect(url(server), max_queue=1) as client:
        for _ in range(20):
            client.send(noise)
            assert server.memory_mib() - before < 60
        wait_for(lambda: server.metrics(KEY)["rill_queue_seconds_count"] > 0)


def test_uploads_too_large_and_broken(server, bystander):
    api = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.APIStatusError, match="larger than 1 MiB") as error:
        api.audio.transcriptions.create(file=("big.wav", bytes(3 * MIB)), model="x")
    assert error.value.status_code == 413

    def chunked() -> Iterator[bytes]:  # without a length beforehand
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(48):
            yield bytes(64 * 1_024)

    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "multipart/form-data; boundary=b"}
    try:
        connection.request("POST", "/v1/audio/transcriptions", chunked(), headers, encode_chunked=True)
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before all was sent
    assert connection.getresponse().status == 413
    connection.close()
    # breaks off
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/audio/transcriptions", b"--b\r\nContent", {**headers, "Content-Length": "9999"})
    connection.close()
    # is no form at all
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/audio/transcriptions", b"garbage", headers)
    assert connection.getresponse().status == 400
    connection.close()


def test_uploads_leave_no_files(server, tmp_path):
    files = Path(f"/proc/{server.process.pid}/fd")
    api = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    wait_for(lambda: server.settled(KEY) is not None)
    before = server.open_files()
    for _ in range(5):
        api.audio.transcriptions.create(file=SAMPLES / "directions.wav", model="x")
        with pytest.raises(openai.BadRequestError):
            api.audio.transcriptions.create(file=("noise.wav", np.random.default_rng(1).bytes(MIB // 2)), model="x")
    api.close()
    wait_for(lambda: server.open_files() <= before + 1)
    links = [str(link.readlink()) for link in files.iterdir() if link.is_symlink()]
    assert not [link for link in links if "/tmp" in link]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"type": "audio-start", "data": {"rate": 16000, "width": 3, "channels": 1}}\n',
        b'{"type": "audio-chunk", "payload_length": 99999999999}\n',
        b'{"type": "describe", "data_length": -1}\n',
        b'{"type": "describe", "data_length": 2}\n[]',
        b"{" * 100_000,
    ],
)
def test_wyoming_garbage(server, bystander, data):
    with socket.create_connection(("127.0.0.1", server.wyoming_port), 10) as client:
        client.sendall(data)
        answer = b""
        try:
            while piece := client.recv(4_096):
                answer += piece
        except ConnectionResetError:  # it closed with some of ours unread
            pass
        assert b'"type": "error"' in answer


def test_a_thousand_connects(server, bystander, greeting):
    """Nothing is left of them: no stream, no task, no open file, no memory."""

    async def connect(number: int, places: asyncio.Semaphore) -> None:
        async with places:
            async with websockets.asyncio.client.connect(url(server)) as client:
                with suppress(websockets.ConnectionClosed):  # whose predecessor was not quite gone finds no place
                    if number % 3:
                        await client.recv()
                    if number % 3 == 1:
                        await client.send(b"\x00" * 320)

    async def run(count: int) -> None:
        places = asyncio.Semaphore(3)
        await asyncio.gather(*(connect(number, places) for number in range(count)))

    asyncio.run(run(100))
    wait_for(lambda: server.metrics(KEY)['rill_streams{protocol="stream"}'] == 1)
    before, files, memory = server.metrics(KEY), server.open_files(), server.memory_mib()
    asyncio.run(run(CONNECTS))
    wait_for(lambda: server.metrics(KEY)['rill_streams{protocol="stream"}'] == 1)
    wait_for(lambda: server.metrics(KEY)["rill_tasks"] <= before["rill_tasks"] + 2)
    wait_for(lambda: server.open_files() <= files + 2)
    assert server.memory_mib() - memory < 20
    begun = 'rill_streams_begun_total{protocol="stream"}'
    assert server.metrics(KEY)[begun] - before[begun] > CONNECTS / 2  # the others found no place


def test_many_streams_at_once_each_get_their_own_text(server, greeting):
    """Four at a time of two recordings, in different chunks: no word goes to another."""
    texts: dict[int, str] = {}
    other = SAMPLES / "telephone.wav"
    data = {path: pcm(path) for path in (GREETING, other)}
    expected = text_of(streamed(url(server, sample_rate=data[other][1]), data[other][0]))

    def speak(number: int) -> None:
        samples, rate = data[GREETING if number % 2 else other]
        texts[number] = text_of(streamed(url(server, sample_rate=rate), samples, 1_001 + 500 * number))

    for _ in range(2):
        threads = [threading.Thread(target=speak, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts == {0: expected, 1: greeting, 2: expected, 3: greeting}
    assert expected != greeting


def test_stopping_loses_no_words(shipped_recognizer, tmp_path):
    """SIGTERM in the middle of a stream, over TLS: its last words come, then the reason; the exit is clean."""
    certificate, key = make_certificate(tmp_path)
    options = ("--decoder", "greedy", "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    with serving(*options) as server:
        trust = ssl.create_default_context(cafile=certificate)
        data, rate = pcm(GREETING)
        with connect(server.stream_url(sample_rate=rate), ssl=trust) as client:
            client.send(data)
            while json.loads(client.recv())["type"] != "partial":
                pass
            server.process.send_signal(signal.SIGTERM)
            events = events_until_closed(client)
        assert client.close_code == 1012
        assert text_of(events)
        assert events[-1]["code"] == "shutting_down"
        assert server.process.wait(PATIENCE_SECONDS) == 0
