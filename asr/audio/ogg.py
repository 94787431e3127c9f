"""Chains of Ogg streams: radio and concatenated recordings, each link of which has its own codec, rate and channels.

ffmpeg decodes a chain with the settings of its first link, so the links are taken apart here (RFC 3533: a link begins
with pages that are marked as the beginning of a stream).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

CAPTURE = b"OggS"
HEADER = 27  # bytes before the table of segments
BEGINNING = 0x02  # flag of the first page of a stream
PIECE = 64 * 1024


class OggLinks:
    """One link after the other, each as a stream that ends where the next one begins; not seekable."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """Take apart what ``read`` gives."""
        self._read = read
        self._ahead = bytearray()  # read, not yet taken apart
        self._page = b""  # of this link, not yet given out
        self._held = b""  # the first page of the next link
        self._inside = False  # the pages that begin this link are over

    def next(self) -> bool:
        """Go on with the next link, when the present one has ended; whether there is one."""
        self._page, self._held, self._inside = self._held, b"", False
        return bool(self._page)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes of this link; none at its end."""
        while not self._page and not self._held:
            page, begins = self._next_page()
            if not page:
                return b""
            if begins and self._inside:
                self._held = page
                return b""
            self._inside = self._inside or not begins
            self._page = page
        data, self._page = self._page[:size], self._page[size:]
        return data

    def _next_page(self) -> tuple[bytes, bool]:
        """The next page, or damaged bytes before it, and whether a stream begins with it."""
        if not self._filled(HEADER):
            return self._taken(len(self._ahead)), False
        start = self._ahead.find(CAPTURE)
        if start != 0:
            return self._taken(start if start > 0 else max(1, len(self._ahead) - len(CAPTURE) + 1)), False
        begins = bool(self._ahead[5] & BEGINNING) and self._ahead[4] == 0
        segments = self._ahead[26]
        self._filled(HEADER + segments)
        size = HEADER + segments + sum(self._ahead[HEADER : HEADER + segments])
        self._filled(size)
        return self._taken(min(size, len(self._ahead))), begins

    def _filled(self, size: int) -> bool:
        while len(self._ahead) < size:
            more = self._read(PIECE)
            if not more:
                return False
            self._ahead += more
        return True

    def _taken(self, size: int) -> bytes:
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data


def is_chain(file: BinaryIO) -> bool:
    """Whether a file, which can be sought in, is a chain of several links; it is left at its beginning."""
    file.seek(0)
    links = OggLinks(file.read)
    try:
        while links.read(PIECE):
            pass
        return links.next()
    finally:
        file.seek(0, io.SEEK_SET)
