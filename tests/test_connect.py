"""More that clients ask of the server: hotwords of their own, Deepgram's protocol, other texts, whole sentences."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator

import numpy as np
import openai
import pytest
from conftest import SAMPLES
from serving import Server, connect, events_until_closed, pcm, serving, streamed, text_of

from asr.audio.files import AudioFile
from asr.errors import UsageError
from asr.recognizer import Recognizer
from asr.server import hotwords as server_hotwords
from asr.server.failures import ClientError
from asr.server.hotwords import HotwordRecognizers, Phrases
from asr.server.pcm import Channels
from asr.server.places import Places

GREETING, REQUEST = SAMPLES / "greeting.wav", SAMPLES / "request.wav"
LIST = ["Novotny", "x!7", "front desk:8"]  # the same for all protocols, so that it is built once
UNUSABLE = "x!7"


@pytest.fixture(scope="module")
def server(shipped_recognizer: Recognizer) -> Iterator[Server]:
    with serving("--engine", "onnx", "--api-key", "secret") as server:
        yield server
        assert not [event for event in server.log if event["level"] == "error"]


@pytest.fixture(scope="module")
def quick_server(model_folder, small_lm_folder) -> Iterator[Server]:
    """A server whose small language model is soon built anew; it says little that makes sense."""
    model = ("--model", str(model_folder), "--lm", str(small_lm_folder), "--engine", "onnx")
    with serving(*model, "--hotword-lists", "1", "--api-key", "secret") as server:
        yield server
        assert not [event for event in server.log if event["level"] == "error"]


def websocket_url(server: Server, path: str) -> str:
    return f"{server.url.replace('http', 'ws', 1)}{path}{'&' if '?' in path else '?'}api_key=secret"


# Deepgram


def listened(server: Server, sends: list[object], **query: object) -> list:
    """What Deepgram's own client receives: it sends audio and control messages, then closes."""
    deepgram = pytest.importorskip("deepgram", reason="deepgram-sdk is not installed: pip install '.[dev]'")
    from deepgram.environment import DeepgramClientEnvironment

    base = server.url.replace("http", "ws", 1)
    places = DeepgramClientEnvironment(base=server.url, production=base, agent=base, agent_rest=server.url)
    client = deepgram.DeepgramClient(api_key="secret", environment=places)
    received = []
    with client.listen.v1.connect(model="nova-3", **query) as connection:

        def receive() -> None:
            received.extend(connection)

        thread = threading.Thread(target=receive)
        thread.start()
        for one in sends:
            if isinstance(one, bytes):
                for start in range(0, len(one), 8_000):
                    connection.send_media(one[start : start + 8_000])
            else:
                getattr(connection, str(one))()
        connection.send_close_stream()
        thread.join(300)
        assert not thread.is_alive()
    return received


def test_deepgrams_own_client_gets_the_text(server, shipped_recognizer):
    data, rate = pcm(GREETING)
    expected = shipped_recognizer.transcribe(GREETING)
    told = listened(
        server,
        [data, "send_keep_alive", "send_finalize"],
        encoding="linear16",
        sample_rate=rate,
        interim_results=True,
        vad_events=True,
        utterance_end_ms=1_000,
    )
    kinds = [one.type for one in told]
    assert kinds[0] == "SpeechStarted" and kinds[-1] == "Metadata" and "UtteranceEnd" in kinds
    results = [one for one in told if one.type == "Results"]
    assert any(not one.is_final for one in results)
    (final,) = [one for one in results if one.is_final]
    assert final.from_finalize and final.speech_final and final.channel_index == [0, 1]
    (alternative,) = final.channel.alternatives
    assert alternative.transcript == expected.text
    assert [word.start for word in alternative.words] == pytest.approx(
        [word.start_seconds for word in expected.words], abs=0.002
    )
    assert told[-1].duration == pytest.approx(expected.end_seconds, abs=0.01) and told[-1].channels == 1


