"""Numbers that the worker processes of a server tell each other, in a mapped file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from asr.files import locked

NAME = "tally"
BYTES = 8  # of a number, which is written and read as a whole


class Column(IntEnum):
    """What a worker tells."""

    STREAMS = 0  # streams and files under way
    LISTS = 1  # lists of hotwords that it holds
    LISTS_WANTED = 2  # 1 while it waits for another worker to let one go
    CLOSED = 3  # connections that it was handed and that are closed, since its start
    DRAINING = 4  # 1 once it refuses new streams


class Tally:
    """A row of numbers for each worker. A worker writes only its own row, and reads all of them.

    No lock is needed to read or write; `alone` is for what depends on the numbers of others. A worker that is killed
    leaves its row as it was, until the supervisor clears it, and its lock open.
    """

    def __init__(self, folder: Path, row: int | None = None) -> None:
        """Open the tally that `create` made in a folder, to write one row of it, or none."""
        self._path = folder / NAME
        self._row = row
        with self._path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    @classmethod
    def create(cls, folder: Path, workers: int) -> Tally:
        """A new one, with zeros for so many workers."""
        (folder / NAME).write_bytes(bytes(workers * len(Column) * BYTES))
        return cls(folder)

    def write(self, column: Column, number: int) -> None:
        """Write a number of our own row."""
        assert self._row is not None, "this tally was opened to read"
        self._numbers[self._row * len(Column) + column] = number

    def read(self, row: int, column: Column) -> int:
        """A number of any row."""
        return self._numbers[row * len(Column) + column]

    def total(self, column: Column) -> int:
        """The sum over all workers."""
        return sum(self._numbers[column :: len(Column)])

    def clear(self, row: int) -> None:
        """Zeros for a worker that is no more."""
        for column in Column:
            self._numbers[row * len(Column) + column] = 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts, no other worker is in here."""
        with self._path.open("rb") as file:
            locked(file, wait=True)
            yield
