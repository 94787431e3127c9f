"""New speakers, channels and noise for every utterance at every step, made from log-mel features.

Augmenting audio costs as much as training on it; the same changes on mel energies cost a hundredth, so no two epochs
hear a recording alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from asr.models.frontend import FrontendConfig, mel_centres

WARP_EDGE_HZ = 4_800.0  # below it frequencies scale, above it they bend back to meet the band's upper edge


@dataclass(frozen=True)
class MelAugment:
    """How far each utterance may be moved."""

    warp: float = 0.1  # of frequency, up or down: the length of a vocal tract (Jaitly & Hinton 2013)
    gain_db: float = 5.0  # up or down
    channel_db: float = 1.5  # standard deviation of each of the smooth curves a frequency response is the sum of
    channel_curves: int = 4
    noise_probability: float = 0.2
    least_snr_db: float = 5.0
    most_snr_db: float = 25.0

    def scaled(self, strength: float) -> MelAugment:
        """Changes ``strength`` times as large, and noise as much more often."""
        return replace(
            self,
            warp=strength * self.warp,
            gain_db=strength * self.gain_db,
            channel_db=strength * self.channel_db,
            noise_probability=min(1.0, strength * self.noise_probability),
        )

    def __call__(
        self,
        mels: Tensor,
        frames: Tensor,
        config: FrontendConfig,
        noises: list[np.ndarray],
        random: np.random.Generator,
    ) -> Tensor:
        """Return a changed copy of a batch.

        Args:
            mels: (B, F, M) log-mel frames.
            frames: (B,) frames of each utterance; what lies beyond is padding.
            config: of the front end the frames come from.
            noises: log-mel frames (F, M) of recordings without speech; empty for none.
            random: source of every random number.
        """
        warps = np.stack([warp_matrix(config, random.uniform(1 - self.warp, 1 + self.warp)) for _ in range(len(mels))])
        warped = torch.bmm(mels, torch.from_numpy(warps).to(mels).transpose(1, 2))
        gains = torch.from_numpy(self._gains(len(mels), config.mels, random)).to(mels)  # (B, M)
        energy = (warped.exp() - config.floor).clamp(min=0) * gains[:, None]
        if noises:
            for row, length in enumerate(frames.tolist()):
                if random.random() < self.noise_probability:
                    noise = np.exp(_stretch(noises[random.integers(len(noises))], length, random))
                    snr = 10 ** (random.uniform(self.least_snr_db, self.most_snr_db) / 10)
                    level = float(energy[row, :length].mean()) / (snr * float(noise.mean()))
                    energy[row, :length] += level * torch.from_numpy(noise).to(mels)
        return torch.log(energy + config.floor)

    def _gains(self, batch: int, bins: int, random: np.random.Generator) -> np.ndarray:
        """Energy factors of a gain and a smooth frequency response: (B, M)."""
        angles = np.pi * (np.arange(bins) + 0.5) / bins
        curves = np.cos(np.outer(np.arange(1, self.channel_curves + 1), angles))  # (C, M)
        response_db = random.normal(0, self.channel_db, (batch, self.channel_curves)) @ curves
        return 10 ** ((response_db + random.uniform(-self.gain_db, self.gain_db, (batch, 1))) / 10)


def warp_matrix(config: FrontendConfig, factor: float) -> np.ndarray:
    """Interpolation (M, M) that reads each mel at ``factor`` times its frequency: times log-mels, a warped spectrum."""
    centres = mel_centres(config)
    edge = WARP_EDGE_HZ * min(1.0, 1 / factor)
    top = config.high_hz
    above = factor * edge + (centres - edge) * (top - factor * edge) / (top - edge)
    position = np.interp(np.where(centres <= edge, factor * centres, above), centres, np.arange(config.mels))
    low = np.minimum(position.astype(int), config.mels - 2)
    rows = np.arange(config.mels)
    matrix = np.zeros((config.mels, config.mels), dtype=np.float32)
    matrix[rows, low] = 1 - (position - low)
    matrix[rows, low + 1] = position - low
    return matrix


def _stretch(noise: np.ndarray, length: int, random: np.random.Generator) -> np.ndarray:
    """A random piece of ``length`` frames, the recording repeated where it is shorter."""
    start = int(random.integers(len(noise)))
    return noise[(start + np.arange(length)) % len(noise)].astype(np.float32)
