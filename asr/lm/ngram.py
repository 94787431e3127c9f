"""Back-off n-gram models as tries of sorted arrays: read, mixed, pruned by entropy, written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import DataError
from asr.lm.counts import distinct

BEGINS, ENDS, UNKNOWN = "<s>", "</s>", "<unk>"
END = 0  # id of the end of a sentence
NEVER = -99.0  # log10 probability that ARPA files give to what cannot follow anything
LEAST_MASS = 1e-6  # probability left for the words that a history does not list; rounding could make it negative


class Table(NamedTuple):
    """The n-grams of one order, sorted by their history's row, then by their last word."""

    last: np.ndarray  # (K,) int32 ids of their last words
    histories: np.ndarray  # (K,) int32 row of all but the last word in the table of the order below; 0 in the lowest
    suffixes: np.ndarray  # (K,) int32 row of all but the first word there; 0 in the lowest
    log_probs: np.ndarray  # (K,) float32 natural
    backoffs: np.ndarray  # (K,) float32 natural; zeros in the highest order


class NgramModel:
    """Probabilities of words given the words before (Katz 1987); orders are counted from 1.

    Word ids are 0 for the end of a sentence, 1 to V for words, V + 1 for the begin of a sentence; some have V + 2 for
    unknown words. Row k of the first table is word k. The history and the suffix of each n-gram are n-grams, too.
    """

    def __init__(self, words: Sequence[str], tables: Sequence[Table], unknown: bool = False) -> None:
        """``words``: from id 1 on; ``tables``: one per order."""
        self.words = (ENDS, *words, BEGINS, *([UNKNOWN] if unknown else []))
        self.ids = {word: number for number, word in enumerate(self.words)}
        self.tables = tuple(tables)
        self._sorted: dict[int, np.ndarray] = {}

    @property
    def order(self) -> int:
        return len(self.tables)

    @property
    def size(self) -> int:
        """N-grams of all orders."""
        return sum(len(table.last) for table in self.tables)

    @property
    def knows_unknown(self) -> bool:
        return self.words[-1] == UNKNOWN

    @property
    def own_words(self) -> tuple[str, ...]:
        """The words without the symbols."""
        return self.words[1 : -1 - self.knows_unknown]

    @classmethod
    def of_ngrams(
        cls, words: Sequence[str], grams: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], unknown: bool = False
    ) -> NgramModel:
        """From n-grams in any order, of each order their word ids (K, n), log-probabilities and back-off factors (K,).

        Histories and suffixes that are missing are added at the probability that they have without being listed.

        Raises:
            ValueError: a word has no probability.
        """
        added = _with_shorter([ids for ids, _, _ in grams])
        size = len(words) + 2 + unknown
        if len(grams[0][0]) != size or len(added[0]) != size:
            raise ValueError("not every word has one probability")
        tables: list[Table] = []
        for n, (rows, (ids, log_probs, backoffs)) in enumerate(zip(added, grams, strict=True), start=1):
            model = cls(words, tables, unknown)
            histories = model.find(rows[:, :-1]) if n > 1 else np.zeros(len(rows), np.int32)
            suffixes = model.find(rows[:, 1:]) if n > 1 else histories
            factors = np.zeros(len(rows), np.float32)
            chances = np.zeros(len(rows), np.float32)
            if n > 1:
                chances += tables[-1].backoffs[histories] + tables[-1].log_probs[suffixes]
            table = Table(rows[:, -1].astype(np.int32), histories, suffixes, chances, factors)
            tables.append(table)
            places = cls(words, tables, unknown).find(ids)
            chances[places] = log_probs
            factors[places] = backoffs
        return cls(words, tables, unknown)

    @classmethod
    def read(cls, arpa: Path, words: Sequence[str] | None = None) -> NgramModel:
        """Read an ARPA file.

        Args:
            arpa: the file.
            words: the numbering of its words, from 1 on; by default they are numbered in the order of the file.
        Raises:
            DataError: the file is no ARPA file, or has words that ``words`` lacks.
        """
        ids = {ENDS: END, BEGINS: -1, UNKNOWN: -2}
        if words is not None:
            ids |= {word: k for k, word in enumerate(words, start=1)}
        sections: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        try:
            with arpa.open(encoding="utf-8") as file:
                for line in file:
                    if line.endswith("-grams:\n"):
                        sections.append(_section(file, ids, len(sections) + 1, words is None and not sections))
            if not sections:
                raise ValueError("it has no n-grams")
            own = [word for word in ids if word not in (ENDS, BEGINS, UNKNOWN)]
            for grams, _, _ in sections:
                symbols = grams < 0
                grams[symbols] = len(own) - grams[symbols]
            unknown = bool((sections[0][0] == len(own) + 2).any())
            return cls.of_ngrams(own, sections, unknown)
        except KeyError as error:
            raise DataError(f"{arpa}: word {error} is not among those it should have") from error
        except (UnicodeDecodeError, ValueError, IndexError) as error:
            raise DataError(f"{arpa} is no n-gram model in ARPA form ({error})") from error

    def write(self, arpa: Path) -> None:
        """Write an ARPA file."""
        words = np.array(self.words, dtype=object)
        with arpa.open("w", encoding="utf-8") as file:
            file.write("\\data\\\n")
            file.writelines(f"ngram {n}={len(table.last)}\n" for n, table in enumerate(self.tables, start=1))
            for n, table in enumerate(self.tables, start=1):
                file.write(f"\n\\{n}-grams:\n")
                columns = (table.log_probs / np.log(10), words[self.grams(n)], table.backoffs / np.log(10))
                for log_prob, gram, backoff in zip(*(column.tolist() for column in columns), strict=True):
                    end = f"\t{backoff:.5f}" if n < self.order else ""
                    file.write(f"{log_prob:.5f}\t{' '.join(gram)}{end}\n")
            file.write("\n\\end\\\n")

    def grams(self, n: int) -> np.ndarray:
        """(K, n) int32: the words of the n-grams of one order."""
        found = np.empty((len(self.tables[n - 1].last), n), np.int32)
        rows: np.ndarray | slice = slice(None)
        for length in range(n, 0, -1):
            table = self.tables[length - 1]
            found[:, length - 1] = table.last[rows]
            rows = table.histories[rows]
        return found

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Rows (K,) int32 of n-grams (K, n) in the table of order n, -1 for those that it lacks."""
        rows = np.where(ids[:, 0] < len(self.tables[0].last), ids[:, 0], -1).astype(np.int32)
        for n in range(2, ids.shape[1] + 1):
            keys = self._keys(n)
            wanted = rows.astype(np.int64) * len(self.words) + ids[:, n - 1]
            places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            rows = (
                np.where((rows >= 0) & (keys[places] == wanted), places, -1).astype(np.int32)
                if len(keys)
                else rows * 0 - 1
            )
        return rows

    def _keys(self, n: int) -> np.ndarray:
        if n not in self._sorted:
            table = self.tables[n - 1]
            self._sorted[n] = table.histories * np.int64(len(self.words)) + table.last
        return self._sorted[n]

    def log_probs(self, ids: np.ndarray) -> np.ndarray:
        """Log-probability of the last word of each n-gram (K, n), 1 <= n <= order, after the others."""
        rows = self.find(ids)
        found = np.zeros(len(ids), np.float32)
        found[rows >= 0] = self.tables[ids.shape[1] - 1].log_probs[rows[rows >= 0]]
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            found[missing] = self.backoffs(ids[missing, :-1]) + self.log_probs(ids[missing, 1:])
        return found

    def backoffs(self, histories: np.ndarray) -> np.ndarray:
        """Log of the back-off factor (K,) of histories (K, n)."""
        rows = self.find(histories)
        return np.where(rows < 0, 0, self.tables[histories.shape[1] - 1].backoffs[rows])

    def normalised(self) -> NgramModel:
        """The same n-grams with back-off factors computed again, so that probabilities sum to 1."""
        tables = list(self.tables)
        for n in range(2, self.order + 1):
            given, lower = self.history_masses(n)
            factors = np.log(np.maximum(1 - given, LEAST_MASS)) - np.log(np.maximum(1 - lower, LEAST_MASS))
            tables[n - 2] = tables[n - 2]._replace(backoffs=np.where(given > 0, factors, 0).astype(np.float32))
        return NgramModel(self.own_words, tables, self.knows_unknown)

    def history_masses(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Probability mass that the n-grams of order n take of each history, a row of the table below.

        Returns:
            (K,) float64 their probability after the history, and the same words' after the history less its first word.
        """
        table, below = self.tables[n - 1], self.tables[n - 2]
        given = np.bincount(table.histories, np.exp(table.log_probs), len(below.last))
        lower = np.bincount(table.histories, np.exp(below.log_probs[table.suffixes]), len(below.last))
        return given, lower

    def with_words(self, words: Sequence[str]) -> NgramModel:
        """With more words behind its own, which are never said: to be mixed with a model that says them."""
        old, size = len(self.own_words), len(self.own_words) + len(words) + 2
        numbers = np.arange(old + 2, dtype=np.int32)
        numbers[-1] = size - 1
        first = self.tables[0]
        log_probs, backoffs = np.full(size, NEVER * np.log(10), np.float32), np.zeros(size, np.float32)
        log_probs[numbers], backoffs[numbers] = first.log_probs, first.backoffs
        none = np.zeros(size, np.int32)
        tables = [Table(np.arange(size, dtype=np.int32), none, none, log_probs, backoffs), *self.tables[1:]]
        if self.order > 1:
            tables[1] = tables[1]._replace(histories=numbers[tables[1].histories])
        return NgramModel((*self.own_words, *words), tables)

    def shorter(self, order: int) -> NgramModel:
        """Without the n-grams of higher orders."""
        if order >= self.order:
            return self
        highest = self.tables[order - 1]
        tables = (*self.tables[: order - 1], highest._replace(backoffs=np.zeros_like(highest.backoffs)))
        return NgramModel(self.own_words, tables, self.knows_unknown)

    def frequencies(self, rounds: int = 10) -> np.ndarray:
        """(V + 2,) how often each word is said, by the n-grams of two words, relative to all; ends count as begins.

        The fixed point of p(w) = sum over v of p(v) p(w | v), by iteration.
        """
        unigrams, pairs = np.exp(self.tables[0].log_probs.astype(float)), self.tables[1]
        factors = np.exp(self.tables[0].backoffs.astype(float))
        more = np.exp(pairs.log_probs) - factors[pairs.histories] * unigrams[pairs.last]
        often = unigrams / unigrams.sum()
        for _ in range(rounds):
            often[-1], often[END] = often[END], 0.0  # a sentence begins where another has ended
            often = (often @ factors) * unigrams + np.bincount(pairs.last, often[pairs.histories] * more, len(often))
            often = np.maximum(often, 0) / often.sum()
        often[-1] = often[END]
        return often / often[1:-1].sum()

    def kept(self, keep: Sequence[np.ndarray]) -> NgramModel:
        """The n-grams of which ``keep``, for each order a bool (K,), is true; back-off factors are left as they are.

        The histories and suffixes of what is kept have to be kept, too.
        """
        tables: list[Table] = []
        places = np.zeros(1, np.int32)
        for table, mask in zip(self.tables, keep, strict=True):
            last, histories, suffixes, log_probs, backoffs = (column[mask] for column in table)
            tables.append(Table(last, places[histories], places[suffixes], log_probs, backoffs))
            places = np.cumsum(mask, dtype=np.int32) - 1
        return NgramModel(self.own_words, tables, self.knows_unknown)


