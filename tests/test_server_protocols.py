"""What the server says to the clients that people have: texts as `asr transcribe` gives them, over each protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import openai
import pytest
import websockets
from conftest import ROOT, SAMPLES, wav_bytes
from serving import Server, connect, events_until_closed, pcm, serving, streamed, text_of
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info

from asr.audio.files import AudioFile
from asr.cli.main import main
from asr.errors import how_to_install
from asr.output.formats import as_srt, as_vtt
from asr.recognizer import Recognizer

GREETING, REQUEST, TELEPHONE = (SAMPLES / f"{name}.wav" for name in ("greeting", "request", "telephone"))
FRIEND = "https://friend.example"
DIRECTIONS = SAMPLES / "directions.wav"


@pytest.fixture(scope="module")
def server(readable_recognizer: Recognizer) -> Iterator[Server]:
    """One server for all these tests. Its engine gives the same text for any chunks, as that of asr transcribe does."""
    with serving("--engine", "onnx", "--wyoming-port", "0", "--allow-origin", FRIEND) as server:
        yield server
        assert not [event for event in server.log if event["level"] == "error"]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="any",
        max_retries=0,
        websocket_base_url=f"{server.url.replace('http', 'ws')}/v1",
    )


def resampled(path: Path, rate: int) -> np.ndarray:
    with AudioFile(path, rate) as audio:
        return np.concatenate(list(audio))


def as_bytes(samples: np.ndarray) -> bytes:
    return (samples * 32_767).astype("<i2").tobytes()


# Rill's own WebSocket


@pytest.mark.parametrize(("path", "size"), [(GREETING, 5_120), (TELEPHONE, 777), (REQUEST, 1_000_000)])
def test_stream_gives_the_text_of_the_file(server, readable_recognizer, path, size):
    data, rate = pcm(path)
    events = streamed(server.stream_url(sample_rate=rate), data, size)
    expected = readable_recognizer.transcribe(path)
    assert events[0] == {"type": "ready", "sample_rate": rate, "model": "rill-en-small"}
    assert text_of(events) == expected.text != ""
    assert events[-1] == {"type": "done", "seconds": pytest.approx(expected.end_seconds, abs=0.002)}
    words = [word for event in events if event["type"] == "final" for word in event["words"]]
    assert [word["start"] for word in words] == pytest.approx(
        [word.start_seconds for word in expected.spoken], abs=0.002
    )


def test_partial_results_keep_what_they_committed(server):
    data, rate = pcm(GREETING)
    shown = [
        event
        for event in streamed(server.stream_url(sample_rate=rate), data, 2_560)
        if event["type"] in ("partial", "final")
    ]
    assert shown[0]["type"] == "partial" and shown[-1]["type"] == "final"
    assert [word["word"] for word in shown[-1]["words"]] == shown[-1]["normalized"].split()
    for before, after in zip(shown, shown[1:], strict=False):
        kept = before["text"].split()[: before["committed"]]
        assert after["text"].split()[: len(kept)] == kept


def test_floats_and_flush(server, readable_recognizer):
    samples = resampled(GREETING, 44_100)
    silence = np.zeros(44_100, np.float32)
    url = server.stream_url(sample_rate=44_100, format="f32le")
    with connect(url) as socket:
        socket.send(samples.astype("<f4").tobytes())
        socket.send('{"type": "flush"}')
        while (event := json.loads(socket.recv()))["type"] != "final":
            pass
        first = event
        socket.send(np.concatenate([silence, samples]).astype("<f4").tobytes())
        socket.send('{"type":"finish"}')
        events = events_until_closed(socket)
    assert first["text"] == readable_recognizer.transcribe(samples, 44_100).text == text_of(events)
    second = next(event for event in events if event["type"] == "final")
    offset = (len(samples) + len(silence)) / 44_100
    assert second["start"] == pytest.approx(first["start"] + offset, abs=0.07)


def test_a_stream_may_be_plain(server, shipped_recognizer):
    data, rate = pcm(GREETING)
    plain = shipped_recognizer.transcribe(GREETING)
    for query in ({"readable": 0}, {"pretty": 0}):
        events = streamed(server.stream_url(sample_rate=rate, **query), data)
        assert text_of(events) == plain.text == plain.normalized
        assert not any("written" in word for word in events[-2]["words"])
    events = streamed(server.stream_url(sample_rate=rate, readable=1), data)
    final = events[-2]
    assert final["text"] != final["normalized"] == plain.text
    assert [word["written"] for word in final["words"]] == final["text"].split()
    with connect(server.stream_url(sample_rate=rate, readable="yes")) as socket:
        assert events_until_closed(socket)[-1]["code"] == "bad_request"


def test_pages_of_other_sites_are_refused(server, readable_recognizer):
    """What has no origin is no browser: all the other tests here."""
    data, rate = pcm(GREETING)
    for origin in (server.url, FRIEND):
        with connect(server.stream_url(sample_rate=rate), origin=origin) as socket:
            assert json.loads(socket.recv())["type"] == "ready"
    paths = ("v1/stream", "v1/realtime?intent=transcription", "vosk")
    for path, origin in [(path, "https://evil.example") for path in paths] + [
        (paths[0], f"{server.url}0"),
        (paths[0], "null"),
    ]:
        with pytest.raises(websockets.InvalidStatus, match="403"):
            connect(f"{server.url.replace('http', 'ws')}/{path}", origin=origin)


def test_uploads_of_pages_of_other_sites(server, client, readable_recognizer):
    def upload(origin: str):
        create = client.audio.transcriptions.with_raw_response.create
        return create(file=GREETING, model="x", extra_headers={"Origin": origin})

    answer = upload(FRIEND)
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert answer.parse().text == readable_recognizer.transcribe(GREETING).text
    asked = {"Origin": FRIEND, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-mine"}
    request = urllib.request.Request(f"{server.url}/v1/audio/transcriptions", headers=asked, method="OPTIONS")
    with urllib.request.urlopen(request) as preflight:
        assert preflight.headers["access-control-allow-headers"] == "x-mine"
    with pytest.raises(openai.PermissionDeniedError, match="evil.example may not use this server"):
        upload("https://evil.example")


def test_the_server_loads_no_torch(server):
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")
    assert "onnxruntime" in loaded and "torch" not in loaded


def test_examples_of_the_documentation_run(server, readable_recognizer, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("10300", str(server.wyoming_port))
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 6
    expected = readable_recognizer.transcribe(GREETING)
    for example in examples:
        exec(compile(example, "docs/server.md", "exec"), {})
        text = expected.normalized if "/vosk" in example or "deepgram" in example else expected.text
        assert capsys.readouterr().out == text + "\n", example


def test_without_its_libraries_the_command_says_what_to_install():
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.argv = ['asr', 'serve']; "
        "from asr.cli.main import main; sys.exit(main())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == f"asr: asr serve needs fastapi, which is not installed; {how_to_install('serve')}\n"
    assert "pip install '.[serve]'" in run.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--port", "99999"], "cannot listen on 127.0.0.1, port 99999"),
        (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1"),
        (["--max-streams", "0"], "max_streams must be above 0"),
        (["--allow-origin", "https://a.example/page"], "'https://a.example/page' is not an origin"),
        (["--end-silence", "0"], "--end-silence must be a positive"),
        (["--grammar", "rooms.txt"], "a grammar takes the place of the language model"),
        (["--ssl-certfile", "cert.pem"], "go together"),
        (["--ssl-certfile", "no.pem", "--ssl-keyfile", "no.pem"], "certificate"),
    ],
)
def test_options_that_cannot_be(options, reason, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["asr", "serve", "--decoder", "greedy", *options])
    assert main() == 2
    complaint = capsys.readouterr().err
    assert reason in complaint and complaint.count("\n") == 1


# OpenAI's interface for recordings


@pytest.mark.parametrize("path", [GREETING, DIRECTIONS])
def test_openai_client_gets_every_format(client, readable_recognizer, path):
    expected = readable_recognizer.transcribe(path)

    def transcribe(**options):
        return client.audio.transcriptions.create(file=path, model="whisper-1", **options)

    assert transcribe().text == expected.text
    assert transcribe(response_format="text") == expected.text + "\n"
    assert transcribe(response_format="srt") == as_srt("", expected) + "\n"
    assert transcribe(response_format="vtt") == as_vtt("", expected) + "\n"
    verbose = transcribe(response_format="verbose_json", timestamp_granularities=["word", "segment"], language="en")
    assert (verbose.text, verbose.language) == (expected.text, "english")
    assert verbose.duration == pytest.approx(expected.end_seconds, abs=0.001)
    assert [word.word for word in verbose.words] == expected.text.split()
    ends = [word.end_seconds for word in expected.words]
    assert [word.end for word in verbose.words] == pytest.approx(ends, abs=0.001)
    assert " ".join(segment.text for segment in verbose.segments) == expected.text
    assert verbose.segments[0].start == verbose.words[0].start
    assert all(segment.avg_logprob < 0 < segment.compression_ratio for segment in verbose.segments)


@pytest.mark.parametrize("language", ["auto", "en_US", "en-AU", "eng", "English", ""])
def test_every_form_of_english_is_accepted(client, readable_recognizer, language):
    answer = client.audio.transcriptions.create(file=GREETING, model="x", language=language)
    assert answer.text == readable_recognizer.transcribe(GREETING).text


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
def test_word_times_are_asked_for_with_and_without_brackets(server, name):
    parts = {'"response_format"': b"verbose_json", f'"{name}"': b"word"}
    parts['"file"; filename="a.wav"'] = GREETING.read_bytes()
    body = b"".join(
        f"--part\r\nContent-Disposition: form-data; name={given}\r\n\r\n".encode() + value + b"\r\n"
        for given, value in parts.items()
    )
    request = urllib.request.Request(f"{server.url}/v1/audio/transcriptions", body + b"--part--\r\n")
    request.add_header("Content-Type", "multipart/form-data; boundary=part")
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    assert answer["words"] and "segments" not in answer


def test_a_recording_without_words_is_told(client):
    silence = ("silence.wav", wav_bytes(np.zeros(32_000, np.float32)))
    answer = client.audio.transcriptions.with_raw_response.create(file=silence, model="x")
    assert answer.parse().text == ""
    assert answer.headers["x-rill-warning"] == "no words were recognised in 2.0 s of audio (digital silence)"


def test_openai_client_streams(client, readable_recognizer):
    with client.audio.transcriptions.create(file=REQUEST, model="x", stream=True) as stream:
        events = list(stream)
    assert events[-1].type == "transcript.text.done"
    assert len(events) > 2
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert events[-1].text == readable_recognizer.transcribe(REQUEST).text


def test_openai_client_is_told_what_is_wrong(client):
    with pytest.raises(openai.BadRequestError, match="notes.txt: is no audio file"):
        client.audio.transcriptions.create(file=("notes.txt", b"no audio at all"), model="x")
    with pytest.raises(openai.BadRequestError, match="model is for English"):
        client.audio.transcriptions.create(file=GREETING, model="x", language="de")
    with pytest.raises(openai.BadRequestError, match="unknown response_format 'pdf'"):
        client.audio.transcriptions.create(file=GREETING, model="x", response_format="pdf")
    with pytest.raises(openai.BadRequestError, match="no file in the form"):
        client.post("/audio/transcriptions", body={"model": "x"}, cast_to=object)
    with pytest.raises(openai.APIError, match="is no audio file"):
        list(client.audio.transcriptions.create(file=("notes.txt", b"no audio at all"), model="x", stream=True))


@pytest.mark.parametrize("name", ["list.m3u8", "list.wav", "list.ffconcat"])
def test_an_uploaded_list_opens_nothing_of_the_server(client, name):
    lists = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{GREETING}\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{GREETING.as_uri()}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{GREETING}'\n",
    )
    for text in lists:
        with pytest.raises(openai.BadRequestError, match=f"{name}: is no audio file"):
            client.audio.transcriptions.create(file=(name, text.encode()), model="x")


def test_openai_client_lists_the_model(client):
    assert [model.id for model in client.models.list()] == ["rill-en-small"]
    assert client.models.retrieve("rill-en-small").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_curl(server, readable_recognizer):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "-sS", f"{server.url}/v1/audio/transcriptions", "-F", f"file=@{GREETING}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(answer)["text"] == readable_recognizer.transcribe(GREETING).text
    for path, expected in (("healthz", "alive"), ("readyz", "ready"), ("", "<!doctype html>")):
        page = subprocess.run(["curl", "-sS", f"{server.url}/{path}"], capture_output=True, text=True, check=True)
        assert page.stdout.startswith(expected)


# OpenAI's Realtime interface


def realtime_events(client, audio: bytes, settings: dict, commit: bool, items: int = 1) -> list:
    """The events of a session that hears this audio, until so many items are transcribed."""
    events = []
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        events.append(connection.recv())
        connection.session.update(session={"type": "transcription", "audio": {"input": settings}})
        for start in range(0, len(audio), 4_800):
            piece = base64.b64encode(audio[start : start + 4_800]).decode()
            connection.input_audio_buffer.append(audio=piece)
        if commit:
            connection.input_audio_buffer.commit()
        while items:
            events.append(connection.recv())
            assert events[-1].type != "error", events[-1]
            items -= events[-1].type.endswith("transcription.completed")
    return events


def test_openai_realtime_manual_commit(client, readable_recognizer):
    samples = resampled(REQUEST, 24_000)
    settings = {"format": {"type": "audio/pcm", "rate": 24_000}, "turn_detection": None}
    events = realtime_events(client, as_bytes(samples), settings, commit=True)
    assert [event.type for event in events[:2]] == ["session.created", "session.updated"]
    assert events[0].session.type == "transcription"
    completed = events[-1]
    committed = next(event for event in events if event.type == "input_audio_buffer.committed")
    assert completed.transcript == readable_recognizer.transcribe(samples, 24_000).text != ""
    assert completed.item_id == committed.item_id
    assert completed.usage.seconds == pytest.approx(len(samples) / 24_000, abs=0.002)
    deltas = [event for event in events if event.type.endswith("transcription.delta")]
    assert "".join(event.delta for event in deltas) == completed.transcript
    assert {event.item_id for event in deltas} == {completed.item_id}


def test_openai_realtime_server_vad(client, readable_recognizer):
    samples = np.concatenate(
        [
            resampled(GREETING, 24_000),
            np.zeros(48_000, np.float32),
            resampled(TELEPHONE, 24_000),
            np.zeros(36_000, np.float32),
        ]
    )
    settings = {"turn_detection": {"type": "server_vad", "silence_duration_ms": 700}}
    events = realtime_events(client, as_bytes(samples), settings, commit=False, items=2)
    texts = [event.transcript for event in events if event.type.endswith("completed")]
    assert texts == [readable_recognizer.transcribe(path).text for path in (GREETING, TELEPHONE)]
    kinds = [event.type.rpartition(".")[2] for event in events if event.type.startswith("input_audio_buffer.")]
    assert kinds == ["speech_started", "speech_stopped", "committed"] * 2
    first, second = (event for event in events if event.type == "input_audio_buffer.committed")
    assert first.previous_item_id is None and second.previous_item_id == first.item_id
    started = [event.audio_start_ms for event in events if event.type.endswith("speech_started")]
    assert started[0] < 1_000 and started[1] > 4_000


@pytest.mark.parametrize(("codec", "format"), [("pcm_mulaw", "audio/pcmu"), ("pcm_alaw", "audio/pcma")])
def test_openai_realtime_telephone_formats(client, readable_recognizer, tmp_path, codec, format):
    path = tmp_path / "call.wav"
    with av.open(str(path), "w") as file:
        track = file.add_stream(codec, rate=8_000, layout="mono")
        samples = np.frombuffer(pcm(TELEPHONE)[0], "<i2")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = 8_000
        file.mux(track.encode(frame) + track.encode(None))
    with av.open(str(path)) as file:
        encoded = b"".join(bytes(packet) for packet in file.demux(audio=0))
    settings = {"format": {"type": format}, "turn_detection": None}
    events = realtime_events(client, encoded, settings, commit=True)
    assert events[-1].transcript == readable_recognizer.transcribe(path).text != ""


def test_openai_realtime_mistakes_leave_the_session_alive(client, readable_recognizer):
    data = as_bytes(resampled(GREETING, 24_000))
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        connection.recv()
        for mistake, reason in (
            ({"type": "input_audio_buffer.commit", "event_id": "mine"}, "buffer is empty"),
            ({"type": "input_audio_buffer.append", "audio": "no base64!"}, "base64"),
            ({"type": "response.create"}, "unknown event"),
            ({"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/mp3"}}}}}, "format"),
        ):
            connection.send(mistake)
            event = connection.recv()
            assert event.type == "error" and reason in event.error.message
            assert event.error.event_id == mistake.get("event_id")
        connection.input_audio_buffer.append(audio=base64.b64encode(data).decode())
        connection.input_audio_buffer.clear()
        while connection.recv().type != "input_audio_buffer.cleared":
            pass
        connection.input_audio_buffer.append(audio=base64.b64encode(data).decode())
        connection.input_audio_buffer.commit()
        while not (event := connection.recv()).type.endswith("completed"):
            pass
        assert event.transcript == readable_recognizer.transcribe(GREETING).text


# Vosk


def test_vosk_client(server, shipped_recognizer):
    """The messages of vosk-server's own test client: a reply is awaited after each."""
    data, rate = pcm(GREETING)
    replies = []
    with connect(f"{server.url.replace('http', 'ws')}/vosk") as socket:
        socket.send(f'{{ "config" : {{ "sample_rate" : {rate} }} }}')
        size = int(rate * 0.2) * 2
        for start in range(0, len(data), size):
            socket.send(data[start : start + size])
            replies.append(json.loads(socket.recv()))
        socket.send('{"eof" : 1}')
        replies.append(json.loads(socket.recv()))
        with pytest.raises(websockets.ConnectionClosedOK):
            socket.recv()
    expected = shipped_recognizer.transcribe(GREETING)
    assert all(set(reply) == {"partial"} for reply in replies[:-1])
    assert any(reply["partial"] for reply in replies[:-1])
    assert replies[-1]["text"] == expected.text
    assert [word["word"] for word in replies[-1]["result"]] == expected.text.split()
    assert [word["start"] for word in replies[-1]["result"]] == pytest.approx(
        [word.start_seconds for word in expected.words], abs=0.002
    )


