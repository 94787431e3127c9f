"""Estimating n-gram models with modified Kneser-Ney smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.lm.counts import count_blocks, distinct
from asr.lm.ngram import NEVER, NgramModel, Table

FALLBACK = (0.5, 1.0, 1.5)  # discounts where a text is too small to estimate them


class _Counted(NamedTuple):
    """The n-grams of one order that are kept."""

    histories: np.ndarray  # (K,) int64 as numbers
    last: np.ndarray  # (K,)
    counts: np.ndarray  # (K,) adjusted counts
    totals: np.ndarray  # (K,) sum of the adjusted counts after the same history, dropped n-grams included
    discounts: np.ndarray  # (4,) of adjusted counts of 0, 1, 2 and more

    def shares(self) -> np.ndarray:
        """(K,) float32: the discounted relative frequencies."""
        return ((self.counts - self.discounts[np.minimum(self.counts, 3)]) / self.totals).astype(np.float32)


def estimate(stream: np.ndarray, words: Sequence[str], order: int, prune: Sequence[int]) -> NgramModel:
    """An interpolated model with modified Kneser-Ney smoothing (Chen & Goodman 1999), as KenLM's lmplz makes it.

    Unlike there, sentences are split at unknown words, which get no probability. Words that the text lacks count as
    seen once.

    Args:
        stream: (T,) word ids: 0 ends a sentence, 1 to V are words, V + 1 begins a sentence, V + 2 is an unknown word.
        words: V of them.
        order: 1 to `asr.lm.counts.MOST_ORDER`.
        prune: for each order, the count up to which n-grams are dropped; never falling, and 0 at first. The last one
            goes on.
    """
    base = len(words) + 2
    prune = (*prune, *[prune[-1]] * (order - len(prune)))
    counted: list[_Counted] = []
    followed: tuple[np.ndarray, np.ndarray] | None = None
    for n in range(order, 0, -1):
        found, followed = _count(stream, n, base, prune[n - 1], followed)
        counted.insert(0, found)
    return _assembled(counted, words)


def _count(
    stream: np.ndarray, n: int, base: int, least: int, continued: tuple[np.ndarray, np.ndarray] | None
) -> tuple[_Counted, tuple[np.ndarray, np.ndarray]]:
    """Count one order, drop what was seen ``least`` times or fewer.

    Args:
        continued: n-grams of this order as numbers, sorted, and how many different words were seen before each; None
            in the highest order, where the times they were seen count.
    Returns:
        What is kept, and ``continued`` of the order below.
    """
    kept: list[tuple[np.ndarray, ...]] = []
    suffixes: list[np.ndarray] = []
    of_counts = np.zeros(6)
    for block in count_blocks(stream, n, base):
        counts = block.counts
        if continued is not None:
            keys = block.histories * base + block.last
            types = np.ones_like(counts)  # where it was seen behind unknown words only
            low, high = np.searchsorted(continued[0], [keys[0], keys[-1] + 1])
            types[np.searchsorted(keys, continued[0][low:high])] = continued[1][low:high]
            begins = keys // base ** (n - 1) == base - 1  # nothing can be before them
            counts = np.where(begins, counts, types) if n > 1 else types
        of_counts += np.bincount(np.minimum(counts, 5), minlength=6)
        starts = np.flatnonzero(np.diff(block.histories, prepend=-1))
        totals = np.repeat(np.add.reduceat(counts, starts), np.diff(starts, append=len(counts)))
        if n > 1:
            suffixes.append(block.suffixes(n, base))
        often = block.counts > least
        kept.append((block.histories[often], block.last[often].astype(np.int32), counts[often], totals[often]))
    columns = [np.concatenate(parts) for parts in zip(*kept, strict=True)] if kept else [np.zeros(0, np.int64)] * 4
    below = distinct(np.concatenate(suffixes)) if suffixes else (np.zeros(0, np.int64),) * 2
    histories, last, adjusted, totals = columns
    return _Counted(histories, last, adjusted, totals, _discounts(of_counts)), below


def _discounts(of_counts: np.ndarray) -> np.ndarray:
    """(4,) from the numbers of n-grams that were seen 1, 2, 3 and 4 times (Chen & Goodman 1999, equation 26)."""
    once = of_counts[1:5]
    if once.min() <= 0:
        return np.array([0, *FALLBACK])
    common = once[0] / (once[0] + 2 * once[1])
    found = [k - (k + 1) * common * once[k] / once[k - 1] for k in (1, 2, 3)]
    usable = all(0 <= discount <= k for k, discount in enumerate(found, start=1))
    return np.array([0, *(found if usable else FALLBACK)])


def _assembled(counted: Sequence[_Counted], words: Sequence[str]) -> NgramModel:
    base = len(words) + 2
    first = counted[0]
    counts = np.ones(base, np.int64)
    counts[first.last] = first.counts
    counts[-1] = 0  # the begin of a sentence follows nothing
    shares = (counts - first.discounts[np.minimum(counts, 3)]) / counts.sum()
    chances = (shares + (1 - shares.sum()) / (base - 1)).astype(np.float32)
    log_probs = np.log(chances)
    log_probs[-1] = NEVER * np.log(10)
    ids = np.arange(base, dtype=np.int32)
    none = np.zeros(base, np.int32)
    tables = [Table(ids, none, none, log_probs, np.zeros(base, np.float32))]
    keys = ids.astype(np.int64)
    for n, found in enumerate(counted[1:], start=2):
        histories = np.searchsorted(keys, found.histories).astype(np.int32)
        wanted = found.histories % base ** (n - 2) * base + found.last
        suffixes = _places(keys, wanted)
        own = found.shares()
        taken = np.bincount(histories, own, len(keys))
        left = np.maximum(1 - taken, 1e-6).astype(np.float32)
        below = tables[-1]
        tables[-1] = below._replace(backoffs=np.where(taken > 0, np.log(left), 0).astype(np.float32))
        chances = own + left[histories] * chances[suffixes]
        log_probs = np.log(chances)
        tables.append(Table(found.last, histories, suffixes, log_probs, np.zeros(len(own), np.float32)))
        if n < len(counted):
            keys = found.histories * base + found.last
    return NgramModel(words, tables)


def _places(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(K,) int32 where numbers are in ``keys``; looked up in rising order, which the caches of a processor like."""
    order = np.argsort(wanted)
    found = np.empty(len(wanted), np.int32)
    found[order] = np.searchsorted(keys, wanted[order])
    return found
