"""A live stream with one client, in any protocol, over any transport."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from asr.errors import AudioError
from asr.server.failures import ClientError, Gone
from asr.server.inbox import End, Inbox
from asr.server.log import log
from asr.server.service import Service
from asr.streaming.results import Result

Send = Callable[[Any], Awaitable[None]]


class Transport(Protocol):
    """A connection. Its methods raise `Gone` when the client has left, ClientError for data that is not a message."""

    client: str  # address

    async def receive(self) -> tuple[Any, int]:
        """A message, and its size in bytes."""

    async def send(self, message: Any) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class Speaker(Protocol):
    """The server's side of a protocol."""

    merge: bool  # whether audio messages that wait may be joined

    async def open(self) -> None:
        """Greet."""

    def parse(self, message: Any) -> Any:
        """`Audio`, `End`, something that only `handle` knows, or None to ignore it. Raises ClientError."""

    async def handle(self, item: Any) -> None:
        """Answer `Audio` or what `parse` made."""

    async def end(self, end: End) -> None:
        """Send the last results."""

    @property
    def seconds(self) -> float:
        """Length of the audio received."""


Begin = Callable[[Send], Speaker]
Complain = Callable[[str, str], Any]  # code and message -> what the protocol sends for it, None for nothing


async def converse(service: Service, transport: Transport, name: str, begin: Begin, complain: Complain) -> None:
    """Serve one client to its end. Its failures reach no other client, and it is sent each before it is cut off."""
    stream_id = uuid.uuid4().hex[:12]
    seconds = 0.0
    outcome = "done"
    close = (1000, "")
    try:
        with service.admitted(name):
            speaker = begin(transport.send)
            log("stream begins", protocol=name, stream=stream_id, client=transport.client)
            try:
                end = await _served(service, transport, speaker)
            finally:
                seconds = speaker.seconds
        if end.reason is not None:
            raise ClientError(end.reason, end.message)
    except Gone as gone:
        outcome = "closed" if gone.politely else "gone"
        if not gone.politely:
            service.metrics.drops.labels(name).inc()
    except (ClientError, AudioError) as error:
        failure = error if isinstance(error, ClientError) else ClientError("bad_audio", str(error))
        outcome, close = failure.code, (failure.close_code, str(failure))
    except Exception as error:
        failure = ClientError("internal", "the server failed; its log has the reason")
        outcome, close = failure.code, (failure.close_code, str(failure))
        log("stream failed", logging.ERROR, error, protocol=name, stream=stream_id)
    if outcome not in ("closed", "gone"):
        try:
            if outcome != "done":
                service.metrics.errors.labels(name, outcome).inc()
                message = complain(outcome, close[1])
                if message is not None:
                    await transport.send(message)
            await transport.close(*close)
        except Gone:
            pass
    log(
        "stream ends",
        protocol=name,
        stream=stream_id,
        client=transport.client,
        outcome=outcome,
        audio_seconds=round(seconds, 2),
    )


async def _served(service: Service, transport: Transport, speaker: Speaker) -> End:
    await speaker.open()
    with service.inbox(speaker.merge) as inbox:
        limit = asyncio.create_task(_time_out(inbox, service.options.longest_seconds))
        reader = asyncio.create_task(_read(transport, speaker, inbox, service.options.idle_seconds))
        worker = asyncio.create_task(_work(speaker, inbox))
        try:
            await asyncio.wait({reader, worker}, return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                reader.result()  # raises what ended it, unless that was an orderly end
            return await worker
        finally:
            for task in (limit, reader, worker):
                task.cancel()
            await asyncio.gather(limit, reader, worker, return_exceptions=True)


async def _read(transport: Transport, speaker: Speaker, inbox: Inbox, idle_seconds: float) -> None:
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                message, size = await transport.receive()
        except TimeoutError:
            await inbox.end(End("idle", f"nothing came for {idle_seconds:g} s"))
            return
        item = speaker.parse(message)
        if isinstance(item, End):
            await inbox.end(item)
            return
        if item is not None:
            await inbox.put(item, size)


async def _work(speaker: Speaker, inbox: Inbox) -> End:
    while not isinstance(item := await inbox.get(), End):
        await speaker.handle(item)
    await speaker.end(item)
    return item


async def _time_out(inbox: Inbox, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await inbox.end(End("too_long", f"a connection lasts at most {seconds:g} s here; open another"))


def log_results(service: Service, results: tuple[Result, ...]) -> None:
    """Log final texts, for operators who asked for it."""
    if service.options.log_transcripts:
        for result in results:
            if result.final:
                log("final", text=result.text)
