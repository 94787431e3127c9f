"""Rescoring the likeliest sentences of a finished utterance with an LSTM language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.decoding.lattice import Sentence
from asr.errors import ModelError, UsageError
from asr.lm.lstm import ENDS, LstmLanguageModel, LstmState


@dataclass(frozen=True)
class Rescoring:
    """How final results are rescored with an LSTM language model."""

    folder: str | Path  # of the model, from `asr lm train-lstm`
    weight: float = 0.3  # of its log-probabilities; the n-gram model has the rest
    hypotheses: int = 100  # sentences that are rescored
    carry: bool = True  # whether its state is carried over from the earlier utterances of the stream
    beam: float = 7.5  # nats; partial paths worse than the best by more are pruned
    width: float = 6.0  # nats; sentences worse than the best by more are left out

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise UsageError(f"the weight of the LSTM language model must be 0 to 1, got {self.weight:g}")
        if type(self.hypotheses) is not int or self.hypotheses < 1 or min(self.beam, self.width) <= 0:
            raise UsageError(f"need 1 or more hypotheses and beams above 0, got {self}")


class Rescorer:
    """Chooses among sentences of a decoding graph by the log-linear mean of its n-gram model and an LSTM's."""

    def __init__(self, options: Rescoring, words: Sequence[str]) -> None:
        """Load the model.

        Args:
            options: of rescoring.
            words: of the decoding graph by id; 0 is no word.
        Raises:
            ModelError: there is no such model, or it knows less than half of the words.
        """
        self.options = options
        self._model = LstmLanguageModel.open(Path(options.folder))
        known = sum(word in self._model.ids for word in words[1:])
        if 2 * known < len(words) - 1:
            raise ModelError(
                f"{options.folder} knows {known} of the {len(words) - 1} words that can be recognised; train one on "
                "text with these words: asr lm train-lstm --lm LM_FOLDER"
            )
        self._ids = np.array(self._model.encode(words))  # of each word of the graph

    def start(self) -> LstmState:
        """The state of a stream before its first utterance."""
        return self._model.start()

    def choose(
        self, sentences: Sequence[Sentence], language_weight: float, word_cost: float, context: LstmState
    ) -> tuple[int, LstmState]:
        """The sentence of the lowest cost after interpolation with the LSTM.

        Args:
            sentences: to choose from; their costs include the next two.
            language_weight: factor on the costs of both language models.
            word_cost: nats per word.
            context: the LSTM's state after the previous utterances.
        Returns:
            Its index in ``sentences``, and the context of the next utterance.
        """
        log_probs, contexts = self._model.sentences([self._ids[one.words].tolist() for one in sentences], context)
        counts = np.array([len(one.words) for one in sentences])
        costs, graph_costs = (np.array([getattr(one, part) for one in sentences]) for part in ("cost", "graph_cost"))
        ngram_costs = graph_costs - word_cost * counts
        costs = costs + self.options.weight * (-language_weight * log_probs - ngram_costs)
        chosen = int(costs.argmin())
        if not self.options.carry:
            return chosen, context
        return chosen, LstmState(*(part[:, chosen : chosen + 1] for part in contexts))

    def context_after(self, words: Sequence[int], context: LstmState) -> LstmState:
        """The context after a sentence that was not rescored."""
        if not self.options.carry:
            return context
        return self._model.read(np.array([ENDS, *self._ids[list(words)]])[:, None], context)[1]
