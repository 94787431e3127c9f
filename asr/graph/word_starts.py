"""The states of a decoding graph at which a word begins: only there can silence be inserted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

ROOT = 0  # of the tree of pronunciations: between words


def word_starts(
    counts: np.ndarray, phones: np.ndarray, targets: np.ndarray, start: int, sounds: Iterable[Sequence[int]]
) -> np.ndarray:
    """Traverse L∘G and the tree of its pronunciations together.

    Args:
        counts: (S,) arcs that leave each state.
        phones: (A,) phone read by each arc, sorted by source, 0 for none: back-off arcs, and those that distinguish
            homophones and prefixes at their end.
        targets: (A,) state that each arc leads to.
        start: the first state.
        sounds: phone ids of every pronunciation of every word, so that shared ones occur several times.
    Returns:
        (S,) bool.
    Raises:
        ValueError: the graph reads phones that no pronunciation has.
    """
    children, over = _tree(sounds, int(phones.max(initial=0)) + 1)
    nodes = len(children)
    ends = np.cumsum(counts, dtype=np.int64)
    seen = np.zeros(0, np.int64)
    front = np.array([start * nodes + ROOT])
    while len(front):
        seen = np.sort(np.concatenate([seen, front]))
        states, places = front // nodes, front % nodes
        arcs, origins = leaving(ends, counts, states)
        read = phones[arcs].astype(int)
        after = np.where(read > 0, children[places[origins], read], ROOT)
        if (after[read > 0] == ROOT).any():
            raise ValueError("the graph reads phones that no pronunciation has")
        after[over[after]] = ROOT
        reached = distinct(targets[arcs].astype(np.int64) * nodes + after)
        front = reached[~np.isin(reached, seen, assume_unique=True)]
    starts = np.zeros(len(counts), bool)
    starts[seen[seen % nodes == ROOT] // nodes] = True
    return starts


def leaving(ends: np.ndarray, counts: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The arcs that leave some states, state by state, and the index of each arc's source in ``states``.

    Args:
        ends: (S,) one past the last arc of each state.
        counts: (S,) arcs of each state.
        states: (N,).
    """
    many = counts[states].astype(np.int64)
    origins = np.repeat(np.arange(len(states)), many)
    return np.repeat(ends[states] - np.cumsum(many), many) + np.arange(len(origins)), origins


def distinct(values: np.ndarray) -> np.ndarray:
    """Each value once, ascending. Sorting is twenty times faster here than the hash table in `np.unique`."""
    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])[: len(values)]]


def _tree(sounds: Iterable[Sequence[int]], phones: int) -> tuple[np.ndarray, np.ndarray]:
    """Child of each node by phone (N, P), 0 for none; and which nodes (N,) always end a word.

    Prefixes of other pronunciations, and homophones, end with an arc of their own.
    """
    shared = Counter(map(tuple, sounds))
    children = [[0] * phones]
    last = {}
    for sound in shared:
        node = ROOT
        for phone in sound:
            if not children[node][phone]:
                children[node][phone] = len(children)
                children.append([0] * phones)
            node = children[node][phone]
        last[sound] = node
    table = np.array(children, dtype=np.int32)
    over = np.zeros(len(table), bool)
    for sound, node in last.items():
        over[node] = shared[sound] == 1 and not table[node].any()
    return table, over
