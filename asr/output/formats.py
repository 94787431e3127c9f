"""Formats of a result: text, JSON, subtitles and tables of word times."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from asr.errors import UsageError
from asr.streaming.results import Result, Word

LINE_CHARACTERS = 42  # of a subtitle; with the next three, the custom of broadcasters
CUE_LINES = 2
CUE_SECONDS = 6.0  # longest time that words share a subtitle
CUE_LEAST_SECONDS = 1.0  # shortest time that a subtitle is shown, where the next one leaves room
PAUSE_SECONDS = 0.8  # a longer silence separates two subtitles
SENTENCE_ENDS = (".", "?", "!")
ABBREVIATIONS = frozenset(("Mr.", "Mrs.", "Dr.", "a.m.", "p.m."))  # whose full stop may end no sentence
LONG_SECONDS = 120.0  # a longer recording's text is divided into paragraphs
PARAGRAPH_WORDS = 40  # least, where a paragraph ends at a pause after a sentence
PARAGRAPH_PAUSE_SECONDS = 0.8
PARAGRAPH_MOST_WORDS = 120  # from which it ends after any sentence


def as_text(name: str, result: Result) -> str:
    """The text alone; that of a long recording, written for readers, in paragraphs with an empty line between them."""
    if result.end_seconds < LONG_SECONDS or not any(word.spoken for word in result.words):
        return result.text
    return "\n\n".join(" ".join(word.text for word in words) for words in _paragraphs(result.words))


def as_named_text(name: str, result: Result) -> str:
    """``name: text``, for several files."""
    return f"{name}: {result.text}"


def as_json(name: str, result: Result, indent: int | None = None) -> str:
    """One JSON object, on one line unless indented: file, duration and word times in seconds."""
    content = {
        "file": name,
        "duration": round(result.end_seconds, 3),
        "text": result.text,
        **normalized_field(result),
        "words": word_fields(result),
    }
    return json.dumps(content, ensure_ascii=False, indent=indent)


def as_document(name: str, result: Result) -> str:
    """One JSON object over several lines."""
    return as_json(name, result, indent=2)


def as_srt(name: str, result: Result) -> str:
    """SubRip subtitles."""
    return "\n\n".join(
        f"{number}\n{_clock(cue.start_seconds, ',')} --> {_clock(cue.end_seconds, ',')}\n{_lines(cue.words)}"
        for number, cue in enumerate(cues(result), start=1)
    )


def as_vtt(name: str, result: Result) -> str:
    """WebVTT subtitles."""
    blocks = [
        f"{_clock(cue.start_seconds, '.')} --> {_clock(cue.end_seconds, '.')}\n{_lines(cue.words)}"
        for cue in cues(result)
    ]
    return "\n\n".join(["WEBVTT", *blocks])


def as_tsv(name: str, result: Result) -> str:
    """A table of words: start and end in seconds, word, confidence; with a header."""
    rows = (
        f"{word.start_seconds:.3f}\t{word.end_seconds:.3f}\t{word.text}\t{word.confidence:.4f}" for word in result.words
    )
    return "\n".join(["start\tend\tword\tconfidence", *rows])


def as_ctm(name: str, result: Result) -> str:
    """NIST's time-marked conversation format: recording, channel, start, duration, word in normal form, confidence."""
    recording = "_".join(Path(name).stem.split()) or "audio"
    return "\n".join(
        f"{recording} 1 {word.start_seconds:.2f} {word.end_seconds - word.start_seconds:.2f} {word.text} "
        f"{word.confidence:.2f}"
        for word in result.spoken
    )


Format = Callable[[str, Result], str]  # name of the recording, result -> what is written

FORMATS: dict[str, Format] = {
    "txt": as_text,
    "jsonl": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
    "tsv": as_tsv,
    "ctm": as_ctm,
    "json": as_document,
}
LINE_FORMATS = ("txt", "jsonl")  # one line per recording, so that several recordings can share a file


def find_format(name: str, several: bool = False) -> Format:
    """The format of a name; with ``several`` recordings in one file, text starts with the recording's name.

    Raises:
        UsageError: there is no such format.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; give {', '.join(FORMATS)}")
    return as_named_text if name == "txt" and several else FORMATS[name]


class Cue(NamedTuple):
    """A subtitle."""

    start_seconds: float
    end_seconds: float
    words: tuple[Word, ...]


def cues(result: Result) -> Iterator[Cue]:
    """Subtitles of at most two lines or six seconds, separated where the speaker pauses or a sentence ends.

    A short one is shown for a second, or until the next one or the end of the recording.
    """
    groups = list(_cue_words(result.words))
    for words, following in zip(groups, [*groups[1:], None], strict=False):
        start, end = words[0].start_seconds, words[-1].end_seconds
        limit = result.end_seconds if following is None else following[0].start_seconds
        yield Cue(start, max(end, min(start + CUE_LEAST_SECONDS, limit)), tuple(words))


def _cue_words(words: Sequence[Word]) -> Iterator[list[Word]]:
    cue: list[Word] = []
    for word in words:
        if cue and (
            word.start_seconds - cue[-1].end_seconds > PAUSE_SECONDS
            or word.end_seconds - cue[0].start_seconds > CUE_SECONDS
            or _lines([*cue, word]).count("\n") >= CUE_LINES
            or (ends_sentence(cue[-1]) and word.start_seconds - cue[0].start_seconds >= CUE_LEAST_SECONDS)
        ):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def ends_sentence(word: Word) -> bool:
    """Whether a word that is written for readers has a mark that ends a sentence."""
    return bool(word.spoken) and word.text[-1:] in SENTENCE_ENDS and word.text not in ABBREVIATIONS


def _paragraphs(words: Sequence[Word]) -> Iterator[list[Word]]:
    paragraph: list[Word] = []
    for word in words:
        if paragraph and ends_sentence(paragraph[-1]):
            pause = word.start_seconds - paragraph[-1].end_seconds
            least = PARAGRAPH_WORDS if pause >= PARAGRAPH_PAUSE_SECONDS else PARAGRAPH_MOST_WORDS
            if len(paragraph) >= least:
                yield paragraph
                paragraph = []
        paragraph.append(word)
    if paragraph:
        yield paragraph


def word_fields(result: Result) -> list[dict[str, object]]:
    """The words of a result as they are spoken, as objects of JSON, times in seconds.

    Those of text for readers have their form in it as ``written``, which for all words of a number but the first is "".
    """
    fields = []
    for word in result.words:
        for number, spoken in enumerate(word.spoken or (word,)):
            one: dict[str, object] = {"word": spoken.text}
            if word.spoken:
                one["written"] = "" if number else word.text
            one["start"], one["end"] = round(spoken.start_seconds, 3), round(spoken.end_seconds, 3)
            one["confidence"] = round(spoken.confidence, 4)
            fields.append(one)
    return fields


def normalized_field(result: Result) -> dict[str, str]:
    """The text in normal form, beside text that is for readers."""
    return {"normalized": result.normalized} if any(word.spoken for word in result.words) else {}


def committed_words(result: Result) -> int:
    """How many of the words of `word_fields` are committed."""
    return sum(max(1, len(word.spoken)) for word in result.words[: result.committed])


def _lines(words: Sequence[Word]) -> str:
    return textwrap.fill(" ".join(word.text for word in words), LINE_CHARACTERS, break_on_hyphens=False)


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(1_000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1_000:02d}{point}{milliseconds % 1_000:03d}"
