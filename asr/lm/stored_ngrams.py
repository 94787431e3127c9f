"""Packed n-gram models, unpacked once into a file of the cache folder and mapped from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from asr.errors import ModelError
from asr.graph.kept_arrays import Arrays, kept_arrays
from asr.lm.large_ngrams import REMEDY, LargeNgrams

FORMAT = 3  # part of every name: raised when files of older versions must not be used


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
        identity = f"{FORMAT} {self.checksum} {self.words}"
        return LargeNgrams(**kept_arrays(f"ngrams-{hashlib.sha256(identity.encode()).hexdigest()[:32]}", self._arrays))

    def _arrays(self) -> Arrays:
        model = LargeNgrams.unpack(self.read(), self.path)
        if model.vocabulary != self.words:
            raise ModelError(f"{self.path} has {model.vocabulary} words, the lexicon beside it {self.words}; {REMEDY}")
        return {field.name: getattr(model, field.name) for field in fields(model)}
