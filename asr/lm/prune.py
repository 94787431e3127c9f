"""Pruning an n-gram model to a size: the n-grams go that change its predictions least."""

from __future__ import annotations

import numpy as np

from asr.lm.ngram import LEAST_MASS, NgramModel, Table, history_masses


def pruned(model: NgramModel, most: int, frequencies: np.ndarray) -> NgramModel:
    """Keep about ``most`` n-grams: those whose loss would raise the model's perplexity most (Stolcke 1998).

    Histories are weighed by how often their first word was counted, not by the model's unigrams: Kneser-Ney unigrams
    say after how many different words a word comes, and pruning by them does harm (Chelba et al. 2010).

    Args:
        model: of order 2 or more; all of its unigrams are kept.
        most: n-grams of all orders.
        frequencies: (words,) part of the text's words that each is; of the sentence begin, sentences a word.
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
    """By how many nats a word the cross-entropy rises without each n-gram of order n alone."""
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
