"""Arrays packed into one file of a model: named, typed, each compressed by Zstandard."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping

import numpy as np
import zstandard

MAGIC = b"rill-packed-1\n"
LENGTH = struct.Struct("<I")  # of the header
LEVEL = 19  # of compression: the slowest that needs no more memory to read


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays of plain numbers, of any shape, as bytes; the same arrays make the same bytes."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    parts = {name: compressor.compress(np.ascontiguousarray(array).tobytes()) for name, array in arrays.items()}
    layout = {name: [array.dtype.str, array.shape, len(parts[name])] for name, array in arrays.items()}
    header = json.dumps(layout).encode()
    return b"".join([MAGIC, LENGTH.pack(len(header)), header, *parts.values()])


class PackedArrays(Mapping[str, np.ndarray]):
    """What `pack_arrays` was given. Each array is unpacked whenever it is asked for, and is not to be written to.

    Only what is in use takes memory: together they are several times as large as what is packed.
    """

    def __init__(self, content: bytes) -> None:
        """Read the header; raises ValueError when the content is anything else, as does asking for an array of it."""
        begin = len(MAGIC) + LENGTH.size
        if not content.startswith(MAGIC) or len(content) < begin:
            raise ValueError("it does not begin as one")
        (length,) = LENGTH.unpack_from(content, len(MAGIC))
        place, view = begin + length, memoryview(content)
        self._frames: dict[str, tuple[np.dtype, tuple[int, ...], memoryview]] = {}
        try:
            for name, (kind, shape, size) in json.loads(content[begin:place]).items():
                self._frames[name] = np.dtype(kind), tuple(shape), view[place : place + size]
                place += size
        except (AttributeError, TypeError) as error:
            raise ValueError(str(error)) from error
        if place != len(content):
            raise ValueError("it is not whole" if place > len(content) else "it goes on after its end")

    def __getitem__(self, name: str) -> np.ndarray:
        number, shape, frame = self._frames[name]
        wanted = int(np.prod(shape, dtype=np.int64)) * number.itemsize
        try:
            if zstandard.frame_content_size(frame) != wanted:
                raise ValueError(f"its array {name} is not whole")
            plain = zstandard.ZstdDecompressor().decompress(frame) if wanted else b""
            return np.frombuffer(plain, number).reshape(shape)
        except (TypeError, zstandard.ZstdError) as error:
            raise ValueError(str(error)) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)


def join_planes(planes: np.ndarray) -> np.ndarray:
    """Numbers (N,) uint32 of their bytes (B, N), the lowest first, B <= 4: a plane at a time, as memory has them."""
    numbers = planes[0].astype(np.uint32)
    shifted = np.empty_like(numbers)
    for place, plane in enumerate(planes[1:], start=1):
        numbers |= np.left_shift(plane, np.uint32(8 * place), out=shifted, dtype=np.uint32)
    return numbers