def test_vosk_endpoints_reset_and_alternatives(server, shipped_recognizer):
    data, rate = pcm(GREETING)
    text = shipped_recognizer.transcribe(GREETING).text
    with connect(f"{server.url.replace('http', 'ws')}/vosk") as socket:
        socket.send(json.dumps({"config": {"sample_rate": str(rate), "words": False}}))
        socket.send(data + bytes(4 * rate))  # two seconds of silence end the utterance
        assert json.loads(socket.recv()) == {"text": text}
        socket.send(json.dumps({"config": {"max_alternatives": 3, "words": True}}))
        socket.send(data)
        assert json.loads(socket.recv())["partial"]
        socket.send('{"reset": 1}')
        alternative = json.loads(socket.recv())["alternatives"][0]
        assert alternative["text"] == text and 0 < alternative["confidence"] <= 1
        assert len(alternative["result"]) == len(text.split())
        socket.send('{"eof": 1}')
        assert json.loads(socket.recv())["alternatives"][0]["text"] == ""


# Wyoming


def test_wyoming_client(server, readable_recognizer):
    data, rate = pcm(REQUEST)

    async def talk() -> tuple[Info, list]:
        async with AsyncTcpClient("127.0.0.1", server.wyoming_port) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await client.read_event())
            heard = []
            for _ in range(2):  # a connection takes one recording after the other
                await client.write_event(Transcribe(language="en").event())
                await client.write_event(AudioStart(rate=rate, width=2, channels=1).event())
                for start in range(0, len(data), 2_048):
                    chunk = AudioChunk(rate=rate, width=2, channels=1, audio=data[start : start + 2_048])
                    await client.write_event(chunk.event())
                await client.write_event(AudioStop().event())
                events = [await client.read_event()]
                while not TranscriptStop.is_type(events[-1].type):
                    events.append(await client.read_event())
                heard.append(events)
            return info, heard

    info, recordings = asyncio.run(talk())
    assert info.asr[0].supports_transcript_streaming and info.asr[0].models[0].languages == ["en"]
    for events in recordings:
        assert TranscriptStart.is_type(events[0].type)
        assert Transcript.from_event(events[-2]).text == readable_recognizer.transcribe(REQUEST).text
        chunks = [TranscriptChunk.from_event(event).text for event in events[1:-2]]
        assert len(chunks) > 1 and "".join(chunks) == Transcript.from_event(events[-2]).text
