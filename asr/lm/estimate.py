"""From texts as numbers to an n-gram model: the vocabulary, a model of each text, their mixture, pruned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import UsageError
from asr.lm.corpus import BEGINS, ENDS, TextCorpus, WordNumbers
from asr.lm.counts import MOST_ORDER
from asr.lm.kneser_ney import estimate
from asr.lm.ngram import NgramModel, mixed, pruned

OFTEN = 200  # times that a word of a single one of several texts must be seen to be believed


@dataclass(frozen=True)
class NgramOptions:
    """What is estimated."""

    order: int = 3
    prune: tuple[int, ...] = (0, 1, 2)  # for each order, n-grams seen at most this often are dropped
    shares: tuple[float, ...] = ()  # of each text, in a mixture of models; without any, all texts make one model
    most: int | None = None  # n-grams kept, those that matter most

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MOST_ORDER:
            raise UsageError(f"the order of an n-gram model must be 1 to {MOST_ORDER}, got {self.order}")
        if not self.prune or len(self.prune) > self.order or list(self.prune) != sorted(self.prune) or self.prune[0]:
            raise UsageError(
                "prune must begin with 0, never fall, and have at most one number an order; got "
                + " ".join(map(str, self.prune))
            )
        if self.shares and (min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-3):
            raise UsageError(f"shares must be above 0 and sum to 1, got {' '.join(map(str, self.shares))}")
        if self.most is not None and (self.order < 2 or self.most < 1):
            raise UsageError(f"n-grams can be left out of order 2 or more; got {self.most} of order {self.order}")


class Texts:
    """Texts of several kinds, and how often each has each word."""

    def __init__(self, corpora: Sequence[TextCorpus], numbers: WordNumbers) -> None:
        self.corpora = tuple(corpora)
        self.numbers = numbers
        self.counts = [np.bincount(corpus.tokens, minlength=len(numbers)) for corpus in corpora]

    def vocabulary(self, size: int, shares: Sequence[float] = (), known: Iterable[str] = ()) -> list[str]:
        """Words that are worth knowing, by falling frequency in the mixture.

        Of several texts a word must be in two, or be seen `OFTEN` times in one, so that the misprints and names of one
        book do not take the place of others.

        Args:
            size: how many, at most, without ``known``.
            shares: of the texts; by their lengths without any.
            known: words to have in any case.
        """
        shares = shares or (1.0,) * len(self.counts)
        alike = len(set(shares)) == 1 and shares[0] == 1
        frequency = np.zeros(len(self.numbers))
        for share, counts in zip(shares, self.counts, strict=True):
            frequency += share / (1 if alike else float(counts.sum())) * counts
        frequency[[ENDS, BEGINS]] = 0
        if len(self.counts) > 1:
            seen = np.stack(self.counts)
            frequency[((seen > 0).sum(axis=0) < 2) & (seen.sum(axis=0) < OFTEN)] = 0
        names = list(self.numbers)
        chosen = np.argsort(-frequency, kind="stable")[:size]
        words = {names[number]: frequency[number] for number in chosen.tolist() if frequency[number] > 0}
        for word in known:
            words.setdefault(word, frequency[self.numbers[word]] if word in self.numbers else 0.0)
        return sorted(words, key=words.__getitem__, reverse=True)

    def covered(self, words: Iterable[str]) -> float:
        """The part of the texts' words that a vocabulary has."""
        counts = np.stack(self.counts).sum(axis=0)
        known = sum(counts[self.numbers[word]] for word in words if word in self.numbers)
        return known / sum(corpus.words for corpus in self.corpora)

    def model(self, words: Sequence[str], options: NgramOptions) -> NgramModel:
        """Estimate a model of each text, or one of all without shares, mix them by these and prune the mixture."""
        table = np.full(len(self.numbers), len(words) + 2, np.int32)
        table[[ENDS, BEGINS]] = 0, len(words) + 1
        for number, word in enumerate(words, start=1):
            if word in self.numbers:
                table[self.numbers[word]] = number
        streams = [table[corpus.tokens] for corpus in self.corpora]
        shares = options.shares or (1.0,)
        if not options.shares:
            streams = [np.concatenate(streams)]
        models: list[NgramModel] = []
        frequencies = np.zeros(len(words) + 2)
        while streams:
            stream, share = streams.pop(0), shares[len(models)]
            models.append(estimate(stream, words, options.order, options.prune))
            seen = np.bincount(stream, minlength=len(words) + 3)[:-1]
            frequencies += share / max(1, seen[1:-1].sum()) * seen
        model = mixed(models, shares) if len(models) > 1 else models[0]
        return model if options.most is None else pruned(model, options.most, frequencies)
