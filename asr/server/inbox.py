"""Messages of a client that the server has not processed yet."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

MESSAGE_BYTES = 100  # overhead of a message
MERGED_BYTES = 64 * 1024  # audio that waits is recognised in chunks of about this size


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio in the client's own format."""

    data: bytes
    arrived: float  # time.monotonic() when the oldest of it came

    @classmethod
    def now(cls, data: bytes) -> Audio:
        return cls(data, time.monotonic())


@dataclass(frozen=True, slots=True)
class End:
    """The end of a stream; without a reason, the client has ended it."""

    reason: str | None = None  # a code of `asr.server.failures`
    message: str = ""


class Inbox:
    """Messages of one stream in order. `put` waits while it is full, which slows down clients that send too fast.

    Audio that waits is joined, which is cheaper to recognise, unless each message must be answered by itself.
    """

    def __init__(self, most_bytes: int, merge: bool = True) -> None:
        self._most = most_bytes
        self._merge = merge
        self._items: deque[tuple[Any, int]] = deque()  # with their sizes
        self._bytes = 0
        self._end: End | None = None
        self._changed = asyncio.Condition()

    async def put(self, item: Any, size: int) -> None:
        """Append a message of so many bytes; waits while the inbox is full. After the end it is dropped."""
        size += MESSAGE_BYTES
        async with self._changed:
            await self._changed.wait_for(lambda: self._end or self._bytes == 0 or self._bytes + size <= self._most)
            if self._end:
                return
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    async def end(self, end: End) -> None:
        """Let `get` return this end after the messages before it; the first end counts."""
        async with self._changed:
            self._end = self._end or end
            self._changed.notify_all()

    async def get(self) -> Any:
        """The next message, or the `End`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._items or self._end)
            if not self._items:
                return self._end
            item = self._take()
            if self._merge and isinstance(item, Audio):
                pieces = [item.data]
                size = len(item.data)
                while self._items and isinstance(self._items[0][0], Audio) and size < MERGED_BYTES:
                    pieces.append(self._take().data)
                    size += len(pieces[-1])
                item = Audio(b"".join(pieces), item.arrived)
            self._changed.notify_all()
            return item

    def _take(self) -> Any:
        item, size = self._items.popleft()
        self._bytes -= size
        return item
