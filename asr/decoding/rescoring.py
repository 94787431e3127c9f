"""Rescoring while words are searched: an LSTM language model scores every word that a path has written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import ModelError, UsageError
from asr.lm.lstm import ENDS, UNKNOWN, LstmLanguageModel

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
    """What a search needs to score words by an LSTM that has read the words before them."""

    def __init__(self, folder: Path, options: Rescoring, words: Sequence[str]) -> None:
        """Load the model.

        Args:
            folder: of the model, whatever ``options`` say.
            options: of rescoring.
            words: of the decoding graph by id; 0 is no word.
        Raises:
            ModelError: there is no such model, or it knows less than half of the words.
        """
        self.options = options
        self.model = LstmLanguageModel.open(folder)
        self.ids = self.model.ids_of(words)  # of each word of the graph
        known = int((self.ids[1:] != UNKNOWN).sum())
        if 2 * known < len(words) - 1:
            raise ModelError(
                f"{folder} knows {known} of the {len(words) - 1} words that can be recognised; train one on "
                "text with these words: asr lm train-lstm --lm LM_FOLDER"
            )

    def start(self) -> np.ndarray:
        """The LSTM's state (D,) before the first utterance of a stream."""
        return self.model.read(np.array([[ENDS]]), self.model.start())[1][0]
