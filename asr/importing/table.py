"""Writing the table that training and evaluation read, and the list of what was left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.audio.files import AudioFile
from asr.audio.recording import SoundFile
from asr.errors import AudioError, DataError
from asr.files import write_whole
from asr.importing.item import Item, Reject
from asr.importing.spoken import spelled_out
from asr.words.text import normalise

CUT_RATE = 16_000  # Hz of parts that are cut out
LEAST_SECONDS = 0.1
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Imported:
    """What became of a corpus."""

    used: int
    rejected: tuple[Reject, ...]
    rejects: Path | None  # the list of them


class Importer:
    """Checks items one by one and collects the rows of the table."""

    def __init__(self, output: Path, copy: Path | None, source: str, spell_out: bool) -> None:
        """Rows for a table.

        Args:
            output: the table, to which paths in it are relative.
            copy: the folder for audio that lies in no file of its own; None: such items are rejected.
            source: the name for the table's column of that name.
            spell_out: whether numbers are written as words, or rejected.
        """
        self._output = output
        self._copy = copy
        self._source = source
        self._normal = spelled_out if spell_out else normalise
        self._rows: list[tuple[str, ...]] = []
        self._rejected: list[Reject] = []
        self._ids: set[str] = set()
        self._decoded: tuple[Path, np.ndarray] | None = None  # the last recording that parts were cut from

    def add(self, item: Item | Reject) -> None:
        """Take an item up, or name it among the rejected."""
        if isinstance(item, Reject):
            self._rejected.append(item)
            return
        try:
            row = self._row(item)
        except (DataError, AudioError) as error:
            self._rejected.append(Reject(item.id, str(error)))
        else:
            self._ids.add(item.id)
            self._rows.append(row)

    def write(self) -> Imported:
        """Write the table and, where something was left out, the list of it beside the table.

        Raises:
            DataError: nothing can be used.
        """
        rejects = self._output.with_suffix(".rejected.tsv")
        if self._rejected:
            _write_tsv(rejects, ("id", "reason"), [(_flat(one.id), _flat(one.reason)) for one in self._rejected])
        else:
            rejects.unlink(missing_ok=True)
        if not self._rows:
            first = f"; the first of {len(self._rejected)}: {self._rejected[0].reason}" if self._rejected else ""
            raise DataError(f"nothing in it can be used{first}")
        _write_tsv(self._output, ("id", "path", "source", "speaker", "text"), self._rows)
        return Imported(len(self._rows), tuple(self._rejected), rejects if self._rejected else None)

    def _row(self, item: Item) -> tuple[str, ...]:
        if not item.id or item.id != _flat(item.id):
            raise DataError("its id is empty or has white space in it")
        if item.id in self._ids:
            raise DataError("an earlier entry has the same id")
        text = self._normal(item.text)
        if not text:
            raise DataError("the text is empty")
        path = self._audio(item)
        try:
            shown = os.path.relpath(path, self._output.parent)
        except ValueError:  # on another drive
            shown = str(path)
        if shown != _flat(shown):
            raise DataError("the name of its audio has a tab or a line end in it")
        return item.id, shown, self._source, _flat(item.speaker), text

    def _audio(self, item: Item) -> Path:
        """The file with an item's audio, written if it is in none of its own."""
        if isinstance(item.audio, Path):
            if not item.audio.is_file():
                raise DataError(f"the audio file {item.audio} is {'a folder' if item.audio.is_dir() else 'missing'}")
            if item.seconds is None:
                return item.audio.absolute()
        if self._copy is None:
            what = "lies in a table" if isinstance(item.audio, bytes) else "is a part of a recording"
            raise DataError(f"its audio {what}; give --copy FOLDER to write it into a file of its own")
        self._copy.mkdir(parents=True, exist_ok=True)
        name = _UNSAFE.sub("_", item.id)[:150]
        if isinstance(item.audio, bytes):
            path = self._copy / f"{name}{_UNSAFE.sub('', item.suffix)}"
            content = item.audio
            write_whole(path, lambda file: file.write(content))
            return path.absolute()
        samples = self._part(item.audio, item.start_seconds, item.seconds or 0.0)
        path = self._copy / f"{name}.flac"
        with SoundFile(path, CUT_RATE) as file:
            file.write(samples)
        return path.absolute()

    def _part(self, path: Path, start: float, seconds: float) -> np.ndarray:
        """Samples (N,) of a part of a recording, decoded once for all parts that follow one another."""
        if self._decoded is None or self._decoded[0] != path:
            with AudioFile(path, CUT_RATE) as file:
                self._decoded = path, np.concatenate(list(file))
        samples = self._decoded[1]
        first, end = round(start * CUT_RATE), round((start + seconds) * CUT_RATE)
        if first < 0 or end - first < LEAST_SECONDS * CUT_RATE or first >= len(samples):
            raise DataError(f"its part from {start:g} s, {seconds:g} s long, is not in {path}")
        return samples[first:end]


def import_items(items: Iterable[Item | Reject], importer: Importer) -> Imported:
    """Check every item and write the table; raises DataError when the corpus cannot be read or used."""
    for item in items:
        importer.add(item)
    return importer.write()


def _flat(text: str) -> str:
    return " ".join(text.split())


def _write_tsv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    lines = ["\t".join(row) for row in (header, *rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))
