"""Perplexities of an LSTM, an n-gram model and their mean on the same words of a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from asr.errors import DataError, UsageError
from asr.lm.corpus import sentences
from asr.lm.folder import LanguageModel
from asr.lm.lstm import LstmLanguageModel
from asr.lm.ngram import BEGINS, ENDS, NEVER, UNKNOWN, NgramModel

MIXED = 0.5  # share of the LSTM in the mean of both


class SentenceModel(Protocol):
    """What gives the words of sentences probabilities."""

    @property
    def words(self) -> Sequence[str]:
        """Those that it knows, among them the marks of begin and end."""

    def log_probs_of(self, sentence: Sequence[str]) -> np.ndarray:
        """Natural-log probability of each word and of the end, (N + 1,); what it says of unknown words is not used."""


class ArpaModel:
    """An n-gram model in ARPA form."""

    def __init__(self, arpa: Path) -> None:
        """Read a file; raises what `NgramModel.read` does."""
        self._model = NgramModel.read(arpa)
        self.words = self._model.words

    def log_probs_of(self, sentence: Sequence[str]) -> np.ndarray:
        return ngram_log_probs(self._model, sentence)


class SecondModel:
    """The second model of a language model folder."""

    def __init__(self, model: LanguageModel) -> None:
        """Open it; raises UsageError when there is none."""
        if model.second is None:
            raise UsageError(f"{model.folder} has no second model; build one with --second")
        self._ngrams, self._ids = model.second.open(), {word: k for k, word in enumerate(model.words)}
        self.words = model.words

    def log_probs_of(self, sentence: Sequence[str]) -> np.ndarray:
        history, found = [self._ngrams.vocabulary + 1], []
        for word in [*sentence, ""]:
            number = self._ids.get(word)
            if number is None:  # it begins anew behind an unknown word
                history = []
                found.append(-math.inf)
                continue
            found.append(self._ngrams.log_prob(history, number))
            history.append(number)
        return np.array(found)


class Perplexities(NamedTuple):
    """Of one text; every end of a sentence counts as a word."""

    words: int
    unknown: int  # left out, because a model does not know them
    lstm: float
    ngram: float | None
    mixed: float | None  # of the mean of both


def measure_perplexity(
    text: Path, model: LstmLanguageModel, ngram: SentenceModel | None = None, carry: bool = False
) -> Perplexities:
    """Perplexities of a text, a sentence per line. Words that a model does not know count for neither.

    Args:
        text: plain, .gz, .xz or .bz2.
        model: the LSTM.
        ngram: to compare and to mix with.
        carry: carry the LSTM's state over sentences; else each is the first.
    Raises:
        DataError: the text cannot be read, or has no words.
    """
    known = set(model.words) if ngram is None else set(model.words) & set(ngram.words)
    words = unknown = 0
    lstm = back_off = both = 0.0
    state = model.start()
    found = list(sentences(text))
    if not found:
        raise DataError(f"{text}: no words to measure on")
    for sentence in found:
        ids = np.array([0, *model.encode(sentence), 0])
        outputs, after = model.read(ids[:-1, None], state)
        counted = np.array([word in known for word in sentence] + [True])
        own = model.log_probs(outputs[:, 0], ids[1:])[counted]
        lstm -= float(own.sum())
        words, unknown = words + int(counted.sum()), unknown + int((~counted).sum())
        if ngram is not None:
            other = ngram.log_probs_of(sentence)[counted]
            back_off -= float(other.sum())
            both -= float(np.logaddexp(own + math.log(MIXED), other + math.log(1 - MIXED)).sum())
        if carry:
            state = after
    means = [None if ngram is None else math.exp(cost / words) for cost in (back_off, both)]
    return Perplexities(words, unknown, math.exp(lstm / words), *means)


def ngram_log_probs(model: NgramModel, sentence: Sequence[str]) -> np.ndarray:
    """Natural-log probability of each word of a sentence and of its end, (N + 1,).

    A model without unknown words begins anew behind each of them, and says of the word itself that it is never said.
    """
    ids = model.ids
    unknown = ids.get(UNKNOWN, -1)
    numbers = [ids[BEGINS], *(ids.get(word, unknown) for word in sentence), ids[ENDS]]
    found = np.full(len(numbers) - 1, NEVER * np.log(10))
    start = 0
    for place in range(1, len(numbers)):
        if numbers[place] < 0:
            start = place + 1
            continue
        gram = np.array([numbers[max(start, place - model.order + 1) : place + 1]])
        found[place - 1] = model.log_probs(gram)[0]
    return found
