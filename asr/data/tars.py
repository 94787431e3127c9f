"""Encoded audio in files and in tar shards, found by name and read by byte range."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AudioError, DataError


@dataclass(frozen=True)
class AudioLocation:
    """Where encoded audio lies: a whole file, or `size` bytes of it from `offset` on (a member of a tar)."""

    path: Path
    offset: int | None = None
    size: int | None = None

    def read(self) -> bytes:
        """The encoded bytes. Raises `AudioError` when the file cannot be read or ends too early."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset or 0)
                encoded = file.read(-1 if self.size is None else self.size)
        except OSError as error:
            raise AudioError(f"{self.path} cannot be read: {error.strerror}") from error
        if self.size is not None and len(encoded) < self.size:
            raise AudioError(f"{self.path} is cut short: {len(encoded)} of {self.size} bytes are there")
        return encoded


class Shards:
    """The tars of a folder, each indexed once when first asked for: member name without its suffix -> byte range."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._members: dict[str, dict[str, AudioLocation]] = {}
        self._faults: dict[str, str] = {}

    def find(self, shard: str, stem: str) -> AudioLocation:
        """Where the member `stem`.* of a tar lies. Raises `DataError` when the tar or the member is missing or torn."""
        if shard not in self._members:
            self._index(shard)
        location = self._members[shard].get(stem)
        if location is None:
            raise DataError(self._faults.get(shard) or f"the shard {shard} has no member {stem}.*")
        if (location.offset or 0) + (location.size or 0) > location.path.stat().st_size:
            raise DataError(f"the shard {shard} is cut short: it ends within {stem}")
        return location

    def _index(self, shard: str) -> None:
        path = self.folder / shard
        members = self._members[shard] = {}
        if not path.is_file():
            self._faults[shard] = f"the shard {path} is {'a folder' if path.is_dir() else 'missing'}"
            return
        try:
            if not is_ended(path):  # tarfile takes a file that is cut within a header for a shorter archive
                self._faults[shard] = f"the shard {shard} is cut short: the end of archive mark is missing"
            with tarfile.open(path, "r:") as tar:  # "r:" because a compressed tar has no byte ranges to read
                for member in tar:
                    if member.isfile():
                        stem = member.name.removeprefix("./").rsplit(".", 1)[0]
                        members[stem] = AudioLocation(path, member.offset_data, member.size)
        except (tarfile.TarError, OSError) as error:
            why = f"{error} after {len(members)} members"
            self._faults[shard] = f"the shard {shard} is torn, or not an uncompressed tar: {why}"


def is_ended(tar: Path) -> bool:
    """Whether a tar ends with its mark, two blocks of zeros."""
    mark = 2 * tarfile.BLOCKSIZE
    with open(tar, "rb") as file:
        file.seek(max(0, tar.stat().st_size - mark))
        return file.read() == bytes(mark)
