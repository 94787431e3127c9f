"""N-gram models of any size as a trie of sorted arrays, packed in a file and looked up without being loaded.

The layout is that of KenLM's trie (Heafield 2011), in plain arrays with byte-sized codes for the probabilities.
"""

from __future__ import annotations

import io
import lzma
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import ModelError
from asr.lm.ngram import BEGINS, ENDS, UNKNOWN, NgramModel, Table

FORMAT = 1
REMEDY = "build it again with 'asr lm build'"
LEVELS = 256  # values that a probability or a back-off factor can have
BINS, ROUNDS = 1 << 14, 50  # of the histogram that the values are chosen from; how often they are moved
NO_CONTEXT = 0xFFFFFFFF  # suffix of a single word
END = 0  # id of the end of a sentence


@dataclass(frozen=True)
class LargeNgrams:
    """A back-off n-gram model of order N >= 2 over V words: M entries, the first C of which are contexts.

    Word ids are those of the decoding graph, 1 to V; 0 ends a sentence and V + 1 begins one. There is no unknown word.
    The entries are all n-grams, order after order, within one sorted by the entry of the history, then by the last
    word. Entry k of order 1 is word k. All entries but those of order N are contexts, with or without continuations.
    """

    last: np.ndarray  # (M,) uint32 last word
    prob_codes: np.ndarray  # (M,) uint8
    prob_values: np.ndarray  # (256,) float32 natural logarithms
    backoff_codes: np.ndarray  # (C,) uint8
    backoff_values: np.ndarray  # (256,) float32; one is 0
    children: np.ndarray  # (C + 1,) uint32; entries children[i] to children[i + 1] continue context i
    suffixes: np.ndarray  # (C,) uint32 the context without its first word, NO_CONTEXT for single words

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
        factors = np.concatenate([table.backoffs for table in tables[:-1]])
        backoff_values, backoff_codes = _quantised(factors, weights[: len(factors)])
        offsets = np.cumsum([0, *sizes])
        counts = [np.bincount(table.histories, minlength=size) for table, size in zip(tables[1:], sizes, strict=False)]
        suffixes = [np.full(sizes[0], NO_CONTEXT, np.int64)]
        suffixes += [offsets[k] + table.suffixes for k, table in enumerate(tables[1:-1])]
        return cls(
            np.concatenate([table.last for table in tables]).astype(np.uint32),
            prob_codes,
            prob_values,
            backoff_codes,
            backoff_values,
            np.cumsum([sizes[0], *np.concatenate(counts)]).astype(np.uint32),
            np.concatenate(suffixes).astype(np.uint32),
        )

    def model(self, words: Sequence[str]) -> NgramModel:
        """The model as it can be mixed with others and pruned; ``words`` from id 1 on."""
        tables, below, start = [], 0, 0
        longer = self.entry_suffixes()
        first = int(self.children[0])
        backoffs = self.backoff_values[self.backoff_codes]
        while start < len(self.last):
            end = first if start == 0 else int(self.children[start]) if start < len(self.suffixes) else len(self.last)
            if start == 0:
                histories = suffixes = np.zeros(end, np.int32)
            else:
                counts = np.diff(self.children[below : start + 1])
                histories = np.repeat(np.arange(start - below, dtype=np.int32), counts)
                suffixes = (longer[start - first : end - first] - below).astype(np.int32)
            factors = backoffs[start:end] if start < len(self.suffixes) else np.zeros(end - start, np.float32)
            chances = self.prob_values[self.prob_codes[start:end]]
            tables.append(Table(self.last[start:end].astype(np.int32), histories, suffixes, chances, factors))
            below, start = start, end
        return NgramModel(words, tables)

    def context(self, history: Sequence[int]) -> int | None:
        """The longest end of a history (word ids) that is a context; None where not even its last word is one."""
        for start in range(len(history)):
            found: int | None = history[start]
            for word in history[start + 1 :]:
                found = None if found is None or found >= len(self.suffixes) else self._child(found, word)
            if found is not None and found < len(self.suffixes):
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

    def _child(self, context: int, word: int) -> int | None:
        start, end = int(self.children[context]), int(self.children[context + 1])
        place = start + int(np.searchsorted(self.last[start:end], word))
        return place if place < end and self.last[place] == word else None

    def pack(self) -> bytes:
        """The model as bytes, compressed by LZMA.

        A word that follows a context follows its suffix, too: its place among the words that do is stored, a smaller
        number than its id (Pibiri & Venturini 2019), as the difference from the place before.
        """
        words = int(self.children[0])
        counts: np.ndarray = np.diff(self.children.astype(np.int64))
        places = self.entry_suffixes()
        histories = np.repeat(np.arange(len(counts)), counts)
        longer = histories >= words
        places[longer] -= self.children[self.suffixes[histories[longer]]]
        steps = np.diff(places, prepend=-1) - 1
        firsts = (self.children[:-1][counts > 0]).astype(np.int64) - words
        steps[firsts] = places[firsts]
        columns = {
            "format": np.array(FORMAT),
            "words": np.array(words),
            "steps": _planes(steps),
            "counts": _planes(counts),
            "prob_codes": self.prob_codes,
            "prob_values": self.prob_values,
            "backoff_codes": self.backoff_codes,
            "backoff_values": self.backoff_values,
        }
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_LZMA) as archive:
            for name, column in columns.items():
                part = zipfile.ZipInfo(f"{name}.npy")  # of no date: the same model makes the same bytes
                part.compress_type = zipfile.ZIP_LZMA
                with archive.open(part, "w") as file:
                    np.lib.format.write_array(file, np.asarray(column), allow_pickle=False)
        return content.getvalue()

    def entry_suffixes(self) -> np.ndarray:
        """(M - V - 2,) int64: of each entry of two words or more the entry without its first word."""
        words, contexts = int(self.children[0]), len(self.suffixes)
        histories = np.repeat(np.arange(contexts), np.diff(self.children))
        if contexts == words:
            return self.last[words:].astype(np.int64)
        keys = histories * words + self.last[words:]
        below = keys[: contexts - words]
        wanted = self.suffixes[histories[contexts - words :]].astype(np.int64) * words + self.last[contexts:]
        return np.concatenate([self.suffixes[words:].astype(np.int64), words + np.searchsorted(below, wanted)])

    @classmethod
    def unpack(cls, content: bytes, name: object = "it") -> LargeNgrams:
        """Read what `pack` made; raises ModelError, with the ``name`` of the file, when it is anything else."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                if int(archive["format"]) != FORMAT:
                    raise ModelError(f"{name} has format {archive['format']}, not {FORMAT}; {REMEDY}")
                columns = {field: archive[field] for field in archive.files}
            words, counts = int(columns["words"]), _joined(columns["counts"])
            places = _summed(_joined(columns["steps"]) + 1, counts) - 1
            for values in (columns["prob_values"], columns["backoff_values"]):
                if values.shape != (LEVELS,) or not np.isfinite(values).all():
                    raise ValueError("its values are none")
            if len(columns["backoff_codes"]) != len(counts) or len(columns["prob_codes"]) != words + len(places):
                raise ValueError("its columns differ in length")
            codes = columns["prob_codes"], columns["prob_values"], columns["backoff_codes"], columns["backoff_values"]
            last, children, suffixes = _linked(words, counts, places)
            return cls(last, *codes, children, suffixes)
        except (EOFError, LookupError, OSError, TypeError, ValueError, zipfile.BadZipFile, lzma.LZMAError) as error:
            raise ModelError(f"{name} is no packed n-gram model ({error}); {REMEDY}") from error


def _linked(words: int, counts: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``last``, ``children`` and ``suffixes``.

    Args:
        words: entries of order 1.
        counts: (C,) of each context, its continuations.
        places: (M - words,) of each of them, its place among the continuations of the context's suffix.
    Raises:
        ValueError: these are no trie.
    """
    contexts = len(counts)
    if contexts < words or counts.sum() != len(places):
        raise ValueError("its columns differ in length")
    children = words + np.concatenate([[0], np.cumsum(counts)])
    last = np.concatenate([np.arange(words, dtype=np.uint32), places.astype(np.uint32)])
    suffixes = np.full(contexts, NO_CONTEXT, np.uint32)
    begin, start = 0, words
    while start < len(last):  # an order at a time, [start, end); its histories are [begin, start)
        end = int(children[min(start, contexts)])
        own = places[start - words : end - words]
        if begin:
            shorter = suffixes[np.repeat(np.arange(begin, start), counts[begin:start])]
            own = own + children[shorter]
            if (own >= children[shorter.astype(np.int64) + 1]).any():
                raise ValueError("a word follows a context and not its suffix")
            last[start:end] = last[own]
        elif own.max(initial=0) >= words:
            raise ValueError("it has words that are none")
        if start < contexts:
            suffixes[start:end] = own
        begin, start = start, end
        if end == begin:
            raise ValueError("it has contexts of no order")
    return last, children.astype(np.uint32), suffixes


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


def _joined(planes: np.ndarray) -> np.ndarray:
    """The inverse of `_planes`: (N,) int64."""
    return planes[0] + planes[1].astype(np.int64) * 256 + planes[2].astype(np.int64) * 65_536


def _summed(steps: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Running sums (N,) of ``steps`` that start again after each of ``counts``, which sum to N."""
    total = np.cumsum(steps)
    ends = np.cumsum(counts)
    before = np.concatenate([[0], total])[ends - counts]
    return total - np.repeat(before, counts)
