"""Where results are written: a file or stdout that grows, or a folder with a file for every recording and format."""

from __future__ import annotations

import os
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from asr.errors import OutputError, UsageError
from asr.output.formats import FORMATS
from asr.streaming.results import Result

NAME_CHARACTERS = 40  # of a file's name that its temporary name repeats: file systems allow 255 bytes


def check_stdout(advice: str = "") -> None:
    """Raise UsageError if the process was started without a stdout, and so has nowhere to print results."""
    if getattr(sys.stdout, "name", "") == os.devnull:  # what `asr.cli.exits` puts in its place
        raise UsageError(f"stdout is closed{advice}")


class LineWriter:
    """Writes lines to stdout as they come, or to a file that is replaced, whole, when the writer closes.

    A file is written beside its final place and renamed: readers see the old one or the new one. Without any line, or
    when the disk is full, the old one stays.
    """

    def __init__(self, path: Path | None) -> None:
        """Write to a path, or to stdout when it is None.

        Raises:
            UsageError: the path cannot be written to, or stdout is closed.
        """
        self._path = path
        self._file = sys.stdout
        self._lines = 0
        self._failed = False
        if path is None:
            check_stdout("; give --output FILE")
            return
        if path.is_dir():
            raise UsageError(f"--output {path} is a folder; give the name of a file")
        self._partial = path.with_name(f".{path.name[:NAME_CHARACTERS]}.{secrets.token_hex(4)}.partial")
        try:
            self._file = open(self._partial, "x", encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"--output {path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is None:
            return
        try:
            self._file.close()
            if self._lines and not self._failed:
                os.replace(self._partial, self._path)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}") from error
        finally:
            self._partial.unlink(missing_ok=True)

    def write(self, line: str) -> None:
        """Write one line and flush it.

        Raises:
            OutputError: it cannot be written, as to a full disk.
            BrokenPipeError: the reader of stdout has ended.
        """
        self._lines += 1
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._failed = True
            with suppress(OSError):
                self._file.close()  # so that what is left to be written does not fail again
            name = "standard output" if self._path is None else self._path
            raise OutputError(f"{name}: cannot be written: {error.strerror}") from error


@dataclass(frozen=True)
class Source:
    """One recording to transcribe."""

    name: str  # path, or "-" for stdin
    place: Path  # of its files in a folder of outputs, without the ending


class OutputFolder:
    """A folder with a file in each format for every recording, at the place that the recording has in its own."""

    def __init__(self, folder: Path, formats: Sequence[str], sources: Sequence[Source]) -> None:
        """Lay out the folder; it is made if it does not exist.

        Raises:
            UsageError: it cannot be made, or two recordings would get the same file.
        """
        self._formats = tuple(formats)
        shared = Counter(source.place for source in sources)
        # a.wav and a.mp3 beside one another keep their endings
        self._bases = {
            source: folder
            / (source.place if shared[source.place] == 1 else source.place.with_name(Path(source.name).name))
            for source in sources
        }
        taken = Counter(self._bases.values())
        for source, base in self._bases.items():
            if taken[base] > 1 or sources.count(source) > 1:
                raise UsageError(
                    f"{source.name} and another file would both be written to {base}.{self._formats[0]}; "
                    "transcribe them one by one"
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--output {folder} cannot be a folder: {error.strerror}") from error

    def paths(self, source: Source) -> dict[str, Path]:
        """Where each format of a recording goes."""
        base = self._bases[source]
        return {name: base.with_name(f"{base.name}.{name}") for name in self._formats}

    def has(self, source: Source) -> bool:
        """Whether all files of a recording exist and are newer than the recording itself."""
        try:
            recorded = os.path.getmtime(source.name)
            return all(os.path.getmtime(path) >= recorded for path in self.paths(source).values())
        except OSError:
            return False

    def write(self, source: Source, name: str, result: Result) -> None:
        """Write a recording's files, each whole or not at all; ``name`` is what they call the recording.

        Raises:
            OutputError: one of them cannot be written.
        """
        for format, path in self.paths(source).items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = LineWriter(path)
            except (OSError, UsageError) as error:
                reason = getattr(error.__cause__ or error, "strerror", None) or error
                raise OutputError(f"{path}: cannot be written: {reason}") from error
            with writer:
                writer.write(FORMATS[format](name, result))
