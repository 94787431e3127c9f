"""Silence by level: frames too quiet to hold speech, as from muted and gated microphones.

The training data has little digital silence, and the network may predict words in it. So frames whose audio is all
below the noise of a good recorder are set to silence, whatever the network predicts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asr.streaming.engine import Rates

QUIET_RMS = 1e-4  # of full scale, -80 dB: three steps of 16 bits
IMPOSSIBLE = -30.0  # log-probability of every token but silence
SILENCE = 0  # the blank of CTC, and the state of silence


class QuietState(NamedTuple):
    """Levels of the audio that has not been decoded yet."""

    rest: np.ndarray  # (R,) samples of an incomplete block
    blocks: np.ndarray  # (K,) bool: whether each block is quiet, from the first block of the next frame on


class QuietFrames:
    """Marks quiet frames; a block is the audio from one frame to the next, and a frame covers several."""

    def __init__(self, rates: Rates) -> None:
        self._block = rates.frame_samples
        self._covers = -(-rates.window_samples // rates.frame_samples)

    def start(self) -> QuietState:
        return QuietState(np.zeros(0, np.float32), np.zeros(0, bool))

    def accept(self, state: QuietState, samples: np.ndarray) -> QuietState:
        """The state after samples (N,), N >= 0."""
        samples = np.concatenate([state.rest, samples])
        whole = len(samples) // self._block * self._block
        blocks = samples[:whole].reshape(-1, self._block)
        quiet = np.square(blocks, dtype=np.float32).mean(axis=1) < QUIET_RMS**2
        return QuietState(samples[whole:].copy(), np.concatenate([state.blocks, quiet]))

    def silenced(self, state: QuietState, log_probs: np.ndarray) -> np.ndarray:
        """Rows (T, V) of the next frames, quiet ones replaced by silence; what follows the audio is quiet too."""
        if len(log_probs) == 0:
            return log_probs
        count = len(log_probs) + self._covers - 1
        rest = [np.square(state.rest, dtype=np.float32).sum() < QUIET_RMS**2 * self._block] if len(state.rest) else []
        blocks = np.concatenate([state.blocks, np.array(rest, bool), np.ones(count, bool)])[:count]
        quiet = np.lib.stride_tricks.sliding_window_view(blocks, self._covers).all(axis=1)  # (T,)
        if not quiet.any():
            return log_probs
        log_probs = log_probs.copy()
        log_probs[quiet] = IMPOSSIBLE
        log_probs[quiet, SILENCE] = 0.0
        return log_probs

    def decoded(self, state: QuietState, frames: int) -> QuietState:
        """The state after decoding that many more frames."""
        return state._replace(blocks=state.blocks[frames:])
