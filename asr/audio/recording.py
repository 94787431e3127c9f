"""Sound files that grow while somebody listens, and can be played whenever the writer is killed."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import BinaryIO

import numpy as np

from asr.errors import UsageError

SUFFIXES = (".wav", ".flac")
FULL_SCALE = 32_767  # of 16 bits
BLOCK = 4_096  # samples of a FLAC frame


class SoundFile:
    """A WAV or FLAC file of 16-bit mono samples, a context manager. What has been written survives ``kill -9``.

    A WAV file is whole after every write, a FLAC file to within a frame of 4,096 samples.
    """

    def __init__(self, path: Path, sample_rate: int) -> None:
        """Begin a file, in place of one that may be there.

        Raises:
            UsageError: its name ends in neither .wav nor .flac, or it cannot be written.
        """
        check_sound_path(path)
        try:
            self._file = open(path, "wb")
        except OSError as error:
            raise UsageError(f"--save-audio {path} cannot be written: {error.strerror}") from error
        self._encoder = (_Wav if path.suffix.lower() == ".wav" else _Flac)(self._file, sample_rate)

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._encoder.close()
        self._file.close()

    def write(self, samples: np.ndarray) -> None:
        """Append samples (N,) float32 in [-1, 1]; louder ones are clipped."""
        self._encoder.write((samples.clip(-1, 1) * FULL_SCALE).astype("<i2"))
        self._file.flush()


def check_sound_path(path: Path) -> None:
    """Raise UsageError for a path that no sound file can have."""
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UsageError(f"--save-audio writes WAV and FLAC files; {path} does not end in .wav or .flac")


class _Wav:
    def __init__(self, file: BinaryIO, sample_rate: int) -> None:
        self._wave = wave.open(file, "wb")
        self._wave.setnchannels(1)
        self._wave.setsampwidth(2)
        self._wave.setframerate(sample_rate)

    def write(self, samples: np.ndarray) -> None:
        # writeframes, unlike writeframesraw, mends the header each time: a killed recording can be played
        self._wave.writeframes(samples.tobytes())

    def close(self) -> None:
        self._wave.close()


class _Flac:
    def __init__(self, file: BinaryIO, sample_rate: int) -> None:
        import av

        self._container = av.open(file, "w", format="flac", options={"flush_packets": "1"})
        self._track = self._container.add_stream("flac", rate=sample_rate, layout="mono", format="s16")
        self._track.options = {"frame_size": str(BLOCK)}
        self._container.start_encoding()
        self._rate = sample_rate
        self._held = np.zeros(0, "<i2")
        self._written = 0

    def write(self, samples: np.ndarray) -> None:
        samples = np.concatenate([self._held, samples])
        whole = len(samples) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            self._encode(samples[start : start + BLOCK])
        self._held = samples[whole:].copy()

    def close(self) -> None:
        if len(self._held):
            self._encode(self._held)
        self._container.mux(self._track.encode(None))
        self._container.close()

    def _encode(self, samples: np.ndarray) -> None:
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="s16", layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._written
        self._written += len(samples)
        self._container.mux(self._track.encode(frame))
