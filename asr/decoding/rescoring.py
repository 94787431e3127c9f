"""Rescoring while words are searched: an LSTM language model scores every word that a path has written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from asr.decoding.search import Hypotheses, Search
from asr.errors import ModelError, UsageError
from asr.lm.lstm import ENDS, UNKNOWN, LstmLanguageModel, LstmState
from asr.native import NONE

DEFAULT_WEIGHT = 0.6
LAG_FRAMES = 30  # words are scored when the number of a frame, since the start of the stream, is divisible by this


@dataclass(frozen=True)
class Rescoring:
    """How an LSTM language model is used beside the n-grams."""

    folder: str | Path | None = None  # of the model, from `asr lm train-lstm`; None: the language model's own
    weight: float = DEFAULT_WEIGHT  # of its probabilities; those of the n-gram model have the rest
    carry: bool = True  # whether it remembers the earlier utterances of the stream

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise UsageError(f"the weight of the LSTM language model must be 0 to 1, got {self.weight:g}")


class Rescorer:
    """Scores the words of a search by an LSTM that has read the words before them.

    What it keeps is rows (R, 2 L H + E): the state of the LSTM after some words, and the vector that predicts the next.
    The nodes of a search say which row is whose.
    """

    def __init__(self, folder: Path, options: Rescoring, words: Sequence[str]) -> None:
        """Load the model, and let numpy's OpenBLAS use one thread for each product from now on, in the whole process.

        Args:
            folder: of the model, whatever ``options`` say.
            options: of rescoring.
            words: of the decoding graph by id; 0 is no word.
        Raises:
            ModelError: there is no such model, or it knows less than half of the words.
        """
        # OpenBLAS divides even a product of a few rows among all cores, and the threads of two streams wait for each
        # other: 8 live streams on two cores instead of dozens.
        ThreadpoolController().select(internal_api="openblas").limit(limits=1)
        self.options = options
        self._model = LstmLanguageModel.open(folder)
        self._ids = np.array(self._model.encode(words))  # of each word of the graph
        known = int((self._ids[1:] != UNKNOWN).sum())
        if 2 * known < len(words) - 1:
            raise ModelError(
                f"{folder} knows {known} of the {len(words) - 1} words that can be recognised; train one on "
                "text with these words: asr lm train-lstm --lm LM_FOLDER"
            )

    def start(self) -> np.ndarray:
        """The row (1, D) of a stream before its first utterance."""
        return self._read(np.array([ENDS]), self._model.start())

    def score(self, search: Search, state: Hypotheses, rows: np.ndarray) -> np.ndarray:
        """Score the new words of a state that nobody else has yet.

        Args:
            search: that the state is of.
            state: whose costs change.
            rows: (R, D) of the state before.
        Returns:
            The rows of this state.
        """
        while (nodes := search.rescore(state)) is not None:
            asked = np.flatnonzero(np.isnan(nodes["lstm"]))
            parents, after = np.unique(nodes["parent"][asked], return_inverse=True)
            rows = self._with_rows(nodes, parents, rows)
            words = self._ids[nodes["word"][asked]]
            costs = -self._model.log_probs(self._outputs(rows[nodes["row"][parents]]), words, after)
            nodes["lstm"][asked] = np.where(words == UNKNOWN, np.inf, costs)
        nodes = search.nodes(state)
        kept = np.flatnonzero(nodes["row"] != NONE)
        rows = rows[nodes["row"][kept]]
        nodes["row"][kept] = np.arange(len(kept))
        return rows

    def ending_costs(self, search: Search, state: Hypotheses, rows: np.ndarray) -> np.ndarray:
        """Cost in nats (N,) of ending a sentence after each node of a state that has been scored."""
        nodes = search.nodes(state).copy()
        rows = self._with_rows(nodes, np.arange(len(nodes)), rows)
        outputs = self._outputs(rows[nodes["row"]])
        return -self._model.log_probs(outputs, np.full(len(nodes), ENDS)).astype(np.float32)

    def context_after(self, words: Sequence[int], context: np.ndarray) -> np.ndarray:
        """The row (1, D) before the next utterance, after one of these words of the graph."""
        if not self.options.carry:
            return context
        return self._read(np.array([*self._ids[list(words)], ENDS])[:, None], self._state(context))

    def _with_rows(self, nodes: np.ndarray, wanted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows that have those of the wanted nodes, too, which the nodes are told of."""
        missing = wanted[nodes["row"][wanted] == NONE]
        if not len(missing):
            return rows
        before = rows[nodes["row"][nodes["parent"][missing]]]
        words = self._ids[nodes["word"][missing]]
        nodes["row"][missing] = np.arange(len(rows), len(rows) + len(missing))
        return np.concatenate([rows, self._read(words[None], self._state(before))])

    def _read(self, words: np.ndarray, state: LstmState) -> np.ndarray:
        """Rows (B, D) after words (T, B) or (B,)."""
        outputs, after = self._model.read(np.atleast_2d(words), state)
        flat = (part.swapaxes(0, 1).reshape(len(outputs[-1]), -1) for part in after)
        return np.concatenate([*flat, outputs[-1]], axis=1)

    def _state(self, rows: np.ndarray) -> LstmState:
        """The state of a batch from its rows (B, D)."""
        layers, size = self._model.layers, self._model.size
        parts = rows[:, : 2 * layers * size].reshape(len(rows), 2, layers, size)
        return LstmState(*(np.ascontiguousarray(parts[:, k].swapaxes(0, 1)) for k in range(2)))

    def _outputs(self, rows: np.ndarray) -> np.ndarray:
        return rows[:, 2 * self._model.layers * self._model.size :]
