"""One conversation over a wire that a test holds in its hands: limits of time, order, and who is slow to listen."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLE_RATE

from asr.recognizer import Recognizer
from asr.server.conversation import converse
from asr.server.failures import Gone
from asr.server.inbox import Audio, End, Inbox
from asr.server.options import ServerOptions
from asr.server.pcm import Pcm
from asr.server.protocols import stream
from asr.server.service import Service


class Wire:
    """A transport: gives messages, then nothing more; keeps what it is sent."""

    client = "test"

    def __init__(self, *messages: str | bytes) -> None:
        self._messages = list(messages)
        self.sent: list[Any] = []
        self.closed: tuple[int, str] | None = None
        self.taken = 0

    async def receive(self) -> tuple[Any, int]:
        if self.taken == len(self._messages):
            await asyncio.Event().wait()
        self.taken += 1
        return self._messages[self.taken - 1], len(self._messages[self.taken - 1])

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


def talk(recognizer: Recognizer, wire: Wire, **options: Any) -> Service:
    """Hold one conversation to its end."""

    async def run() -> Service:
        service = Service(recognizer, ServerOptions(**options), "test")
        await converse(service, wire, "stream", lambda send: stream.StreamSpeaker(service, send, {}), stream.complain)
        assert len(asyncio.all_tasks()) == 1  # this one
        service.close()
        return service

    return asyncio.run(run())


def value(service: Service, name: str) -> float:
    return service.metrics.registry.get_sample_value(name, {"protocol": "stream"})


@pytest.fixture(scope="module")
def audio(speech: np.ndarray) -> bytes:
    return (speech * 32_767).astype("<i2").tobytes()


@pytest.mark.parametrize(("limit", "code"), [("longest_seconds", "too_long"), ("idle_seconds", "idle")])
def test_at_a_limit_of_time_the_last_words_come_first(recognizer, audio, speech, limit, code):
    wire = Wire(audio)
    talk(recognizer, wire, **{limit: 0.5})
    finals = " ".join(event["text"] for event in wire.sent if event["type"] == "final" and event["text"])
    assert finals == recognizer.transcribe(np.frombuffer(audio, "<i2").astype(np.int16)).text != ""
    assert wire.sent[-1]["code"] == code
    assert wire.closed == (1008, wire.sent[-1]["message"])


def test_who_takes_nothing_any_more_is_let_go(recognizer, audio):
    class Deaf(Wire):
        async def send(self, message: Any) -> None:
            if self.sent:
                raise Gone
            self.sent.append(message)

    wire = Deaf(audio, audio)
    service = talk(recognizer, wire)
    assert wire.closed is None
    assert (value(service, "rill_drops_total"), value(service, "rill_streams")) == (1, 0)


def test_a_failure_of_ours_is_told_without_its_insides(recognizer, audio):
    class Broken:
        sample_rate = SAMPLE_RATE
        start = recognizer.start

        def step(self, state: Any, samples: Any) -> Any:
            raise ValueError("secret")

    wire = Wire(audio)
    talk(Broken(), wire)
    assert wire.closed[0] == 1011
    assert wire.sent[-1]["code"] == "internal" and "secret" not in str(wire.sent)


def test_an_inbox_keeps_the_order_joins_audio_and_holds_back_who_sends_too_much():
    async def run() -> None:
        inbox = Inbox(1_000)
        await inbox.put(Audio(b"a" * 300, 1.0), 300)
        await inbox.put(Audio(b"b" * 300, 2.0), 300)
        await inbox.put("flush", 10)
        late = asyncio.create_task(inbox.put(Audio(b"c" * 300, 3.0), 300))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not late.done()
        assert await inbox.get() == Audio(b"a" * 300 + b"b" * 300, 1.0)
        await late
        await inbox.end(End("idle"))
        await inbox.end(End("too_long"))
        await inbox.put("ignored", 1)
        assert [await inbox.get() for _ in range(3)] == ["flush", Audio(b"c" * 300, 3.0), End("idle")]

    asyncio.run(run())


@pytest.mark.parametrize("format", ["s16le", "s32le", "f32le", "mulaw", "alaw"])
def test_pcm_cut_anywhere_is_the_same(format):
    values = np.random.default_rng(3).integers(-20_000, 20_000, 2_000)
    stored = {
        "s16le": values.astype("<i2"),
        "s32le": (values << 16).astype("<i4"),
        "f32le": (values / 32_768).astype("<f4"),
    }
    data = stored[format].tobytes() if format in stored else bytes(values.astype(np.uint8))
    whole = Pcm(format, 8_000, SAMPLE_RATE)
    cut = Pcm(format, 8_000, SAMPLE_RATE)
    expected = np.concatenate([whole.decode(data), whole.flush()])
    pieces = [cut.decode(data[start : start + 13]) for start in range(0, len(data), 13)]
    np.testing.assert_allclose(np.concatenate([*pieces, cut.flush()]), expected, atol=1e-6)
    assert len(expected) == pytest.approx(2 * 2_000, abs=2)
