"""Arrays that take long to compute, kept in a file of the cache folder and mapped from it into memory."""

from __future__ import annotations

import json
import math
import os
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr

from asr.files import cache_folder, write_whole

MAGIC = b"rill-arrays-2\n"
KEPT_DAYS = 30  # after a file was last used
ALIGNMENT = 64  # bytes, of each array
BLOCK, PAGE = 1 << 18, 1 << 12  # bytes, of the checksum
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
            _keep(path, make())
        os.utime(path)
        return _mapped(path)
    except OSError:  # a folder that cannot be written, a full disk
        return make()


def _keep(path: Path, arrays: Arrays) -> None:
    """Write a file, and remove those that were not used for long."""
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
        size = file.tell()
        file.write(TRAILER.pack(checksum(file, size)))

    write_whole(path, write, permissions=0o600, sync=True)


def _mapped(path: Path) -> Arrays:
    content = np.memmap(path, np.uint8, "r")
    begin = len(MAGIC) + LENGTH.size
    (length,) = LENGTH.unpack(content[len(MAGIC) : begin].tobytes())
    place, arrays = begin + length, {}
    for key, (description, shape) in json.loads(content[begin:place].tobytes()).items():
        kind = descr_to_dtype([tuple(field) for field in description] if type(description) is list else description)
        place += -place % ALIGNMENT
        size = math.prod(shape) * kind.itemsize
        arrays[key] = content[place : place + size].view(kind).view(np.ndarray).reshape(shape)
        place += size
    return arrays


def _is_intact(path: Path) -> bool:
    """Whether a file is there, of this form, and unaltered."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return False
            size = file.seek(0, os.SEEK_END) - TRAILER.size
            return size > 0 and TRAILER.pack(checksum(file, size)) == file.read(TRAILER.size)
    except FileNotFoundError:
        return False


def checksum(file: BinaryIO, size: int) -> int:
    """Checksum of the first ``size`` bytes of a file, at the speed of memory; the file is left behind them.

    The pages of each block are summed as 64-bit integers, word by word, and the sums go through CRC-32. A word that has
    changed always changes its sum, and damage to several words of one sum is missed with a probability of 2^-64; pages
    that changed places within a block are missed, too. A CRC of all bytes takes five times as long.
    """
    file.seek(0)
    source = cast(BufferedReader, file)  # which has ``readinto``
    block = bytearray(BLOCK)  # used again and again: a new one for each read would double the time
    words = np.frombuffer(block, np.uint64).reshape(-1, PAGE // 8)
    crc = zlib.crc32(size.to_bytes(8, "little"))
    for start in range(0, size, BLOCK):
        count = source.readinto(memoryview(block)[: min(BLOCK, size - start)])
        block[count:] = bytes(BLOCK - count)
        crc = zlib.crc32(words.sum(axis=0), crc)
    return crc
