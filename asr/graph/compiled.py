"""Decoding graphs ready to be searched: expanded to frames and mapped from a file of the cache folder."""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from asr.files import cache_folder, write_whole
from asr.graph.graph import Graph, StoredGraph
from asr.graph.openfst import Write, fst_in_memory, mapped_fst, read_layout
from asr.graph.topology import Topology

if TYPE_CHECKING:
    import kaldifst

FORMAT = 2  # part of every name: raised when files of older versions must not be used
KEPT_DAYS = 30  # after a file was last used
BLOCK, PAGE = 1 << 18, 1 << 12  # bytes, of the checksum
TRAILER = struct.Struct("<I")  # the checksum, at the end of each file


def compiled(graph: Graph | StoredGraph, topology: Topology) -> kaldifst.StdConstFst:
    """A graph expanded by a topology. Of a stored graph a file is kept in `asr.files.cache_folder` for later starts.

    A file that is damaged is written again. Where files cannot be kept the automaton is made in memory.

    Raises:
        ModelError: a stored graph that cannot be read, or does not fit the topology.
    """

    def write(file: BinaryIO) -> None:
        topology.write(graph.unpacked(), file)

    folder = cache_folder()
    if folder is None or graph.checksum is None:
        return fst_in_memory(write)
    identity = f"{FORMAT} {graph.checksum} {topology.identity}"
    path = folder / f"graph-{hashlib.sha256(identity.encode()).hexdigest()[:32]}.fst"
    try:
        if not is_intact(path, _end):
            keep(path, write)
        os.utime(path)
        return mapped_fst(path)
    except OSError:  # a folder that cannot be written, a full disk
        return fst_in_memory(write)


def is_intact(path: Path, end: Callable[[BinaryIO], int | None]) -> bool:
    """Whether a file that `keep` wrote is there, as long as its header states, and unaltered.

    ``end`` reads the header and returns where the content ends, None where it is no header of such a file.
    """
    try:
        with path.open("rb") as file:
            size = end(file)
            if size is None or file.seek(0, os.SEEK_END) != size + TRAILER.size:
                return False
            return TRAILER.pack(checksum(file, size)) == file.read(TRAILER.size)
    except FileNotFoundError:
        return False


def _end(file: BinaryIO) -> int | None:
    layout = read_layout(file)
    return None if layout is None else layout.end


def keep(path: Path, write: Write) -> None:
    """Write a file with its checksum at the end, and remove those that were not used for long."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for pattern in ("graph-*", "ngrams-*", ".*.partial"):
        for other in path.parent.glob(pattern):
            if other.stat().st_mtime < time.time() - KEPT_DAYS * 86_400:
                other.unlink(missing_ok=True)

    def with_trailer(file: BinaryIO) -> None:
        write(file)
        size = file.seek(0, os.SEEK_END)
        file.write(TRAILER.pack(checksum(file, size)))

    write_whole(path, with_trailer, permissions=0o600, sync=True)


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