def test_the_channels_of_a_call_are_two_speakers(server, shipped_recognizer):
    left, rate = pcm(GREETING)
    right, _ = pcm(REQUEST)
    length = min(len(left), len(right)) // 2 * 2
    both = np.stack([np.frombuffer(one[:length], "<i2") for one in (left, right)], axis=1)
    told = listened(
        server,
        [both.tobytes()],
        encoding="linear16",
        sample_rate=rate,
        channels=2,
        multichannel=True,
        smart_format=True,
    )
    texts = ["", ""]
    for one in told:
        if one.type == "Results":
            assert one.channel_index[1] == 2
            texts[one.channel_index[0]] += one.channel.alternatives[0].transcript
    pretty = shipped_recognizer.with_readable()
    assert texts == [pretty.transcribe(both[:, channel].copy(), rate).text for channel in (0, 1)]


@pytest.mark.parametrize("size", [4_097, 1_000_000])
def test_separate_channels_of_the_own_protocol(server, shipped_recognizer, size):
    left, rate = pcm(GREETING)
    right, _ = pcm(REQUEST)
    length = min(len(left), len(right)) // 2 * 2
    both = np.stack([np.frombuffer(one[:length], "<i2") for one in (left, right)], axis=1)
    query = f"/v1/stream?sample_rate={rate}&channels=2&readable=0"
    events = streamed(websocket_url(server, f"{query}&separate=1"), both.tobytes(), size)
    for channel in (1, 2):
        of_channel = [event for event in events if event.get("channel") == channel]
        assert {event["type"] for event in of_channel} == {"partial", "final"}
        alone = shipped_recognizer.transcribe(both[:, channel - 1].copy(), rate)
        assert text_of(of_channel) == alone.text
        assert next(e for e in of_channel if e["type"] == "final")["start"] == pytest.approx(
            alone.start_seconds, abs=0.5
        )
    assert events[-1]["seconds"] == pytest.approx(len(both) / rate, abs=0.01)
    together = streamed(websocket_url(server, query), both.tobytes(), size)
    assert text_of(together) == shipped_recognizer.transcribe(both.mean(axis=1).astype("<i2"), rate).text
    assert not any("channel" in event for event in together)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("channels=9", "9 channels; give 1 to 8"),
        ("channels=two", "'two' is no number"),
        ("channels=2&separate=yes", "separate is 0 or 1"),
    ],
)
def test_wrong_channels_are_refused(server, query, reason):
    with connect(websocket_url(server, f"/v1/stream?{query}")) as socket:
        (event,) = events_until_closed(socket)
    assert event["code"] == "bad_request" and reason in event["message"]


def test_deepgrams_refusals(server):
    for query, reason in (("encoding=opus", "encoding 'opus'"), ("encoding=linear16&language=fr", "'fr'")):
        with connect(websocket_url(server, f"/v1/listen?{query}")) as socket:
            events = events_until_closed(socket)
        assert events[-1]["type"] == "Error" and reason in events[-1]["description"]
    with connect(f"{server.url.replace('http', 'ws', 1)}/v1/listen?encoding=linear16") as socket:
        assert "API key" in events_until_closed(socket)[-1]["description"]
    url = f"{server.url.replace('http', 'ws', 1)}/v1/listen?encoding=linear16&sample_rate=16000"
    with connect(url, subprotocols=["token", "secret"]) as socket:  # as browsers send the key
        assert socket.subprotocol == "token"
        socket.send('{"type": "CloseStream"}')
        assert events_until_closed(socket)[-1]["type"] == "Metadata"


@pytest.mark.parametrize("size", [1, 3, 5, 4_096])
def test_channels_cut_anywhere_are_those_of_the_whole(size):
    frames = np.random.default_rng(0).integers(-9_000, 9_000, (1_000, 3)).astype("<i2")
    channels = Channels("s16le", 16_000, 16_000, 3, separate=True)
    data = frames.tobytes()
    parts = [channels.split(data[start : start + size]) for start in range(0, len(data), size)]
    for channel in range(3):
        assert b"".join(part[channel] for part in parts) == frames[:, channel].tobytes()


