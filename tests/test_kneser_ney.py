"""Modified Kneser-Ney smoothing against its definition, written out with dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from asr.lm import counts
from asr.lm.counts import count_blocks
from asr.lm.kneser_ney import estimate

V = 25
BEGIN, UNKNOWN = V + 1, V + 2
WORDS = [f"w{k}" for k in range(1, V + 1)]
Gram = tuple[int, ...]


def random_sentences(seed: int, count: int = 400) -> list[list[int]]:
    """Of words that depend on the word before, some unknown; the last word of the vocabulary is never said."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        word, sentence = int(random.integers(1, V)), []
        for _ in range(random.integers(1, 9)):
            sentence.append(word)
            near = random.random() < 0.7
            word = (3 * word + int(random.integers(0, 3))) % (V - 1) + 1 if near else int(random.integers(1, V))
            word = UNKNOWN if random.random() < 0.03 else word
        found.append(sentence)
    return found


def stream_of(sentences: list[list[int]]) -> np.ndarray:
    return np.array([word for sentence in sentences for word in (BEGIN, *sentence, 0)], np.int32)


def pieces(sentences: list[list[int]]) -> list[list[int]]:
    """Sentences split at unknown words."""
    found: list[list[int]] = []
    for sentence in sentences:
        found.append([])
        for word in (BEGIN, *sentence, 0):
            if word == UNKNOWN:
                found.append([])
            else:
                found[-1].append(word)
    return found


def raw_counts(sentences: list[list[int]], n: int) -> Counter[Gram]:
    grams = (tuple(p[i : i + n]) for p in pieces(sentences) for i in range(len(p) - n + 1))
    return Counter(gram for gram in grams if gram != (BEGIN,))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("block", [1 << 24, 100])
def test_counts_are_those_of_a_dictionary(n, block, monkeypatch):
    monkeypatch.setattr(counts, "BLOCK", block)
    sentences = random_sentences(1)
    base = V + 2
    found = [block for block in count_blocks(stream_of(sentences), n, base)]
    assert len(found) == 1 or block == 100
    histories, last, times = (np.concatenate(parts) for parts in zip(*found, strict=True))
    grams = {}
    for history, word, count in zip(histories.tolist(), last.tolist(), times.tolist(), strict=True):
        gram = [word]
        for _ in range(n - 1):
            history, word = divmod(history, base)
            gram.insert(0, word)
        grams[tuple(gram)] = count
    assert grams == dict(raw_counts(sentences, n)) and list(grams) == sorted(grams)


class Reference:
    """Chen & Goodman (1999), section 2.7, by the book."""

    def __init__(self, sentences: list[list[int]], order: int, prune: tuple[int, ...]) -> None:
        raw = {n: raw_counts(sentences, n) for n in range(1, order + 1)}
        self.adjusted: dict[int, Counter[Gram]] = {order: raw[order]}
        for n in range(1, order):
            before = defaultdict(set)
            for gram in raw[n + 1]:
                before[gram[1:]].add(gram[0])
            self.adjusted[n] = Counter(
                {g: c if g[0] == BEGIN and n > 1 else max(1, len(before[g])) for g, c in raw[n].items()}
            )
        for word in range(V + 1):
            self.adjusted[1].setdefault((word,), 1)
        self.discounts = {n: self._discounts(Counter(c.values())) for n, c in self._counted(raw).items()}
        self.kept = {n: {g for g in c if n == 1 or raw[n][g] > prune[n - 1]} for n, c in self.adjusted.items()}

    def _counted(self, raw: dict[int, Counter[Gram]]) -> dict[int, Counter[Gram]]:
        """Without the words that were added."""
        return {n: Counter({g: c for g, c in found.items() if g in raw[n]}) for n, found in self.adjusted.items()}

    @staticmethod
    def _discounts(of: Counter[int]) -> list[float]:
        if min(of[k] for k in (1, 2, 3, 4)) == 0:
            return [0.0, 0.5, 1.0, 1.5]
        common = of[1] / (of[1] + 2 * of[2])
        found = [k - (k + 1) * common * of[k + 1] / of[k] for k in (1, 2, 3)]
        return [0.0, *found] if all(0 <= d <= k for k, d in enumerate(found, start=1)) else [0.0, 0.5, 1.0, 1.5]

    def probability(self, gram: Gram) -> float:
        if not gram:
            return 1 / (V + 1)
        n = len(gram)
        followers = {g: c for g, c in self.adjusted[n].items() if g[:-1] == gram[:-1]}
        if not followers:
            return self.probability(gram[1:])
        total = sum(followers.values())
        shares = {g: (c - self.discounts[n][min(c, 3)]) / total for g, c in followers.items() if g in self.kept[n]}
        return shares.get(gram, 0.0) + (1 - sum(shares.values())) * self.probability(gram[1:])


@pytest.mark.parametrize(("order", "prune"), [(1, (0,)), (2, (0,)), (3, (0, 1)), (4, (0, 0, 1, 2))])
def test_probabilities_are_as_defined(order, prune):
    sentences = random_sentences(2)
    model = estimate(stream_of(sentences), WORDS, order, prune)
    reference = Reference(sentences, order, (*prune, *[prune[-1]] * (order - len(prune))))
    for n, table in enumerate(model.tables[1:], start=2):
        assert set(map(tuple, model.grams(n).tolist())) == reference.kept[n] and (table.log_probs < 0).all()
    random = np.random.default_rng(3)
    for _ in range(60):
        history = random.integers(1, V + 1, order - 1).tolist()
        if random.random() < 0.3 and history:
            history[0] = BEGIN
        grams = np.array([[*history, word] for word in range(V + 1)])
        found = np.exp(model.log_probs(grams))
        np.testing.assert_allclose(found, [reference.probability(tuple(g)) for g in grams.tolist()], rtol=2e-4)
        assert found.sum() == pytest.approx(1, abs=1e-4)


def test_a_tiny_text_is_enough():
    model = estimate(np.array([V + 1, 3, 4, 0], np.int32), WORDS, 3, (0,))
    chances = np.exp(model.log_probs(np.array([[BEGIN, 3, word] for word in range(V + 1)])))
    assert chances.argmax() == 4 and chances.sum() == pytest.approx(1, abs=1e-5)
