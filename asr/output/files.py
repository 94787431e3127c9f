"""What to transcribe, and where each text goes: folders are searched for recordings, and filled with texts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AudioError, UsageError
from asr.output.formats import DOCUMENTS as DOCUMENT_NAMES
from asr.output.formats import FORMATS, LineWriter, as_json, as_text
from asr.output.subtitles import DOCUMENTS
from asr.streaming.results import Result

STDIN = "-"
SUFFIXES = frozenset(
    ".wav .flac .mp3 .m4a .m4b .aac .ogg .oga .opus .webm .mp4 .m4v .mkv .mov .avi .wma .aif .aiff .au .amr .3gp .caf "
    ".wv .ac3 .mka .mpg .mpeg .ts .w64 .rf64 .spx".split()
)  # of the files in a folder that are taken for recordings


@dataclass(frozen=True)
class Recording:
    """One thing to transcribe."""

    name: str  # path, or "-"
    place: Path  # of its texts in a folder of outputs, without the ending


def parse_formats(given: Sequence[str]) -> tuple[str, ...]:
    """Formats of options like ``srt`` and ``srt,jsonl``, each once; raises UsageError for an unknown one."""
    names = tuple(dict.fromkeys(name.strip() for option in given for name in option.split(",") if name.strip()))
    for name in names or ("",):
        if name not in FORMATS and name not in DOCUMENTS:
            raise UsageError(f"unknown format {name!r}; give {', '.join(FORMATS)}, {DOCUMENT_NAMES}")
    return names


def find_recordings(given: Sequence[str]) -> tuple[list[Recording], list[AudioError]]:
    """Files as they are, folders as the recordings in them and in the folders below, in order of their names.

    Returns:
        The recordings, and what is to be said of folders that have none or cannot be read.
    """
    found: list[Recording] = []
    problems: list[AudioError] = []
    for name in given:
        if name == STDIN or not os.path.isdir(name):
            found.append(Recording(name, Path("stdin" if name == STDIN else Path(name).stem)))
            continue
        below = _recordings_below(Path(name), problems)
        if not below:
            problems.append(AudioError(f"{name}: has no audio or video files in it, or in the folders below"))
        found += [Recording(str(path), path.relative_to(name).with_suffix("")) for path in below]
    return found, problems


class OutputFolder:
    """A folder with a text in each format for every recording, at the place that the recording has in its own."""

    def __init__(self, folder: Path, formats: Sequence[str], recordings: Sequence[Recording]) -> None:
        """Lay out the folder; it is made if it is not there.

        Raises:
            UsageError: it cannot be made, or two recordings would get the same file.
        """
        self._formats = tuple(formats)
        shared = Counter(recording.place for recording in recordings)
        # a.wav and a.mp3 beside one another keep their endings
        self._bases = {
            recording: folder
            / (
                recording.place
                if shared[recording.place] == 1
                else recording.place.with_name(Path(recording.name).name)
            )
            for recording in recordings
        }
        taken = Counter(self._bases.values())
        for recording, base in self._bases.items():
            if taken[base] > 1 or recordings.count(recording) > 1:
                raise UsageError(
                    f"{recording.name} and another file would both be written to {base}.{self._formats[0]}; "
                    "transcribe them one by one"
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--output {folder} cannot be a folder: {error.strerror}") from error

    def paths(self, recording: Recording) -> dict[str, Path]:
        """Where each format of a recording goes."""
        base = self._bases[recording]
        return {name: base.with_name(f"{base.name}.{name}") for name in self._formats}

    def has(self, recording: Recording) -> bool:
        """Whether all texts of a recording are there, made after the recording itself."""
        try:
            heard = os.path.getmtime(recording.name)
            return all(os.path.getmtime(path) >= heard for path in self.paths(recording).values())
        except OSError:
            return False

    def write(self, recording: Recording, name: str, result: Result) -> None:
        """Write a recording's texts, each whole or not at all; ``name`` is how they call the recording."""
        for format, path in self.paths(recording).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with LineWriter(path) as file:
                file.write(_DOCUMENTS[format](name, result))


_DOCUMENTS = {**DOCUMENTS, "txt": as_text, "jsonl": as_json}


def _recordings_below(folder: Path, problems: list[AudioError]) -> list[Path]:
    def complain(error: OSError) -> None:
        problems.append(AudioError(f"{error.filename}: cannot be read: {error.strerror}"))

    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=complain):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in sorted(files)
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
        ]
    return found