def mixed(models: Sequence[NgramModel], shares: Sequence[float]) -> NgramModel:
    """The linear interpolation of models of the same words, with the n-grams of all.

    Raises:
        ValueError: models that number words differently or differ in order.
    """
    first = models[0]
    if any(model.words != first.words or model.order != first.order for model in models):
        raise ValueError("models can be mixed only if they have the same words and order")
    size = len(first.words)
    table = first.tables[0]
    chances = [np.exp(model.tables[0].log_probs) for model in models]  # of the n-grams of all, after each model
    places = [np.arange(size, dtype=np.int32)] * len(models)  # of each model's n-grams among those of all
    tables = [table._replace(log_probs=_mean(chances, shares), backoffs=np.zeros(size, np.float32))]
    for n in range(2, first.order + 1):
        lists = [places[k][model.tables[n - 1].histories] * np.int64(size) for k, model in enumerate(models)]
        for keys, model in zip(lists, models, strict=True):
            keys += model.tables[n - 1].last
        union = distinct(np.concatenate(lists))[0]
        histories, last = (union // size).astype(np.int32), (union % size).astype(np.int32)
        suffixes = np.zeros(len(union), np.int32)
        found = []
        now = [np.searchsorted(union, keys).astype(np.int32) for keys in lists]
        del union, lists
        for k, model in enumerate(models):
            suffixes[now[k]] = places[k][model.tables[n - 1].suffixes]
        for k, model in enumerate(models):
            factors = np.ones(len(tables[-1].last), np.float32)
            factors[places[k]] = np.exp(model.tables[n - 2].backoffs)
            chance = factors[histories] * chances[k][suffixes]
            chance[now[k]] = np.exp(model.tables[n - 1].log_probs)
            found.append(chance)
        places, chances = now, found
        tables.append(Table(last, histories, suffixes, _mean(chances, shares), np.zeros(len(last), np.float32)))
    return NgramModel(first.own_words, tables, first.knows_unknown).normalised()


def pruned(model: NgramModel, most: int, frequencies: np.ndarray) -> NgramModel:
    """Keep ``most`` n-grams: those whose removal would raise the model's perplexity most (Stolcke 1998).

    What is kept is kept with its histories and suffixes. Histories are weighted by the count of their first word, not
    by the model's unigrams: Kneser-Ney unigrams measure after how many different words a word follows, and pruning by
    them does harm (Chelba et al. 2010).

    Args:
        model: of order 2 or more; all of its unigrams are kept.
        most: n-grams of all orders.
        frequencies: (words,) relative frequency of each word; of the sentence begin, sentences per word.
    Returns:
        A model of the same order and words. One that is small enough is returned as it is.
    """
    if model.size <= most:
        return model
    losses = _losses(model, frequencies)
    for n in range(model.order, 2, -1):
        table, loss, below = model.tables[n - 1], losses[n - 2], losses[n - 3]
        np.maximum.at(below, table.histories, loss)  # what others need is as dear as they are
        np.maximum.at(below, table.suffixes, loss)
    wanted = most - len(model.tables[0].last)
    flat = np.concatenate(losses)
    border = np.partition(flat, len(flat) - wanted - 1)[len(flat) - wanted - 1] if wanted > 0 else np.inf
    everything = np.ones(len(model.tables[0].last), bool)
    return model.kept([everything, *(loss > border for loss in losses)]).normalised()


def _losses(model: NgramModel, frequencies: np.ndarray) -> list[np.ndarray]:
    """Of each order from 2 the rise (K,) of the cross-entropy, in nats a word, when each n-gram is removed alone."""
    losses = []
    often = frequencies.astype(np.float32)  # of the histories
    for n in range(2, model.order + 1):
        table, below = model.tables[n - 1], model.tables[n - 2]
        given, lower = (np.maximum(1 - mass, LEAST_MASS) for mass in model.history_masses(n))
        before = (np.log(given) - np.log(lower)).astype(np.float32)[table.histories]
        chance, chance_below = np.exp(table.log_probs), np.exp(below.log_probs[table.suffixes])
        given, lower = given.astype(np.float32)[table.histories], lower.astype(np.float32)[table.histories]
        after = np.log(given + chance) - np.log(lower + chance_below)
        frequency = often[table.histories]
        change = chance * (below.log_probs[table.suffixes] + after - table.log_probs) + given * (after - before)
        losses.append(-frequency * change)
        often = frequency * chance
    return losses


def _mean(chances: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
    total = np.zeros(len(chances[0]), np.float32)
    for chance, share in zip(chances, shares, strict=True):
        total += np.float32(share) * chance
    return np.log(np.maximum(total, 1e-37))


def _with_shorter(grams: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The n-grams (K, n) of each order with the histories and suffixes of the longer ones, sorted."""
    found = [np.unique(grams[-1], axis=0)]
    for ids in reversed(grams[:-1]):
        longer = found[0]
        found.insert(0, np.unique(np.concatenate([ids, longer[:, :-1], longer[:, 1:]]), axis=0))
    return found


def _section(
    file: Iterable[str], ids: dict[str, int], n: int, may_add: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The n-grams up to the next empty line: ids, natural-log probabilities and back-off factors."""
    grams, log_probs, backoffs = [], [], []
    for line in file:
        if line == "\n":
            break
        parts = line.rstrip("\n").split("\t")
        names = parts[1].split(" ")
        if len(names) != n:
            raise ValueError(f"{line!r} is no {n}-gram")
        if may_add:
            ids.setdefault(names[0], len(ids) - 2)
        grams.append([ids[name] for name in names])
        log_probs.append(float(parts[0]))
        backoffs.append(float(parts[2]) if len(parts) > 2 else 0.0)
    scale = np.float32(np.log(10))
    ids_of_grams = np.array(grams, np.int32).reshape(-1, n)
    return ids_of_grams, np.array(log_probs, np.float32) * scale, np.array(backoffs, np.float32) * scale
