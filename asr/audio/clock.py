"""Time stamps: where in a recording its audio lies, when some of it came late, or was never sent."""

from __future__ import annotations

import math

LEAST_SECONDS = 0.1  # a shorter gap is the grain of a container's clock, or what an encoder adds at the beginning
DRIFT_SECONDS = 0.5  # by which stamps may run ahead of the samples, bit by bit, before silence makes up for it
LONGEST_SECONDS = 3_600.0  # a longer one is no gap: the clock was set anew
MOST_SECONDS = 4 * 3_600.0  # of silence in one recording


class Clock:
    """Follows the time stamps of a track; gaps are to be filled with silence, so that word times are the container's.

    A clock that runs back, or further ahead than a connection is lost for, was set anew: it goes on from there.
    """

    def __init__(self) -> None:
        self.seconds = 0.0  # of the recording so far, silence included
        self.end: float | None = None  # the stamp at which the last frame ended
        self._zero: float | None = None  # the stamp of the recording's beginning, by the present clock
        self._silence = 0.0

    def begin(self, stamp: float | None) -> None:
        """A container begins, at this stamp in seconds; None if its first frame is where."""
        self.end = None
        self._zero = None if stamp is None else stamp - self.seconds

    def gap(self, stamp: float | None, seconds: float) -> float:
        """Seconds of silence that belong before a frame of this stamp and length."""
        silence = 0.0
        if stamp is not None and math.isfinite(stamp):
            silence = self._gap(stamp)
            self.end = stamp + seconds
        elif self.end is not None:
            self.end += seconds
        self.seconds += silence + seconds
        self._silence += silence
        return silence

    def _gap(self, stamp: float) -> float:
        if self._zero is None:
            self._zero = stamp - self.seconds
        jump = stamp - (self._zero + self.seconds if self.end is None else self.end)
        if not -DRIFT_SECONDS < jump <= LONGEST_SECONDS:
            self._zero = stamp - self.seconds
        late = stamp - self._zero - self.seconds
        if late < LEAST_SECONDS or (jump < LEAST_SECONDS and late < DRIFT_SECONDS):
            return 0.0
        if self._silence + late > MOST_SECONDS:
            self._zero = stamp - self.seconds
            return 0.0
        return late
