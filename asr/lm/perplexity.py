"""Perplexities of an LSTM and an n-gram model on the same words of a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import DataError
from asr.lm.corpus import sentences
from asr.lm.lstm import LstmLanguageModel
from asr.lm.ngram import BEGINS, ENDS, NEVER, UNKNOWN, NgramModel


class Perplexities(NamedTuple):
    """Of one text; every end of a sentence counts as a word."""

    words: int
    unknown: int  # left out, because a model does not know them
    lstm: float
    ngram: float | None


def measure_perplexity(
    text: Path, model: LstmLanguageModel, ngram: NgramModel | None = None, carry: bool = False
) -> Perplexities:
    """Perplexities of a text, a sentence per line. Words that a model does not know count for neither.

    Args:
        text: plain, .gz, .xz or .bz2.
        model: the LSTM.
        ngram: to compare with.
        carry: carry the LSTM's state over sentences; else each is the first.
    Raises:
        DataError: the text cannot be read, or has no words.
    """
    known = set(model.words) if ngram is None else set(model.words) & set(ngram.words)
    words = unknown = 0
    lstm = back_off = 0.0
    state = model.start()
    found = list(sentences(text))
    if not found:
        raise DataError(f"{text}: no words to measure on")
    for sentence in found:
        ids = np.array([0, *model.encode(sentence), 0])
        outputs, after = model.read(ids[:-1, None], state)
        counted = np.array([word in known for word in sentence] + [True])
        lstm -= float(model.log_probs(outputs[:, 0], ids[1:])[counted].sum())
        words, unknown = words + int(counted.sum()), unknown + int((~counted).sum())
        if ngram is not None:
            back_off -= float(ngram_log_probs(ngram, sentence)[counted].sum())
        if carry:
            state = after
    return Perplexities(words, unknown, math.exp(lstm / words), math.exp(back_off / words) if ngram else None)


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
