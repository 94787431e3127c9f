"""The acoustic units of a decoding graph: CTC's phones, or hidden Markov states of phones in context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from asr.acoustic.phone_states import SILENCE, Biphones
from asr.decoding.search import Topology
from asr.lm.folder import CTC_WEIGHTS, STATE_WEIGHTS, DecodingWeights
from asr.words.tokens import BLANK, PHONES

if TYPE_CHECKING:
    from asr.acoustic.folder import ModelPackage


@dataclass(frozen=True)
class SearchOptions:
    """Width of the beam search: narrower is faster, wider finds better paths. The defaults are for CTC."""

    beam: float = 12.0  # nats; paths that are worse than the best one by more are pruned
    most_active: int = 1_000  # paths
    certain_blank: float = 0.995  # of consecutive frames with a higher probability of blank only the first is searched
    alternatives_beam: float = 10.0  # nats; sentences dearer than the best one by more are no alternatives

    def __post_init__(self) -> None:
        if self.beam <= 0 or self.alternatives_beam <= 0 or self.most_active < 1 or not 0 < self.certain_blank <= 1:
            raise ValueError(f"need a positive beam, at least one path, a probability; got {self}")


class Units(Protocol):
    """How log-probabilities of an output of the network are scored by a graph. Unit 0 is the blank or silence."""

    head: str  # the output of the network: ``phones`` or ``states``
    weights: DecodingWeights  # default ones
    search: SearchOptions  # default ones

    def topology(self, weights: DecodingWeights) -> Topology:
        """How phones are read from frames, one unit per frame."""

    def scores(self, log_probs: np.ndarray, weights: DecodingWeights) -> np.ndarray:
        """Scores (T, V) float32 that the search sums, from log-probabilities (T, V)."""

    def by_phone(self, log_probs: np.ndarray) -> np.ndarray:
        """Log-probabilities of phones (T, P), from those of units (T, V)."""

    def phones(self, units: np.ndarray) -> np.ndarray:
        """The phone of each unit (T,)."""

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        """The unit (T,) predicted by each row (T, V) of log-probabilities."""

    def confidences(self, peaks: np.ndarray, phones: np.ndarray, words: Sequence[tuple[int, int]]) -> np.ndarray:
        """Confidence of each word, (W,) from 0 to 1.

        Args:
            peaks: (N,) the highest log-probability in each run of a phone on the path.
            phones: (N,) the phone of each run.
            words: the runs [first, last) of each word; silences among them are ignored.
        """


# Lattice-free MMI makes posteriors flat: the correct phone seldom has half of the probability. A logistic regression
# maps the mean log-posterior of a word to the probability that it is correct; `benchmarks/confidence.py` fits it.
CONFIDENCE_SLOPE, CONFIDENCE_OFFSET = 1.36, 4.51


# Silence has one state while speech shares its probability among many. With this many nats added to the likelihood of
# silence, the argmax finds 88 % of the frames that the search assigns to silence, and 5 % of the others.
SILENCE_MARGIN = 0.5


def units_of(package: ModelPackage) -> Units:
    """The units that a model is decoded with: states where it has them, else phones with CTC."""
    return CtcUnits(len(package.phones)) if package.biphones is None else StateUnits(package.biphones)


class CtcUnits:
    """Phones and the blank."""

    head = "phones"
    weights = CTC_WEIGHTS
    search = SearchOptions()

    def __init__(self, phones: int = len(PHONES)) -> None:
        self._phones = phones  # the blank included

    def topology(self, weights: DecodingWeights) -> Topology:
        """A phone may go on, then blanks may follow. It may follow itself without a blank between (the "modified"
        topology of k2)."""
        phones = np.arange(self._phones)
        table = np.tile(phones, (self._phones, 1))
        return Topology(table, table, phones, 0.0, pauses_anywhere=True, forgets=True)

    def scores(self, log_probs: np.ndarray, weights: DecodingWeights) -> np.ndarray:
        rows = log_probs.astype(np.float32)
        rows[:, BLANK] -= weights.blank_penalty
        return rows

    def by_phone(self, log_probs: np.ndarray) -> np.ndarray:
        return log_probs

    def phones(self, units: np.ndarray) -> np.ndarray:
        return units

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        return log_probs.argmax(axis=1)

    def confidences(self, peaks: np.ndarray, phones: np.ndarray, words: Sequence[tuple[int, int]]) -> np.ndarray:
        means, counts = _means(np.exp(peaks), phones, words)
        return np.where(counts > 0, means.clip(0, 1), 0.0)


class StateUnits:
    """States: their probabilities divided by their priors are scaled likelihoods (Bourlard & Morgan 1994)."""

    head = "states"
    weights = STATE_WEIGHTS
    search = SearchOptions(beam=13.0, most_active=1_500, alternatives_beam=8.0)

    def __init__(self, biphones: Biphones) -> None:
        self._biphones = biphones

    def topology(self, weights: DecodingWeights) -> Topology:
        """A phone is in its first state for a frame, then in its other one. Where a word begins there may be silence,
        after which the context is silence."""
        table = self._biphones
        return Topology(table.first, table.rest, table.phones, weights.silence_cost)

    def scores(self, log_probs: np.ndarray, weights: DecodingWeights) -> np.ndarray:
        rows = log_probs.astype(np.float32) - self._biphones.log_priors
        rows[:, SILENCE] -= weights.blank_penalty
        return rows

    def by_phone(self, log_probs: np.ndarray) -> np.ndarray:
        return self._biphones.by_phone(log_probs)

    def phones(self, units: np.ndarray) -> np.ndarray:
        return self._biphones.phones[units]

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        rows = log_probs - self._biphones.log_priors
        rows[:, SILENCE] += SILENCE_MARGIN
        return rows.argmax(axis=1)

    def confidences(self, peaks: np.ndarray, phones: np.ndarray, words: Sequence[tuple[int, int]]) -> np.ndarray:
        means, counts = _means(peaks, phones, words)
        return np.where(counts > 0, 1 / (1 + np.exp(-(CONFIDENCE_SLOPE * means + CONFIDENCE_OFFSET))), 0.0)


def _means(values: np.ndarray, phones: np.ndarray, words: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean value and number of the runs of each word that are not silence: (W,) each."""
    first, last = np.array(words, int).reshape(-1, 2).T
    spoken = phones != SILENCE
    counts = np.concatenate([[0], np.cumsum(spoken)])
    counts = counts[last] - counts[first]
    # Each word's own sum: the difference of two sums would depend on the words before it by a rounding.
    sums = np.add.reduceat(np.append(np.where(spoken, values, 0), 0.0), np.stack([first, last], axis=1).ravel())[::2]
    return np.where(counts > 0, sums / np.maximum(counts, 1), 0.0), counts
