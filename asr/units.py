"""What a decoding graph reads: CTC's phones, or hidden Markov states of phones in context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from asr.biphones import SILENCE, Biphones
from asr.ctc import BLANK
from asr.language_model import CTC_WEIGHTS, STATE_WEIGHTS, DecodingWeights
from asr.search_options import SearchOptions

if TYPE_CHECKING:
    import kaldifst

    from asr.graph import Graph


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


class StateUnits:
    """States, of which probabilities over priors are likelihoods but for a factor (Bourlard & Morgan 1994)."""

    weights = STATE_WEIGHTS
    search = SearchOptions(beam=20.0, most_active=1_500, alternatives_beam=20.0)  # every frame says more than in CTC

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
