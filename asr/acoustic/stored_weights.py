"""The tensors of a safetensors file, read without torch."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np

TYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}


def stored_weights(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file, mapped and not to be changed.

    Raises:
        OSError: it cannot be read.
        ValueError, KeyError, TypeError: it is none, or has numbers of another type.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            kind = np.dtype(TYPES[entry["dtype"]])
            numbers = np.frombuffer(content, kind, (end - begin) // kind.itemsize, start + begin)
            found[name] = numbers.reshape(entry["shape"])
    return found
