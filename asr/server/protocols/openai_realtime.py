"""OpenAI's Realtime interface for transcription: JSON events over a WebSocket, audio in base64."""

from __future__ import annotations

import base64
import binascii
import uuid
from dataclasses import dataclass
from typing import Any

from asr.output.growing import GrowingText
from asr.server.conversation import Send, log_results
from asr.server.failures import ClientError, language_is_known
from asr.server.hotwords import Phrases
from asr.server.inbox import Audio, End
from asr.server.pcm import Pcm
from asr.server.service import Service
from asr.server.stream import Stream
from asr.server.websocket import json_object
from asr.streaming.endpoint import EndpointRule
from asr.streaming.results import Result

NAME = "realtime"
AUDIO_TYPES = {"audio/pcm": ("s16le", 24_000), "audio/pcmu": ("mulaw", 8_000), "audio/pcma": ("alaw", 8_000)}
SILENCE_MS = (200, 10_000)  # that may end a turn
DEFAULT_SILENCE_MS = 1_000
# Of semantic_vad: seconds of silence that end a turn where a sentence may end, and anywhere.
EAGERNESS = {"low": (1.5, 3.0), "medium": (0.6, 1.5), "auto": (0.6, 1.5), "high": (0.3, 0.8)}


def complain(code: str, message: str) -> dict[str, Any]:
    """The event of a failure."""
    kind = "server_error" if code in ("internal", "busy", "shutting_down") else "invalid_request_error"
    error = {"type": kind, "code": code, "message": message, "param": None, "event_id": None}
    return {"type": "error", "event_id": _identifier("event"), "error": error}


@dataclass(frozen=True)
class Event:
    """Something other than audio that a client sent."""

    type: str
    content: dict[str, Any]


