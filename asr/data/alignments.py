"""Forced alignments of a whole manifest on disk: one JSON line an utterance, appended as they are computed.

A line is `{"id", "text", "frames", "score", "phones": "SIL 13 M 18 AE 10 ...", "words": [[first frame, end frame,
score], ...]}`, the phones with their lengths in frames; or `{"id", "text", "failure"}`.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.data.manifest import Manifest, Utterance, load_audio
from asr.data.phone_alignment import HOP_SECONDS, AlignedWord, Aligner, Alignment, phone_id
from asr.errors import DataError, RillError
from asr.words.lexicon import Lexicon

if TYPE_CHECKING:
    from asr.words.letter_to_sound import Pronunciation

FILE_NAME = "alignments.jsonl"
_UTTERANCES_A_TASK = 8


class AlignmentStore:
    """Read-only view of a folder that `align_manifest` has filled, wholly or so far."""

    def __init__(self, lines: Mapping[str, dict]) -> None:
        self._lines = lines

    @classmethod
    def open(cls, folder: Path | str) -> AlignmentStore:
        """Read the folder's alignments. A last line that is still being written is left out.

        Raises:
            DataError: the folder has no alignments, or a line of the file is damaged.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise DataError(f"{folder} has no {FILE_NAME}; compute the alignments first")
        return cls({line["id"]: line for line in _read_lines(path)})

    def __len__(self) -> int:
        """Number of utterances aligned."""
        return sum("failure" not in line for line in self._lines.values())

    def __contains__(self, utterance_id: str) -> bool:
        return "failure" not in self._lines.get(utterance_id, {"failure": ""})

    def __iter__(self) -> Iterator[str]:
        """Ids of the utterances aligned."""
        return (identity for identity, line in self._lines.items() if "failure" not in line)

    @property
    def failures(self) -> dict[str, str]:
        """Utterances that could not be aligned, with the reason."""
        return {identity: line["failure"] for identity, line in self._lines.items() if "failure" in line}

    def phones(self, utterance_id: str) -> np.ndarray | None:
        """(F,) int8: the phone id of each front-end frame (10 ms), 0 for silence; None when it is not aligned."""
        if utterance_id not in self:
            return None
        fields = self._lines[utterance_id]["phones"].split()
        return np.repeat(np.array([phone_id(phone) for phone in fields[::2]], np.int8), np.array(fields[1::2], int))

    def score(self, utterance_id: str) -> float | None:
        """Mean score a speech frame, see `asr.data.phone_alignment.Alignment`; None when it is not aligned."""
        return self._lines[utterance_id]["score"] if utterance_id in self else None

    def words(self, utterance_id: str) -> tuple[AlignedWord, ...] | None:
        """The words with their times in seconds and scores; None when it is not aligned."""
        if utterance_id not in self:
            return None
        line = self._lines[utterance_id]
        return tuple(
            AlignedWord(word, round(start * HOP_SECONDS, 2), round(end * HOP_SECONDS, 2), score)
            for word, (start, end, score) in zip(line["text"].split(), line["words"], strict=True)
        )


def align_manifest(
    manifest: Manifest,
    lexicon: Lexicon,
    folder: Path | str,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> AlignmentStore:
    """Align every utterance of `manifest` and keep the result in `folder`.

    Can be stopped at any time and started again: what the folder has for an utterance with the same text is not
    computed twice. Failures are recorded with their reason, not raised. `progress(done, total)` is called after each
    utterance.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    present = {line["id"]: line["text"] for line in _read_lines(path, repair=True)} if path.is_file() else {}
    pending = [utterance for utterance in manifest.utterances if present.get(utterance.id) != utterance.text]
    done, total = len(manifest.utterances) - len(pending), len(manifest.utterances)
    vocabulary = {word for utterance in pending for word in utterance.text.split()}
    pronunciations = {word: lexicon.pronounce(word) for word in sorted(vocabulary)}
    with open(path, "a", encoding="utf-8") as file:
        for line in _align_all(pending, pronunciations, workers):
            file.write(json.dumps(line) + "\n")
            file.flush()
            done += 1
            if progress is not None:
                progress(done, total)
    return AlignmentStore.open(folder)


def _align_all(
    utterances: list[Utterance], pronunciations: Mapping[str, tuple[Pronunciation, ...]], workers: int
) -> Iterator[dict]:
    if workers <= 1:
        aligner = Aligner(pronunciations.__getitem__)
        yield from (_align_one(aligner, utterance) for utterance in utterances)
    elif utterances:
        context = multiprocessing.get_context("spawn")  # forking a process that has threads (torch, PyAV) can hang
        with context.Pool(workers, _start_worker, (pronunciations,)) as pool:
            yield from pool.imap_unordered(_work, utterances, chunksize=_UTTERANCES_A_TASK)


_aligner: Aligner | None = None  # of a worker process


def _start_worker(pronunciations: Mapping[str, tuple[Pronunciation, ...]]) -> None:
    global _aligner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends its workers
    _aligner = Aligner(pronunciations.__getitem__)


def _work(utterance: Utterance) -> dict:
    assert _aligner is not None
    return _align_one(_aligner, utterance)


def _align_one(aligner: Aligner, utterance: Utterance) -> dict:
    line = {"id": utterance.id, "text": utterance.text}
    try:
        return line | _encode(aligner.align(load_audio(utterance), utterance.text))
    except RillError as error:
        return line | {"failure": str(error)}


def _encode(alignment: Alignment) -> dict:
    return {
        "frames": alignment.frames,
        "score": alignment.score,
        "phones": " ".join(f"{phone} {end - start}" for phone, start, end in alignment.phones),
        "words": [
            [round(word.start_seconds / HOP_SECONDS), round(word.end_seconds / HOP_SECONDS), word.score]
            for word in alignment.words
        ],
    }


def _read_lines(path: Path, repair: bool = False) -> list[dict]:
    """Parse the complete lines; with `repair`, cut a torn last line off the file so that appending is safe."""
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if repair and complete < len(content):
        with open(path, "r+b") as file:
            file.truncate(complete)
    lines = []
    for number, line in enumerate(content[:complete].splitlines(), start=1):
        try:
            lines.append(json.loads(line))
            lines[-1]["id"], lines[-1]["text"]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}, line {number} is damaged; delete the file to align anew") from None
    return lines
