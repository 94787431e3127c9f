"""Recordings of a data set on disk as int16 samples, decoded once and read at random by training.

A store is a folder. Each speed of the recordings is one file of samples and one small index; the first speed is 1. The
files are mapped, so what training reads again stays in memory, and a store may be larger than memory.

    plan.json           what the store is for: the data and the sample rate it was begun with
    store.json          the utterances in the order of their samples, and those left out, with the reason
    speed-1.0.samples   int16, utterance after utterance
    speed-1.0.npz       samples of each utterance; written last
    parts/              finished pieces of a speed under way
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.data.manifest import AudioLocation, Rejected, Utterance
from asr.errors import DataError
from asr.files import write_whole

STORE_VERSION = 3


class AudioStore:
    """Samples of `utterances`, made by `asr.data.build_audio.build_audio`, addressed by their index in `utterances`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = read_json(folder / "store.json")
        if content.get("format") != STORE_VERSION:
            given = content.get("format")
            raise DataError(f"{folder} holds audio in format {given}, not {STORE_VERSION}; remove it to build it again")
        self.utterances: tuple[Utterance, ...] = tuple(_utterance(row) for row in content["utterances"])
        self.rejected: tuple[Rejected, ...] = tuple(Rejected(**row) for row in content["rejected"])
        self._opened: dict[float, _Opened] = {}
        self._at(1.0)

    @classmethod
    def open(cls, folder: Path | str) -> AudioStore:
        """Open a store whose first speed is finished. Raises `DataError` when there is none at `folder`."""
        folder = Path(folder)
        if not index_path(folder, 1.0).is_file():
            raise DataError(f"{folder} holds no finished audio; build it first")
        return cls(folder)

    def __len__(self) -> int:
        return len(self.utterances)

    def __reduce__(self) -> tuple:  # a store handed to another process is opened there, not copied
        return AudioStore.open, (self.folder,)

    @property
    def speeds(self) -> list[float]:
        """The speeds that are finished, ascending."""
        return sorted(float(path.stem.removeprefix("speed-")) for path in self.folder.glob("speed-*.npz"))

    def lengths(self, speed: float = 1.0) -> np.ndarray:
        """Samples of every utterance: (utterances,) int64."""
        return self._at(speed).lengths

    def samples(self, index: int, speed: float = 1.0) -> np.ndarray:
        """(N,) int16 of one utterance."""
        opened = self._at(speed)
        start = opened.starts[index]
        return opened.samples[start : start + opened.lengths[index]]

    def _at(self, speed: float) -> _Opened:
        if speed not in self._opened:
            path = index_path(self.folder, speed)
            if not path.is_file():
                raise DataError(f"{self.folder} has no speed {speed}; it has {self.speeds}")
            with np.load(path) as archive:
                lengths = archive["lengths"]
            total = int(lengths.sum())
            samples = samples_path(self.folder, speed)
            if not samples.is_file() or samples.stat().st_size != total * np.dtype(np.int16).itemsize:
                raise DataError(f"{samples} is missing or cut short; remove {path.name} and build again")
            mapped = np.memmap(samples, np.int16, "r", shape=(total,))
            self._opened[speed] = _Opened(lengths, np.cumsum(lengths) - lengths, mapped)
        return self._opened[speed]


class _Opened(NamedTuple):
    lengths: np.ndarray  # (utterances,) int64
    starts: np.ndarray  # (utterances,) int64
    samples: np.ndarray  # (all samples,) int16


def index_path(folder: Path, speed: float) -> Path:
    """The index of a speed; the speed is finished when it exists."""
    return folder / f"speed-{speed}.npz"


def samples_path(folder: Path, speed: float) -> Path:
    """The samples of a speed."""
    return folder / f"speed-{speed}.samples"


def write_json(path: Path, content: dict) -> None:
    """Write JSON whole; paths become strings."""
    write_whole(path, lambda file: file.write(json.dumps(content, ensure_ascii=False, default=str).encode()))


def read_json(path: Path) -> dict:
    """Read a JSON file of a store. Raises `DataError` when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove {path.parent} and build again") from error


def _utterance(row: dict) -> Utterance:
    location = row.pop("audio")
    return Utterance(**row, audio=AudioLocation(Path(location["path"]), location["offset"], location["size"]))
