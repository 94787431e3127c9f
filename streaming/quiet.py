"""Quiet frames, in which no one speaks, whatever a network makes of them: muted and gated microphones.

A network has been trained on few minutes of digital silence, and may drift into words in it. So silence is found by
level: a frame all of whose audio is silence for `asr.streaming.level` is silent.
"""

from __future__ import annotations

import numpy as np

from asr.streaming.engine import Rates

IMPOSSIBLE = -30.0  # nats, of every token but silence
SILENCE = 0  # the blank of CTC, and the state of silence


class QuietFrames:
    """Marks quiet frames; a block is the audio from one frame to the next, and a frame covers several."""

    def __init__(self, rates: Rates) -> None:
        self._covers = -(-rates.window_samples // rates.frame_samples)

    def start(self) -> np.ndarray:
        """Whether each block is quiet, (K,) bool, from the first block of the next frame on: of none yet."""
        return np.zeros(0, bool)

    def silenced(self, blocks: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
        """Rows (T, V) of the next frames, quiet ones replaced by silence; what follows the audio is quiet too."""
        if len(log_probs) == 0:
            return log_probs
        count = len(log_probs) + self._covers - 1
        blocks = np.concatenate([blocks, np.ones(count, bool)])[:count]
        quiet = blocks[: len(log_probs)]  # (T,)
        for later in range(1, self._covers):
            quiet = quiet & blocks[later : later + len(log_probs)]
        if not quiet.any():
            return log_probs
        log_probs = log_probs.copy()
        log_probs[quiet] = IMPOSSIBLE
        log_probs[quiet, SILENCE] = 0.0
        return log_probs
