"""Corpora that a library reads: Hugging Face audio folders and Parquet, and the cuts of lhotse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.importing.item import Item, Reject, csv_rows, json_rows

TEXT_COLUMNS = ("text", "transcription", "sentence", "transcript", "normalized_text")
SPEAKER_COLUMNS = ("speaker_id", "speaker", "client_id")
ROWS = 64  # of a Parquet file that are in memory at once


def hugging_face(source: Path, text: str | None = None) -> Iterator[Item | Reject]:
    """A data set of Hugging Face: folders with metadata.csv or .jsonl (``file_name`` and a text), or Parquet files.

    Args:
        source: the folder, or one such file.
        text: the column of the text; by default the first of the usual ones.
    """
    if source.is_file():
        files = [source]
    else:
        files = sorted(path for name in ("metadata.csv", "metadata.jsonl", "*.parquet") for path in source.rglob(name))
    if not files:
        raise DataError(f"{source} holds neither metadata.csv, metadata.jsonl nor .parquet, as Hugging Face's sets do")
    for file in files:
        if file.suffix == ".parquet":
            yield from _parquet(file, text)
            continue
        rows = csv_rows(file) if file.suffix == ".csv" else json_rows(file)
        for row in rows:
            column = _column(file, row, text)
            if "file_name" not in row:
                raise DataError(f"{file} has no column file_name, which names the audio")
            path = file.parent / str(row["file_name"])
            yield Item(_id_of(str(row["file_name"])), str(row[column] or ""), path, _speaker(row))


def lhotse_cuts(source: Path) -> Iterator[Item | Reject]:
    """Cuts of lhotse, a .jsonl or .jsonl.gz; recordings that a command makes are never made."""
    from lhotse import CutSet
    from lhotse.cut import MonoCut

    try:
        cuts = iter(CutSet.from_file(source))
    except Exception as error:
        raise DataError(f"{source} cannot be read as cuts of lhotse: {error}") from error
    while True:
        try:
            cut = next(cuts)
        except StopIteration:
            return
        except Exception as error:  # lhotse raises many types for a damaged line
            raise DataError(f"{source} cannot be read as cuts of lhotse: {error}") from error
        if not isinstance(cut, MonoCut) or cut.recording is None or len(cut.recording.sources) != 1:
            yield Reject(str(cut.id), "it is no cut of one recording in one file")
            continue
        place = cut.recording.sources[0]
        texts = [one.text for one in cut.supervisions if one.text]
        if place.type != "file":
            yield Reject(cut.id, f"its audio is of type {place.type}, not a file")
        elif len(cut.supervisions) != 1 or not texts:
            yield Reject(cut.id, f"it has {len(cut.supervisions)} supervisions; cuts with one text are used")
        else:
            whole = cut.start == 0 and abs(cut.duration - cut.recording.duration) < 0.01
            speaker = cut.supervisions[0].speaker or ""
            seconds = None if whole else cut.duration
            path = Path(place.source)
            if not path.is_absolute() and not path.exists():
                path = source.parent / path
            yield Item(cut.id, texts[0], path, speaker, cut.start, seconds)


def _parquet(file: Path, text: str | None) -> Iterator[Item | Reject]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        if "audio" not in names:
            raise DataError(f"{file} has no column audio; it has {', '.join(names)}")
        column = _column(file, dict.fromkeys(names), text)
        number = 0
        for batch in table.iter_batches(ROWS):
            for row in batch.to_pylist():
                number += 1
                yield _embedded(file, number, row, column)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from error


def _embedded(file: Path, number: int, row: dict[str, Any], column: str) -> Item | Reject:
    audio = row["audio"]
    identity = f"{file.stem}-{number:06d}"
    if not isinstance(audio, dict) or not (audio.get("bytes") or audio.get("path")):
        return Reject(identity, "its audio has neither bytes nor a path")
    name = str(audio.get("path") or "")
    text = str(row[column] or "")
    if audio.get("bytes"):
        return Item(identity, text, bytes(audio["bytes"]), _speaker(row), suffix=Path(name).suffix or ".wav")
    return Item(identity, text, file.parent / name, _speaker(row))


def _column(file: Path, row: dict[str, Any], text: str | None) -> str:
    if text is not None:
        if text not in row:
            raise DataError(f"{file} has no column {text}; it has {', '.join(map(str, row))}")
        return text
    found = next((name for name in TEXT_COLUMNS if name in row), None)
    if found is None:
        raise DataError(f"{file} has no column {', '.join(TEXT_COLUMNS)}; name the one of the text with --text-column")
    return found


def _speaker(row: dict[str, Any]) -> str:
    return next((str(row[name]) for name in SPEAKER_COLUMNS if row.get(name) is not None), "")[:16]


def _id_of(name: str) -> str:
    return str(Path(name).with_suffix("")).replace("\\", "/").replace("/", "-")
