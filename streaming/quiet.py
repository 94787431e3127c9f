"""Frames so quiet that nobody speaks in them, whatever a network makes of them: muted and gated microphones.

A network has heard few minutes of digital silence, and may drift into words in it. So silence is told by level: a frame
all of whose audio is as weak as the hiss of a good recorder is silent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asr.streaming.engine import Rates

QUIET_RMS = 1e-4  # of full scale, -80 dB: three steps of 16 bits
IMPOSSIBLE = -30.0  # nats, of every token but silence
SILENCE = 0  # the blank of CTC, and the state of silence


class QuietState(NamedTuple):
    """What is known of frames that have not been decoded yet."""

    rest: np.ndarray  # (R,) samples of an incomplete block
    blocks: np.ndarray  # (K,) bool: whether each block from the next frame's first on is quiet


class QuietFrames:
    """Marks quiet frames; a block is the audio from one frame to the next, and a frame looks at several."""

    def __init__(self, rates: Rates) -> None:
        self._block = rates.frame_samples
        self._looks_at = -(-rates.window_samples // rates.frame_samples)

    def start(self) -> QuietState:
        return QuietState(np.zeros(0, np.float32), np.zeros(0, bool))

    def heard(self, state: QuietState, samples: np.ndarray) -> QuietState:
        """The state after samples (N,), N >= 0."""
        samples = np.concatenate([state.rest, samples])
        whole = len(samples) // self._block * self._block
        blocks = samples[:whole].reshape(-1, self._block)
        quiet = np.square(blocks, dtype=np.float32).mean(axis=1) < QUIET_RMS**2
        return QuietState(samples[whole:].copy(), np.concatenate([state.blocks, quiet]))

    def silenced(self, state: QuietState, log_probs: np.ndarray) -> np.ndarray:
        """Rows (T, V) of the next frames, those of quiet ones replaced; what follows the audio is quiet too."""
        if len(log_probs) == 0:
            return log_probs
        count = len(log_probs) + self._looks_at - 1
        rest = [np.square(state.rest, dtype=np.float32).sum() < QUIET_RMS**2 * self._block] if len(state.rest) else []
        blocks = np.concatenate([state.blocks, np.array(rest, bool), np.ones(count, bool)])[:count]
        quiet = np.lib.stride_tricks.sliding_window_view(blocks, self._looks_at).all(axis=1)  # (T,)
        if not quiet.any():
            return log_probs
        log_probs = log_probs.copy()
        log_probs[quiet] = IMPOSSIBLE
        log_probs[quiet, SILENCE] = 0.0
        return log_probs

    def decoded(self, state: QuietState, frames: int) -> QuietState:
        """The state once that many frames more have been decoded."""
        return state._replace(blocks=state.blocks[frames:])