# Hotwords of a stream


def test_each_protocol_takes_hotwords_and_says_which_cannot_be_used(quick_server, small):
    server = quick_server
    data, rate = pcm(GREETING)
    plain = small.transcribe(GREETING).text
    with connect(
        websocket_url(server, f"/v1/stream?sample_rate={rate}&hotwords=Novotny,x!7,front%20desk:8&readable=0")
    ) as socket:
        ready = json.loads(socket.recv())
        assert ready["hotwords"]["used"] == ["front desk", "novotny"]
        (unusable,) = ready["hotwords"]["unusable"]
        assert unusable["phrase"] == UNUSABLE and unusable["reason"]
        socket.send(data)
        socket.send('{"type": "hotwords", "phrases": []}')  # from here on without
        socket.send(data)
        socket.send('{"type": "finish"}')
        events = events_until_closed(socket)
    assert text_of(events).endswith(plain)  # of the second half; the first may be no words that it is sure of
    assert {"type": "hotwords", "used": [], "unusable": []} in events
    starts = [event["start"] for event in events if event["type"] == "final" and event["text"]]
    assert starts[-1] > 0.99 * len(data) / 2 / rate  # times go on

    with connect(websocket_url(server, "/vosk")) as socket:
        socket.send(json.dumps({"config": {"sample_rate": rate, "phrase_list": [*LIST, "[unk]"]}}))
        socket.send(data)
        assert json.loads(socket.recv())["unusable_phrases"] == [UNUSABLE]
        socket.send('{"eof": 1}')
        assert "text" in json.loads(socket.recv())

    client = openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="secret",
        max_retries=0,
        websocket_base_url=f"{server.url.replace('http', 'ws')}/v1",
    )
    answer = client.audio.transcriptions.with_raw_response.create(
        model="rill", file=GREETING, prompt="Novotny, x!7, front desk:8\nThis sentence is no phrase. It has words."
    )
    assert "text" in json.loads(answer.text) and UNUSABLE in answer.headers["X-Rill-Warning"]

    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        transcription = {"model": "rill", "prompt": ", ".join(LIST)}
        audio = {"input": {"turn_detection": None, "transcription": transcription}}
        connection.session.update(session={"type": "transcription", "audio": audio})
        for event in connection:
            if event.type == "session.updated":
                break
        described = event.model_dump()["session"]["audio"]["input"]["transcription"]
        assert described["hotwords"]["used"] == ["front desk", "novotny"]

    told = listened(server, [data], encoding="linear16", sample_rate=rate, keyterm=LIST)
    assert UNUSABLE in told[-1].model_dump()["warnings"]


def test_lists_in_use_are_few(quick_server):
    server = quick_server
    with connect(websocket_url(server, "/v1/stream?hotwords=Novotny,front%20desk:8")) as first:
        assert json.loads(first.recv())["type"] == "ready"
        with connect(websocket_url(server, "/v1/stream?hotwords=another")) as second:
            assert events_until_closed(second)[-1]["code"] == "busy"
        with connect(websocket_url(server, "/v1/stream")) as third:  # others go on
            assert json.loads(third.recv())["type"] == "ready"


@pytest.fixture
def small(model_folder, small_lm_folder):
    return Recognizer.load(model_folder, lm=small_lm_folder)


def test_a_list_is_built_once_and_let_go(small, monkeypatch):
    built = []
    monkeypatch.setattr(server_hotwords, "MOST_KEPT", 1)
    original = Recognizer.with_hotwords
    monkeypatch.setattr(Recognizer, "with_hotwords", lambda self, given: built.append(given) or original(self, given))

    async def run() -> None:
        lists = HotwordRecognizers(small, Places(2))
        one, two, three = (Phrases.of([phrase]) for phrase in ("cat", "a cat", "sea"))
        first, again = await asyncio.gather(lists.recognizer(one), lists.recognizer(one))
        assert first is again and len(built) == 1
        assert await lists.recognizer(Phrases()) is small
        second = await lists.recognizer(two)
        with pytest.raises(ClientError, match="2 lists of hotwords are in use"):
            await lists.recognizer(three)
        assert await lists.recognizer(two) is second and len(built) == 2
        del first, again
        await lists.recognizer(three)  # there is room now
        assert [list(given) for given in built] == [["cat"], ["a cat"], ["sea"]]
        lists.close()

    asyncio.run(run())


