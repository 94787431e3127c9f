"""Speech data: a table of utterances, and their audio as samples.

A manifest is a TSV or CSV file with a header. `id` and `text` are required; the audio is named either by `path` (a
file, relative to the table) or by `shard` (a tar beside the table that holds `<id>.<anything PyAV decodes>`).
`seconds`, `source` and `speaker` are optional. Members of a tar are read by byte range, so any number of processes can
read one shard at random without unpacking it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.audio.files import AudioFile
from asr.data.tars import AudioLocation, Shards
from asr.errors import AudioError, DataError
from asr.models.frontend import FrontendConfig
from asr.words.text import normalise, unusable_characters


@dataclass(frozen=True)
class Utterance:
    """One transcribed recording. `text` is in normal form; `source` and `speaker` are "" when the table has none."""

    id: str
    text: str
    seconds: float
    source: str
    speaker: str
    audio: AudioLocation


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used. `line` counts from 1, the header's line; it is 0 where no table is involved."""

    id: str
    line: int
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The usable rows of a table in their order, and the others with the reason."""

    utterances: tuple[Utterance, ...]
    rejected: tuple[Rejected, ...]


def read_manifest(table: Path | str) -> Manifest:
    """Read a TSV or CSV of utterances.

    Rows that cannot be used are rejected with a reason.

    Raises:
        DataError: the table as a whole cannot be used: missing, not a table, without a required column or a usable row.
    """
    table = Path(table)
    rows = _rows(table)
    shards = Shards(table.parent)
    utterances: list[Utterance] = []
    rejected: list[Rejected] = []
    first_line: dict[str, int] = {}
    for line, row in rows:
        identity = (row.get("id") or "").strip()
        try:
            if not identity:
                raise DataError("the id is empty")
            if identity in first_line:
                raise DataError(f"the id was already used on line {first_line[identity]}")
            utterances.append(_utterance(identity, row, shards))
            first_line[identity] = line
        except (DataError, AudioError) as error:
            rejected.append(Rejected(identity, line, str(error)))
    if not utterances:
        first = f"; {len(rejected)} bad, the first on line {rejected[0].line}: {rejected[0].reason}" if rejected else ""
        raise DataError(f"{table} has no usable row{first}")
    return Manifest(tuple(utterances), tuple(rejected))


def merge(manifests: Iterable[Manifest]) -> Manifest:
    """Concatenate manifests. Raises `DataError` when two of them use the same id."""
    manifests = list(manifests)
    utterances = tuple(utterance for manifest in manifests for utterance in manifest.utterances)
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise DataError(f"the id {utterance.id!r} is in more than one table; give every utterance its own id")
        seen.add(utterance.id)
    return Manifest(utterances, tuple(row for manifest in manifests for row in manifest.rejected))


def load_audio(utterance: Utterance, sample_rate: int = FrontendConfig.sample_rate) -> np.ndarray:
    """Decode an utterance: (N,) float32 samples at `sample_rate`, channels averaged, at the recording's own level.

    Raises:
        AudioError: the audio is missing, damaged, empty or not finite; the message names the utterance.
    """
    try:
        return decode(utterance.audio.read(), str(utterance.audio.path), sample_rate)
    except AudioError as error:
        raise AudioError(f"utterance {utterance.id}: {error}") from error


def decode(encoded: bytes, name: str, sample_rate: int) -> np.ndarray:
    """Decode a file's bytes as transcription does: (N,) float32 mono samples at `sample_rate`; `name` is for errors.

    Raises:
        AudioError: it is not audio, or not all of it can be decoded: a transcript would not fit what is left.
    """
    with _open(encoded, name, sample_rate) as audio:
        samples = np.concatenate(list(audio))
        if audio.damage:
            raise AudioError(audio.damage.partition(";")[0])
    return samples


def _open(encoded: bytes, name: str, sample_rate: int) -> AudioFile:
    file = io.BytesIO(encoded)
    file.name = name
    return AudioFile(file, sample_rate)


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Check the table and its header, then give (line number, column -> value) of every row that is not blank."""
    if not table.is_file():
        what = "a folder" if table.is_dir() else "missing"
        raise DataError(f"{table} is {what}; give a TSV or CSV file of utterances")
    try:
        content = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not a table: it is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}") from error
    header_line = content.partition("\n")[0]
    # Transcripts in TSV hold bare quotes; in CSV quotes are what protects a comma.
    tabs = "\t" in header_line
    reader = csv.DictReader(
        io.StringIO(content, newline=""),
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        columns = [column.strip() for column in reader.fieldnames or ()]
        reader.fieldnames = columns
        if not {"id", "text"} <= set(columns) or not {"path", "shard"} & set(columns):
            given = ", ".join(columns)[:100] or "nothing"
            raise DataError(f"{table}: the header names {given}; it must name id, text and either path or shard")
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(f"{table} is not a table: line {reader.line_num}: {error}") from error
    yield from rows


def _utterance(identity: str, row: dict, shards: Shards) -> Utterance:
    if None in row:  # DictReader's key for surplus values
        raise DataError(f"has {len(row) - 1 + len(row[None])} columns, the header has {len(row) - 1}")
    missing = [column for column, value in row.items() if value is None]
    if missing:
        raise DataError(f"has no column {', '.join(missing)}")
    unusable = unusable_characters(row["text"])
    if unusable:
        shown = " ".join(repr(character) for character in sorted(unusable))
        raise DataError(f"the text has characters the model cannot write: {shown}; spell them out in a-z")
    text = normalise(row["text"])
    if not text:
        raise DataError("the text is empty")
    if row.get("shard"):
        audio = shards.find(row["shard"], identity)
    elif row.get("path"):
        audio = AudioLocation(shards.folder / row["path"])
        if not audio.path.is_file():
            raise DataError(f"the audio file {audio.path} is {'a folder' if audio.path.is_dir() else 'missing'}")
    else:
        raise DataError("names neither a path nor a shard")
    seconds = _seconds(row["seconds"]) if row.get("seconds") else _probe_seconds(audio)
    return Utterance(identity, text, seconds, row.get("source") or "", row.get("speaker") or "", audio)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        raise DataError(f"seconds is {value!r}, which is not a number") from None
    if not (math.isfinite(seconds) and seconds > 0):
        raise DataError(f"seconds is {value}; it must be positive")
    return seconds


def _probe_seconds(audio: AudioLocation) -> float:
    """Length as the file states it; by decoding where it does not."""
    rate = FrontendConfig.sample_rate
    encoded = audio.read()
    with _open(encoded, str(audio.path), rate) as file:
        if file.seconds:
            return file.seconds
    return decode(encoded, str(audio.path), rate).size / rate
