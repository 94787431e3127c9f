"""Where the mel filters lie: the numbers of the front end, for torch and for what runs without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


def hann_window(config: FrontendConfig) -> np.ndarray:
    """The window (W,) of a frame, of energy 1."""
    time = np.arange(config.window_samples)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (time + 0.5) / config.window_samples)
    return window / np.sqrt(np.sum(window**2))


def mel_centres(config: FrontendConfig) -> np.ndarray:
    """Centre frequency of each mel filter in Hz: (M,)."""
    return 700.0 * np.expm1(_mel_edges(config)[1:-1] / 1127.0)


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    """The mel scale of O'Shaughnessy 1987, as HTK and Kaldi use it."""
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _mel_edges(config: FrontendConfig) -> np.ndarray:
    return np.linspace(_mel(config.low_hz), _mel(config.high_hz), config.mels + 2)


def mel_filterbank(config: FrontendConfig) -> np.ndarray:
    """Triangular filters evenly spaced on the mel scale: (K, M)."""
    edges = _mel_edges(config)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(np.linspace(0, config.sample_rate / 2, config.fft_size // 2 + 1))[:, None]  # (K, 1)
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return np.maximum(triangles, 0.0)
