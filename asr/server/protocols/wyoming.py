"""Wyoming over TCP, as used by Home Assistant. The protocol has no key: listen on trusted networks only."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asr
from asr.output.growing import GrowingText
from asr.server.conversation import Send, converse, log_results
from asr.server.failures import ClientError, Gone
from asr.server.inbox import Audio, End
from asr.server.pcm import Pcm
from asr.server.service import Service
from asr.server.stream import Stream
from asr.server.websocket import json_object
from asr.streaming.results import Result

NAME = "wyoming"
LINE_BYTES = 64 * 1024
ENCODING_OF_WIDTH = {2: "s16le", 4: "s32le"}  # by bytes of a sample


@dataclass(frozen=True)
class Event:
    """A frame: a type, data, and perhaps audio."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


def complain(code: str, message: str) -> Event:
    """The event of a failure."""
    return Event("error", {"text": message, "code": code})


class WyomingTransport:
    """Frames of a TCP connection: a line of JSON, then data, then payload."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most_bytes: int, send_seconds: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._most_bytes = most_bytes
        self._send_seconds = send_seconds
        self.client = str((writer.get_extra_info("peername") or ["unknown"])[0])

    async def receive(self) -> tuple[Event, int]:
        try:
            line = await self._reader.readline()
            if not line:
                raise Gone(politely=True)
            header = json_object(line, "an event")
            data = header.get("data") or {}
            if length := self._length(header, "data_length"):
                data = {**data, **json_object(await self._reader.readexactly(length), "the data of an event")}
            payload = b""
            if length := self._length(header, "payload_length"):
                payload = await self._reader.readexactly(length)
        except ValueError as error:  # a line longer than the reader's limit
            raise ClientError("too_large", f"an event's first line is longer than {LINE_BYTES} bytes") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Gone from error
        if not isinstance(data, dict):
            raise ClientError("bad_request", "an event's data must be a JSON object")
        return Event(str(header.get("type")), data, payload), len(line) + len(payload)

    def _length(self, header: dict[str, Any], name: str) -> int:
        length = header.get(name) or 0
        if type(length) is not int or length < 0:
            raise ClientError("bad_request", f"{name} must be a whole number from 0, got {length!r}")
        if length > self._most_bytes:
            raise ClientError("too_large", f"{name} is {length} bytes, the most is {self._most_bytes}")
        return length

    async def send(self, message: Event) -> None:
        data = json.dumps(message.data, ensure_ascii=False).encode()
        header = {"type": message.type, "version": asr.__version__, "data_length": len(data)}
        try:
            async with asyncio.timeout(self._send_seconds):
                self._writer.write(json.dumps(header).encode() + b"\n" + data)
                await self._writer.drain()
        except (TimeoutError, OSError) as error:
            raise Gone from error

    async def close(self, code: int, reason: str) -> None:
        self._writer.close()


class WyomingSpeaker:
    """The server's side of a connection: any number of recordings, one after the other."""

    merge = True

    def __init__(self, service: Service, send: Send) -> None:
        self._service = service
        self._send = send
        self._begun = False  # whether a recording has begun, in the messages read
        self._stream: Stream | None = None  # the present recording
        self._growing = GrowingText()
        self._before = 0.0  # seconds of earlier recordings

    @property
    def seconds(self) -> float:
        return self._before + (self._stream.seconds if self._stream else 0.0)

    async def open(self) -> None:
        pass

    def parse(self, message: Event) -> Any:
        known = message.type in ("describe", "ping", "audio-start", "audio-chunk", "audio-stop")
        begun, self._begun = self._begun, self._begun or message.type in ("audio-start", "audio-chunk")
        if message.type == "audio-chunk" and begun:
            return Audio.now(message.payload)
        if message.type == "audio-stop":
            self._begun = False
        return message if known else None

    async def handle(self, item: Event | Audio) -> None:
        if isinstance(item, Audio):
            await self._tell(await self._stream.hear(item))
        elif item.type == "describe":
            await self._send(Event("info", _info(self._service.model)))
        elif item.type == "ping":
            await self._send(Event("pong", item.data))
        elif item.type == "audio-start":
            await self._begin(item.data)
        elif item.type == "audio-chunk":  # without audio-start: it has the format itself
            await self._begin(item.data)
            await self._tell(await self._stream.hear(Audio.now(item.payload)))
        elif self._stream is not None:
            await self._finish()

    async def end(self, end: End) -> None:
        if self._stream is not None:
            await self._finish()

    async def _begin(self, data: dict[str, Any]) -> None:
        format = ENCODING_OF_WIDTH.get(data.get("width", 2))
        channels = data.get("channels", 1)
        if format is None or type(channels) is not int:
            raise ClientError(
                "bad_request",
                f"samples of {data.get('width')} bytes in {channels!r} channels; give 2 or 4 bytes, 1 to 8 channels",
            )
        pcm = Pcm(format, data.get("rate", 16_000), self._service.recognizer.sample_rate, channels)
        self._before = self.seconds
        self._stream = Stream(self._service, NAME, pcm)
        self._growing = GrowingText()
        await self._send(Event("transcript-start", {"language": "en"}))

    async def _tell(self, results: tuple[Result, ...]) -> None:
        log_results(self._service, results)
        if piece := self._growing.add(results):
            await self._send(Event("transcript-chunk", {"text": piece}))

    async def _finish(self) -> None:
        await self._tell(await self._stream.flush())
        self._before, self._stream = self.seconds, None
        await self._send(Event("transcript", {"text": self._growing.text, "language": "en"}))
        await self._send(Event("transcript-stop"))


def wyoming_protocol(service: Service) -> asyncio.StreamReaderProtocol:
    """What serves one connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        options = service.options
        transport = WyomingTransport(reader, writer, options.max_message_bytes, options.send_seconds)
        try:
            await converse(service, transport, NAME, lambda send: WyomingSpeaker(service, send), complain)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    return asyncio.StreamReaderProtocol(asyncio.StreamReader(LINE_BYTES), serve)


def _info(model: str) -> dict[str, Any]:
    by = {"name": "Rill", "url": ""}
    known = {"attribution": by, "installed": True, "version": asr.__version__}
    return {
        "asr": [
            {
                "name": "rill",
                "description": "Live speech recognition on an ordinary CPU",
                **known,
                "models": [{"name": model, "description": "English", "languages": ["en"], **known}],
                "supports_transcript_streaming": True,
            }
        ]
    }
