"""Log-mel features computed so that any chunking of the audio gives the same frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from asr.models.mels import FrontendConfig, hann_window, mel_centres, mel_filterbank

__all__ = ["FrontendConfig", "LogMel", "mel_centres"]


class LogMel(nn.Module):
    """Natural-log mel energies of a Hann-windowed power spectrum, without centring or padding.

    Frame t covers samples ``[t * hop, t * hop + window)`` and nothing else, so a frame never changes once its samples
    have arrived. The windowed discrete Fourier transform is one strided convolution with a fixed basis: it is cheap
    compared with the network, and exports to ONNX with any number of samples.
    """

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("fourier", _windowed_fourier(config), persistent=False)  # (2K, 1, W)
        self.register_buffer("filterbank", torch.from_numpy(mel_filterbank(config)).float(), persistent=False)  # (K, M)

    def forward(self, samples: Tensor) -> Tensor:
        """Turn samples (B, N) in [-1, 1] into log-mel frames (B, F, M), F = 1 + (N - window) // hop.

        Raises:
            RuntimeError: N is shorter than one window (the caller carries samples until there are enough).
        """
        hop = self.config.hop_samples
        spectrum = nn.functional.conv1d(samples.unsqueeze(1), self.fourier, stride=hop)  # (B, 2K, F)
        real, imaginary = spectrum.chunk(2, dim=1)
        power = (real.square() + imaginary.square()).transpose(1, 2)  # (B, F, K)
        return torch.log(power @ self.filterbank + self.config.floor)  # (B, F, M)


def _windowed_fourier(config: FrontendConfig) -> Tensor:
    """Rows of the real and the imaginary part of the transform, times a Hann window: (2K, 1, W)."""
    time = np.arange(config.window_samples)
    frequency = np.arange(config.fft_size // 2 + 1)
    angle = 2 * np.pi * np.outer(frequency, time) / config.fft_size  # (K, W)
    basis = np.concatenate([np.cos(angle), -np.sin(angle)]) * hann_window(config)
    return torch.from_numpy(basis[:, None, :]).float()
