"""What a decoding graph reads: CTC's phones, or hidden Markov states of phones in context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from asr.acoustic.phone_states import SILENCE, Biphones
from asr.decoding.greedy import BLANK
from asr.decoding.search_options import SearchOptions
from asr.lm.folder import CTC_WEIGHTS, STATE_WEIGHTS, DecodingWeights

if TYPE_CHECKING:
    import kaldifst

    from asr.graph.graph import Graph


class Units(Protocol):
    """How rows of log-probabilities and a graph are brought together. Unit 0 is what nobody speaks."""

    weights: DecodingWeights  # usual ones
    search: SearchOptions  # usual ones

    def automaton(self, graph: Graph, weights: DecodingWeights) -> kaldifst.StdConstFst:
        """The graph with what turns frames into phones; input labels are 1 + unit."""

    def scores(self, log_probs: np.ndarray, weights: DecodingWeights) -> np.ndarray:
        """What the search adds up, (T, V) float32, from log-probabilities (T, V)."""

    def by_phone(self, log_probs: np.ndarray) -> np.ndarray:
        """Log-probabilities of phones (T, P), from those of units (T, V)."""

    def phones(self, units: np.ndarray) -> np.ndarray:
        """The phone of each unit (T,)."""

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        """The unit (T,) that each row (T, V) of log-probabilities speaks for."""

    def confidences(self, peaks: np.ndarray, phones: np.ndarray, words: Sequence[tuple[int, int]]) -> np.ndarray:
        """Of each word, (W,) from 0 to 1.

        Args:
            peaks: (N,) the highest log-probability that each run of a phone on the path reached.
            phones: (N,) the phone of each run.
            words: the runs [first, last) of each word; silences among them do not count.
        """


# Lattice-free MMI makes posteriors flat: the right phone seldom has half of the probability. A logistic regression
# turns their mean logarithm into the probability that the word is right; `benchmarks/confidence.py` fits it.
CONFIDENCE_SLOPE, CONFIDENCE_OFFSET = 1.1, 3.56


# Silence is one state and speech are many that share their probability. With this many nats added to its likelihood,
# 92 % of the frames that the search takes for silence are found without a search, and 8 % of the others.
SILENCE_MARGIN = 1.0


class CtcUnits:
    """Phones and the blank."""

    weights = CTC_WEIGHTS
    search = SearchOptions()

    def automaton(self, graph: Graph, weights: DecodingWeights) -> kaldifst.StdConstFst:
        return graph.with_ctc(weights.language_weight, weights.word_cost)

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
    """States, of which probabilities over priors are likelihoods but for a factor (Bourlard & Morgan 1994)."""

    weights = STATE_WEIGHTS
    search = SearchOptions(beam=13.0, most_active=1_500, alternatives_beam=13.0)

    def __init__(self, biphones: Biphones) -> None:
        self._biphones = biphones

    def automaton(self, graph: Graph, weights: DecodingWeights) -> kaldifst.StdConstFst:
        return graph.with_states(self._biphones, weights.language_weight, weights.word_cost, weights.silence_cost)

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
    """Of each word, the mean value of its runs that are no silence, and how many they are: (W,) each."""
    first, last = np.array(words, int).reshape(-1, 2).T
    spoken = phones != SILENCE
    sums = np.concatenate([[0], np.cumsum(np.where(spoken, values, 0), dtype=float)])
    counts = np.concatenate([[0], np.cumsum(spoken)])
    counts = counts[last] - counts[first]
    return (sums[last] - sums[first]) / np.maximum(counts, 1), counts