class RealtimeSpeaker:
    """The server's side of a session. A client's mistake is answered by an error event, and the session goes on."""

    merge = True

    def __init__(self, service: Service, send: Send) -> None:
        self._service = service
        self._send = send
        self._format = "audio/pcm"
        self._silence_ms: int | None = DEFAULT_SILENCE_MS  # None: the client commits
        self._session = _identifier("sess")
        self._stream = Stream(service, NAME, self._pcm())
        self._turn_detection: dict[str, Any] | None = {
            "type": "server_vad",
            "silence_duration_ms": DEFAULT_SILENCE_MS,
        }
        self._recognizer = service.recognizer
        self._rule: EndpointRule | None = None  # of the client's turns
        self._prompt = ""
        self._phrases = Phrases()
        self._item: str | None = None  # the one being spoken
        self._previous: str | None = None
        self._growing = GrowingText()
        self._begun_seconds = 0.0  # where the item, or the uncommitted audio, begins

    @property
    def seconds(self) -> float:
        return self._stream.seconds

    async def open(self) -> None:
        await self._tell("session.created", session=self._described())

    def parse(self, message: str | bytes) -> Any:
        try:
            if isinstance(message, bytes):
                raise ClientError("bad_request", "binary messages are not supported; send JSON events as text")
            content = json_object(message)
            if content.get("type") == "input_audio_buffer.append":
                return Audio.now(_decoded(content.get("audio")))
            return Event(str(content.get("type")), content)
        except ClientError as error:
            return error

    async def handle(self, item: Any) -> None:
        try:
            if isinstance(item, ClientError):
                raise item
            if isinstance(item, Audio):
                await self._hear(await self._stream.hear(item))
            elif item.type == "session.update":
                await self._update(item.content.get("session"))
                await self._tell("session.updated", session=self._described())
            elif item.type == "input_audio_buffer.commit":
                await self._commit()
            elif item.type == "input_audio_buffer.clear":
                self._stream.reset()
                self._next_item(None)
                await self._tell("input_audio_buffer.cleared")
            else:
                raise ClientError("bad_request", f"unknown event {item.type!r}")
        except ClientError as error:
            event = complain(error.code, str(error))
            if isinstance(item, Event):
                event["error"]["event_id"] = item.content.get("event_id")
            await self._send(event)

    async def end(self, end: End) -> None:
        if self._silence_ms is not None:
            await self._hear(await self._stream.flush())
        elif self._heard_something():
            await self._commit()

    async def _hear(self, results: tuple[Result, ...]) -> None:
        log_results(self._service, results)
        for result in results:
            if self._silence_ms is None:
                if self._item is None:
                    self._item = _identifier("item")
            elif self._item is None:
                if not result.words:
                    continue
                self._item = _identifier("item")
                self._begun_seconds = result.start_seconds
                await self._tell(
                    "input_audio_buffer.speech_started", audio_start_ms=_ms(result.start_seconds), item_id=self._item
                )
            await self._delta((result,))
            if result.final and self._silence_ms is not None:
                end = result.end_seconds if result.words else self.seconds
                await self._tell("input_audio_buffer.speech_stopped", audio_end_ms=_ms(end), item_id=self._item)
                await self._tell("input_audio_buffer.committed", item_id=self._item, previous_item_id=self._previous)
                await self._complete(end)

    async def _commit(self) -> None:
        if not self._heard_something():
            raise ClientError("bad_request", "there is no audio to commit: the buffer is empty")
        results = await self._stream.flush()
        if self._silence_ms is not None and self._item is not None:
            await self._hear(results)
            return
        self._item = self._item or _identifier("item")
        await self._tell("input_audio_buffer.committed", item_id=self._item, previous_item_id=self._previous)
        log_results(self._service, results)
        await self._delta(results)
        await self._complete(self.seconds)

    def _heard_something(self) -> bool:
        return self.seconds > self._begun_seconds

    async def _delta(self, results: tuple[Result, ...]) -> None:
        if delta := self._growing.add(results):
            await self._tell(
                "conversation.item.input_audio_transcription.delta", item_id=self._item, content_index=0, delta=delta
            )

    async def _complete(self, end_seconds: float) -> None:
        await self._tell(
            "conversation.item.input_audio_transcription.completed",
            item_id=self._item,
            content_index=0,
            transcript=self._growing.text,
            usage={"type": "duration", "seconds": round(max(0.0, end_seconds - self._begun_seconds), 3)},
        )
        self._next_item(self._item)

    def _next_item(self, previous: str | None) -> None:
        self._previous = previous or self._previous
        self._item = None
        self._growing = GrowingText()
        self._begun_seconds = self.seconds

    async def _update(self, session: Any) -> None:
        """Take a session's settings; all of them or, when one is wrong, none."""
        if not isinstance(session, dict):
            raise ClientError("bad_request", "session.update needs a session object")
        if session.get("type", "transcription") != "transcription":
            raise ClientError("bad_request", f"session type {session['type']!r} is not supported; give transcription")
        audio = _object(_object(session, "audio"), "input")
        format = _object(audio, "format")
        kind = format.get("type", self._format)
        if kind not in AUDIO_TYPES:
            raise ClientError("bad_request", f"unknown audio format {kind!r}; give {', '.join(AUDIO_TYPES)}")
        rate = AUDIO_TYPES[kind][1]
        if format.get("rate") not in (None, rate):
            raise ClientError("bad_request", f"{kind} has {rate} Hz here, got {format['rate']!r}")
        language = _object(audio, "transcription").get("language") or "en"
        if not isinstance(language, str) or not language_is_known(language):
            raise ClientError("bad_request", f"language {language!r} is not supported; this model is for English, en")
        prompt = _object(audio, "transcription").get("prompt")
        if prompt is not None and not isinstance(prompt, str):
            raise ClientError("bad_request", f"prompt must be text, got {type(prompt).__name__}")
        phrases = None
        if prompt is not None and prompt != self._prompt:
            phrases = await self._service.hotwords.checked_prompt(prompt)
            recognizer = await self._service.hotwords.recognizer(phrases)
        if "turn_detection" in audio:
            self._detect_turns(audio["turn_detection"])
        if phrases is not None:
            await self._hear(await self._stream.flush())
            self._recognizer, self._prompt, self._phrases = recognizer, prompt or "", phrases
            self._stream.begin_with(recognizer)
        self._stream.go_on_with(self._recognizer if self._rule is None else self._recognizer.with_endpoint(self._rule))
        if kind != self._format:
            self._format = kind
            self._stream.change(self._pcm())

    def _detect_turns(self, wanted: Any) -> None:
        if wanted is None:
            self._turn_detection, self._silence_ms, self._rule = None, None, None
            return
        if not isinstance(wanted, dict) or wanted.get("type", "server_vad") not in ("server_vad", "semantic_vad"):
            raise ClientError("bad_request", "turn_detection must be null or of type server_vad or semantic_vad")
        if wanted.get("type") == "semantic_vad":
            self._detect_sentences(wanted.get("eagerness", "auto"))
            return
        silence = wanted.get("silence_duration_ms", DEFAULT_SILENCE_MS)
        least, most = SILENCE_MS
        if type(silence) is not int or not least <= silence <= most:
            raise ClientError(
                "bad_request", f"silence_duration_ms must be a whole number from {least} to {most}, got {silence!r}"
            )
        self._turn_detection = {"type": "server_vad", "silence_duration_ms": silence}
        self._silence_ms = silence
        seconds = silence / 1_000
        self._rule = EndpointRule(silence_seconds=seconds, complete_seconds=seconds)

    def _detect_sentences(self, eagerness: Any) -> None:
        """End a turn sooner where the words may be a whole sentence, as the language model has it."""
        if eagerness not in EAGERNESS:
            raise ClientError("bad_request", f"eagerness must be {', '.join(EAGERNESS)}, got {eagerness!r}")
        complete, silence = EAGERNESS[eagerness]
        self._turn_detection = {"type": "semantic_vad", "eagerness": eagerness}
        self._silence_ms = round(1_000 * silence)
        self._rule = EndpointRule(silence_seconds=silence, complete_seconds=complete)

    def _pcm(self) -> Pcm:
        return Pcm(*AUDIO_TYPES[self._format], self._service.recognizer.sample_rate)

    def _described(self) -> dict[str, Any]:
        return {
            "type": "transcription",
            "id": self._session,
            "object": "realtime.transcription_session",
            "audio": {
                "input": {
                    "format": {"type": self._format}
                    | ({"rate": AUDIO_TYPES[self._format][1]} if self._format == "audio/pcm" else {}),
                    "transcription": {"model": self._service.model, "language": "en", **self._described_prompt()},
                    "turn_detection": self._turn_detection,
                }
            },
        }

    def _described_prompt(self) -> dict[str, Any]:
        """The prompt, and beside OpenAI's fields what became of its phrases."""
        return {"prompt": self._prompt, "hotwords": self._phrases.described()} if self._prompt else {}

    async def _tell(self, type: str, **content: Any) -> None:
        await self._send({"type": type, "event_id": _identifier("event"), **content})


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ClientError("bad_request", f"{name} must be an object, got {type(value).__name__}")
    return value


def _decoded(audio: Any) -> bytes:
    try:
        return base64.b64decode(audio, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ClientError("bad_request", "audio must be a string in base64") from error


def _ms(seconds: float) -> int:
    return round(1_000 * seconds)


def _identifier(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"
