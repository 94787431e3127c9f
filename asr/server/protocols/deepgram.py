"""Deepgram's live protocol, ``/v1/listen``: binary audio in, JSON results out; several channels side by side."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams

from asr.server.conversation import Send, log_results
from asr.server.failures import ClientError, language_is_known
from asr.server.inbox import Audio, End
from asr.server.pcm import Channels
from asr.server.service import Service
from asr.server.stream import Stream
from asr.server.websocket import json_object
from asr.streaming.endpoint import EndpointRule
from asr.streaming.results import Result

NAME = "deepgram"
ENCODINGS = {"linear16": "s16le", "linear32": "s32le", "mulaw": "mulaw", "alaw": "alaw"}
MOST_CHANNELS = 8
ENDPOINTING_MS = (200, 10_000)  # shorter ones, as Deepgram's default of 10, would cut in the middle of words
FINALIZE, KEEP_ALIVE = object(), None


def complain(code: str, message: str) -> dict[str, Any]:
    """The message of a failure."""
    return {"type": "Error", "variant": code, "description": message, "message": message}


class DeepgramSpeaker:
    """The server's side of a session."""

    merge = True

    def __init__(self, service: Service, send: Send, query: QueryParams) -> None:
        """Read the query; parameters of features that Rill has not are ignored. Raises ClientError."""
        self._service = service
        self._send = send
        encoding = query.get("encoding", "")
        if encoding not in ENCODINGS:
            raise ClientError(
                "bad_request", f"encoding {encoding!r} is not supported; send raw audio as {', '.join(ENCODINGS)}"
            )
        rate = _number(query, "sample_rate", 8_000 if encoding in ("mulaw", "alaw") else 16_000)
        language = query.get("language", "en")
        if language != "multi" and not language_is_known(language):
            raise ClientError("bad_request", f"language {language!r} is not supported; this model is for English, en")
        self._count = _number(query, "channels", 1)
        self._separate = _flag(query, "multichannel") and self._count > 1
        self._interim = _flag(query, "interim_results")
        self._events = _flag(query, "vad_events")
        self._utterance_ends = "utterance_end_ms" in query
        self._readable = any(_flag(query, name) for name in ("smart_format", "punctuate"))
        self._rule = _rule(query.get("endpointing"))
        self._phrases = [*query.getlist("keyterm"), *query.getlist("keywords")]
        self._warnings: str | None = None
        self._audio = Channels(ENCODINGS[encoding], rate, service.recognizer.sample_rate, self._count, self._separate)
        self._streams = [Stream(service, NAME, pcm) for pcm in self._audio.pcms]
        self._speaking = [False] * len(self._streams)
        self._request = str(uuid.uuid4())

    @property
    def seconds(self) -> float:
        return self._streams[0].seconds

    async def open(self) -> None:
        recognizer = self._service.recognizer
        if self._phrases:
            checked = await self._service.hotwords.checked(self._phrases)
            # Held as long as the stream lasts: by that the server knows which lists are in use.
            self._recognizer = recognizer = await self._service.hotwords.recognizer(checked)
            self._warnings = checked.warning()
        recognizer = recognizer.with_readable(self._readable)
        if self._rule is not None:
            recognizer = recognizer.with_endpoint(self._rule)
        for stream in self._streams:
            stream.begin_with(recognizer)

    def parse(self, message: str | bytes) -> Any:
        if isinstance(message, bytes):
            return Audio.now(message) if message else End()
        kind = json_object(message).get("type")
        if kind == "KeepAlive":
            return KEEP_ALIVE
        if kind == "Finalize":
            return FINALIZE
        if kind == "CloseStream":
            return End()
        raise ClientError("bad_request", f"unknown message type {kind!r}; send Finalize, KeepAlive or CloseStream")

    async def handle(self, item: Any) -> None:
        if item is FINALIZE:
            await self._flush(from_finalize=True)
            return
        for channel, data in enumerate(self._audio.split(item.data)):
            results = await self._streams[channel].hear(Audio(data, item.arrived))
            await self._tell(channel, results)

    async def end(self, end: End) -> None:
        await self._flush()
        if end.reason is None:
            await self._send(
                {
                    "type": "Metadata",
                    "transaction_key": "deprecated",
                    "request_id": self._request,
                    "sha256": "",
                    "created": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                    "duration": round(self.seconds, 3),
                    "channels": self._count,
                    **({"warnings": self._warnings} if self._warnings else {}),
                }
            )

    async def _flush(self, from_finalize: bool = False) -> None:
        for channel, stream in enumerate(self._streams):
            results = await stream.flush()
            spoken = tuple(result for result in results if result.words)
            if from_finalize and not spoken:  # clients wait for an answer
                nothing = Result("", (), stream.seconds, stream.seconds, final=True)
                await self._send(self._result(channel, nothing, True))
            await self._tell(channel, spoken, from_finalize)

    async def _tell(self, channel: int, results: Sequence[Result], from_finalize: bool = False) -> None:
        log_results(self._service, tuple(results))
        for result in results:
            if result.words and not self._speaking[channel]:
                self._speaking[channel] = True
                if self._events:
                    start = round(result.words[0].start_seconds, 3)
                    await self._send({"type": "SpeechStarted", "channel": self._index(channel), "timestamp": start})
            if result.final and result.words or self._interim and not result.final:
                await self._send(self._result(channel, result, from_finalize))
            if result.final:
                if self._speaking[channel] and self._utterance_ends and result.words:
                    end = round(result.words[-1].end_seconds, 3)
                    await self._send({"type": "UtteranceEnd", "channel": self._index(channel), "last_word_end": end})
                self._speaking[channel] = False

    def _result(self, channel: int, result: Result, from_finalize: bool) -> dict[str, Any]:
        words = [
            {
                "word": word.text.lower().strip(".,?!"),
                "start": round(word.start_seconds, 3),
                "end": round(word.end_seconds, 3),
                "confidence": round(word.confidence, 4),
                **({"punctuated_word": word.text} if self._readable else {}),
            }
            for word in result.words
        ]
        confidence = sum(word.confidence for word in result.words) / len(words) if words else 0.0
        alternative = {"transcript": result.text, "confidence": round(confidence, 4), "words": words}
        return {
            "type": "Results",
            "channel_index": self._index(channel) if self._separate else [0, 1],
            "start": round(result.start_seconds, 3),
            "duration": round(result.end_seconds - result.start_seconds, 3),
            "is_final": result.final,
            "speech_final": result.final and bool(words),
            "from_finalize": from_finalize and result.final,
            "channel": {"alternatives": [alternative]},
            "metadata": {
                "request_id": self._request,
                "model_info": {"name": self._service.model, "version": "1", "arch": "rill"},
                "model_uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, self._service.model)),
            },
        }

    def _index(self, channel: int) -> list[int]:
        return [channel, len(self._streams)]


def _flag(query: QueryParams, name: str) -> bool:
    return query.get(name, "false").lower() in ("true", "1")


def _number(query: QueryParams, name: str, usual: int) -> int:
    given = query.get(name, str(usual))
    if not given.isascii() or not given.isdigit():
        raise ClientError("bad_request", f"{name} {given!r} is no whole number")
    return int(given)


def _rule(endpointing: str | None) -> EndpointRule | None:
    """When an utterance is over, by the milliseconds of silence that a client gave; None: as the server has it."""
    if endpointing is None or not endpointing.isdigit():  # true, false
        return None
    least, most = ENDPOINTING_MS
    seconds = min(max(int(endpointing), least), most) / 1_000
    return EndpointRule(silence_seconds=seconds, complete_seconds=min(seconds, EndpointRule().complete_seconds))
