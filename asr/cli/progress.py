"""Progress of a transcription, shown on stderr if that is a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LONG_SECONDS = 30.0  # a single recording from this length on, or of unknown length, gets a bar


class TranscriptionProgress:
    """Counts what has been transcribed; any thread may call it. This one shows nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = time.perf_counter()
        self.files = 0  # that have been opened and closed, whatever became of them
        self.audio_seconds = 0.0

    @property
    def speed(self) -> float:
        """Seconds of audio transcribed per second."""
        return self.audio_seconds / max(1e-9, time.perf_counter() - self._begun)

    @property
    def hours(self) -> float:
        """Hours of audio transcribed."""
        return self.audio_seconds / 3_600

    def begin(self, name: str, seconds: float | None) -> None:
        """A recording of this length, if it is known, has been opened."""

    def advance(self, name: str, seconds: float, of: float | None) -> None:
        """So many more seconds of a recording ``of`` some length have been transcribed."""
        with self._lock:
            self.audio_seconds += seconds
            self._show()

    def end(self, name: str) -> None:
        """A recording is done, or has failed."""
        with self._lock:
            self.files += 1
            self._show()

    def _show(self) -> None:
        pass


class OneFile(TranscriptionProgress):
    """A bar for a single recording, once it is known to be long."""

    def __init__(self, bar: Progress) -> None:
        super().__init__()
        self._bar = bar
        self._task: TaskID | None = None

    def begin(self, name: str, seconds: float | None) -> None:
        if seconds is None or seconds >= LONG_SECONDS:
            self._task = self._bar.add_task(os.path.basename(name), total=seconds, speed="")

    def _show(self) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=self.audio_seconds, speed=f"{self.speed:.0f} x real time")


class ManyFiles(TranscriptionProgress):
    """A bar for all recordings, by their size, which is known before they are opened."""

    def __init__(self, bar: Progress, names: Sequence[str]) -> None:
        super().__init__()
        self._bar = bar
        self._sizes = {name: _size(name) for name in names}
        self._parts: dict[str, float] = {}  # of recordings under way
        self._done = 0.0
        self._task = bar.add_task("", total=sum(self._sizes.values()), speed="")

    def advance(self, name: str, seconds: float, of: float | None) -> None:
        share = self._sizes.get(name, 0) * seconds / of if of else 0.0
        self._parts[name] = min(self._sizes.get(name, 0), self._parts.get(name, 0.0) + share)
        super().advance(name, seconds, of)

    def end(self, name: str) -> None:
        self._parts.pop(name, None)
        self._done += self._sizes.get(name, 0)
        super().end(name)

    def _show(self) -> None:
        self._bar.update(
            self._task,
            completed=self._done + sum(list(self._parts.values())),
            description=f"{self.files} of {len(self._sizes)} files",
            speed=f"{self.speed:.0f} x real time",
        )


@contextmanager
def progress(names: Sequence[str]) -> Iterator[TranscriptionProgress]:
    """A bar on stderr with the time left and the speed, if stderr is a terminal."""
    if not sys.stderr.isatty() or not names:
        yield TranscriptionProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield OneFile(bar) if len(names) == 1 else ManyFiles(bar, names)


def _size(name: str) -> int:
    try:
        return os.path.getsize(name)
    except OSError:
        return 0
