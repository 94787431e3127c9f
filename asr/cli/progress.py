"""How far a transcription has come, on stderr when someone can see it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LONG_SECONDS = 30.0  # from here on, or when the length is unknown, one recording is worth a bar


class Progress:
    """Counts what has been transcribed; any thread may call it. This one shows nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = time.perf_counter()
        self.files = 0
        self.heard_seconds = 0.0

    @property
    def speed(self) -> float:
        """Seconds of audio transcribed per second."""
        return self.heard_seconds / max(1e-9, time.perf_counter() - self._begun)

    @property
    def hours(self) -> float:
        """Of audio that have been transcribed."""
        return self.heard_seconds / 3_600

    def begin(self, name: str, seconds: float | None) -> None:
        """A recording is opened that lasts so long, if that is known."""

    def hear(self, name: str, seconds: float, of: float | None) -> None:
        """More of a recording, of the length that it has, has been transcribed."""
        with self._lock:
            self.heard_seconds += seconds
            self._show()

    def end(self, name: str) -> None:
        """A recording is done, or has failed."""
        with self._lock:
            self.files += 1
            self._show()

    def _show(self) -> None:
        pass


class OneFile(Progress):
    """A bar for a single recording, once it is known to be long."""

    def __init__(self, bar) -> None:
        super().__init__()
        self._bar = bar
        self._task = None

    def begin(self, name: str, seconds: float | None) -> None:
        if seconds is None or seconds >= LONG_SECONDS:
            self._task = self._bar.add_task(os.path.basename(name), total=seconds, speed="")

    def _show(self) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=self.heard_seconds, speed=f"{self.speed:.0f} x real time")


class ManyFiles(Progress):
    """A bar for all recordings, by their size, which is known before they are opened."""

    def __init__(self, bar, names: Sequence[str]) -> None:
        super().__init__()
        self._bar = bar
        self._sizes = {name: _size(name) for name in names}
        self._parts: dict[str, float] = {}  # of recordings under way
        self._done = 0.0
        self._task = bar.add_task("", total=sum(self._sizes.values()), speed="")

    def hear(self, name: str, seconds: float, of: float | None) -> None:
        share = self._sizes.get(name, 0) * seconds / of if of else 0.0
        self._parts[name] = min(self._sizes.get(name, 0), self._parts.get(name, 0.0) + share)
        super().hear(name, seconds, of)

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
def progress(names: Sequence[str]) -> Iterator[Progress]:
    """A bar on stderr with the time left and the speed, if stderr is a terminal."""
    if not sys.stderr.isatty() or not names:
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield OneFile(bar) if len(names) == 1 else ManyFiles(bar, names)


def _size(name: str) -> int:
    try:
        return os.path.getsize(name)
    except OSError:
        return 0
