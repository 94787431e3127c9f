"""Compiling the search and the network, with the standard library alone: the build of the package runs this, too."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = tuple(Path(__file__).with_name(name) for name in ("beam.c", "network.c"))
NAME = "_beam.dll" if sys.platform == "win32" else "_beam.so"  # beside this file, once it is built
FLAGS = ("-O3", "-std=c11", "-shared", "-fvisibility=hidden", "-ffp-contract=off", "-DNDEBUG", "-Wno-psabi")
TARGETS = {  # platform tags of wheels, and what ziglang calls these platforms; it compiles for all of them anywhere
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
}


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
    return ziglang_compiler()


def ziglang_compiler() -> list[str]:
    """The command of the compiler in PyPI's ``ziglang``."""
    return [sys.executable, "-m", "ziglang", "cc"]


def sources_digest() -> str:
    """A digest of the sources, which the library has in it, so that one of other sources is not used."""
    content = b"".join(path.read_bytes() for path in sorted(SOURCES[0].parent.glob("*.[ch]")))
    return hashlib.sha256(content).hexdigest()[:32]


def compile_library(target: Path, platform: str | None = None) -> None:
    """Compile the library.

    Args:
        target: the file to write.
        platform: one of TARGETS, for which ziglang must be installed; None: this machine.

    Raises:
        OSError: there is no compiler, or it failed; the message says what it printed.
    """
    windows = sys.platform == "win32"
    if platform is not None:
        command: list[str] | None = [*ziglang_compiler(), "-target", TARGETS[platform], "-s"]
        windows = platform.startswith("win")
    else:
        command = compiler()
    if command is None:
        raise OSError("no C compiler was found (CC, cc, gcc, clang, or the package ziglang)")
    options = [*FLAGS, f'-DSOURCES="{sources_digest()}"', *([] if windows else ["-fPIC"])]
    files = ["-o", str(target), *map(str, SOURCES)]
    run = subprocess.run([*command, *options, *files, "-lm"], capture_output=True, text=True)
    if run.returncode:
        raise OSError(f"{' '.join(command)} failed: {(run.stderr or run.stdout).strip()[-500:]}")
