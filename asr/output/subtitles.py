"""Documents made of a result's words: subtitles and tables of word times."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from asr.output.formats import as_json
from asr.streaming.results import Result, Word

LINE_CHARACTERS = 42  # of a subtitle; with the next two, the custom of broadcasters
CUE_LINES = 2
CUE_SECONDS = 6.0  # longest a subtitle stands
PAUSE_SECONDS = 0.8  # of silence between two subtitles rather than inside one


def as_srt(name: str, result: Result) -> str:
    """SubRip subtitles."""
    return "\n\n".join(
        f"{number}\n{_clock(cue[0].start_seconds, ',')} --> {_clock(cue[-1].end_seconds, ',')}\n{_lines(cue)}"
        for number, cue in enumerate(cues(result.words), start=1)
    )


def as_vtt(name: str, result: Result) -> str:
    """WebVTT subtitles."""
    blocks = [
        f"{_clock(cue[0].start_seconds, '.')} --> {_clock(cue[-1].end_seconds, '.')}\n{_lines(cue)}"
        for cue in cues(result.words)
    ]
    return "\n\n".join(["WEBVTT", *blocks])


def as_tsv(name: str, result: Result) -> str:
    """A table of words: start and end in seconds, word, confidence; with a header."""
    rows = (
        f"{word.start_seconds:.3f}\t{word.end_seconds:.3f}\t{word.text}\t{word.confidence:.4f}" for word in result.words
    )
    return "\n".join(["start\tend\tword\tconfidence", *rows])


def as_ctm(name: str, result: Result) -> str:
    """NIST's time-marked conversation form: recording, channel, start, duration, word, confidence."""
    recording = "_".join(Path(name).stem.split()) or "audio"
    return "\n".join(
        f"{recording} 1 {word.start_seconds:.2f} {word.end_seconds - word.start_seconds:.2f} {word.text} "
        f"{word.confidence:.2f}"
        for word in result.words
    )


def as_document(name: str, result: Result) -> str:
    """One JSON object over several lines."""
    return as_json(name, result, indent=2)


DOCUMENTS: dict[str, Callable[[str, Result], str]] = {
    "srt": as_srt,
    "vtt": as_vtt,
    "tsv": as_tsv,
    "ctm": as_ctm,
    "json": as_document,
}


def cues(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words of each subtitle: no longer than two lines or six seconds, and broken where the speaker pauses."""
    cue: list[Word] = []
    for word in words:
        if cue and (
            word.start_seconds - cue[-1].end_seconds > PAUSE_SECONDS
            or word.end_seconds - cue[0].start_seconds > CUE_SECONDS
            or _lines([*cue, word]).count("\n") >= CUE_LINES
        ):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def _lines(cue: Sequence[Word]) -> str:
    return textwrap.fill(" ".join(word.text for word in cue), LINE_CHARACTERS, break_on_hyphens=False)


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(1_000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1_000:02d}{point}{milliseconds % 1_000:03d}"
