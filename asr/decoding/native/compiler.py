"""Compiling the beam search, with nothing but the standard library: also the build of the package runs this file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("beam.c")
NAME = "_beam.dll" if sys.platform == "win32" else "_beam.so"  # beside this file, once it is built
FLAGS = ("-O3", "-std=c11", "-shared", "-fvisibility=hidden", "-ffp-contract=off", "-DNDEBUG")


def compiler() -> list[str] | None:
    """The command of a C compiler: ``$CC``, one of the usual ones on PATH, or the one in PyPI's ``ziglang``."""
    named = os.environ.get("CC")
    for name in (*([named] if named else []), "cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return [found]
    try:
        import ziglang  # noqa: F401
    except ImportError:
        return None
    return [sys.executable, "-m", "ziglang", "cc"]


def compile_library(target: Path) -> None:
    """Compile the library.

    Raises:
        OSError: there is no compiler, or it failed; the message says what it printed.
    """
    command = compiler()
    if command is None:
        raise OSError("no C compiler was found (CC, cc, gcc, clang, or the package ziglang)")
    options = [*FLAGS, *([] if sys.platform == "win32" else ["-fPIC"]), "-o", str(target), str(SOURCE), "-lm"]
    run = subprocess.run([*command, *options], capture_output=True, text=True)
    if run.returncode:
        raise OSError(f"{' '.join(command)} failed: {(run.stderr or run.stdout).strip()[-500:]}")
