"""Model folders as archives. What is unpacked is checked first: only plain files, of kinds that run no code."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from asr.errors import ModelError
from asr.files import DESCRIPTION, write_whole

# Kinds of file that a model is made of. None of them is ever run or unpickled.
SUFFIXES = (".json", ".txt", ".md", ".onnx", ".safetensors", ".npz", ".packed")
PLAIN_NAMES = ("LICENSE", "NOTICE", "README")
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib", ".npy")
MOST_FILES = 1_000
MOST_BYTES = 1_000_000_000  # unpacked, unless the user allows more
MOST_DESCRIPTION = 1 << 20  # bytes of a description, which is read whole
PIECE = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*\Z")  # also what every file system takes


@dataclass(frozen=True)
class Member:
    """A file of an archive."""

    path: PurePosixPath
    plain: bool  # no link, device or pipe
    open: Callable[[], IO[bytes]]


def pack(folder: Path, name: str, archive: Path) -> str:
    """Write a model folder as a .tar.gz that depends on its files only, so that the same model has the same checksum.

    Args:
        folder: of the model.
        name: of the folder in the archive.
        archive: to write.
    Returns:
        The archive's SHA-256 in hexadecimal.
    Raises:
        ModelError: the folder holds what no model is made of.
        OSError: a file cannot be read or written.
    """
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    for path in files:
        _check(PurePosixPath(path.relative_to(folder).as_posix()), path.is_file() and not path.is_symlink(), folder)

    def write(file: IO[bytes]) -> None:
        # Level 6 gains nearly all that there is to gain of weights.
        with (
            gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in files:
                entry = tarfile.TarInfo(f"{name}/{path.relative_to(folder).as_posix()}")
                entry.size = path.stat().st_size
                entry.mode = 0o644
                with path.open("rb") as content:
                    tar.addfile(entry, content)

    write_whole(archive, write)
    return checksum(archive)


def unpack(archive: Path, target: Path, most_bytes: int = MOST_BYTES) -> Path:
    """Unpack an archive (.zip, or .tar plain, .gz, .xz or .bz2) that holds one model, and give the model's folder.

    Args:
        archive: to read.
        target: an empty folder; what it holds after an error is the caller's to remove.
        most_bytes: of all files unpacked; a larger archive is refused as soon as that is seen.
    Raises:
        ModelError: it is no archive, is damaged or too large, or holds a path that leads elsewhere, a link, a pickle
            or another file that no model is made of.
        OSError: it cannot be read, or a file cannot be written.
    """
    written = count = 0
    try:
        for member in _members(archive):
            count += 1
            if count > MOST_FILES:
                raise ModelError(
                    f"{archive} holds more than {MOST_FILES} files, as no model does; nothing was installed"
                )
            _check(member.path, member.plain, archive)
            path = target.joinpath(*member.path.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, path.open("xb") as file:
                start = written
                while piece := source.read(PIECE):
                    written += len(piece)
                    if path.name == DESCRIPTION and written - start > MOST_DESCRIPTION:
                        raise ModelError(
                            f"{archive} holds {member.path} of more than {MOST_DESCRIPTION >> 20} MB, which is no "
                            "description of a model; nothing was installed"
                        )
                    if written > most_bytes:
                        raise ModelError(
                            f"{archive} holds more than {most_bytes / 1e6:.0f} MB unpacked; nothing was installed: "
                            "allow more with --most-mb if you trust it"
                        )
                    file.write(piece)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise ModelError(f"{archive} is damaged ({_reason(error)}); fetch it again") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ModelError(f"{archive} holds {error.filename} twice; nothing was installed") from error
    found = sorted(target.rglob(DESCRIPTION), key=lambda path: len(path.parts))
    if not found:
        raise ModelError(f"{archive} holds no model: there is no {DESCRIPTION} in it")
    return found[0].parent


def checksum(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _members(archive: Path) -> Iterator[Member]:
    """The files of an archive in its order, without unpacking them."""
    with archive.open("rb") as file:
        start = file.read(4)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if not entry.is_dir():
                    mode = entry.external_attr >> 16
                    plain = not mode or stat.S_ISREG(mode) or not stat.S_IFMT(mode)
                    yield Member(_path(entry.filename), plain, lambda entry=entry: packed.open(entry))  # type: ignore[misc]
        return
    try:
        tar = tarfile.open(archive, "r:*")
    except tarfile.ReadError as error:
        raise ModelError(f"{archive} is no archive; give a .tar.gz, .tar, .zip, or a model folder") from error
    with tar:
        for item in tar:
            if not item.isdir():
                yield Member(
                    _path(item.name),
                    item.isreg(),
                    lambda item=item: tar.extractfile(item) or io.BytesIO(),  # type: ignore[misc]
                )


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _check(path: PurePosixPath, plain: bool, where: Path) -> None:
    """Raise ModelError for a file that has no place in a model."""
    shown = " ".join(str(path).split())[:100]
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or ".." in parts or not parts or not all(_NAME.match(part) for part in parts):
        raise ModelError(f"{where} holds {shown!r}, a name that is not allowed in a model; nothing was installed")
    if not plain:
        raise ModelError(f"{where} holds {shown}, which is a link or a device; nothing was installed")
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise ModelError(f"{where} holds {shown}: a pickle can run code when it is loaded; nothing was installed")
    if suffix not in SUFFIXES and path.name not in PLAIN_NAMES:
        raise ModelError(
            f"{where} holds {shown}, which is no file of a model ({', '.join(SUFFIXES)}); nothing was installed"
        )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
