"""H∘C∘L∘G: the hidden Markov states of phones in context put around a decoding graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from asr.acoustic.phone_states import SILENCE, Biphones
from asr.graph.ctc_topology import ARC, SLICE, STATE, write_header
from asr.graph.word_starts import distinct, leaving

if TYPE_CHECKING:
    from asr.graph.graph import Graph


def write_with_states(
    graph: Graph, biphones: Biphones, language_weight: float, word_cost: float, silence_cost: float, file: BinaryIO
) -> None:
    """Write the automaton that reads frames: input labels are 1 + state.

    Every state of the graph is split by the state that the phone leading into it stays in, which tells that phone and,
    where it matters, the one before. So an arc of the graph reads the first state of its phone after that one. Where a
    word begins there may be silence, in which the phone before is forgotten.

    Args:
        graph: L∘G with its ``word_starts``.
        biphones: the states.
        language_weight: factor on all weights of the graph.
        word_cost: added for every word.
        silence_cost: added for every silence.
        file: empty.
    """
    count = len(biphones)
    ends = np.cumsum(graph.counts, dtype=np.int64)
    nodes = _nodes(graph, biphones)  # (N,) state of the graph * K + the state that its last phone stays in
    owners, stays = nodes // count, nodes % count
    pausing = (stays != SILENCE) & graph.word_starts[owners]
    many = 1 + graph.counts[owners].astype(np.int64) + pausing
    first = np.cumsum(many) - many  # of each node a loop, then its arcs, then the way into silence
    start = int(np.searchsorted(nodes, graph.start * count + SILENCE))
    layout = write_header(file, start, len(nodes), int(many.sum()))
    for begin in range(0, len(nodes), SLICE):
        own = slice(begin, begin + SLICE)
        states, stay, pauses, size = owners[own], stays[own], pausing[own], len(nodes[own])
        arcs, origins = leaving(ends, graph.counts, states)
        phones, words = graph.phones[arcs].astype(int), graph.words[arcs]
        before = biphones.phones[stay[origins]]
        reading = phones > 0

        table = np.zeros(size, STATE)
        table["final"] = graph.finals[states] * language_weight
        table["first_arc"], table["arcs"] = first[own], many[own]
        table["input_epsilons"] = np.bincount(origins[~reading], minlength=size)
        table["output_epsilons"] = 1 + pauses + np.bincount(origins[words == 0], minlength=size)
        file.seek(layout.states + begin * STATE.itemsize)
        file.write(table.data)

        rows = np.zeros(int(many[own].sum()), ARC)
        places = first[own] - first[begin]
        rows["input"][places] = stay + 1
        rows["target"][places] = begin + np.arange(size)
        where = np.arange(len(arcs)) + 1 + origins + (np.cumsum(pauses) - pauses)[origins]
        rows["input"][where] = np.where(reading, biphones.first[before, phones] + 1, 0)
        rows["output"][where] = words
        rows["weight"][where] = graph.weights[arcs] * language_weight + word_cost * (words > 0)
        stays_in = np.where(reading, biphones.rest[before, phones], stay[origins])
        rows["target"][where] = np.searchsorted(nodes, graph.targets[arcs].astype(np.int64) * count + stays_in)
        last = (places + many[own] - 1)[pauses]
        rows["input"][last] = SILENCE + 1
        rows["weight"][last] = silence_cost
        rows["target"][last] = np.searchsorted(nodes, states[pauses] * count + SILENCE)
        file.seek(layout.arcs + int(first[begin]) * ARC.itemsize)
        file.write(rows.data)
    file.flush()


def _nodes(graph: Graph, biphones: Biphones) -> np.ndarray:
    """What each state of the graph is split into, ascending: state * K + the state that its last phone stays in."""
    count = len(biphones)
    ends = np.cumsum(graph.counts, dtype=np.int64)
    sources = np.repeat(np.arange(len(graph.counts)), graph.counts)
    targets = graph.targets.astype(np.int64)
    reading, passing = np.flatnonzero(graph.phones), np.flatnonzero(graph.phones == 0)
    bit = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))  # of each phone

    silent = graph.word_starts.copy()
    silent[graph.start] = True
    last = np.where(silent, bit[SILENCE], np.uint64(0))  # (S,) phones that may have been the last at each state
    np.bitwise_or.at(last, targets[reading], bit[graph.phones[reading]])
    while True:  # once for every time that arcs without a phone follow each other
        known = last[targets[passing]]
        np.bitwise_or.at(last, targets[passing], last[sources[passing]])
        if np.array_equal(known, last[targets[passing]]):
            break
    before, phones, places = last[sources[reading]], graph.phones[reading], targets[reading] * count
    found = [np.flatnonzero(silent) * count + SILENCE]
    for phone in range(len(biphones.first)):
        some = np.flatnonzero(before & bit[phone])
        found.append(distinct(places[some] + biphones.rest[phone, phones[some]]))
    nodes = new = distinct(np.concatenate(found))

    hands_on = np.zeros(len(graph.counts), bool)
    hands_on[sources[passing]] = True
    while len(new):  # what arcs without a phone hand on
        new = new[hands_on[new // count]]
        arcs, origins = leaving(ends, graph.counts, new // count)
        kept = graph.phones[arcs] == 0
        reached = distinct(targets[arcs[kept]] * count + new[origins[kept]] % count)
        new = reached[~np.isin(reached, nodes, assume_unique=True)]
        nodes = np.sort(np.concatenate([nodes, new]))
    return nodes
