"""Whole recordings: received in a request, recognised piece by piece."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import BinaryIO

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.types import Message

from asr.audio.files import AudioFile
from asr.audio.meter import Meter
from asr.recognizer import FILE_CHUNK_MS, Recognizer, chunk_samples
from asr.server.failures import ClientError, Gone
from asr.server.options import MIB
from asr.server.service import Service
from asr.streaming.results import Result
from asr.streaming.sources import rechunked


class NamedUpload:
    """An upload as PyAV reads it. Its name is only for messages: the file has none, and is gone when it is closed."""

    def __init__(self, upload: UploadFile) -> None:
        self._file: BinaryIO = upload.file
        self.name = " ".join((upload.filename or "upload").split())[:200]
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell


@asynccontextmanager
async def received_form(request: Request, service: Service) -> AsyncIterator[FormData]:
    """The form of a request, whose files are deleted afterwards.

    Raises:
        ClientError: it is larger than allowed, breaks off, stalls or is not a form.
    """
    options = service.options
    too_large = ClientError(
        "too_large", f"the upload is larger than {options.max_upload_bytes / MIB:g} MiB, the most this server takes"
    )
    received = 0
    failure: ClientError | Gone | None = None

    async def receive() -> Message:
        nonlocal failure
        try:
            return await checked()
        except (ClientError, Gone) as error:
            failure = error
            raise MultiPartException("") from error  # at which every starlette closes the files begun

    async def checked() -> Message:
        nonlocal received
        try:
            async with asyncio.timeout(options.idle_seconds):
                message = await request.receive()
        except TimeoutError as error:
            raise ClientError("idle", f"nothing of the upload came for {options.idle_seconds:g} s") from error
        if message["type"] == "http.disconnect":
            raise Gone
        received += len(message.get("body", b""))
        if received > options.max_upload_bytes:
            raise too_large
        return message

    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > options.max_upload_bytes:
        raise too_large
    try:
        async with Request(request.scope, receive).form(max_files=1, max_fields=100, max_part_size=MIB) as form:
            yield form
    except (MultiPartException, HTTPException) as error:
        if failure is not None:
            raise failure from error
        reason = getattr(error, "detail", None) or getattr(error, "message", "")
        raise ClientError("bad_request", f"the form cannot be read: {reason}") from error


class Upload:
    """A recording that is recognised in threads, a piece at a time."""

    damage: str | None = None  # afterwards: why a part of it is missing
    remark: str | None = None  # of phrases that are not used; or afterwards: how loud it is, if it has no words

    def __init__(self, service: Service, protocol: str, upload: UploadFile, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._service = service
        self._protocol = protocol
        self._upload = upload
        self.seconds = 0.0  # recognised so far

    async def results(self) -> AsyncGenerator[tuple[Result, ...], None]:
        """The results of one piece after the other.

        Raises:
            AudioError: it is not audio.
            ClientError: it lasts too long.
        """
        pieces = self._pieces()
        lock = threading.Lock()  # a piece may still be under way when the client has gone

        def following() -> tuple[Result, ...] | None:
            with lock:
                return next(pieces, None)

        def close() -> None:
            with lock:
                pieces.close()

        try:
            while (results := await self._service.run(following)) is not None:
                yield results
        finally:
            await asyncio.shield(self._service.run(close))

    def _pieces(self) -> Iterator[tuple[Result, ...]]:
        recognizer = self._recognizer
        longest = self._service.options.longest_seconds
        counted = self._service.metrics.audio_seconds.labels(self._protocol)
        state = recognizer.start()
        meter = Meter()
        silent = True
        with AudioFile(NamedUpload(self._upload), recognizer.sample_rate) as audio:
            for samples in rechunked(audio, chunk_samples(FILE_CHUNK_MS, recognizer.sample_rate)):
                meter.add(samples)
                results, state = recognizer.step(state, samples)
                silent = silent and not any(result.final and result.words for result in results)
                self.seconds += len(samples) / recognizer.sample_rate
                counted.inc(len(samples) / recognizer.sample_rate)
                if self.seconds > longest:
                    raise ClientError("too_long", f"the recording is longer than {longest:g} s; cut it in parts")
                yield results
            self.damage = audio.damage
        results, _ = recognizer.finish(state)
        if silent and not any(result.words for result in results):
            told = meter.without_words(self.seconds)
            self.remark = told if self.remark is None else f"{told}; {self.remark}"
        yield results
