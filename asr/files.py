"""Files that are whole or not there, and text files that may be compressed."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from asr.errors import DataError

_OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file under another name, then rename it: `path` is complete or not there."""
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "wb") as file:
        write(file)
    os.replace(temporary, path)


def write_description(folder: Path, content: dict[str, Any], files: Iterable[str]) -> None:
    """Write `config.json` of a folder: ``content`` and the SHA-256 of ``files``. It comes last, and by rename."""
    checksums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    text = json.dumps({**content, "files": checksums}, indent=2) + "\n"
    write_whole(folder / "config.json", lambda file: file.write(text.encode()))


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a text file, plain, .gz, .xz or .bz2, without their ends.

    Raises:
        DataError: it cannot be read, or is not UTF-8 text.
    """
    try:
        with _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text, plain or packed"
        raise DataError(f"{path}: cannot be read as text: {reason}") from error
