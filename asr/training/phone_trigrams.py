"""A trigram model of phone sequences, as one dense table: what the denominator of sequence training sums over."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

BORDER = 0  # of a sequence: stands before its first phone and after its last, where token tables have the blank


def phone_trigrams(sequences: Iterable[np.ndarray], phones: int) -> np.ndarray:
    """Estimate P(next | the two before), smoothed by interpolation (Witten & Bell 1991; Chen & Goodman 1999).

    Args:
        sequences: phone ids, 1 to ``phones`` - 1, of utterances.
        phones: size of the phone head, the blank included.
    Returns:
        (phones, phones, phones) float32 probabilities of [before last, last, next]; each history's sum to 1. Id 0 is
        the border of a sequence.
    """
    counts = np.zeros((phones, phones, phones))
    for sequence in sequences:
        if len(sequence):
            padded = np.concatenate([[BORDER, BORDER], sequence, [BORDER]])
            np.add.at(counts, (padded[:-2], padded[1:-1], padded[2:]), 1)
    lower = np.full(phones, 1 / phones)
    for axes in ((0, 1), (0,), ()):
        seen = counts.sum(axis=axes)
        total = seen.sum(axis=-1, keepdims=True)
        kinds = (seen > 0).sum(axis=-1, keepdims=True)  # how many different phones followed: the weight of the lower
        lower = (seen + kinds * lower) / np.maximum(total + kinds, 1) + (total == 0) * lower
    return lower.astype(np.float32)
