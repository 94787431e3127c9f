"""Decoding graphs ready to be searched: mapped from a file, which is kept for the next start where that is possible."""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from asr.graph.ctc_topology import is_whole

if TYPE_CHECKING:
    import kaldifst

FORMAT = 1  # part of every name: raised when the files of older versions would be read wrongly
KEPT_DAYS = 30  # since a file was last used
FOLDER_VARIABLE = "RILL_CACHE"  # names another folder; empty: nothing is kept

Write = Callable[[BinaryIO], None]


def cache_folder() -> Path | None:
    """Where files are kept: ``$RILL_CACHE``, or ``rill`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; None for nowhere."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rill"
    except RuntimeError:  # a user without a home
        return None


def kept_fst(identity: str, write: Write) -> kaldifst.StdConstFst:
    """The automaton that was once written under this identity, else by ``write``, now.

    Files are written under another name and renamed. Where they cannot be written the automaton is made in memory.
    """
    folder = cache_folder()
    if folder is None:
        return fst_in_memory(write)
    name = hashlib.sha256(f"{FORMAT} {identity}".encode()).hexdigest()[:32]
    path = folder / f"graph-{name}.fst"
    try:
        if not _is_kept(path):
            _keep(path, write)
        os.utime(path)
        return mapped_fst(path)
    except OSError:  # a folder that may not be written, a full disk
        return fst_in_memory(write)


def fst_in_memory(write: Write) -> kaldifst.StdConstFst:
    """The automaton that ``write`` writes, in memory where the system has files there."""
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
    """Read an automaton of OpenFst's type const; not copied into memory where OpenFst can map files."""
    import kaldifst

    _map_files()
    fst = kaldifst.StdConstFst.read(str(path))
    if fst is None:
        raise OSError(f"OpenFst cannot read {path}")
    return fst


@cache
def _map_files() -> None:
    """Tell OpenFst to map files. It has a flag for that, which kaldifst does not hand on; without it they are read."""
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


def _is_kept(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_whole(file)
    except FileNotFoundError:
        return False


def _keep(path: Path, write: Write) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in path.parent.glob("graph-*"):
        if other.stat().st_mtime < time.time() - KEPT_DAYS * 86_400:
            other.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(prefix="graph-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
