"""OpenFst's files of type "const": their layout, and automata that are mapped from them into memory."""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import kaldifst

# fst/const-fst.h and fst/fst.cc of OpenFst
MAGIC = 2_125_659_606
STATE = np.dtype(
    [
        ("final", "<f4"),
        ("first_arc", "<u4"),
        ("arcs", "<u4"),
        ("input_epsilons", "<u4"),
        ("output_epsilons", "<u4"),
    ]
)
ARC = np.dtype([("input", "<i4"), ("output", "<i4"), ("weight", "<f4"), ("target", "<i4")])
HEADER = struct.Struct("<i i5s i8s iiQqqq")
VERSION, ALIGNED, EXPANDED = 2, 4, 1  # version of the format; flag: parts are aligned and can be mapped; a property
ALIGNMENT = 16  # bytes

Write = Callable[[BinaryIO], None]


class Layout(NamedTuple):
    """Offsets of the parts of a file, in bytes."""

    states: int
    arcs: int
    end: int

    @classmethod
    def of(cls, states: int, arcs: int) -> Layout:
        first = _aligned(HEADER.size)
        second = _aligned(first + states * STATE.itemsize)
        return cls(first, second, second + arcs * ARC.itemsize)


def read_layout(file: BinaryIO) -> Layout | None:
    """The layout that the header at the start of a file describes; None where it is no header of such a file."""
    head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    magic, _, _, _, _, version, flags, _, _, states, arcs = HEADER.unpack(head)
    return Layout.of(states, arcs) if (magic, version, flags) == (MAGIC, VERSION, ALIGNED) else None


def write_header(file: BinaryIO, start: int, states: int, arcs: int) -> Layout:
    """Write the header of a file; returns the offsets of the rest."""
    file.write(HEADER.pack(MAGIC, 5, b"const", 8, b"standard", VERSION, ALIGNED, EXPANDED, start, states, arcs))
    return Layout.of(states, arcs)


def fst_in_memory(write: Write) -> kaldifst.StdConstFst:
    """The automaton whose file ``write`` writes, in a file in memory where the system has them."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("graph"), "wb") as file:
            write(file)
            return mapped_fst(f"/proc/self/fd/{file.fileno()}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.fst"
        with path.open("wb") as file:
            write(file)
        return mapped_fst(path)


def mapped_fst(path: Path | str) -> kaldifst.StdConstFst:
    """Read an automaton, without copying it into memory where OpenFst can map files.

    Raises:
        OSError: it cannot be read. A file shorter than its header states must not be given: reading it would crash.
    """
    import kaldifst

    _map_files()
    fst = kaldifst.StdConstFst.read(str(path))
    if fst is None:
        raise OSError(f"OpenFst cannot read {path}")
    return fst


@cache
def _map_files() -> None:
    """Set OpenFst's flag ``fst_read_mode``, so that it maps files instead of reading them, once per process.

    kaldifst has neither the flag nor a reader that takes `FstReadOptions`, so OpenFst's function SetFlags is called by
    the name that compilers other than Microsoft's give it. Where it is not found files are read: slower, else the same.
    """
    import kaldifst

    try:
        set_flags = ctypes.CDLL(kaldifst.lib._kaldifst.__file__)["_Z8SetFlagsPKcPiPPPcbS0_"]
    except (AttributeError, OSError):
        return
    strings = ctypes.POINTER(ctypes.c_char_p)
    set_flags.argtypes = [
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_int),
        ctypes.POINTER(strings),
        ctypes.c_bool,
        ctypes.c_char_p,
    ]
    set_flags.restype = None
    arguments = ctypes.cast((ctypes.c_char_p * 3)(b"rill", b"--fst_read_mode=map", None), strings)
    set_flags(b"", ctypes.byref(ctypes.c_int(2)), ctypes.byref(arguments), False, b"")


def _aligned(place: int) -> int:
    return -(-place // ALIGNMENT) * ALIGNMENT
