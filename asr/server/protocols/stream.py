"""Rill's own WebSocket protocol: binary PCM in, JSON events out. docs/server.md describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asr.output.formats import committed_words, normalized_field, word_fields
from asr.server.conversation import Send, log_results
from asr.server.failures import ClientError
from asr.server.inbox import Audio, End
from asr.server.pcm import Channels
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


def result_event(result: Result, channel: int | None = None) -> dict[str, Any]:
    """A partial or final result as an event; ``channel``, from 1, where channels are separate."""
    return {
        "type": "final" if result.final else "partial",
        **({} if channel is None else {"channel": channel}),
        "text": result.text,
        **normalized_field(result),
        "committed": committed_words(result),
        "start": round(result.start_seconds, 3),
        "end": round(result.end_seconds, 3),
        "words": word_fields(result),
    }


@dataclass(frozen=True)
class Wanted:
    """Hotwords that a client asks for."""

    phrases: list[Any]


class StreamSpeaker:
    """The server's side of a stream."""

    merge = True

    def __init__(self, service: Service, send: Send, query: Mapping[str, str]) -> None:
        """Read the query: ``sample_rate`` (the model's by default), ``format``, ``channels``, ``separate``,
        ``readable``, ``hotwords``.

        Raises:
            ClientError: one that is not understood.
        """
        format = query.get("format", "s16le")
        if format not in ENCODINGS:
            raise ClientError("bad_request", f"unknown format {format!r}; give {' or '.join(ENCODINGS)}")
        rate = _number(query, "sample_rate", service.recognizer.sample_rate, "whole number of Hz")
        count = _number(query, "channels", 1, "number of channels")
        self._separate = bool(_flag(query, "separate")) and count > 1
        self._readable = _flag(query, "readable", "pretty")  # pretty: the name that it had before
        self._service = service
        self._send = send
        self._audio = Channels(format, rate, service.recognizer.sample_rate, count, self._separate)
        self._streams = [Stream(service, NAME, pcm) for pcm in self._audio.pcms]
        self._hotwords = query.get("hotwords")
        if self._readable is not None:
            for stream in self._streams:
                stream.go_on_with(service.recognizer.with_readable(self._readable))

    @property
    def seconds(self) -> float:
        return self._streams[0].seconds

    async def open(self) -> None:
        ready: dict[str, Any] = {"type": "ready", "sample_rate": self._audio.pcms[0].rate, "model": self._service.model}
        if self._hotwords:
            ready["hotwords"] = await self._take_hotwords(self._hotwords.split(","))
        await self._send(ready)

    def parse(self, message: str | bytes) -> Any:
        if isinstance(message, bytes):
            return Audio.now(message)
        content = json_object(message)
        kind = content.get("type")
        if kind == "finish":
            return End()
        if kind == "flush":
            return FLUSH
        if kind == "hotwords":
            phrases = content.get("phrases")
            if not isinstance(phrases, list):
                raise ClientError(
                    "bad_request", 'hotwords needs phrases, such as {"phrases": ["Rill", "front desk:8"]}'
                )
            return Wanted(phrases)
        raise ClientError(
            "bad_request", f"unknown message type {kind!r}; send finish, flush or hotwords, and audio as binary"
        )

    async def handle(self, item: Any) -> None:
        if isinstance(item, Wanted):
            await self._flush()
            await self._send({"type": "hotwords", **await self._take_hotwords(item.phrases)})
        elif item is FLUSH:
            await self._flush()
        else:
            for channel, data in enumerate(self._audio.split(item.data), start=1):
                await self._tell(channel, await self._streams[channel - 1].hear(Audio(data, item.arrived)))

    async def end(self, end: End) -> None:
        await self._flush()
        if end.reason is None:
            await self._send({"type": "done", "seconds": round(self.seconds, 3)})

    async def _flush(self) -> None:
        for channel, stream in enumerate(self._streams, start=1):
            await self._tell(channel, await stream.flush())

    async def _take_hotwords(self, phrases: list[Any]) -> dict[str, Any]:
        """Begin anew with these phrases in place of earlier ones; what the client is told of them."""
        checked = await self._service.hotwords.checked(phrases)
        # Held as long as the stream lasts: by that the server knows which lists are in use.
        self._recognizer = recognizer = await self._service.hotwords.recognizer(checked)
        for stream in self._streams:
            stream.begin_with(recognizer if self._readable is None else recognizer.with_readable(self._readable))
        return checked.described()

    async def _tell(self, channel: int, results: tuple[Result, ...]) -> None:
        log_results(self._service, results)
        for result in results:
            await self._send(result_event(result, channel if self._separate else None))


def _number(query: Mapping[str, str], name: str, usual: int, what: str) -> int:
    given = query.get(name, str(usual))
    if not given.isascii() or not given.isdigit():
        raise ClientError("bad_request", f"{name} {given!r} is no {what}")
    return int(given)


def _flag(query: Mapping[str, str], *names: str) -> bool | None:
    """What a parameter of one of these names says; None when there is none."""
    given = next((query[name] for name in names if name in query), None)
    if given not in (None, "0", "1"):
        raise ClientError("bad_request", f"{names[0]} is 0 or 1, not {given!r}")
    return None if given is None else given == "1"
