"""Level: quiet recordings are made as loud as the network knows speech, while they come.

The network has learnt from recordings of ordinary levels, and its word errors double where the same speech comes 40 dB
weaker. So a block of audio is amplified by as much as the loudest sound of late falls short of ordinary speech, but by
no more than keeps the noise floor, the weakest block of the last seconds, as weak as in an ordinary recording: noise
alone is not made loud. What is louder than quiet speech passes unchanged, sample by sample.

The gain of a block follows from that block and earlier ones, so that it is the same however the audio is cut; a block
is the audio from one frame to the next.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asr.streaming.engine import Rates

# Powers of full scale, of a block of a frame.
LOUD = 10**-2.4  # the loudest blocks of ordinary speech: -24 dB
KNEE = 10**-4.2  # what is louder passes unchanged: -42 dB; below, each decibel is amplified by two until it is LOUD
FLOOR = 10**-6.2  # the noise floor of an ordinary recording: -62 dB
LEAST = 10**-10.5  # the noise of 16 bits: what is weaker is digital silence
MOST_GAIN = 10**2.25  # amplitude, 45 dB
FLOOR_SECONDS = 3.0  # within which speech pauses at least for a moment
FORGET = 4.0  # decibels a second by which loud sounds count less as they are longer ago
RISE = 33.0  # decibels a second by which the gain rises; it falls at once

QUIET = 1e-8  # -80 dB: the hiss of a good recorder, where no one speaks unless all else is quiet, too
SPEAKS = 16.0  # 12 dB between the loudest and the weakest blocks: more than hiss alone has
SILENT = 4.0  # 6 dB above the floor, and
BENEATH = 1e-4  # 40 dB below the loudest: silence, in quiet speech


class LevelState(NamedTuple):
    """What is known of a stream's level."""

    rest: np.ndarray  # (R,) samples of an incomplete block
    recent: tuple[float, ...] = ()  # powers of the last seconds' blocks
    peak: float = 0.0  # power of the loudest block, the less the longer ago it is
    gain: float = MOST_GAIN  # of the last block


class Level:
    """Amplifies a stream, block by block."""

    def __init__(self, rates: Rates) -> None:
        self._block = rates.frame_samples
        seconds = rates.frame_samples / rates.sample_rate
        self._blocks = max(1, round(FLOOR_SECONDS / seconds))
        self._fading = 10 ** (-FORGET * seconds / 10)
        self._rise = 10 ** (RISE * seconds / 20)

    def start(self) -> LevelState:
        return LevelState(np.zeros(0, np.float32))

    def accept(self, state: LevelState, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, LevelState]:
        """Amplify the whole blocks that samples (N,), N >= 0, complete.

        Returns:
            The amplified samples (B * block,); whether each block (B,) is silence; and the next state.
        """
        samples = np.concatenate([state.rest, samples])
        whole = len(samples) // self._block * self._block
        blocks, quiet, state = self._amplified(state, samples[:whole].reshape(-1, self._block))
        return blocks.reshape(-1), quiet, state._replace(rest=samples[whole:].copy())

    def finish(self, state: LevelState) -> tuple[np.ndarray, np.ndarray]:
        """The samples (R,) of the block that the end of the stream cut short, and whether it (0 or 1,) is silence."""
        if len(state.rest) == 0:
            return state.rest, np.zeros(0, bool)
        block, quiet, _ = self._amplified(state, state.rest[None])
        return block[0], quiet

    def _amplified(self, state: LevelState, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, LevelState]:
        powers = (np.add.reduce(np.square(blocks, dtype=np.float32), axis=1) / max(1, blocks.shape[1])).tolist()
        recent, peak, gain = state.recent, state.peak, state.gain
        gains: list[float] = []
        starts: list[float] = []  # the gain at a block's beginning, from which it goes over
        silent: list[bool] = []
        for power in powers:
            recent = (*recent[1 - self._blocks :], power) if self._blocks > 1 else (power,)
            peak = max(power, peak * self._fading)
            floor = max(LEAST, min(recent))
            short = max(peak, LEAST)
            wanted = min(LOUD / short, (KNEE / short) ** 2, FLOOR / floor) ** 0.5
            before = gain
            gain = min(max(1.0, wanted), MOST_GAIN, gain * self._rise)
            starts.append(min(before, gain))
            gains.append(gain)
            speech = peak > SPEAKS * floor
            silent.append(power < (min(QUIET, max(SILENT * floor, BENEATH * peak)) if speech else QUIET))
        state = state._replace(recent=recent, peak=peak, gain=gain)
        quiet = np.array(silent, bool)
        if max(gains, default=1.0) == 1.0:
            return blocks, quiet, state
        first, last = np.array(starts, np.float32)[:, None], np.array(gains, np.float32)[:, None]
        along = np.arange(1, blocks.shape[1] + 1, dtype=np.float32) / blocks.shape[1]
        return blocks * (first + (last - first) * along), quiet, state
