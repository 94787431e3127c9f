"""Rill's own WebSocket protocol: binary PCM in, JSON events out. docs/server.md describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asr.output.formats import word_fields
from asr.server.conversation import Send, log_results
from asr.server.failures import ClientError
from asr.server.inbox import Audio, End
from asr.server.pcm import Pcm
from asr.server.service import Service
from asr.server.stream import Stream
from asr.server.websocket import json_object
from asr.streaming.results import Result

NAME = "stream"
ENCODINGS = ("s16le", "f32le")
FLUSH = object()


def complain(code: str, message: str) -> dict[str, str]:
    """The event of a failure."""
    return {"type": "error", "code": code, "message": message}


def result_event(result: Result) -> dict[str, Any]:
    """A partial or final result as an event."""
    return {
        "type": "final" if result.final else "partial",
        "text": result.text,
        "committed": result.committed,
        "start": round(result.start_seconds, 3),
        "end": round(result.end_seconds, 3),
        "words": word_fields(result),
    }


class StreamSpeaker:
    """The server's side of a stream."""

    merge = True

    def __init__(self, service: Service, send: Send, query: Mapping[str, str]) -> None:
        """Read the query: ``sample_rate`` (the model's by default), ``format``, ``pretty``. Raises ClientError."""
        format = query.get("format", "s16le")
        if format not in ENCODINGS:
            raise ClientError("bad_request", f"unknown format {format!r}; give {' or '.join(ENCODINGS)}")
        given = query.get("sample_rate", str(service.recognizer.sample_rate))
        if not given.isascii() or not given.isdigit():
            raise ClientError("bad_request", f"sample_rate {given!r} is no whole number of Hz")
        pretty = query.get("pretty")
        if pretty not in (None, "0", "1"):
            raise ClientError("bad_request", f"pretty is 0 or 1, not {pretty!r}")
        self._service = service
        self._send = send
        self._pcm = Pcm(format, int(given), service.recognizer.sample_rate)
        self._stream = Stream(service, NAME, self._pcm)
        if pretty is not None:
            self._stream.go_on_with(service.recognizer.with_pretty(pretty == "1"))

    @property
    def seconds(self) -> float:
        return self._stream.seconds

    async def open(self) -> None:
        await self._send({"type": "ready", "sample_rate": self._pcm.rate, "model": self._service.model})

    def parse(self, message: str | bytes) -> Any:
        if isinstance(message, bytes):
            return Audio.now(message)
        kind = json_object(message).get("type")
        if kind == "finish":
            return End()
        if kind == "flush":
            return FLUSH
        raise ClientError("bad_request", f"unknown message type {kind!r}; send finish or flush, and audio as binary")

    async def handle(self, item: Any) -> None:
        await self._tell(await (self._stream.flush() if item is FLUSH else self._stream.hear(item)))

    async def end(self, end: End) -> None:
        await self._tell(await self._stream.flush())
        if end.reason is None:
            await self._send({"type": "done", "seconds": round(self.seconds, 3)})

    async def _tell(self, results: tuple[Result, ...]) -> None:
        log_results(self._service, results)
        for result in results:
            await self._send(result_event(result))
