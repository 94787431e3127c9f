"""Arrays packed into one file of a model: named, typed, each compressed by Zstandard."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

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


def unpack_arrays(content: bytes) -> dict[str, np.ndarray]:
    """What `pack_arrays` was given, not to be written to; raises ValueError when the content is anything else."""
    begin = len(MAGIC) + LENGTH.size
    if not content.startswith(MAGIC) or len(content) < begin:
        raise ValueError("it does not begin as one")
    (length,) = LENGTH.unpack_from(content, len(MAGIC))
    place, arrays = begin + length, {}
    decompressor, view = zstandard.ZstdDecompressor(), memoryview(content)
    try:
        for name, (kind, shape, size) in json.loads(content[begin:place]).items():
            frame = view[place : place + size]
            number = np.dtype(kind)
            wanted = int(np.prod(shape, dtype=np.int64)) * number.itemsize
            if len(frame) != size or zstandard.frame_content_size(frame) != wanted:
                raise ValueError(f"its array {name} is not whole")
            plain = decompressor.decompress(frame) if wanted else b""
            arrays[name] = np.frombuffer(plain, number).reshape(shape)
            place += size
    except (AttributeError, TypeError, zstandard.ZstdError) as error:
        raise ValueError(str(error)) from error
    if place != len(content):
        raise ValueError("it goes on after its end")
    return arrays
