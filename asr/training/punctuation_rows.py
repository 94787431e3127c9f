"""Tagged text as rows of numbers, with pauses, breaks and wrong words as recognition has them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import DataError
from asr.files import text_lines
from asr.training.punctuation_names import names_in, phrases_in, usual_forms
from asr.training.punctuation_text import ENDING, NO_LABEL, UNKNOWN_SHAPE, Stream, TaggedWord, tagged_text
from asr.words.tagger import (
    BREAK,
    CAPITAL,
    MARKS,
    PAUSE_BORDERS,
    SHAPES,
    UNKNOWN,
    UPPER,
    suffix_id,
)

SPECIAL = ("<break>", "<unk>")  # words 0 and 1
LEAST_WORDS = 1_000  # of a text
HELD_OUT = 0.01  # part of each text, its end
SEGMENT_WORDS = 1_000  # that are spoken alike
SILENT = 0.3  # part of the segments whose pauses are unknown
NOISY = 0.5  # part of the segments with wrong words
WRONG = 0.08  # of their words
BREAK_SECONDS = 0.7  # a pause that may end an utterance
# Of pauses after no mark, a comma, the end of a sentence: the part that is there at all, median in seconds, spread of
# its logarithm. Read aloud as benchmarks/pauses.py measures it; those who speak freely hesitate in phrases, too.
READ = ((0.04, 0.2, 0.65), (0.75, 0.35, 0.55), (0.97, 0.65, 0.5))
FREE = ((0.07, 0.4, 0.9), (0.5, 0.4, 0.8), (0.8, 0.6, 0.8))
FREELY = 0.4  # part of the segments that are spoken so


@dataclass(frozen=True)
class PunctuationText:
    """Texts as numbers."""

    words: tuple[str, ...]  # by id; by falling frequency after the special ones
    forms: tuple[str, ...]  # capitalised forms other than the first letter, as McDonald
    names: tuple[str, ...]  # words and phrases that nearly always have capitals, as they are written
    suffixes: np.ndarray  # (V,) class of the ending of each word that was read, known or not
    known: np.ndarray  # (V,) id of each word that was read, `UNKNOWN` for rare ones
    streams: tuple[Stream, ...]  # to learn from
    held_out: Stream

    @property
    def size(self) -> int:
        """Words to learn from."""
        return sum(len(stream.words) for stream in self.streams)


def read_texts(
    texts: Sequence[Path], vocabulary: int, suffixes: int, most: int, report: Callable[[str], None] = lambda stage: None
) -> PunctuationText:
    """Read written texts, choose the vocabulary, keep the end of each for measuring.

    Args:
        texts: plain, .gz, .xz or .bz2; a paragraph, a sentence or what somebody said a line.
        vocabulary: how many of the most frequent words to know.
        suffixes: classes of endings.
        most: words to read of each text.
        report: told what is being done.
    Raises:
        DataError: a text cannot be read, or has fewer than `LEAST_WORDS` words in lines with marks; or one of the marks
            , . ? is in none of them.
    """
    numbers: dict[str, int] = dict.fromkeys(SPECIAL, 0)
    numbers[SPECIAL[UNKNOWN]] = UNKNOWN
    written: dict[str, Counter[str]] = {}
    streams = []
    for text in texts:
        report(f"reading {text}")
        streams.append(_stream(islice(tagged_text(text_lines(text)), most), numbers, written))
        if len(streams[-1].words) < LEAST_WORDS:
            raise DataError(
                f"{text}: {len(streams[-1].words):,} words in lines that have capitals and end in a mark (. ? !), at "
                f"least {LEAST_WORDS:,} are needed; {_what_is_missing(text)}"
            )
    for number, mark in enumerate(MARKS[: MARKS.index("?") + 1]):
        if not any((stream.marks == number).any() for stream in streams):
            raise DataError(f"no {mark!r} in the texts: a model of them would never write one; add texts that have it")
    counts = np.zeros(len(numbers), np.int64)
    for stream in streams:
        counts += np.bincount(stream.words, minlength=len(numbers))
    names = list(numbers)
    wanted = np.argsort(-counts, kind="stable")
    wanted = wanted[counts[wanted] > 1][:vocabulary]
    known = np.full(len(names), UNKNOWN, np.int32)
    known[BREAK] = BREAK
    known[wanted] = np.arange(len(wanted), dtype=np.int32) + len(SPECIAL)
    kept = [max(1, round(len(stream.words) * HELD_OUT)) for stream in streams]
    ends = [
        stream.part(len(stream.words) - held, len(stream.words)) for stream, held in zip(streams, kept, strict=True)
    ]
    return PunctuationText(
        (*SPECIAL, *(names[k] for k in wanted)),
        tuple(usual_forms(written)),
        (*(single := tuple(names_in(streams, names))), *phrases_in(streams, names, frozenset(single))),
        np.array([0, 0, *(suffix_id(name, suffixes) for name in names[2:])], np.int32),
        known,
        tuple(stream.part(0, len(stream.words) - held) for stream, held in zip(streams, kept, strict=True)),
        Stream(*(np.concatenate(parts) for parts in zip(*ends, strict=True))),
    )


def _what_is_missing(text: Path) -> str:
    """Of a text with too few words."""
    beginning = "".join(islice(text_lines(text), 1_000))
    if not any(character.isalpha() for character in beginning):
        return "it has no words"
    if beginning.islower() or beginning.isupper():
        return "it has no capitals: give text as it is written, not in normal form"
    if not any(mark in beginning for mark in ".?!"):
        return "it has no marks: give text as it is written, not in normal form"
    return "give more text, a paragraph, a sentence or what somebody said a line"


def _stream(words: Iterator[TaggedWord], numbers: dict[str, int], written: dict[str, Counter[str]]) -> Stream:
    ids, marks, shapes, first = array("i"), array("b"), array("b"), array("b")
    for word in words:
        ids.append(numbers.setdefault(word.word, len(numbers)))
        marks.append(word.mark)
        shapes.append(NO_LABEL if word.shape == UNKNOWN_SHAPE else word.shape)
        first.append(word.first)
        if word.shape == CAPITAL:
            written.setdefault(word.word, Counter())[word.written] += 1
    kinds = (np.int32, np.int8, np.int8, np.bool_)
    return Stream(
        *(np.array(values).astype(kind) for values, kind in zip((ids, marks, shapes, first), kinds, strict=True))
    )


class Rows(NamedTuple):
    """Numbers that the network reads and what it is to say, D steps later."""

    words: np.ndarray  # (N,) int32
    suffixes: np.ndarray  # (N,) int16
    pauses: np.ndarray  # (N,) int8
    marks: np.ndarray  # (N,) int8, `NO_LABEL` where nothing is to be said
    shapes: np.ndarray  # (N,) int8


def spoken(text: PunctuationText, stream: Stream, look_ahead: int, generator: np.random.Generator) -> Rows:
    """A text as if it were spoken and recognised: pauses, some unknown; breaks at long ones; some words wrong."""
    count = len(stream.words)
    segments = count // SEGMENT_WORDS + 1
    place = np.arange(count) // SEGMENT_WORDS
    silent = (generator.random(segments) < SILENT)[place]
    pace = np.exp(generator.normal(0, 0.35, segments))[place]
    seconds = pauses_before(stream, generator, (generator.random(segments) < FREELY)[place]) * pace
    wrong = (generator.random(segments) < NOISY)[place] & (generator.random(count) < WRONG)
    words = np.where(wrong, generator.permutation(stream.words), stream.words)
    breaks = ~silent & (seconds > BREAK_SECONDS) & (generator.random(count) < 0.9)
    breaks |= generator.random(count) < 0.004
    breaks[0] = False
    pauses = np.where(silent, 0, 1 + np.searchsorted(PAUSE_BORDERS, seconds, "right"))
    return _rows(text, stream._replace(words=words), pauses, breaks, look_ahead)


def unspoken(text: PunctuationText, stream: Stream, look_ahead: int) -> Rows:
    """A text as it stands: no pauses are known, and nothing breaks off but at its end."""
    count = len(stream.words)
    rows = _rows(text, stream, np.zeros(count, np.int64), np.zeros(count, bool), look_ahead)
    return rows


def pauses_before(stream: Stream, generator: np.random.Generator, freely: np.ndarray | None = None) -> np.ndarray:
    """Seconds (N,) of silence before each word, drawn by the mark before it; ``freely`` (N,) where it is not read."""
    before = np.concatenate([[MARKS.index(".")], stream.marks[:-1]])
    kinds = np.where(before == 0, 0, np.where(np.isin(before, list(ENDING)), 2, 1))
    styles = np.zeros(len(before), int) if freely is None else freely.astype(int)
    there, median, spread = np.array([READ, FREE])[styles, kinds].T
    seconds = median * np.exp(generator.normal(0, 1, len(before)) * spread)
    return np.where(generator.random(len(before)) < there, seconds, 0.0)


def _rows(text: PunctuationText, stream: Stream, pauses: np.ndarray, breaks: np.ndarray, look_ahead: int) -> Rows:
    where = np.repeat(np.flatnonzero(breaks), look_ahead)
    where = np.concatenate([where, np.full(look_ahead, len(stream.words))])

    def filled(values: np.ndarray, kind: type, filling: int) -> np.ndarray:
        return np.insert(values.astype(kind), where, filling)

    def later(values: np.ndarray) -> np.ndarray:
        delayed = filled(values, np.int8, NO_LABEL)
        return np.concatenate([np.full(look_ahead, NO_LABEL, np.int8), delayed[:-look_ahead]])

    return Rows(
        filled(text.known[stream.words], np.int32, BREAK),
        filled(text.suffixes[stream.words], np.int16, 0),
        filled(pauses, np.int8, 0),
        later(stream.marks),
        later(stream.shapes),
    )


def habits(text: PunctuationText) -> np.ndarray:
    """What each known word is like: log-odds (W, 7) of each mark but none after it, of capitals, of a comma before it.

    Counted in the texts, relative to all words, divided by 2 and limited to [-2, 2]; 0 for special words.
    """
    words = len(text.words)
    streams = text.streams
    ids = np.concatenate([text.known[stream.words] for stream in streams])
    marks = np.concatenate([stream.marks for stream in streams])
    shapes = np.concatenate([stream.shapes for stream in streams])
    events = [marks == number for number in range(1, len(MARKS))]
    events.append((shapes == CAPITAL) | (shapes == UPPER))
    events += [np.roll(marks, 1) == 1, np.roll(np.isin(marks, list(ENDING)), 1)]
    total = np.bincount(ids, minlength=words)
    columns = []
    for event in events:
        usual = max(event.mean(), 1e-6)
        found = np.bincount(ids[event], minlength=words)
        share = (found + 2 * usual) / (total + 2)
        columns.append(np.log(share / (1 - share)) - np.log(usual / (1 - usual)))
    values = np.clip(np.stack(columns, axis=1) / 2, -2, 2)
    values[: len(SPECIAL)] = 0
    return values.astype(np.float32)


class RowBatches:
    """Endless batches of a mixture of texts: each row of a batch reads on in its own part of a text, over and over."""

    def __init__(self, streams: Sequence[Rows], rows: int, steps: int, seed: int) -> None:
        self._streams, self._steps = streams, steps
        lengths = np.array([len(stream.words) for stream in streams])
        counts = np.maximum(1, np.round(lengths / lengths.sum() * rows).astype(int))
        self._texts = np.repeat(np.arange(len(streams)), counts)
        offsets = np.concatenate([np.arange(count) / count for count in counts])
        starts = np.random.default_rng(seed).integers(0, lengths)
        self.places = (offsets * lengths[self._texts]).astype(np.int64) + starts[self._texts]

    @property
    def rows(self) -> int:
        return len(self._texts)

    def next(self) -> Rows:
        """Numbers (T, B)."""
        columns = [np.empty((self._steps, self.rows), np.int64) for _ in Rows._fields]
        for row, (number, place) in enumerate(zip(self._texts, self.places, strict=True)):
            stream = self._streams[int(number)]
            wanted = np.arange(place, place + self._steps)
            for column, values in zip(columns, stream, strict=True):
                column[:, row] = values.take(wanted, mode="wrap")
            self.places[row] = (place + self._steps) % len(stream.words)
        return Rows(*columns)


def outcomes() -> int:
    """How many scores the network gives: of marks, then of shapes."""
    return len(MARKS) + len(SHAPES)
