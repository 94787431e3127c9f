"""OpenAI's interface for recordings: POST /v1/audio/transcriptions, GET /v1/models."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.datastructures import FormData, UploadFile
from starlette.types import Receive, Scope, Send

from asr.errors import RillError
from asr.output.formats import as_srt, as_vtt
from asr.output.growing import GrowingText
from asr.server.failures import ClientError, Gone, bearer, check_key, language_is_known, openai_error
from asr.server.log import log
from asr.server.service import Service
from asr.server.upload import Upload, received_form
from asr.streaming.results import Result, Word, joined

NAME = "openai"
RESPONSE_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
GRANULARITIES = ("word", "segment")
STARTED = int(time.time())
_FIELDS = {
    "file": {"type": "string", "format": "binary", "description": "Any audio or video file."},
    "model": {"type": "string", "description": "Ignored: a server has one model."},
    "response_format": {"type": "string", "enum": list(RESPONSE_FORMATS), "default": "json"},
    "language": {"type": "string", "description": "A form of English, or none."},
    "prompt": {"type": "string", "description": "Hotwords, with commas between them."},
    "stream": {"type": "boolean", "default": False},
    "timestamp_granularities[]": {"type": "array", "items": {"type": "string", "enum": list(GRANULARITIES)}},
    "include[]": {"type": "array", "items": {"type": "string", "enum": ["logprobs"]}},
}
FORM = {  # of a request, as OpenAPI describes it; it is read piece by piece, so FastAPI cannot know it
    "required": True,
    "content": {"multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": _FIELDS}}},
}


@dataclass(frozen=True)
class Wanted:
    """What a client asked for."""

    upload: UploadFile
    format: str
    stream: bool
    granularities: tuple[str, ...]
    logprobs: bool
    prompt: str

    @classmethod
    def of(cls, form: FormData) -> Wanted:
        """Read the form; fields for other models (model, temperature) are ignored. Raises ClientError."""
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise ClientError("bad_request", "there is no file in the form; send the recording as field 'file'")
        format = str(form.get("response_format") or "json")
        if format not in RESPONSE_FORMATS:
            raise ClientError("bad_request", f"unknown response_format {format!r}; give {', '.join(RESPONSE_FORMATS)}")
        language = str(form.get("language") or "")
        if not language_is_known(language):
            raise ClientError("bad_request", f"language {language!r} is not supported; this model is for English, en")
        given = form.getlist("timestamp_granularities[]") + form.getlist("timestamp_granularities")
        granularities = tuple(one.strip() for value in given for one in str(value).split(",")) or ("segment",)
        if unknown := set(granularities) - set(GRANULARITIES):
            raise ClientError("bad_request", f"unknown timestamp granularity {min(unknown)!r}; give word or segment")
        stream = str(form.get("stream") or "").lower() in ("true", "1")
        logprobs = "logprobs" in form.getlist("include[]")
        return cls(upload, format, stream, granularities, logprobs, str(form.get("prompt") or ""))


def router(service: Service) -> APIRouter:
    """The routes; failures are left to the application's handler."""
    routes = APIRouter()

    def check(request: Request) -> None:
        check_key(bearer(request.headers.get("authorization")), service.options.api_key)

    def model_object() -> dict[str, Any]:
        return {"id": service.model, "object": "model", "created": STARTED, "owned_by": "rill"}

    @routes.get("/v1/models")
    async def models(request: Request) -> JSONResponse:
        check(request)
        return JSONResponse({"object": "list", "data": [model_object()]})

    @routes.get("/v1/models/{name}")
    async def model(request: Request, name: str) -> JSONResponse:
        check(request)
        if name != service.model:
            raise ClientError("not_found", f"no model {name!r}; there is {service.model}")
        return JSONResponse(model_object())

    @routes.post("/v1/audio/transcriptions", openapi_extra={"requestBody": FORM})
    async def transcriptions(request: Request) -> Response:
        check(request)
        async with AsyncExitStack() as stack:
            stack.enter_context(service.admitted(NAME))
            wanted = Wanted.of(await stack.enter_async_context(received_form(request, service)))
            phrases = await service.hotwords.checked_prompt(wanted.prompt)
            recording = Upload(service, NAME, wanted.upload, await service.hotwords.recognizer(phrases))
            recording.remark = phrases.warning()
            if wanted.stream:
                return EventResponse(_events(service, recording), stack.pop_all())
            finals: tuple[Result, ...] = ()
            async with aclosing(recording.results()) as pieces:
                async for results in pieces:
                    if await request.is_disconnected():
                        raise Gone
                    finals += tuple(result for result in results if result.final and result.words)
            return _answer(wanted, recording, finals)

    return routes


