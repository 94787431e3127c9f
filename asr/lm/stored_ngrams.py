"""Packed n-gram models, unpacked once into a file of the cache folder and mapped from it."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from asr.errors import ModelError
from asr.files import cache_folder
from asr.graph.compiled import is_intact, keep
from asr.lm.large_ngrams import LEVELS, REMEDY, LargeNgrams

FORMAT = 1  # part of every name: raised when files of older versions must not be used
HEADER = struct.Struct("<16s2Q")  # the mark, M entries, C contexts
MARK = b"Rill n-grams 1\n\0"
ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class StoredLargeNgrams:
    """A file that holds what `LargeNgrams.pack` made."""

    path: Path
    checksum: str  # SHA-256 of the file
    words: int  # of the lexicon that it must fit
    read: Callable[[], bytes]  # its verified content; raises ModelError

    def open(self) -> LargeNgrams:
        """The model, mapped from a file of `asr.files.cache_folder`, which is written when it is missing or damaged.

        Where files cannot be kept the model is in memory.

        Raises:
            ModelError: the packed file is missing or damaged, or knows other words than the lexicon.
        """
        folder = cache_folder()
        if folder is None:
            return self._unpacked()
        identity = f"{FORMAT} {self.checksum}"
        path = folder / f"ngrams-{hashlib.sha256(identity.encode()).hexdigest()[:32]}.bin"
        unpacked = None
        try:
            if not is_intact(path, _end):
                unpacked = self._unpacked()
                keep(path, unpacked_writer(unpacked))
            os.utime(path)
            return _mapped(path)
        except OSError:  # a folder that cannot be written, a full disk
            return unpacked or self._unpacked()

    def _unpacked(self) -> LargeNgrams:
        model = LargeNgrams.unpack(self.read(), self.path)
        if model.vocabulary != self.words:
            raise ModelError(f"{self.path} has {model.vocabulary} words, the lexicon beside it {self.words}; {REMEDY}")
        return model


def _layout(entries: int, contexts: int) -> tuple[dict[str, tuple[int, np.dtype, int]], int]:
    """Of each array its offset in bytes, type and length; and where the content ends."""
    shapes = {
        "prob_values": ("<f4", LEVELS),
        "backoff_values": ("<f4", LEVELS),
        "last": ("<u4", entries),
        "children": ("<u4", contexts + 1),
        "suffixes": ("<u4", contexts),
        "prob_codes": ("u1", entries),
        "backoff_codes": ("u1", contexts),
    }
    parts, place = {}, HEADER.size
    for name, (kind, length) in shapes.items():
        place = -(-place // ALIGNMENT) * ALIGNMENT
        parts[name] = (place, np.dtype(kind), length)
        place += np.dtype(kind).itemsize * length
    return parts, place


def unpacked_writer(model: LargeNgrams) -> Callable[[BinaryIO], None]:
    """What writes a model as `_mapped` reads it."""

    def write(file: BinaryIO) -> None:
        entries, contexts = len(model.last), len(model.suffixes)
        file.write(HEADER.pack(MARK, entries, contexts))
        for name, (offset, kind, _) in _layout(entries, contexts)[0].items():
            file.seek(offset)
            file.write(np.ascontiguousarray(getattr(model, name), kind).data)

    return write


def _end(file: BinaryIO) -> int | None:
    head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    mark, entries, contexts = HEADER.unpack(head)
    return _layout(entries, contexts)[1] if mark == MARK else None


def _mapped(path: Path) -> LargeNgrams:
    content = np.memmap(path, np.uint8, "r")
    _, entries, contexts = HEADER.unpack(content[: HEADER.size].tobytes())
    parts, _ = _layout(entries, contexts)
    arrays = {
        name: np.asarray(content[offset : offset + kind.itemsize * length]).view(kind)
        for name, (offset, kind, length) in parts.items()
    }
    return LargeNgrams(**arrays)
