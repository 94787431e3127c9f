"""Back-off n-gram models as sorted arrays: read, mixed, pruned by entropy, written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import DataError

BEGINS, ENDS, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0  # log10 probability that ARPA files give to what cannot follow anything
LEAST_MASS = 1e-6  # probability left for the words that a history does not list; rounding could make it negative


@dataclass(frozen=True)
class Table:
    """The n-grams of one order, sorted by their words' ids."""

    ids: np.ndarray  # (K, n) int32
    log_probs: np.ndarray  # (K,) natural
    backoffs: np.ndarray  # (K,) natural; zeros in the highest order


class NgramModel:
    """Probabilities of words given the words before (Katz 1987); orders are counted from 1."""

    def __init__(self, words: Sequence[str], tables: Sequence[Table]) -> None:
        """``words``: by id; ``tables``: one per order."""
        self.words = tuple(words)
        self.ids = {word: number for number, word in enumerate(self.words)}
        self.tables = tuple(tables)
        self._keys = [self._key(table.ids) for table in self.tables]

    @property
    def order(self) -> int:
        return len(self.tables)

    @property
    def size(self) -> int:
        """N-grams of all orders."""
        return sum(len(table.ids) for table in self.tables)

    @classmethod
    def read(cls, arpa: Path, words: Sequence[str] | None = None) -> NgramModel:
        """Read an ARPA file.

        Args:
            arpa: the file.
            words: the numbering of its words; by default they are numbered in the order of the file.
        Raises:
            DataError: the file is no ARPA file, or has words that ``words`` lacks.
        """
        ids = {word: k for k, word in enumerate(words)} if words is not None else {}
        tables: list[Table] = []
        try:
            with arpa.open(encoding="utf-8") as file:
                for line in file:
                    if line.endswith("-grams:\n"):
                        tables.append(_section(file, ids, len(tables) + 1, may_add=words is None and not tables))
        except KeyError as error:
            raise DataError(f"{arpa}: word {error} is not among those it should have") from error
        except (UnicodeDecodeError, ValueError, IndexError) as error:
            raise DataError(f"{arpa} is no n-gram model in ARPA form ({error})") from error
        if not tables:
            raise DataError(f"{arpa} is no n-gram model in ARPA form (it has no n-grams)")
        return cls(list(ids), tables)

    def write(self, arpa: Path) -> None:
        """Write an ARPA file."""
        words = np.array(self.words, dtype=object)
        with arpa.open("w", encoding="utf-8") as file:
            file.write("\\data\\\n")
            file.writelines(f"ngram {n}={len(table.ids)}\n" for n, table in enumerate(self.tables, start=1))
            for n, table in enumerate(self.tables, start=1):
                file.write(f"\n\\{n}-grams:\n")
                columns = (table.log_probs / np.log(10), words[table.ids], table.backoffs / np.log(10))
                for log_prob, gram, backoff in zip(*(column.tolist() for column in columns), strict=True):
                    end = f"\t{backoff:.5f}" if n < self.order else ""
                    file.write(f"{log_prob:.5f}\t{' '.join(gram)}{end}\n")
            file.write("\n\\end\\\n")

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Rows of n-grams (K, n) in the table of order n, -1 for those that it lacks."""
        keys, wanted = self._keys[ids.shape[1] - 1], self._key(ids)
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[places] == wanted, places, -1)

    def log_probs(self, ids: np.ndarray) -> np.ndarray:
        """Log-probability of the last word of each n-gram (K, n), 1 <= n <= order, after the others."""
        rows = self.find(ids)
        table = self.tables[ids.shape[1] - 1]
        found = table.log_probs[rows]
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            found[missing] = self.backoffs(ids[missing, :-1]) + self.log_probs(ids[missing, 1:])
        return found

    def backoffs(self, histories: np.ndarray) -> np.ndarray:
        """Log of the back-off factor (K,) of histories (K, n)."""
        rows = self.find(histories)
        return np.where(rows < 0, 0, self.tables[histories.shape[1] - 1].backoffs[rows])

    def with_tables(self, tables: Sequence[Table]) -> NgramModel:
        """The same words with other n-grams; back-off factors are computed again, so that probabilities sum to 1."""
        model = NgramModel(self.words, tables[:1])
        for table in tables[1:]:
            histories = model.tables[-1]
            given, lower = history_masses(model, table)
            factors = np.log(np.maximum(1 - given, LEAST_MASS)) - np.log(np.maximum(1 - lower, LEAST_MASS))
            factors = np.where(given > 0, factors, 0).astype(np.float32)
            below = Table(histories.ids, histories.log_probs, factors)
            model = NgramModel(self.words, (*model.tables[:-1], below, table))
        return model

    def _key(self, ids: np.ndarray) -> np.ndarray:
        key = ids[:, 0].astype(np.int64)
        for column in range(1, ids.shape[1]):
            key = key * len(self.words) + ids[:, column]
        return key


def history_masses(model: NgramModel, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Probability mass that the n-grams of an order, one above the model's highest, take of each history.

    Returns:
        (K,) their probability after the history, and (K,) the same words' after the history less its first word.
    """
    rows = model.find(table.ids[:, :-1])
    size = len(model.tables[-1].ids)
    given = np.bincount(rows, np.exp(table.log_probs), size)
    lower = np.bincount(rows, np.exp(model.log_probs(table.ids[:, 1:])), size)
    return given, lower


