"""Log-mel features of a data set on disk, computed once and read at random by training.

A store is a folder. Each variant of the audio (0 is the recordings themselves, the others are augmented) is one file of
float16 frames and one small index, so training may begin when variant 0 is there and use the others as they come.
Frames are the front end's raw output: normalisation belongs to the model.

    plan.json           what the store is for: data, augmentation and front end it was begun with
    store.json          the utterances in the order of their features, and those left out, with the reason
    variant-0.mels      (all frames, mels) float16, utterance after utterance
    variant-0.npz       per utterance its frames and speed; mean and deviation of each mel; written last
    parts/              finished pieces of a variant under way
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.data.manifest import AudioLocation, Rejected, Utterance
from asr.errors import DataError
from asr.files import write_whole
from asr.models.frontend import FrontendConfig

FORMAT = 2


class FeatureStore:
    """Features of `utterances`, made by `asr.data.compute_features.build_features`.

    Utterances are addressed by their index in `utterances`. `mean` and `std` (mels,) float32 are those of variant 0.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = read_json(folder / "store.json")
        if content.get("format") != FORMAT:
            given = content.get("format")
            raise DataError(f"{folder} holds features in format {given}, not {FORMAT}; build them again")
        self.utterances: tuple[Utterance, ...] = tuple(_utterance(row) for row in content["utterances"])
        self.rejected: tuple[Rejected, ...] = tuple(Rejected(**row) for row in content["rejected"])
        self.frontend = FrontendConfig(**content["frontend"])
        self._opened: dict[int, _Variant] = {}
        index = self._variant(0).index
        self.mean: np.ndarray = index["mean"]
        self.std: np.ndarray = index["std"]

    @classmethod
    def open(cls, folder: Path | str) -> FeatureStore:
        """Open a store whose variant 0 is finished. Raises `DataError` when there is none at `folder`."""
        folder = Path(folder)
        if not index_path(folder, 0).is_file():
            raise DataError(f"{folder} holds no finished features; build them first")
        return cls(folder)

    def __len__(self) -> int:
        return len(self.utterances)

    def __reduce__(self) -> tuple:  # a store handed to another process is opened there, not copied
        return FeatureStore.open, (self.folder,)

    @property
    def variants(self) -> list[int]:
        """The variants that are finished by now, ascending; the list grows while a build goes on elsewhere."""
        return sorted(int(path.stem.removeprefix("variant-")) for path in self.folder.glob("variant-*[0-9].npz"))

    def frames(self, variant: int = 0) -> np.ndarray:
        """Mel frames of every utterance: (utterances,) int64."""
        return self._variant(variant).index["frames"]

    def speed(self, index: int, variant: int = 0) -> float:
        """How much faster than the recording this variant of an utterance is."""
        return float(self._variant(variant).index["speed"][index])

    def mels(self, index: int, variant: int = 0) -> np.ndarray:
        """Log-mel frames (F, mels) float16 of one utterance, un-normalised."""
        opened = self._variant(variant)
        start = opened.index["offset"][index]
        return np.array(opened.mels[start : start + opened.index["frames"][index]])

    def _variant(self, variant: int) -> _Variant:
        if variant not in self._opened:
            path = index_path(self.folder, variant)
            if not path.is_file():
                raise DataError(f"{self.folder} has no variant {variant}; it has {self.variants}")
            with np.load(path) as archive:
                index = dict(archive)
            index["offset"] = np.cumsum(index["frames"]) - index["frames"]
            shape = (int(index["frames"].sum()), index["mean"].size)
            mels = mels_path(self.folder, variant)
            if not mels.is_file() or mels.stat().st_size != shape[0] * shape[1] * np.dtype(np.float16).itemsize:
                raise DataError(f"{mels} is missing or cut short; remove {path.name} and build again")
            self._opened[variant] = _Variant(index, np.memmap(mels, np.float16, "r", shape=shape))
        return self._opened[variant]


class _Variant(NamedTuple):
    index: dict[str, np.ndarray]  # frames, speed, offset (utterances,); mean, std (mels,)
    mels: np.ndarray  # (all frames, mels) float16


def index_path(folder: Path, variant: int) -> Path:
    """The index of a variant; the variant is finished when it exists."""
    return folder / f"variant-{variant}.npz"


def mels_path(folder: Path, variant: int) -> Path:
    """The frames of a variant."""
    return folder / f"variant-{variant}.mels"


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
