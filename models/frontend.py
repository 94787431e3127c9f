"""Log-mel features computed so that any chunking of the audio gives the same frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FrontendConfig:
    """Short-time analysis of the audio; the rest of Rill derives its rates from these numbers."""

    sample_rate: int = 16_000  # Hz
    window_samples: int = 400  # 25 ms
    hop_samples: int = 160  # 10 ms
    fft_size: int = 512
    mels: int = 80
    low_hz: float = 20.0
    high_hz: float = 7_600.0
    floor: float = 1e-7  # added to mel energies: about the noise of 16-bit audio, so digital silence is no outlier

    def __post_init__(self) -> None:
        if not 0 < self.hop_samples <= self.window_samples <= self.fft_size:
            raise ValueError(
                f"need 0 < hop ({self.hop_samples}) <= window ({self.window_samples}) <= FFT size ({self.fft_size})"
            )
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(f"need 0 <= low_hz < high_hz <= {self.sample_rate / 2}, got {self.low_hz}, {self.high_hz}")


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
        self.register_buffer("filterbank", _mel_filterbank(config), persistent=False)  # (K, M)

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
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (time + 0.5) / config.window_samples)
    frequency = np.arange(config.fft_size // 2 + 1)
    angle = 2 * np.pi * np.outer(frequency, time) / config.fft_size  # (K, W)
    basis = np.concatenate([np.cos(angle), -np.sin(angle)]) * window / np.sqrt(np.sum(window**2))
    return torch.from_numpy(basis[:, None, :]).float()


def mel_centres(config: FrontendConfig) -> np.ndarray:
    """Centre frequency of each mel filter in Hz: (M,)."""
    return 700.0 * np.expm1(_mel_edges(config)[1:-1] / 1127.0)


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    """The mel scale of O'Shaughnessy 1987, as HTK and Kaldi use it."""
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _mel_edges(config: FrontendConfig) -> np.ndarray:
    return np.linspace(_mel(config.low_hz), _mel(config.high_hz), config.mels + 2)


def _mel_filterbank(config: FrontendConfig) -> Tensor:
    """Triangular filters evenly spaced on the mel scale: (K, M)."""
    edges = _mel_edges(config)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(np.linspace(0, config.sample_rate / 2, config.fft_size // 2 + 1))[:, None]  # (K, 1)
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return torch.from_numpy(np.maximum(triangles, 0.0)).float()
