"""Output of the transcribe command: formats, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from asr.errors import UsageError
from asr.streaming.results import Result


def as_text(name: str, result: Result) -> str:
    """The text alone."""
    return result.text


def as_named_text(name: str, result: Result) -> str:
    """``name: text``, for several files."""
    return f"{name}: {result.text}"


def word_fields(result: Result) -> list[dict[str, object]]:
    """The words of a result as JSON tells them, times in seconds."""
    return [
        {
            "word": word.text,
            "start": round(word.start_seconds, 3),
            "end": round(word.end_seconds, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in result.words
    ]


def as_json(name: str, result: Result, indent: int | None = None) -> str:
    """One JSON object, on one line unless indented: file, duration and word times in seconds."""
    content = {
        "file": name,
        "duration": round(result.end_seconds, 3),
        "text": result.text,
        "words": word_fields(result),
    }
    return json.dumps(content, ensure_ascii=False, indent=indent)


FORMATS = ("txt", "jsonl")
DOCUMENTS = "srt, vtt, tsv, ctm, json"  # which asr.output.subtitles makes


def line_format(name: str, several: bool) -> Callable[[str, Result], str]:
    """The function that turns a file's name and result into its line; raises UsageError for an unknown format."""
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; give {', '.join(FORMATS)}, {DOCUMENTS}")
    if name == "jsonl":
        return as_json
    return as_named_text if several else as_text


class LineWriter:
    """Writes lines to stdout as they come, or to a file that takes its place, whole, when the writer closes.

    A file is written beside its final place and renamed: readers see the old one or the new one. Without any line
    what was there stays.
    """

    def __init__(self, path: Path | None) -> None:
        """Write to a path, or to stdout when it is None.

        Raises:
            UsageError: the path cannot be written to.
        """
        self._path = path
        self._file = sys.stdout
        self._lines = 0
        if path is None:
            return
        if path.is_dir():
            raise UsageError(f"--output {path} is a folder; give the name of a file")
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.absolute().parent)
        except OSError as error:
            raise UsageError(f"--output {path} cannot be written: {error.strerror}") from error
        self._partial = Path(name)
        self._file = os.fdopen(handle, "w", encoding="utf-8")

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is None:
            return
        self._file.close()
        if not self._lines:
            self._partial.unlink()
            return
        mask = os.umask(0)
        os.umask(mask)
        self._partial.chmod(0o666 & ~mask)  # mkstemp makes files that only their owner can read
        os.replace(self._partial, self._path)

    def write(self, line: str) -> None:
        """Write one line and flush it."""
        self._file.write(line + "\n")
        self._file.flush()
        self._lines += 1
