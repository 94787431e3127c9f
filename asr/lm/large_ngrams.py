"""N-gram models of any size as a trie of sorted arrays, packed in a file and looked up without being loaded.

The layout is that of KenLM's trie (Heafield 2011), in plain arrays with byte-sized codes for the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import ModelError
from asr.graph.packed_arrays import PackedArrays, join_planes, pack_arrays
from asr.lm.ngram import BEGINS, ENDS, UNKNOWN, NgramModel, Table
from asr.native import library

FORMAT = 2
REMEDY = "build it again with 'asr lm build'"
LEVELS = 256  # values that a probability or a back-off factor can have
BINS, ROUNDS = 1 << 14, 50  # of the histogram that the values are chosen from; how often they are moved
NO_CONTEXT = 0xFFFFFFFF  # suffix of a single word
END = 0  # id of the end of a sentence
COLUMNS = "words", "steps", "marks", "counts", "prob_codes", "prob_values", "backoff_codes", "backoff_values"


@dataclass(frozen=True)
class LargeNgrams:
    """A back-off n-gram model of order N >= 2 over V words: M n-grams, C of which are contexts.

    Word ids are those of the decoding graph, 1 to V; 0 ends a sentence and V + 1 begins one. There is no unknown word.
    The n-grams lie order after order, within one sorted by their history, then by the last word; number k of order 1 is
    word k. A context is an n-gram that others continue; contexts are numbered in the order of the n-grams. What nothing
    continues needs no back-off factor: it would be 1.
    """

    last: np.ndarray  # (M,) uint32 last word
    prob_codes: np.ndarray  # (M,) uint8
    prob_values: np.ndarray  # (256,) float32 natural logarithms
    marks: np.ndarray  # (ceil(M / 64),) uint64; bit k % 64 of number k // 64: whether n-gram k is a context
    ranks: np.ndarray  # (ceil(M / 64),) uint32 contexts before each 64 n-grams
    backoff_codes: np.ndarray  # (C,) uint8
    backoff_values: np.ndarray  # (256,) float32; one is 0
    children: np.ndarray  # (C + 1,) uint32; n-grams children[i] to children[i + 1] continue context i
    suffixes: np.ndarray  # (C,) uint32 the context without its first word, as a context; NO_CONTEXT for single words

    @property
    def vocabulary(self) -> int:
        """V, the words without the marks of begin and end."""
        return int(self.children[0]) - 2

    @classmethod
    def from_model(cls, model: NgramModel, words: Sequence[str]) -> LargeNgrams:
        """Number the words of a model as a lexicon does, drop its unknown word, and quantise it.

        Args:
            model: of order 2 or more.
            words: of the language model folder, from id 1 on.
        Raises:
            ValueError: the model has other words than these, or no n-grams but single words.
        """
        if model.order < 2:
            raise ValueError("a model of single words has no contexts")
        if set(words) != set(model.own_words):
            raise ValueError(f"the n-gram model has {len(set(words) ^ set(model.own_words))} other words")
        if tuple(words) != model.own_words or model.knows_unknown:
            model = _renumbered(model, words)
        tables = model.tables
        sizes = [len(table.last) for table in tables]
        weights = np.repeat(1 / np.array(sizes), sizes)  # the few short n-grams are looked up as often as the many long
        prob_values, prob_codes = _quantised(np.concatenate([table.log_probs for table in tables]), weights)
        offsets = np.cumsum([0, *sizes])
        counts = np.concatenate(
            [np.bincount(table.histories, minlength=size) for table, size in zip(tables[1:], sizes, strict=False)]
        )
        contexts = np.flatnonzero(counts)
        factors = np.concatenate([table.backoffs for table in tables[:-1]])[contexts]
        backoff_values, backoff_codes = _quantised(factors, weights[contexts])
        marks, ranks = _marked(contexts, offsets[-1])
        shorter = np.concatenate([offsets[k] + table.suffixes for k, table in enumerate(tables[1:-1])] or [[]])
        longer = contexts >= sizes[0]
        suffixes = np.full(len(contexts), NO_CONTEXT, np.int64)
        suffixes[longer] = np.searchsorted(contexts, shorter[contexts[longer] - sizes[0]])
        return cls(
            np.concatenate([table.last for table in tables]).astype(np.uint32),
            prob_codes,
            prob_values,
            marks,
            ranks,
            backoff_codes,
            backoff_values,
            np.cumsum([sizes[0], *counts[contexts]]).astype(np.uint32),
            suffixes.astype(np.uint32),
        )

    def model(self, words: Sequence[str]) -> NgramModel:
        """The model as it can be mixed with others and pruned; ``words`` from id 1 on."""
        own = self.contexts()
        first = int(self.children[0])
        histories = np.repeat(own, np.diff(self.children))
        suffixes = self.suffix_ngrams()
        factors = np.zeros(len(self.last), np.float32)
        factors[own] = self.backoff_values[self.backoff_codes]
        chances = self.prob_values[self.prob_codes]
        nothing = np.zeros(first, np.int32)
        tables = [Table(self.last[:first].astype(np.int32), nothing, nothing, chances[:first], factors[:first])]
        below, start = 0, first
        while start < len(self.last):
            end = int(self.children[np.searchsorted(own, start)])
            part = slice(start - first, end - first)
            rows = (histories[part] - below).astype(np.int32), (suffixes[part] - below).astype(np.int32)
            tables.append(Table(self.last[start:end].astype(np.int32), *rows, chances[start:end], factors[start:end]))
            below, start = start, end
        return NgramModel(words, tables)

    def contexts(self) -> np.ndarray:
        """(C,) int64: which n-grams are contexts."""
        return np.flatnonzero(np.unpackbits(self.marks.view(np.uint8), bitorder="little"))

    def suffix_ngrams(self) -> np.ndarray:
        """(M - V - 2,) int64: of each n-gram of two words or more the n-gram without its first word."""
        words = int(self.children[0])
        histories = np.repeat(np.arange(len(self.suffixes)), np.diff(self.children))
        keys = histories * words + self.last[words:]
        shorter = self.suffixes[histories]
        longer = shorter != NO_CONTEXT
        found = self.last[words:].astype(np.int64)
        wanted = shorter[longer].astype(np.int64) * words + self.last[words:][longer]
        found[longer] = words + np.searchsorted(keys, wanted)
        return found

    def context(self, history: Sequence[int]) -> int | None:
        """The longest end of a history (word ids) that is a context; None where not even its last word is one."""
        for start in range(len(history)):
            found = self._context_of(history[start])
            for word in history[start + 1 :]:
                child = None if found is None else self._child(found, word)
                found = None if child is None else self._context_of(child)
            if found is not None:
                return found
        return None

    def log_prob(self, history: Sequence[int], word: int) -> float:
        """Natural-log probability of a word after a history of any length, both as ids (Katz 1987)."""
        context, total = self.context(history), 0.0
        while context is not None:
            found = self._child(context, word)
            if found is not None:
                return total + float(self.prob_values[self.prob_codes[found]])
            total += float(self.backoff_values[self.backoff_codes[context]])
            context = int(self.suffixes[context])
            if context == NO_CONTEXT:
                break
        return total + float(self.prob_values[self.prob_codes[word]])

    def _context_of(self, ngram: int) -> int | None:
        """The number of an n-gram among the contexts."""
        block, bit = divmod(ngram, 64)
        before = int(self.marks[block]) & ((2 << bit) - 1)
        return int(self.ranks[block]) + before.bit_count() - 1 if before >> bit else None

    def _child(self, context: int, word: int) -> int | None:
        start, end = int(self.children[context]), int(self.children[context + 1])
        place = start + int(np.searchsorted(self.last[start:end], word))
        return place if place < end and self.last[place] == word else None

    def pack(self) -> bytes:
        """The model as compressed bytes.

        A word that follows a context follows its suffix, too: its place among the words that do is stored, a smaller
        number than its id (Pibiri & Venturini 2019), as the difference from the place before.
        """
        words = int(self.children[0])
        counts: np.ndarray = np.diff(self.children.astype(np.int64))
        places = self.suffix_ngrams()
        shorter = np.repeat(self.suffixes, counts)
        longer = shorter != NO_CONTEXT
        places[longer] -= self.children[shorter[longer]]
        steps = np.diff(places, prepend=-1) - 1
        firsts = self.children[:-1].astype(np.int64) - words
        steps[firsts] = places[firsts]
        values = self.prob_codes, self.prob_values, self.backoff_codes, self.backoff_values
        columns = np.array(words), _planes(steps), self.marks, _planes(counts), *values
        return pack_arrays({"format": np.array(FORMAT)} | dict(zip(COLUMNS, columns, strict=True)))

    @classmethod
    def unpack(cls, content: bytes, name: object = "it") -> LargeNgrams:
        """Read what `pack` made; raises ModelError, with the ``name`` of the file, when it is anything else."""
        try:
            packed = PackedArrays(content)
            if int(packed["format"]) != FORMAT:
                raise ModelError(f"{name} has format {packed['format']}, not {FORMAT}; {REMEDY}")
            columns = [packed[column] for column in COLUMNS]
            del content, packed  # linking takes much memory, too
            return cls._linked(*columns)
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{name} is no packed n-gram model ({error}); {REMEDY}") from error

    @classmethod
    def _linked(
        cls,
        words: np.ndarray,
        steps: np.ndarray,
        marks: np.ndarray,
        counts: np.ndarray,
        prob_codes: np.ndarray,
        prob_values: np.ndarray,
        backoff_codes: np.ndarray,
        backoff_values: np.ndarray,
    ) -> LargeNgrams:
        """The model of a file's columns. Raises ValueError when they are none."""
        first, size, found = int(words), len(prob_codes), counts.shape[-1]
        for values in (prob_values, backoff_values):
            if values.dtype != np.float32 or values.shape != (LEVELS,) or not np.isfinite(values).all():
                raise ValueError("its values are none")
        shapes = [(steps, (3, size - first)), (counts, (3, found)), (backoff_codes, (found,)), (prob_codes, (size,))]
        if (
            any(column.shape != shape or column.dtype != np.uint8 for column, shape in shapes)
            or (marks.dtype, len(marks)) != (np.uint64, -(-size // 64))
            or not 2 <= first <= size
        ):
            raise ValueError("its columns differ in length")
        bits = np.bitwise_count(marks)
        ranks = np.cumsum(bits, dtype=np.uint32) - bits
        sizes = join_planes(counts)
        if (int(bits.sum(dtype=np.int64)), first + int(sizes.sum(dtype=np.int64))) != (found, size):
            raise ValueError("its columns differ in length")
        children = np.cumsum(np.concatenate([[np.uint32(first)], sizes]), dtype=np.uint32)
        last, suffixes = np.empty(size, np.uint32), np.empty(found, np.uint32)
        given = steps, marks, ranks, children, first, size, found, last, suffixes
        pointers = (one.ctypes.data if isinstance(one, np.ndarray) else one for one in given)
        if not library().rill_ngrams_link(*pointers):
            raise ValueError("its n-grams have suffixes that are none")
        return cls(last, prob_codes, prob_values, marks, ranks, backoff_codes, backoff_values, children, suffixes)


def _marked(contexts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """``marks`` and ``ranks``."""
    bits = np.zeros(-(-size // 64) * 64, bool)
    bits[contexts] = True
    counts = bits.reshape(-1, 64).sum(axis=1)
    return np.packbits(bits, bitorder="little").view(np.uint64), (np.cumsum(counts) - counts).astype(np.uint32)


def _renumbered(model: NgramModel, words: Sequence[str]) -> NgramModel:
    """With other ids of the words, without the unknown word: its probability goes to the others."""
    numbers = np.array([{ENDS: 0, BEGINS: len(words) + 1, UNKNOWN: -1}.get(word, 0) for word in model.words], np.int32)
    numbers[1 : len(words) + 1] = [k for _, k in sorted((model.ids[word], k) for k, word in enumerate(words, start=1))]
    grams = []
    for n, table in enumerate(model.tables, start=1):
        ids = numbers[model.grams(n)]
        keep = (ids >= 0).all(axis=1)
        log_probs = table.log_probs[keep]
        if n == 1:
            total = np.exp(log_probs[ids[keep, 0] <= len(words)]).sum()
            log_probs = log_probs - np.log(total)
        grams.append((ids[keep], log_probs, table.backoffs[keep]))
    return NgramModel.of_ngrams(words, grams).normalised()


def _quantised(numbers: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(256,) values, one of them 0, and the code (N,) of each number, so that the squared error is small.

    The values begin as dense as the cube root of the density of the numbers (Panter & Dite 1951) and are moved to the
    means of what is nearest to them (Lloyd 1982), both on a histogram.
    """
    low, high = float(numbers.min()), float(numbers.max())
    width = max(high - low, 1e-6) / BINS
    bins = np.minimum(((numbers - low) / width).astype(np.int32), BINS - 1)
    masses = np.bincount(bins, np.where(numbers == 0, 0, weights), BINS)  # 0 has a value of its own
    sums = np.bincount(bins, weights * numbers, BINS)
    density = np.cumsum(np.cbrt(np.convolve(masses, np.ones(BINS // 128), "same")))
    levels = (np.arange(LEVELS - 1) + 0.5) * (density[-1] / (LEVELS - 1))
    values = low + width * np.searchsorted(density, levels)
    centres = low + width * (np.arange(BINS) + 0.5)
    for _ in range(ROUNDS):
        cells = np.searchsorted((values[1:] + values[:-1]) / 2, centres)
        mass, total = np.bincount(cells, masses, LEVELS - 1), np.bincount(cells, sums, LEVELS - 1)
        values = np.sort(np.where(mass > 0, total / np.maximum(mass, 1e-300), values))
    codes = np.searchsorted((values[1:] + values[:-1]) / 2, centres).astype(np.uint8)[bins]
    codes[numbers == 0] = LEVELS - 1
    return np.append(values, 0).astype(np.float32), codes


def _planes(values: np.ndarray) -> np.ndarray:
    """Numbers (N,) of 0 to 2^24 - 1 as their bytes (3, N)."""
    return np.ascontiguousarray(values.astype("<u4").view(np.uint8).reshape(-1, 4).T[:3])
