"""How loud a recording is, for messages about recordings without words."""

from __future__ import annotations

import math

import numpy as np


class Meter:
    """Peak and mean level of samples that come in pieces, in dB against full scale (dBFS)."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._energy = 0.0
        self._samples = 0

    def add(self, samples: np.ndarray) -> None:
        """Measure more samples (N,) float32 in [-1, 1]."""
        if len(samples):
            self._peak = max(self._peak, float(np.abs(samples).max()))
            self._energy += float(np.dot(samples, samples))
            self._samples += len(samples)

    @property
    def peak_db(self) -> float:
        """Of the loudest sample; minus infinity for digital silence."""
        return 20 * math.log10(self._peak) if self._peak else -math.inf

    @property
    def mean_db(self) -> float:
        """Root mean square of all samples; minus infinity for digital silence."""
        return 10 * math.log10(self._energy / self._samples) if self._energy else -math.inf

    def without_words(self, seconds: float) -> str:
        """What to tell about a recording of this length in which no words were recognised."""
        level = f"peak {self.peak_db:.0f} dBFS, mean {self.mean_db:.0f} dBFS" if self._peak else "digital silence"
        return f"no words were recognised in {seconds:.1f} s of audio ({level})"
