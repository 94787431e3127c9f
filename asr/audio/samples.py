"""Arrays of samples: checked, and brought to float32 mono."""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.errors import AudioError, UsageError

RATES_HZ = (1_000, 768_000)  # sample rates that can be meant
MOST_CHANNELS = 64
LOUDEST = 16.0  # a float sample beyond this was never scaled to [-1, 1]


def as_samples(audio: Any, what: str = "audio") -> np.ndarray:
    """Bring an array of samples to float32 mono in [-1, 1].

    Args:
        audio: (N,) or (N, channels); float in [-1, 1], or int16 or int32 over their whole range. Channels are averaged.
        what: how to call it in errors.
    Returns:
        (N,) float32; N may be 0.
    Raises:
        AudioError: another type or shape, NaN, infinity, or floats far outside [-1, 1].
    """
    try:
        samples = np.asarray(audio)
    except ValueError as error:
        raise AudioError(f"{what} is no array of numbers ({error}); give a NumPy array") from error
    if samples.ndim == 2 and not 1 <= samples.shape[1] <= MOST_CHANNELS or samples.ndim not in (1, 2):
        raise AudioError(
            f"{what} has shape {samples.shape}; give (samples,) or (samples, channels) with 1 to {MOST_CHANNELS} "
            "channels, transposed if the channels come first"
        )
    if samples.dtype in (np.int16, np.int32):
        samples = samples / np.float32(-float(np.iinfo(samples.dtype).min))
    elif samples.dtype.kind != "f":
        raise AudioError(f"{what} has type {samples.dtype}; give float in [-1, 1], int16 or int32")
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    loudest = float(np.abs(samples).max(initial=0.0))  # NaN if any sample is
    if not np.isfinite(loudest):
        raise AudioError(f"{what} holds NaN or infinite samples; clean it before recognition")
    if loudest > LOUDEST:
        raise AudioError(f"{what} has float samples up to {loudest:.6g}; scale them to [-1, 1] or give int16")
    return samples


def check_rate(sample_rate: Any) -> int:
    """A sample rate in Hz as a whole number.

    Raises:
        UsageError: it is no whole number, or none that audio has.
    """
    lowest, highest = RATES_HZ
    if isinstance(sample_rate, bool) or sample_rate != sample_rate or not lowest <= sample_rate <= highest:
        raise UsageError(f"sample rate {sample_rate!r} Hz is out of range; give {lowest} to {highest} Hz")
    if int(sample_rate) != sample_rate:
        raise UsageError(f"sample rate {sample_rate!r} Hz is no whole number")
    return int(sample_rate)
