"""Pronunciations of words that no dictionary has: a joint letter-phone n-gram model.

A word and its pronunciation are one sequence of pairs (letter, phones): "six" is s:S i:IH x:K_S. The pairs are found by
Viterbi training on a dictionary, an interpolated Kneser-Ney n-gram model is counted over them, and a beam search over
the pairs that each letter allows gives the likeliest pronunciations (Bisani & Ney, 2008; here one letter a pair).
"""

from __future__ import annotations

import math
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from asr.files import write_whole

LETTERS = "'abcdefghijklmnopqrstuvwxyz"
MAX_PHONES_PER_LETTER = 2
ORDER = 6
_PAIR_BITS = 10  # ORDER pairs in one 64-bit key
_START, _END = 0, 1
_WIDTH = 12.0  # nats that a beginning may be worse than the best one
_UNSEEN_COST = 12.0  # nats, of a pair (letter, phones) that was not seen in training

Pronunciation = tuple[str, ...]


class PronunciationModel:
    """Letter-to-phone model; build it with `train` or read it with `load`."""

    def __init__(self, pairs: list[tuple[str, Pronunciation]], arrays: dict[str, np.ndarray]) -> None:
        """`pairs` in the order of their ids; `arrays` as `_kneser_ney` gives them."""
        self._pairs = pairs
        self._arrays = arrays
        order = sum(name.startswith("costs") for name in arrays)
        self._costs = [_table(arrays[f"ngrams{n}"], arrays[f"costs{n}"]) for n in range(order)]
        self._backoffs = [_table(arrays[f"contexts{n}"], arrays[f"backoffs{n}"]) for n in range(order)]
        self._context_mask = (1 << _PAIR_BITS * (order - 1)) - 1
        self._choices: dict[str, list[int]] = defaultdict(list)
        for index, (letter, _) in enumerate(pairs):
            self._choices[letter].append(index)

    @classmethod
    def train(cls, words: Iterable[tuple[str, Pronunciation]], order: int = ORDER) -> PronunciationModel:
        """Learn from (word, pronunciation); about 10 s for 130,000 words.

        Words with other characters than LETTERS or more than MAX_PHONES_PER_LETTER are skipped.
        """
        examples = [
            (word, phones)
            for word, phones in words
            if phones and set(word) <= set(LETTERS) and len(phones) <= MAX_PHONES_PER_LETTER * len(word)
        ]
        alignments = _align(examples)
        pairs: list[tuple[str, Pronunciation]] = [("", ()), ("", ("",))]  # start, end
        ids: dict[tuple[str, Pronunciation], int] = {}
        sequences = []
        for (word, _), chunks in zip(examples, alignments, strict=True):
            sequence = [_START] * (order - 1)
            for pair in zip(word, chunks, strict=True):
                if pair not in ids:
                    ids[pair] = len(pairs)
                    pairs.append(pair)
                sequence.append(ids[pair])
            sequences.append([*sequence, _END])
        if len(pairs) > 1 << _PAIR_BITS:
            raise ValueError(f"{len(pairs)} different pairs; at most {1 << _PAIR_BITS} fit a key")
        return cls(pairs, _kneser_ney(sequences, order))

    def pronounce(self, word: str, alternatives: int = 1, beam: int = 24) -> tuple[Pronunciation, ...]:
        """The likeliest pronunciations of `word`, best first, at most `alternatives`; () when a character of it is not
        in LETTERS or was never seen."""
        if not word or any(letter not in self._choices for letter in word):
            return ()
        start = 0
        for _ in range(len(self._costs) - 1):
            start = start << _PAIR_BITS | _START
        hypotheses: list[tuple[float, int, Pronunciation]] = [(0.0, start, ())]
        for letter in word:
            choices = [(pair, self._pairs[pair][1]) for pair in self._choices[letter]]
            best: dict[tuple[int, Pronunciation], float] = {}
            limit = math.inf
            for cost, context, phones in hypotheses:
                levels, unseen = self._levels(context, cost)
                shifted = (context << _PAIR_BITS) & self._context_mask
                for pair, sound in choices:
                    total = unseen
                    for before, costs, key in levels:
                        step = costs.get(key | pair)
                        if step is not None:
                            total = before + step
                            break
                    if total > limit:
                        continue
                    limit = min(limit, total + _WIDTH)
                    follower = (shifted | pair, phones + sound)
                    if total < best.get(follower, math.inf):
                        best[follower] = total
            hypotheses = sorted((cost, *key) for key, cost in best.items())[:beam]
        finished: dict[Pronunciation, float] = {}
        for cost, context, phones in hypotheses:
            levels, unseen = self._levels(context, cost)
            ends = (before + costs[key | _END] for before, costs, key in levels if key | _END in costs)
            total = next(ends, unseen)
            if phones and total < finished.get(phones, math.inf):
                finished[phones] = total
        return tuple(sorted(finished, key=finished.__getitem__)[:alternatives])

    def _levels(self, context: int, cost: float) -> tuple[list[tuple[float, dict[int, float], int]], float]:
        """How -log p(pair | context) backs off: ``cost`` and what is added so far, a table, and the key of the pair 0.

        Also the cost of a pair that no table has.
        """
        levels = []
        for length in range(len(self._costs) - 1, -1, -1):
            key = context & ((1 << _PAIR_BITS * length) - 1)
            factor = self._backoffs[length].get(key)
            if factor is None and length:  # a context that was never seen
                continue
            levels.append((cost, self._costs[length], key << _PAIR_BITS))
            cost += factor or 0.0
        return levels, cost + _UNSEEN_COST

    def save(self, path: Path) -> None:
        """Write the model as .npz, whole or not at all."""
        pairs = np.array([f"{letter} {' '.join(phones)}" for letter, phones in self._pairs])
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"pairs": pairs, **self._arrays}
        write_whole(path, lambda file: np.savez_compressed(file, **arrays))

    @classmethod
    def load(cls, path: Path) -> PronunciationModel:
        """Read what `save` wrote. Raises OSError or ValueError when it is not there or damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            lines = [line.split(" ") for line in arrays.pop("pairs").tolist()]
            return cls([(letter, tuple(filter(None, phones))) for letter, *phones in lines], arrays)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a pronunciation model: {error}") from None


def _table(keys: np.ndarray, costs: np.ndarray) -> dict[int, float]:
    return dict(zip(keys.tolist(), costs.tolist(), strict=True))


def _align(
    examples: list[tuple[str, Pronunciation]], rounds: int = 4, sample: int = 12000
) -> list[list[Pronunciation]]:
    """Divide every pronunciation among its letters. Viterbi training uses a sample, which suffices for its costs."""
    step = max(1, len(examples) // sample)
    costs = _initial_costs(examples[::step])
    for _ in range(rounds):
        counts: dict[str, dict[Pronunciation, float]] = defaultdict(lambda: defaultdict(float))
        for word, phones in examples[::step]:
            for letter, chunk in zip(word, _split(word, phones, costs), strict=True):
                counts[letter][chunk] += 1.0
        costs = _costs_of(counts)
    return [_split(word, phones, costs) for word, phones in examples]


def _costs_of(counts: dict[str, dict[Pronunciation, float]]) -> dict[str, dict[Pronunciation, float]]:
    return {
        letter: {chunk: math.log(sum(chunks.values()) / count) for chunk, count in chunks.items()}
        for letter, chunks in counts.items()
    }


def _initial_costs(examples: list[tuple[str, Pronunciation]]) -> dict[str, dict[Pronunciation, float]]:
    """Letter-phone affinity from words with as many phones as letters; a silent letter or a second phone costs more."""
    counts: dict[str, dict[Pronunciation, float]] = defaultdict(lambda: defaultdict(float))
    for word, phones in examples:
        if len(word) == len(phones):
            for letter, phone in zip(word, phones, strict=True):
                counts[letter][(phone,)] += 1.0
    costs = _costs_of(counts)
    for letter in LETTERS:
        costs.setdefault(letter, {})[()] = 3.0
    return costs


def _split(word: str, phones: Pronunciation, costs: dict[str, dict[Pronunciation, float]]) -> list[Pronunciation]:
    """The cheapest division of phones among letters, 0, 1 or 2 consecutive ones each."""
    count = len(phones)
    table = [0.0, *[math.inf] * count]
    choices: list[list[int]] = []
    for letter in word:
        letter_costs = costs.get(letter, {})
        row, taken = [math.inf] * (count + 1), [0] * (count + 1)
        for start, cost in enumerate(table):
            if cost == math.inf:
                continue
            for size in range(min(MAX_PHONES_PER_LETTER, count - start) + 1):
                total = cost + letter_costs.get(phones[start : start + size], _UNSEEN_COST + 2.0 * size)
                if total < row[start + size]:
                    row[start + size], taken[start + size] = total, size
        table = row
        choices.append(taken)
    chunks, end = [], count
    for taken in reversed(choices):
        chunks.append(phones[end - taken[end] : end])
        end -= taken[end]
    return chunks[::-1]


def _kneser_ney(sequences: list[list[int]], order: int) -> dict[str, np.ndarray]:
    """Interpolated Kneser-Ney with one discount per order, for sequences that begin with order - 1 start pairs.

    Returns for each n < order: `ngrams<n>` keys of n + 1 pairs, oldest in the highest bits, and their `costs<n>`
    -log p; `contexts<n>` keys of n pairs and their `backoffs<n>`, -log of the weight of the shorter n-gram.
    """
    flat = np.concatenate([np.asarray(sequence, np.uint64) for sequence in sequences])
    lengths = np.array([len(sequence) for sequence in sequences])
    position = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    predicted = np.flatnonzero(position >= order - 1)
    bits = np.uint64(_PAIR_BITS)

    def keys_of(length: int) -> np.ndarray:
        keys = np.zeros(len(predicted), np.uint64)
        for back in range(length - 1, -1, -1):
            keys = keys << bits | flat[predicted - back]
        return keys

    # Top order: counts. Lower orders: the number of different longer n-grams that end with this one.
    levels = [np.unique(keys_of(order), return_counts=True)]
    for length in range(order - 1, 0, -1):
        mask = np.uint64((1 << _PAIR_BITS * length) - 1)
        levels.append(np.unique(levels[-1][0] & mask, return_counts=True))
    levels.reverse()
    arrays: dict[str, np.ndarray] = {}
    lower_keys, lower = np.zeros(1, np.uint64), None
    for n, (keys, counts) in enumerate(levels):
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        discount = once / max(1, once + 2 * twice)
        contexts, context_of = np.unique(keys >> bits, return_inverse=True)
        totals = np.bincount(context_of, counts)
        backoff = np.bincount(context_of) * discount / totals
        if lower is None:
            below = np.full(len(keys), 1.0 / len(keys))
        else:
            below = lower[np.searchsorted(lower_keys, keys & np.uint64((1 << _PAIR_BITS * n) - 1))]
        probabilities = (counts - discount) / totals[context_of] + backoff[context_of] * below
        arrays[f"ngrams{n}"], arrays[f"costs{n}"] = keys, -np.log(probabilities).astype(np.float32)
        arrays[f"contexts{n}"], arrays[f"backoffs{n}"] = contexts, -np.log(np.maximum(backoff, 1e-9)).astype(np.float32)
        lower_keys, lower = keys, probabilities
    return arrays
