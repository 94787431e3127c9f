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
from asr.training.punctuation_text import ENDING, UNKNOWN_SHAPE, TaggedWord, tagged_text
from asr.words.tagger import BREAK, CAPITAL, MARKS, PAUSE_BORDERS, SHAPES, UNKNOWN, UPPER, suffix_id

NO_LABEL = -1
SPECIAL = ("<break>", "<unk>")  # words 0 and 1
HELD_OUT = 0.01  # part of each text, its end
SEGMENT_WORDS = 1_000  # that are spoken alike
SILENT = 0.3  # part of the segments whose pauses are unknown
NOISY = 0.5  # part of the segments with wrong words
WRONG = 0.08  # of their words
BREAK_SECONDS = 0.7  # a pause that may end an utterance
# Of pauses after no mark, a comma, the end of a sentence: the part that is there at all, median in seconds, spread of
# its logarithm.
AFTER_NONE, AFTER_COMMA, AFTER_ENDING = (0.06, 0.2, 0.8), (0.65, 0.25, 0.6), (0.92, 0.6, 0.6)
LEAST_FORMS = 20  # how often a form as McDonald, or a name, must be there to be kept
NAME_SHARE = 0.97  # of the occurrences of a name inside sentences that have a capital


@dataclass(frozen=True)
class PunctuationText:
    """Texts as numbers."""

    words: tuple[str, ...]  # by id; by falling frequency after the special ones
    forms: tuple[str, ...]  # capitalised forms other than the first letter, as McDonald
    names: tuple[str, ...]  # words that nearly always have a capital
    suffixes: np.ndarray  # (V,) class of the ending of each word that was read, known or not
    known: np.ndarray  # (V,) id of each word that was read, `UNKNOWN` for rare ones
    streams: tuple[Stream, ...]  # to learn from
    held_out: Stream

    @property
    def size(self) -> int:
        """Words to learn from."""
        return sum(len(stream.words) for stream in self.streams)


class Stream(NamedTuple):
    """Words of a text in order."""

    words: np.ndarray  # (N,) int32, all distinct words are numbered
    marks: np.ndarray  # (N,) int8, index of `MARKS`
    shapes: np.ndarray  # (N,) int8, `NO_LABEL` where the place decides
    first: np.ndarray  # (N,) bool, of a line

    def part(self, start: int, end: int) -> Stream:
        return Stream(*(values[start:end] for values in self))


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
        DataError: a text cannot be read, or has fewer than 1,000 words in lines with marks.
    """
    numbers: dict[str, int] = dict.fromkeys(SPECIAL, 0)
    numbers[SPECIAL[UNKNOWN]] = UNKNOWN
    written: dict[str, Counter[str]] = {}
    streams = []
    for text in texts:
        report(f"reading {text}")
        streams.append(_stream(islice(tagged_text(text_lines(text)), most), numbers, written))
        if len(streams[-1].words) < 1_000:
            raise DataError(
                f"{text}: {len(streams[-1].words)} words in lines with capitals that end in a mark are too few; "
                "a punctuation model learns from text as it is written"
            )
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
        tuple(_usual_forms(written)),
        tuple(_names(streams, names)),
        np.array([0, 0, *(suffix_id(name, suffixes) for name in names[2:])], np.int32),
        known,
        tuple(stream.part(0, len(stream.words) - held) for stream, held in zip(streams, kept, strict=True)),
        Stream(*(np.concatenate(parts) for parts in zip(*ends, strict=True))),
    )


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


def _usual_forms(written: dict[str, Counter[str]]) -> Iterator[str]:
    for word, counts in sorted(written.items()):
        form, count = counts.most_common(1)[0]
        if form != word[:1].upper() + word[1:] and count >= LEAST_FORMS and "'" not in form[-2:]:
            yield form


def _names(streams: Sequence[Stream], words: Sequence[str]) -> Iterator[str]:
    counts = np.zeros((len(SHAPES), len(words)), np.int64)
    for stream in streams:
        for shape in SHAPES:
            counts[shape] += np.bincount(stream.words[stream.shapes == shape], minlength=len(words))
    capital, total = counts[CAPITAL], counts.sum(axis=0)
    for number in np.flatnonzero((total >= LEAST_FORMS) & (capital >= NAME_SHARE * total)).tolist():
        if len(words[number]) > 1 and "'" not in words[number]:
            yield words[number]


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
    seconds = pauses_before(stream, generator) * pace
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


def pauses_before(stream: Stream, generator: np.random.Generator) -> np.ndarray:
    """Seconds (N,) of silence before each word, drawn by the mark before it."""
    before = np.concatenate([[MARKS.index(".")], stream.marks[:-1]])
    kinds = np.where(before == 0, 0, np.where(np.isin(before, list(ENDING)), 2, 1))
    there, median, spread = np.array([AFTER_NONE, AFTER_COMMA, AFTER_ENDING])[kinds].T
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
