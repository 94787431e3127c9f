"""State shared by all clients of a server: the recogniser, the threads it runs in, the limits, the counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from asr.server.failures import ClientError
from asr.server.hotwords import HotwordRecognizers
from asr.server.inbox import End, Inbox
from asr.server.metrics import Metrics
from asr.server.options import ServerOptions
from asr.server.places import Places, SharedPlaces
from asr.server.tally import Column, Tally

if TYPE_CHECKING:
    from asr.recognizer import Recognizer

T = TypeVar("T")


class Service:
    """One recogniser for all clients. Its steps run in threads, one stream never in two at once."""

    def __init__(
        self,
        recognizer: Recognizer,
        options: ServerOptions,
        model: str,
        metrics: Metrics | None = None,
        tally: Tally | None = None,
    ) -> None:
        """With the ``tally`` of several workers, its limits hold for all of them together."""
        self.recognizer = recognizer
        self.options = options
        self.model = model
        self.metrics = metrics or Metrics()
        if tally is None:
            self._places, lists = Places(options.max_streams), Places(options.hotword_lists)
        else:
            self._places = SharedPlaces(options.max_streams, tally, Column.STREAMS)
            lists = SharedPlaces(options.hotword_lists, tally, Column.LISTS, Column.LISTS_WANTED)
        self.hotwords = HotwordRecognizers(recognizer, lists)
        self.draining = False
        self._running = 0
        self._inboxes: set[Inbox] = set()
        self._none_running = asyncio.Event()
        self._none_running.set()
        # A thread for each stream: a batched recogniser holds every one of them until its batch has run.
        self._pool = ThreadPoolExecutor(options.max_streams, thread_name_prefix="stream")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a thread, without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    @contextmanager
    def admitted(self, protocol: str) -> Iterator[None]:
        """A place among the streams.

        Raises:
            ClientError: all of them are taken, or the server is about to stop.
        """
        if self.draining:
            raise ClientError("shutting_down", "the server is shutting down; try another or come back")
        if not self._places.another(self._running):
            raise ClientError("busy", f"all {self.options.max_streams} streams are taken; try again later")
        self._running += 1
        self._none_running.clear()
        self.metrics.begun.labels(protocol).inc()
        self.metrics.streams.labels(protocol).inc()
        try:
            yield
        finally:
            self.metrics.streams.labels(protocol).dec()
            self._running -= 1
            self._places.tell(self._running)
            if not self._running:
                self._none_running.set()

    @contextmanager
    def inbox(self, merge: bool) -> Iterator[Inbox]:
        """The inbox of a live stream, which ends when the server stops."""
        inbox = Inbox(self.options.max_waiting_bytes, merge)
        self._inboxes.add(inbox)
        try:
            yield inbox
        finally:
            self._inboxes.discard(inbox)

    def share(self) -> None:
        """Tell other workers what has changed without a stream's beginning or end."""
        self.metrics.tasks.set(len(asyncio.all_tasks()))
        self.hotwords.share()

    async def drain(self) -> None:
        """Refuse new clients, let live streams send their last words and close; waits as long as the options allow."""
        self.draining = True
        for inbox in tuple(self._inboxes):
            await inbox.end(End("shutting_down", "the server is shutting down"))
        try:
            await asyncio.wait_for(self._none_running.wait(), self.options.grace_seconds)
        except TimeoutError:
            pass

    def close(self) -> None:
        """Release the threads."""
        self.hotwords.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