def test_phrases_are_bounded():
    with pytest.raises(ClientError, match="101 phrases"):
        Phrases.of(["cat"] * 101)
    with pytest.raises(ClientError, match="must be text"):
        Phrases.of([3])
    phrases = Phrases.of(["Cat:3", "cat", "c" * 101, "one two three four five six", "42", "cat:99"])
    assert [phrase for phrase, _ in phrases.used] == ["cat"]
    assert [phrase[:3] for phrase, _ in phrases.unusable] == ["ccc", "one", "42", "cat"]
    assert Phrases.of_prompt("A long introduction of what is said here today, Rill; Wyoming").used[0][0] == "rill"


def test_hotwords_added_later_are_hotwords(small, model_folder, small_lm_folder, speech):
    loaded = Recognizer.load(model_folder, lm=small_lm_folder, hotwords={"cat": 9.0, "sea": 3.0})
    added = Recognizer.load(model_folder, lm=small_lm_folder, hotwords={"sea": 3.0}).with_hotwords({"cat": 9.0})
    assert added.transcribe(speech) == loaded.transcribe(speech) != small.transcribe(speech)
    with pytest.raises(UsageError, match="put together from parts"):
        Recognizer(small._runner, small._decoder, small._engine).with_hotwords(["cat"])


# Other texts, and sentences


def test_vosk_gives_several_texts(server, shipped_recognizer):
    data, rate = pcm(GREETING)
    text = shipped_recognizer.transcribe(GREETING).text
    with connect(websocket_url(server, "/vosk")) as socket:
        socket.send(json.dumps({"config": {"sample_rate": rate, "max_alternatives": 3}}))
        socket.send(data + bytes(4 * rate))  # silence ends the utterance
        alternatives = json.loads(socket.recv())["alternatives"]
        socket.send('{"eof": 1}')
    assert alternatives[0]["text"] == text and len(alternatives[0]["result"]) == len(text.split())
    assert 1 < len(alternatives) <= 3 and len({one["text"] for one in alternatives}) == len(alternatives)
    confidences = [one["confidence"] for one in alternatives]
    assert confidences == sorted(confidences, reverse=True)


def test_semantic_vad_ends_turns(server, shipped_recognizer):
    with AudioFile(GREETING, 24_000) as file:
        samples = np.concatenate([*file, np.zeros(2 * 24_000, np.float32)])
    client = openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="secret", websocket_base_url=f"{server.url.replace('http', 'ws')}/v1"
    )
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        turns = {"type": "semantic_vad", "eagerness": "high"}
        connection.session.update(session={"type": "transcription", "audio": {"input": {"turn_detection": turns}}})
        audio = (samples * 32_767).astype("<i2").tobytes()
        connection.input_audio_buffer.append(audio=base64.b64encode(audio).decode())
        seen = []
        for event in connection:
            seen.append(event)
            if event.type.endswith("completed"):
                break
    updated = next(event for event in seen if event.type == "session.updated").model_dump()
    assert turns.items() <= updated["session"]["audio"]["input"]["turn_detection"].items()
    assert event.transcript == shipped_recognizer.with_readable().transcribe(GREETING).text


def test_openapi_describes_what_is_spoken_over_http(small):
    from asr.server.app import create_app

    described = create_app(small).openapi()
    assert {"/v1/audio/transcriptions", "/v1/models", "/v1/models/{name}", "/healthz"} <= set(described["paths"])
    form = described["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["file"] and "prompt" in form["schema"]["properties"]
