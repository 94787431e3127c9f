"""Text as numbers of words: what an LSTM language model is trained on."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import DataError
from asr.lm.corpus import sentences
from asr.models.language import ENDS, UNKNOWN

SPECIAL = ("</s>", "<unk>")  # words 0 and 1
MOST_HELD_OUT = 1_000  # sentences


@dataclass(frozen=True)
class EncodedText:
    """Texts as word ids; each sentence is followed by `ENDS`."""

    words: tuple[str, ...]  # by id; by falling frequency after the special ones
    streams: tuple[np.ndarray, ...]  # (N,) int32, one a text, to learn from
    held_out: np.ndarray  # (M,) int32, the last sentences of every text

    @property
    def size(self) -> int:
        """Words to learn from, ends of sentences included."""
        return sum(map(len, self.streams))

    def held_out_text(self) -> str:
        """A sentence a line."""
        parts = np.split(self.held_out, np.flatnonzero(self.held_out == ENDS) + 1)[:-1]
        return "".join(" ".join(self.words[word] for word in part[:-1]) + "\n" for part in parts)


def encode_texts(
    texts: Sequence[Path],
    vocabulary: int,
    known: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda stage: None,
    numbered: Sequence[str] | None = None,
) -> EncodedText:
    """Read texts, choose the vocabulary, keep the last sentences of each for measuring.

    Args:
        texts: plain, .gz, .xz or .bz2, a sentence a line.
        vocabulary: how many of the most frequent words to know.
        known: know these words instead.
        report: told what is being done.
        numbered: know exactly these, the special ones included, by these numbers.
    Raises:
        DataError: a text cannot be read, or has fewer than 20 sentences.
    """
    first: dict[str, int] = dict.fromkeys(SPECIAL)  # words as they come
    for number, word in enumerate(first):
        first[word] = number
    streams = []
    for text in texts:
        report(f"reading {text}")
        ids = array("i")
        for sentence in sentences(text):
            ids.extend([first.setdefault(word, len(first)) for word in sentence])
            ids.append(ENDS)
        streams.append(np.frombuffer(ids, np.int32) if ids else np.zeros(0, np.int32))
        if (streams[-1] == ENDS).sum() < 20:
            raise DataError(f"{text}: {(streams[-1] == ENDS).sum()} sentences are too few to learn from")
    counts = sum(np.bincount(stream, minlength=len(first)) for stream in streams)
    names = list(first)
    if numbered is not None:
        table = np.full(len(first), UNKNOWN, np.int32)
        for number, word in enumerate(numbered):
            if word in first:
                table[first[word]] = number
        learnt, held_out = zip(*(_split(table[stream]) for stream in streams), strict=True)
        return EncodedText(tuple(numbered), learnt, np.concatenate(held_out))
    wanted = np.array([first[word] for word in known if word in first] if known is not None else range(2, len(first)))
    wanted = wanted[np.argsort(-counts[wanted], kind="stable")]
    if known is None:
        wanted = wanted[:vocabulary]
    unseen = [word for word in known or () if word not in first]
    table = np.full(len(first), UNKNOWN, np.int32)
    table[ENDS] = ENDS
    table[wanted] = np.arange(len(wanted), dtype=np.int32) + len(SPECIAL)
    learnt, held_out = zip(*(_split(table[stream]) for stream in streams), strict=True)
    return EncodedText((*SPECIAL, *(names[k] for k in wanted), *unseen), learnt, np.concatenate(held_out))


def _split(stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is learnt from, and the last 1 % of the sentences."""
    ends = np.flatnonzero(stream == ENDS)
    kept = min(MOST_HELD_OUT, max(1, len(ends) // 100))
    border = ends[-kept - 1] + 1
    return stream[:border], stream[border:]


class TextBatches:
    """Endless batches of a mixture of texts: each row reads on in its own part of a text, over and over.

    Now and then a row forgets what it has read and goes on with the next sentence, so that the network learns to begin.
    """

    def __init__(
        self, streams: Sequence[np.ndarray], shares: Sequence[float], rows: int, steps: int, forget: float, seed: int
    ) -> None:
        """Give texts by their shares so many of the rows; ``forget``: probability, for each row and batch."""
        self._streams = streams
        self._ends = [np.flatnonzero(stream == ENDS) for stream in streams]
        self._steps, self._forget = steps, forget
        counts = np.maximum(1, np.round(np.array(shares) / sum(shares) * rows).astype(int))
        self._texts = np.repeat(np.arange(len(streams)), counts)
        offsets = np.concatenate([np.arange(count) / count for count in counts])
        lengths = np.array([len(stream) for stream in streams])[self._texts]
        self._places = (offsets * lengths).astype(np.int64)
        self._generator = np.random.default_rng(seed)

    @property
    def rows(self) -> int:
        return len(self._texts)

    def state(self) -> dict:
        """What `restore` takes."""
        return {"places": self._places.tolist(), "generator": self._generator.bit_generator.state}

    def restore(self, state: dict) -> None:
        """Go on where another was."""
        self._places = np.array(state["places"], np.int64)
        self._generator.bit_generator.state = state["generator"]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Words (T, B), the words after them (T, B), and which rows (B,) go on where they were."""
        while True:
            kept = self._generator.random(self.rows) >= self._forget
            for row in np.flatnonzero(~kept):
                ends = self._ends[self._texts[row]]
                self._places[row] = ends[np.searchsorted(ends, self._places[row]) % len(ends)]
            columns = np.empty((self._steps + 1, self.rows), np.int32)
            for row, (text, place) in enumerate(zip(self._texts, self._places, strict=True)):
                stream = self._streams[text]
                columns[:, row] = stream.take(np.arange(place, place + self._steps + 1), mode="wrap")
                self._places[row] = (place + self._steps) % len(stream)
            yield columns[:-1], columns[1:], kept
