"""How a model's frames lie on the audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

PIECE_SECONDS = 10.0  # longest audio given to a network at once: bounds memory whatever the size of a chunk
FULL_CONTEXT_SECONDS = 300.0  # length of a block with full context


@dataclass(frozen=True)
class Rates:
    """How a model's frames lie on the audio."""

    sample_rate: int  # Hz
    frame_samples: int  # from one acoustic frame to the next
    window_samples: int  # samples that one acoustic frame covers
    delay_frames: int  # look-ahead of the network
    block_frames: int = 1  # the network runs this many frames at once, or a multiple

    def seconds(self, frames: int) -> float:
        """Where a frame starts."""
        return frames * self.frame_samples / self.sample_rate

    def frames(self, seconds: float) -> int:
        """The nearest whole number of frames in a length of time."""
        return round(seconds * self.sample_rate / self.frame_samples)

    def frames_within(self, samples: int) -> int:
        """Frames that lie wholly inside this many samples."""
        return max(0, (samples - self.window_samples) // self.frame_samples + 1)

    def frames_covering(self, samples: int) -> int:
        """The fewest frames whose windows cover this many samples; 0 for none."""
        if samples == 0:
            return 0
        return max(0, -((self.window_samples - samples) // self.frame_samples)) + 1

    def blocks_within(self, samples: int) -> int:
        """Frames of the whole blocks that lie inside this many samples."""
        return self.frames_within(samples) // self.block_frames * self.block_frames

    def tail_samples(self, samples: int) -> int:
        """Zeros to append to a stream of this many samples so that the network returns every covering frame."""
        if samples == 0:
            return 0
        frames = self.frames_covering(samples) + self.delay_frames
        frames = -(-frames // self.block_frames) * self.block_frames
        return (frames - 1) * self.frame_samples + self.window_samples - samples

    def rows_owed(self, samples: int, frames: int) -> int:
        """Rows still to come for a stream of this many samples, of which the network has run so many frames."""
        return self.frames_covering(samples) - max(0, frames - self.delay_frames)

    def with_full_context(self) -> Rates:
        """The same frames in blocks of `FULL_CONTEXT_SECONDS`."""
        frames = self.frames(FULL_CONTEXT_SECONDS)
        return replace(self, block_frames=max(1, frames // self.block_frames) * self.block_frames)


def pieces(samples: np.ndarray, rates: Rates) -> Iterator[np.ndarray]:
    """Samples (N,) in pieces of at most ``PIECE_SECONDS``."""
    size = round(PIECE_SECONDS * rates.sample_rate)
    return (samples[start : start + size] for start in range(0, len(samples), size))