def _answer(wanted: Wanted, recording: Upload, finals: tuple[Result, ...]) -> Response:
    whole = joined(finals, recording.seconds)
    headers = {}
    if warning := "; ".join(part for part in (recording.damage, recording.remark) if part):
        headers["X-Rill-Warning"] = " ".join(warning.encode("ascii", "replace").decode().split())
    if wanted.format == "text":
        return PlainTextResponse(whole.text + "\n", headers=headers)
    if wanted.format in ("srt", "vtt"):
        write = as_srt if wanted.format == "srt" else as_vtt
        return PlainTextResponse(write(wanted.format, whole) + "\n", headers=headers)
    usage = {"type": "duration", "seconds": round(recording.seconds, 3)}
    if wanted.format == "json":
        content: dict[str, Any] = {"text": whole.text, "usage": usage}
        if wanted.logprobs:
            content["logprobs"] = [
                {"token": word.text, "logprob": _log(word), "bytes": list(word.text.encode())} for word in whole.words
            ]
        return JSONResponse(content, headers=headers)
    content = {
        "task": "transcribe",
        "language": "english",
        "duration": round(recording.seconds, 3),
        "text": whole.text,
        "usage": usage,
    }
    if "segment" in wanted.granularities:
        content["segments"] = [segment(number, final) for number, final in enumerate(finals)]
    if "word" in wanted.granularities:
        content["words"] = [
            {"word": word.text, "start": round(word.start_seconds, 3), "end": round(word.end_seconds, 3)}
            for word in whole.words
        ]
    return JSONResponse(content, headers=headers)


def segment(number: int, final: Result) -> dict[str, Any]:
    """An utterance as a segment. It has no tokens; silence gives no segments."""
    text = final.text.encode()
    return {
        "id": number,
        "seek": round(100 * final.start_seconds),  # hundredths of a second, Whisper's frames
        "start": round(final.start_seconds, 3),
        "end": round(final.end_seconds, 3),
        "text": final.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(map(_log, final.words)) / len(final.words), 4),
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 3),
        "no_speech_prob": 0.0,
    }


def _log(word: Word) -> float:
    return round(math.log(max(word.confidence, 1e-6)), 4)


class EventResponse(StreamingResponse):
    """Server-sent events that release what they hold however they end."""

    def __init__(self, events: AsyncIterator[str], held: AsyncExitStack) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _events(service: Service, recording: Upload) -> AsyncIterator[str]:
    """The response has begun, so that failures are events too."""
    growing = GrowingText()
    try:
        async with aclosing(recording.results()) as pieces:
            async for results in pieces:
                if delta := growing.add(results):
                    yield _event({"type": "transcript.text.delta", "delta": delta})
    except RillError as error:
        failure = error if isinstance(error, ClientError) else ClientError("bad_audio", str(error))
        service.metrics.errors.labels(NAME, failure.code).inc()
        yield _event(openai_error(failure))
        return
    if (warning := recording.damage or recording.remark) is not None:
        log("doubtful recording", problem=warning)
    yield _event({"type": "transcript.text.done", "text": growing.text})
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
