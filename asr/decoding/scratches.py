"""Memory that the beam search works in: some MB, which are shared by all streams of a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from asr.native import library
from asr.streaming.batcher import usable_cores

LONGEST_WAIT_SECONDS = 0.01


class Scratch:
    """What one call at a time works in. It holds nothing of a stream, only costs of words, of one search."""

    def __init__(self) -> None:
        self._free = library().rill_scratch_free
        self.pointer = library().rill_scratch_new()
        if not self.pointer:
            raise MemoryError("no memory is left for the beam search")

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self._free(self.pointer)


class Scratches:
    """So many of them, lent to whoever calls.

    With as many as there are cores further calls gain nothing by running at once. One waits for the end of another, but
    not for long, as that may be of a whole recording.
    """

    def __init__(self, most: int) -> None:
        self.idle: list[Scratch] = []  # the last one that was used is the next, as its memory is at hand
        self._most = most
        self._places = threading.Semaphore(most)

    @contextmanager
    def lent(self) -> Iterator[int]:
        """The address of a scratch that nobody else has; raises MemoryError when there is no memory for another."""
        waited = self._places.acquire(timeout=LONGEST_WAIT_SECONDS)
        try:
            try:
                scratch = self.idle.pop()
            except IndexError:
                scratch = Scratch()
            try:
                yield scratch.pointer
            finally:
                if len(self.idle) < self._most:
                    self.idle.append(scratch)
        finally:
            if waited:
                self._places.release()


SCRATCHES = Scratches(usable_cores())
