"""Audio on its way in: resampling with state, and chunks of an even size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


class Resampler:
    """Changes the sample rate of a stream; any chunking of the input gives the same output.

    It belongs to a source, before the runner: soxr keeps its state in C, so it can be neither copied nor forked.
    The output lags by the length of its filter (some 20 to 80 ms of input) until ``flush``.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        """Rates in Hz.

        Raises:
            ValueError: a rate is not a positive whole number.
        """
        if min(source_rate, target_rate) < 1:
            raise ValueError(f"sample rates must be positive, got {source_rate} and {target_rate} Hz")
        self._stream = None
        if source_rate != target_rate:
            import soxr

            self._stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Turn samples (N,) float32 into as many resampled ones as are ready (M,)."""
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def flush(self) -> np.ndarray:
        """The samples still held back (M,); the stream is over."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)


def resampled(chunks: Iterable[np.ndarray], source_rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """Chunks (N,) float32 of one stream, resampled, the held-back end included."""
    resampler = Resampler(source_rate, target_rate)
    for chunk in chunks:
        yield resampler.push(chunk)
    yield resampler.flush()


def rechunked(chunks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in chunks of ``size``, the last one shorter; memory holds one chunk and one input chunk."""
    held: list[np.ndarray] = []
    count = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk)
        if count < size:
            continue
        joined = np.concatenate(held)
        whole = count - count % size
        yield from (joined[start : start + size] for start in range(0, whole, size))
        held, count = [joined[whole:].copy()], count - whole
    if count:
        yield np.concatenate(held)
