"""What an importer finds: a recording, or a part of one, with its text; or why it cannot be used."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.files import text_lines


@dataclass(frozen=True)
class Item:
    """An utterance as a corpus gives it."""

    id: str
    text: str
    audio: Path | bytes  # a file, or one's content
    speaker: str = ""
    start_seconds: float = 0.0  # of a part of the recording
    seconds: float | None = None  # of the part; None: the recording is used whole
    suffix: str = ""  # of a file's name whose content ``audio`` is, such as .flac


@dataclass(frozen=True)
class Reject:
    """An entry of a corpus that cannot be used."""

    id: str
    reason: str


def table_rows(path: Path, delimiter: str, fields: list[str] | None = None) -> Iterator[dict[str, str]]:
    """Rows of a table without quoting by column; with a header, unless ``fields`` names the columns.

    Raises:
        DataError: it cannot be read.
    """
    lines = text_lines(path)
    names = fields or next(lines, "").lstrip("\ufeff").split(delimiter)
    for line in lines:
        if line:
            yield dict(zip(names, line.split(delimiter), strict=False))


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV file with a header and quotes, by column; raises DataError when it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file, strict=True)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a file of JSON lines; raises DataError for a line that is none."""
    for number, line in enumerate(text_lines(path), start=1):
        if line.strip():
            try:
                content = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}, is not JSON: {error}") from error
            if not isinstance(content, dict):
                raise DataError(f"{path}, line {number}, is no JSON object")
            yield content


def need(path: Path, what: str) -> Path:
    """The path of something that a corpus has; raises DataError when it is not there."""
    if not path.exists():
        raise DataError(f"{path} is not there; {what}")
    return path