def mixed(models: Sequence[NgramModel], shares: Sequence[float]) -> NgramModel:
    """The linear interpolation of models of the same words, with the n-grams of all.

    Raises:
        ValueError: models that number words differently or differ in order.
    """
    first = models[0]
    if any(model.words != first.words or model.order != first.order for model in models):
        raise ValueError("models can be mixed only if they have the same words and order")
    tables = []
    for n in range(1, first.order + 1):
        keys = np.unique(np.concatenate([model._keys[n - 1] for model in models]))
        ids = np.empty((len(keys), n), np.int32)
        for column in reversed(range(n)):
            keys, ids[:, column] = np.divmod(keys, len(first.words))
        chances = [np.exp(model.log_probs(ids).astype(float)) for model in models]
        chance = np.maximum(np.average(chances, axis=0, weights=shares), 10**NEVER)
        tables.append(Table(ids, np.log(chance).astype(np.float32), np.zeros(len(ids), np.float32)))
    return first.with_tables(tables)


def _section(file: Iterable[str], ids: dict[str, int], n: int, may_add: bool) -> Table:
    """The n-grams up to the next empty line."""
    grams, log_probs, backoffs = [], [], []
    for line in file:
        if line == "\n":
            break
        parts = line.rstrip("\n").split("\t")
        names = parts[1].split(" ")
        if len(names) != n:
            raise ValueError(f"{line!r} is no {n}-gram")
        if may_add:
            ids.setdefault(names[0], len(ids))
        grams.append([ids[name] for name in names])
        log_probs.append(float(parts[0]))
        backoffs.append(float(parts[2]) if len(parts) > 2 else 0.0)
    table = np.array(grams, np.int32).reshape(-1, n)
    order = np.lexsort(table.T[::-1])
    scale = np.float32(np.log(10))
    return Table(
        table[order], np.array(log_probs, np.float32)[order] * scale, np.array(backoffs, np.float32)[order] * scale
    )


def pruned(model: NgramModel, most: int, frequencies: np.ndarray) -> NgramModel:
    """Keep about ``most`` n-grams: those whose removal would raise the model's perplexity most (Stolcke 1998).

    Histories are weighted by the count of their first word, not by the model's unigrams: Kneser-Ney unigrams measure
    after how many different words a word follows, and pruning by them does harm (Chelba et al. 2010).

    Args:
        model: of order 2 or more; all of its unigrams are kept.
        most: n-grams of all orders.
        frequencies: (words,) relative frequency of each word; of the sentence begin, sentences per word.
    Returns:
        A model of the same order and words. One that is small enough is returned as it is.
    """
    if model.size <= most:
        return model
    losses = [_losses(model, n, frequencies) for n in range(2, model.order + 1)]
    histories = [model.find(table.ids[:, :-1]) for table in model.tables[2:]]
    low, high = 0.0, max(float(loss.max(initial=0)) for loss in losses)
    for _ in range(50):  # halving the interval of the threshold
        middle = np.sqrt(max(low, 1e-30) * high)
        kept = _kept(losses, histories, middle)
        low, high = (middle, high) if _size(model, kept) > most else (low, middle)
    tables = [model.tables[0]]
    for table, keep in zip(model.tables[1:], _kept(losses, histories, high), strict=True):
        tables.append(Table(table.ids[keep], table.log_probs[keep], table.backoffs[keep]))
    return model.with_tables(tables)


def _losses(model: NgramModel, n: int, frequencies: np.ndarray) -> np.ndarray:
    """Rise of the cross-entropy in nats per word when each n-gram of order n is removed alone."""
    table = model.tables[n - 1]
    shorter = NgramModel(model.words, model.tables[: n - 1])
    history = shorter.find(table.ids[:, :-1])
    given, lower = (1 - mass[history] for mass in history_masses(shorter, table))
    given, lower = np.maximum(given, LEAST_MASS), np.maximum(lower, LEAST_MASS)
    log_prob, log_lower = table.log_probs.astype(float), shorter.log_probs(table.ids[:, 1:]).astype(float)
    chance = np.exp(log_prob)
    before = np.log(given) - np.log(lower)
    after = np.log(given + chance) - np.log(lower + np.exp(log_lower))
    often = frequencies[table.ids[:, 0]] * np.exp(
        sum(model.log_probs(table.ids[:, :length]) for length in range(2, n)) if n > 2 else 0.0
    )
    return -often * (chance * (log_lower + after - log_prob) + given * (after - before))


def _kept(losses: list[np.ndarray], histories: list[np.ndarray], threshold: float) -> list[np.ndarray]:
    """Which n-grams of each order from 2 lose more than the threshold, or are histories of such ones.

    ``histories``: for each order from 3, the row of every n-gram's history in the table below.
    """
    kept = [loss > threshold for loss in losses]
    for below in reversed(range(len(histories))):
        kept[below][histories[below][kept[below + 1]]] = True
    return kept


def _size(model: NgramModel, kept: list[np.ndarray]) -> int:
    return len(model.tables[0].ids) + sum(int(keep.sum()) for keep in kept)
