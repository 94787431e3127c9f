"""Arrays that take long to compute, kept in a file of the cache folder and mapped from it into memory."""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr

from asr.files import cache_folder, write_whole
from asr.memory import give_back_memory

MAGIC = b"rill-arrays-2\n"
KEPT_DAYS = 30  # after a file was last used
ALIGNMENT = 64  # bytes, of each array
BLOCK, PAGE = 1 << 18, 1 << 12  # bytes, of the checksum
STRETCH = 1 << 24  # bytes that are summed at a time
LENGTH, TRAILER = struct.Struct("<I"), struct.Struct("<I")  # of the header, and the checksum at the end

Arrays = Mapping[str, np.ndarray]


def kept_arrays(name: str | None, make: Callable[[], Arrays]) -> Arrays:
    """Arrays, as ``make`` returns them, from the file ``name`` of `asr.files.cache_folder`.

    A file that is damaged or missing is written. Where files cannot be kept, and where ``name`` is None, the arrays are
    made in memory.
    """
    folder = cache_folder()
    if folder is None or name is None:
        return make()
    path = folder / f"{name}.arrays"
    try:
        if not _is_intact(path):
            arrays = make()
            give_back_memory()
            _keep(path, arrays)
            del arrays
            give_back_memory()
        os.utime(path)
        return _mapped(path)
    except OSError:  # a folder that cannot be written, a full disk
        return make()


def _keep(path: Path, arrays: Arrays) -> None:
    """Write a file, and remove those that were not used for long.

    It need not reach the disk before it has its name: what a machine that stops leaves of it is not intact.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for pattern in ("*.arrays", "graph-*", ".*.partial"):
        for other in path.parent.glob(pattern):
            if other.stat().st_mtime < time.time() - KEPT_DAYS * 86_400:
                other.unlink(missing_ok=True)
    layout = {key: [dtype_to_descr(array.dtype), array.shape] for key, array in arrays.items()}
    header = json.dumps(layout).encode()

    def write(file: BinaryIO) -> None:
        file.write(MAGIC + LENGTH.pack(len(header)) + header)
        for array in arrays.values():
            file.seek(-file.tell() % ALIGNMENT, os.SEEK_CUR)
            file.write(np.ascontiguousarray(array).data)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            file.write(TRAILER.pack(checksum(content)))

    write_whole(path, write, permissions=0o600)


def _mapped(path: Path) -> Arrays:
    with path.open("rb") as file:
        content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    begin = len(MAGIC) + LENGTH.size
    (length,) = LENGTH.unpack(content[len(MAGIC) : begin].tobytes())
    place, arrays = begin + length, {}
    for key, (description, shape) in json.loads(content[begin:place].tobytes()).items():
        kind = descr_to_dtype([tuple(field) for field in description] if type(description) is list else description)
        place += -place % ALIGNMENT
        size = math.prod(shape) * kind.itemsize
        arrays[key] = content[place : place + size].view(kind).reshape(shape)
        place += size
    return arrays


def _is_intact(path: Path) -> bool:
    """Whether a file is there, of this form, and unaltered."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return False
            size = file.seek(0, os.SEEK_END) - TRAILER.size
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return size > 0 and TRAILER.pack(checksum(content, size)) == content[size:]
    except FileNotFoundError:
        return False


def checksum(content: bytes | mmap.mmap, size: int | None = None) -> int:
    """Checksum of the first ``size`` bytes, of all by default, at the speed of memory.

    The pages of each block are summed as 64-bit integers, word by word, and the sums go through CRC-32. A word that has
    changed always changes its sum, and damage to several words of one sum is missed with a probability of 2^-64; pages
    that changed places within a block are missed, too. A CRC of all bytes takes five times as long.

    Other threads run meanwhile, for Python's lock is let go for a whole stretch, and of a mapped file no more than one
    stretch is in memory.
    """
    size = len(content) if size is None else size
    crc = zlib.crc32(size.to_bytes(8, "little"))
    whole = size - size % BLOCK
    for start in range(0, whole, STRETCH):
        stretch = min(STRETCH, whole - start)
        words = np.frombuffer(content, np.uint64, stretch // 8, start).reshape(-1, BLOCK // PAGE, PAGE // 8)
        crc = zlib.crc32(words.sum(axis=1), crc)
        if hasattr(content, "madvise"):  # not on Windows
            content.madvise(mmap.MADV_DONTNEED, start, stretch)
    if whole < size:
        rest = np.frombuffer(bytes(content[whole:size]).ljust(BLOCK, b"\0"), np.uint64)
        crc = zlib.crc32(rest.reshape(-1, PAGE // 8).sum(axis=0), crc)
    return crc
