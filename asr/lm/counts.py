"""Counting the n-grams of a text by sorting numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MOST_ORDER = 4  # three words and, of a few neighbouring ones, a fourth are one number of 63 bits
BLOCK = 1 << 24  # n-grams sorted at once, about


class CountedBlock(NamedTuple):
    """Different n-grams, sorted by their words. Words are digits of a number of base `base`, the last word least."""

    histories: np.ndarray  # (K,) int64 all words but the last
    last: np.ndarray  # (K,) int64
    counts: np.ndarray  # (K,) int64

    def suffixes(self, n: int, base: int) -> np.ndarray:
        """(K,) int64: all words but the first of n-grams of order n."""
        return self.histories % base ** (n - 2) * base + self.last if n > 1 else self.last


def count_blocks(stream: np.ndarray, n: int, base: int) -> Iterator[CountedBlock]:
    """Count the n-grams of a stream of words: 0 ends a sentence, ``base`` - 1 begins one, ``base`` is an unknown word.

    No n-gram has an unknown word or goes on behind an end, and none of order 1 is a begin.

    Yields:
        n-grams whose first words are in one range, then those of the next.
    """
    length = max(0, len(stream) - n + 1)
    valid = stream[n - 1 :] < base
    if n == 1:
        valid = stream < base - 1
    inner = (stream > 0) & (stream < base)
    for place in range(n - 1):
        valid &= inner[place : place + length]
    firsts = stream[:length]
    most = base if n < MOST_ORDER else (2**63 - 1) // base ** (n - 1)
    for low, high in _ranges(np.bincount(firsts[valid], minlength=base), most):
        places = np.flatnonzero(valid & (firsts >= low) & (firsts < high))
        keys = firsts[places].astype(np.int64) - low
        for place in range(1, n):
            keys *= base
            keys += stream[place:][places]
        del places
        keys, counts = distinct(keys)
        if not len(keys):
            continue
        if n == 1:
            yield CountedBlock(np.zeros_like(keys), keys + low, counts)
        else:
            yield CountedBlock(keys // base + low * base ** (n - 2), keys % base, counts)


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different numbers in rising order, and how often each is there; ``keys`` are sorted in place."""
    keys.sort()
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, np.int64)
    return keys[starts], np.diff(starts, append=len(keys))


def _ranges(masses: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of indices, each of about `BLOCK` in sum and at most ``most`` indices."""
    sums = np.concatenate([[0], np.cumsum(masses)])
    low = 0
    while low < len(masses):
        high = int(np.searchsorted(sums, sums[low] + BLOCK, side="right")) - 1
        high = min(max(high, low + 1), low + most, len(masses))
        yield low, high
        low = high
