"""Corpora that are a table and a folder of audio files: Common Voice, LJSpeech, LibriSpeech, NeMo, Kaldi.

The layouts are those that the corpora and toolkits of these names document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from asr.errors import DataError
from asr.files import text_lines
from asr.importing.item import Item, Reject, json_rows, need, table_rows

AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".opus", ".ogg", ".m4a")
_ARCHIVED = re.compile(r"\.ark(\.gz)?:\d+")


def common_voice(source: Path) -> Iterator[Item | Reject]:
    """Mozilla Common Voice: a TSV with ``path`` and ``sentence``, and ``clips`` beside it.

    Args:
        source: the TSV; of a folder, validated.tsv.
    """
    table = need(source / "validated.tsv", "give one of the release's .tsv files") if source.is_dir() else source
    for row in table_rows(table, "\t"):
        if "sentence" not in row or "path" not in row:
            raise DataError(f"{table} is no table of Common Voice: its header must name path and sentence")
        path = table.parent / "clips" / row["path"]
        # The id of a speaker has 128 digits, of which a few tell speakers apart.
        yield Item(Path(row["path"]).stem, row["sentence"], path, row.get("client_id", "")[:16])


def lj_speech(source: Path) -> Iterator[Item | Reject]:
    """LJSpeech and what imitates it: metadata.csv with ``id|text|text spelled out``, and ``wavs/id.wav``."""
    table = need(source / "metadata.csv", "give the folder that holds metadata.csv") if source.is_dir() else source
    for row in table_rows(table, "|", ["id", "text", "spelled"]):
        if "text" not in row:
            yield Reject(row["id"][:100], "the line has no |")
            continue
        yield Item(row["id"], row.get("spelled") or row["text"], table.parent / "wavs" / f"{row['id']}.wav")


def libri_speech(source: Path) -> Iterator[Item | Reject]:
    """LibriSpeech and its like: files ``*.trans.txt`` of ``id TEXT``, and the audio beside them as ``id.flac``."""
    tables = sorted(source.rglob("*.trans.txt")) if source.is_dir() else [source]
    if not tables:
        raise DataError(f"{source} holds no .trans.txt, as LibriSpeech does")
    for table in tables:
        for line in text_lines(table):
            identity, _, text = line.partition(" ")
            if not identity:
                continue
            paths = (table.parent / f"{identity}{suffix}" for suffix in AUDIO_SUFFIXES)
            found = next((path for path in paths if path.is_file()), None)
            if found is None:
                yield Reject(
                    identity, f"there is no {identity}.flac (or {', '.join(AUDIO_SUFFIXES[1:])}) beside {table}"
                )
            else:
                yield Item(identity, text, found, identity.partition("-")[0])


def nemo(source: Path) -> Iterator[Item | Reject]:
    """NVIDIA NeMo: JSON lines with ``audio_filepath``, ``text``, ``duration``, and perhaps ``offset``."""
    table = need(source / "manifest.json", "give the file of JSON lines") if source.is_dir() else source
    for number, row in enumerate(json_rows(table), start=1):
        try:
            audio, text = str(row["audio_filepath"]), str(row["text"])
            part = "offset" in row
            start, seconds = float(row.get("offset") or 0), float(row["duration"]) if part else None
        except (KeyError, TypeError, ValueError) as error:
            yield Reject(f"line {number}", f"has no usable {error.args[0] if error.args else 'entry'}")
            continue
        identity = str(row.get("id") or (f"{Path(audio).stem}-{round(start * 1000)}" if part else Path(audio).stem))
        yield Item(identity, text, table.parent / audio, str(row.get("speaker", "")), start, seconds)


def kaldi(source: Path) -> Iterator[Item | Reject]:
    """A Kaldi data folder: wav.scp, text, and perhaps segments and utt2spk. Commands in wav.scp are never run."""
    recordings = dict(_pairs(need(source / "wav.scp", "give a Kaldi data folder")))
    texts = dict(_pairs(need(source / "text", "give a Kaldi data folder")))
    speakers = dict(_pairs(source / "utt2spk")) if (source / "utt2spk").is_file() else {}
    parts: dict[str, tuple[str, float, float | None]] = {name: (name, 0.0, None) for name in recordings}
    if (source / "segments").is_file():
        parts = {}
        for name, rest in _pairs(source / "segments"):
            try:
                recording, begin, end = rest.split()
                parts[name] = (recording, float(begin), float(end) - float(begin))
            except ValueError:
                yield Reject(name, f"its line in segments is {rest[:80]!r}, not a recording, a start and an end")
    for name, (recording, start, seconds) in parts.items():
        place = recordings.get(recording, "")
        if not place:
            yield Reject(name, f"wav.scp has no recording {recording}")
        elif place.endswith("|"):
            yield Reject(name, "wav.scp has a command, which is not run: decode it to a file first")
        elif _ARCHIVED.search(place):
            yield Reject(name, "wav.scp refers into an archive of Kaldi: copy it to files first (wav-copy)")
        elif name not in texts:
            yield Reject(name, "it has no line in text")
        else:
            path = Path(place)
            if not path.is_absolute() and not path.exists():  # Kaldi's are relative to where its recipes run
                path = source / place
            yield Item(name, texts[name], path, speakers.get(name, ""), start, seconds)


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """First word and rest of each line."""
    for line in text_lines(path):
        name, _, rest = line.strip().partition(" ")
        if name:
            yield name, rest.strip()
