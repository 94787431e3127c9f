"""SpecAugment: hiding bands of mels and spans of time so that the network learns not to lean on any one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SpecAugment:
    """Masks of Park et al. 2019, with the number of time masks growing with length (Park et al. 2020)."""

    mel_masks: int = 2
    mel_width: int = 20  # at most this many mels a mask
    time_masks_per_second: float = 1.0
    time_width_frames: int = 20  # at most this many mel frames a mask
    time_fraction: float = 0.2  # of an utterance, at most, masked in all

    def scaled(self, strength: float) -> SpecAugment:
        """Masks ``strength`` times as wide; 0 masks nothing. Small networks underfit under wide masks."""
        return replace(
            self,
            mel_width=round(strength * self.mel_width),
            time_width_frames=round(strength * self.time_width_frames),
            time_fraction=min(0.5, strength * self.time_fraction),
        )

    def __call__(self, mels: Tensor, frames: Tensor, fill: Tensor, generator: np.random.Generator) -> Tensor:
        """Return a masked copy of a batch.

        Args:
            mels: (B, F, M) log-mel frames.
            frames: (B,) frames of each utterance; what lies beyond is padding.
            fill: (M,) what stands in a mask, the mean of the data.
            generator: source of every random number.
        """
        batch, longest, bins = mels.shape
        hidden = np.zeros((batch, longest, bins), dtype=bool)
        for row, length in enumerate(frames.tolist()):
            for _ in range(self.mel_masks):
                width = generator.integers(0, min(self.mel_width, bins) + 1)
                start = generator.integers(0, bins - width + 1)
                hidden[row, :, start : start + width] = True
            left = int(self.time_fraction * length)
            for _ in range(int(self.time_masks_per_second * length / 100)):
                width = min(left, int(generator.integers(0, self.time_width_frames + 1)))
                start = generator.integers(0, length - width + 1)
                hidden[row, start : start + width] = True
                left -= width
        return torch.where(torch.from_numpy(hidden).to(mels.device), fill.to(mels), mels)
