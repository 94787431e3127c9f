"""Bytes of audio from clients, decoded to samples at the model's rate."""

from __future__ import annotations

import numpy as np

from asr.audio.samples import as_samples, check_rate
from asr.errors import UsageError
from asr.server.failures import ClientError
from asr.streaming.sources import Resampler

BIAS = 33 << 2  # of G.711 mu-law, at 16 bits


def _mu_law() -> np.ndarray:
    """The 16-bit value of each mu-law byte (ITU-T G.711)."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = ((((code & 0x0F).astype(np.int32) << 3) + BIAS) << ((code & 0x70) >> 4)) - BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype("<i2")


def _a_law() -> np.ndarray:
    """The 16-bit value of each A-law byte (ITU-T G.711)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = (code & 0x70) >> 4
    step = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(exponent == 0, step, (step + 256) << np.maximum(exponent.astype(np.int32) - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype("<i2")


WIDTHS = {"s16le": 2, "s32le": 4, "f32le": 4, "mulaw": 1, "alaw": 1}  # bytes of a sample


class Pcm:
    """Decodes one stream of mono or interleaved bytes, cut anywhere, and brings it to the model's rate."""

    def __init__(self, format: str, sample_rate: int, target_rate: int, channels: int = 1) -> None:
        """A stream of this format at this rate in Hz.

        Raises:
            ClientError: an unknown format, rate or number of channels.
        """
        if format not in WIDTHS:
            raise ClientError("bad_request", f"unknown format {format!r}; give {', '.join(WIDTHS)}")
        if not 1 <= channels <= 8:
            raise ClientError("bad_request", f"{channels} channels; give 1 to 8")
        try:
            self.rate = check_rate(sample_rate)
        except (UsageError, TypeError) as error:
            raise ClientError("bad_request", str(error)) from error
        self._format = format
        self._channels = channels
        self._target = target_rate
        self._held = b""  # the first bytes of a sample
        self._table = {"mulaw": _mu_law, "alaw": _a_law}[format]() if format in ("mulaw", "alaw") else None
        self._resampler = Resampler(self.rate, target_rate)

    def decode(self, data: bytes) -> np.ndarray:
        """Samples (N,) float32 at the target rate. Raises AudioError for floats that are not audio."""
        data = self._held + data
        frame = WIDTHS[self._format] * self._channels
        whole = len(data) - len(data) % frame
        self._held = data[whole:]
        if self._table is not None:
            values = self._table[np.frombuffer(data[:whole], np.uint8)]
        else:
            stored = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}[self._format]
            values = np.frombuffer(data[:whole], stored)
        return self._resampler.push(as_samples(values.reshape(-1, self._channels)))

    def flush(self) -> np.ndarray:
        """The samples held back by resampling; what follows is a new stream."""
        rest = self._resampler.flush()
        self._resampler = Resampler(self.rate, self._target)
        self._held = b""
        return rest


class Channels:
    """Interleaved bytes of a stream, cut anywhere, as the bytes of each channel; or together, to be averaged."""

    def __init__(self, format: str, sample_rate: int, target_rate: int, count: int, separate: bool) -> None:
        """``count`` channels, as `Pcm` takes them; raises ClientError as it does."""
        together = Pcm(format, sample_rate, target_rate, count)  # which checks all of it
        self._count = count if separate else 1
        self._width = WIDTHS[format]
        self._held = b""  # the first bytes of a frame
        alone = [Pcm(format, sample_rate, target_rate) for _ in range(count)] if separate else []
        self.pcms = alone or [together]  # a decoder for each of the parts that `split` gives

    def split(self, data: bytes) -> list[bytes]:
        """The bytes of each channel, or all bytes where channels are not separate."""
        if self._count == 1:
            return [data]
        data = self._held + data
        frame = self._width * self._count
        whole = len(data) - len(data) % frame
        self._held = data[whole:]
        frames = np.frombuffer(data[:whole], np.uint8).reshape(-1, self._count, self._width)
        return [frames[:, channel].tobytes() for channel in range(self._count)]
