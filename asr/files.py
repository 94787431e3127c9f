"""Files that are complete or absent, folders described by checksums, the cache folder, and text that may be packed."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from asr.errors import DataError, ModelError

CACHE_VARIABLE = "RILL_CACHE"  # names another cache folder; empty: nothing is kept
DATA_VARIABLE = "RILL_DATA"  # names another folder of what the user has installed
DESCRIPTION = "config.json"
DIGESTED_BYTES = 1 << 22  # of a file at a time: a thread seldom has to wait for Python's lock

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


def write_whole(path: Path, write: Callable[[BinaryIO], object], *, permissions: int = 0o666) -> None:
    """Write a file under a temporary name in the same folder, then rename it: ``path`` is complete or not there.

    Args:
        path: the final name; a file that was there stays until it is replaced.
        write: fills the file, which is open for writing and reading.
        permissions: of the new file, less the process's umask.
    Raises:
        OSError: it cannot be written. The temporary file is removed, after any other exception, too.
    """
    temporary = path.parent / f".{secrets.token_hex(8)}.partial"  # short, however long the final name is
    try:
        with open(temporary, "xb+", opener=lambda name, flags: os.open(name, flags, permissions)) as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def locked(file: BinaryIO, wait: bool = False) -> bool:
    """Lock an open file until it is closed; False when another process holds its lock, and we do not ``wait`` for it.

    The system unlocks the files of a process that dies.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def cache_folder() -> Path | None:
    """The folder of computed files that may be deleted: ``$RILL_CACHE``, else ``rill`` in the platform's cache folder.

    None, and nothing is to be kept, when the variable is set but empty, or when the user has no home.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    return _of_the_user("XDG_CACHE_HOME", ".cache", "Caches")


def data_folder() -> Path | None:
    """The folder of what the user has installed: ``$RILL_DATA``, else ``rill`` in the platform's folder of data.

    None when the user has no home.
    """
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else _of_the_user("XDG_DATA_HOME", ".local/share", "Application Support")


def _of_the_user(variable: str, on_linux: str, on_macos: str) -> Path | None:
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / on_macos
        else:
            base = os.environ.get(variable) or Path.home() / on_linux
    except RuntimeError:  # no home
        return None
    return Path(base) / "rill"


def write_description(folder: Path, content: dict[str, Any], files: Iterable[str]) -> None:
    """Write ``config.json`` of a folder, after its files: ``content`` and the SHA-256 of each of them."""
    checksums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    text = json.dumps({**content, "files": checksums}, indent=2) + "\n"
    write_whole(folder / DESCRIPTION, lambda file: file.write(text.encode()))


@dataclass(frozen=True)
class Description:
    """The ``config.json`` of a folder that `write_description` wrote, by which its files are verified."""

    folder: Path
    kind: str  # what the folder holds, for messages
    remedy: str  # what to do when it is damaged, for messages
    content: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, kind: str, formats: Sequence[int], remedy: str) -> Description:
        """Read it.

        Args:
            folder: that holds it.
            kind: as "language model".
            formats: values of its ``format`` that this version understands.
            remedy: as "build it again with 'asr lm build'".
        Raises:
            ModelError: it is missing, cannot be read, or has another format.
        """
        path = folder / DESCRIPTION
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(f"{folder} is no {kind} folder: it has no {DESCRIPTION}; {remedy}") from error
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read ({_reason(error)}); {remedy}") from error
        found = content.get("format") if isinstance(content, dict) else None
        if found not in formats:
            raise ModelError(
                f"{path} has format {found!r}, this version of Rill reads {', '.join(map(str, formats))}: update Rill, "
                f"or {remedy}"
            )
        return cls(folder, kind, remedy, content)

    def value(self, key: str) -> Any:
        """An entry; raises ModelError when it is not there."""
        if key not in self.content:
            raise self.wrong(f"it has no {key!r}")
        return self.content[key]

    def checksums(self, *files: str) -> dict[str, str]:
        """The checksums of files by name; raises ModelError when one of these is not listed."""
        found = self.content.get("files")
        if not isinstance(found, dict) or not set(files) <= set(found):
            raise self.wrong(f"it names no checksums of {', '.join(files)}")
        return found

    def verify(self, *files: str) -> None:
        """Compare files with their checksums; raises ModelError naming the first that is missing or altered."""
        for name in files:
            with self._opened(name) as file:
                digest = hashlib.sha256()
                while piece := file.read(DIGESTED_BYTES):
                    digest.update(piece)
                self._compare(name, digest.hexdigest())

    def verified(self, name: str) -> bytes:
        """The content of a file, compared with its checksum; raises ModelError when it is missing or altered."""
        with self._opened(name) as file:
            content = file.read()
        self._compare(name, hashlib.sha256(content).hexdigest())
        return content

    def copy_to(self, folder: Path) -> None:
        """Copy the files that are listed into a new folder, each verified; the description comes last.

        Raises:
            ModelError: one is missing or altered, or is named as if it lay elsewhere.
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.checksums():
            if Path(name).name != name:
                raise self.wrong(f"{name!r} is no name of a file")
            _write_bytes(folder / name, self.verified(name))
        _write_bytes(folder / DESCRIPTION, (self.folder / DESCRIPTION).read_bytes())

    def wrong(self, reason: str) -> ModelError:
        """An error about an entry, to be raised."""
        return ModelError(f"{self.folder} is no {self.kind} folder by its {DESCRIPTION}: {reason}; {self.remedy}")

    def _opened(self, name: str) -> BufferedReader:
        try:
            return (self.folder / name).open("rb")
        except OSError as error:
            problem = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({_reason(error)})"
            raise ModelError(f"{self.kind} {self.folder}: {name} {problem}; {self.remedy}") from error

    def _compare(self, name: str, checksum: str) -> None:
        if checksum != self.checksums(name)[name]:
            raise ModelError(
                f"{self.kind} {self.folder}: {name} was altered or damaged (its checksum is not the one in "
                f"{DESCRIPTION}); {self.remedy}"
            )


def _write_bytes(path: Path, content: bytes) -> None:
    write_whole(path, lambda file: file.write(content))


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


def _reason(error: Exception) -> str:
    """The message of an error on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return re.sub(r"\s+", " ", text)
