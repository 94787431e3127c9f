"""From phones to frames: a decoding graph expanded by the topology of CTC, or of phone states, into a file.

The files are OpenFst's, which the decoder maps into memory. They are written slice by slice, so that memory stays
bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np

from asr.acoustic.phone_states import SILENCE, Biphones
from asr.errors import ModelError
from asr.graph.graph import Graph
from asr.graph.openfst import ARC, STATE, write_header
from asr.graph.word_starts import distinct, leaving

SLICE = 1 << 15  # states at a time


class Topology(Protocol):
    """How the phones of a graph are read from frames, one unit a frame, with the weights of the search."""

    @property
    def identity(self) -> str:
        """Equal for topologies that expand a graph to the same automaton."""

    def write(self, graph: Graph, file: BinaryIO) -> None:
        """Write the expanded graph into an empty file; input labels are 1 + unit, output labels words.

        Raises:
            ModelError: the graph does not fit the topology.
        """


@dataclass(frozen=True)
class CtcTopology:
    """H∘L∘G: phones with blanks (token 0) between them.

    Every state is split by the phone that leads into it: that phone may go on, then blanks may follow. A phone may
    follow itself without a blank between (the "modified" topology of k2), which saves half the arcs.
    """

    language_weight: float  # factor on all weights of the graph
    word_cost: float  # added per word

    @property
    def identity(self) -> str:
        return f"{self.language_weight} {self.word_cost}"

    def write(self, graph: Graph, file: BinaryIO) -> None:
        """As in `Topology`; the graph may have 63 phones."""
        count = len(graph.counts)
        kinds = int(graph.phones.max(initial=0)) + 1
        if kinds > 64:
            raise ModelError(f"a decoding graph can have 63 phones, not {kinds - 1}")
        bit = np.left_shift(np.uint64(1), np.arange(kinds, dtype=np.uint64))  # of each phone; 0: all is over
        reached = np.ones(count, np.uint64)  # (S,) the bits of the phones that lead into each state
        np.bitwise_or.at(reached, graph.targets, bit[graph.phones])
        parts = np.bitwise_count(reached).astype(np.int64)  # states that each state becomes
        base = np.cumsum(parts) - parts
        counts = graph.counts.astype(np.int64)
        leaving = np.cumsum(counts) - counts  # first arc of each state in the graph
        # The part that is over has its state's arcs and a loop; each other one has a loop and a way to be over.
        arcs_before = np.cumsum(counts + 2 * parts - 1) - (counts + 2 * parts - 1)
        states, arcs = int(parts.sum()), int((counts + 2 * parts - 1).sum())
        layout = write_header(file, int(base[graph.start]), states, arcs)
        for begin in range(0, count, SLICE):
            own = slice(begin, min(begin + SLICE, count))
            stop = own.stop
            some = slice(int(leaving[begin]), int(leaving[stop - 1] + counts[stop - 1]))  # arcs of the graph
            state, token = np.nonzero(reached[own, None] & bit)
            over = token == 0
            out = np.where(over, counts[own][state] + 1, 2)
            first = np.cumsum(out) - out  # of each new state, in this slice
            sources = np.repeat(np.arange(stop - begin), counts[own])
            phones, words, targets = graph.phones[some], graph.words[some], graph.targets[some]
            silent, wordless = (np.bincount(sources[labels == 0], minlength=stop - begin) for labels in (phones, words))

            table = np.zeros(len(state), STATE)
            table["final"] = graph.finals[own][state] * self.language_weight
            table["first_arc"], table["arcs"] = arcs_before[begin] + first, out
            table["input_epsilons"] = np.where(over, silent[state], 1)
            table["output_epsilons"] = np.where(over, wordless[state] + 1, 2)
            file.seek(layout.states + int(base[begin]) * STATE.itemsize)
            file.write(table.data)

            rows = np.zeros(int(out.sum()), ARC)
            rows["input"][first] = token + 1
            rows["target"][first] = base[begin] + np.arange(len(state))
            rows["target"][first[~over] + 1] = base[own][state[~over]]
            where = (first[over] + 1 - (leaving[own] - leaving[begin]))[sources] + np.arange(len(sources))
            rows["input"][where] = np.where(phones == 0, 0, phones.astype(np.int32) + 1)
            rows["output"][where] = words
            rows["weight"][where] = graph.weights[some] * self.language_weight + self.word_cost * (words > 0)
            below = reached[targets] & (bit[phones] - np.uint64(1))  # phones that lead there and come before this one
            rows["target"][where] = base[targets] + np.bitwise_count(below)
            file.seek(layout.arcs + int(arcs_before[begin]) * ARC.itemsize)
            file.write(rows.data)
        file.flush()


@dataclass(frozen=True)
class StateTopology:
    """H∘C∘L∘G: hidden Markov states of phones in the context of the phone before.

    Every state of the graph is split by the second state of the phone that leads into it, which identifies that phone
    and, where it matters, the one before. So an arc of the graph reads the first state of its phone after that one.
    Where a word begins there may be silence, after which the context is silence.
    """

    biphones: Biphones
    language_weight: float  # factor on all weights of the graph
    word_cost: float  # added per word
    silence_cost: float  # added per silence

    @property
    def identity(self) -> str:
        return f"{self.biphones.checksum} {self.language_weight} {self.word_cost} {self.silence_cost}"

    def write(self, graph: Graph, file: BinaryIO) -> None:
        """As in `Topology`; the graph needs its ``word_starts``."""
        biphones = self.biphones
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
            table["final"] = graph.finals[states] * self.language_weight
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
            rows["weight"][where] = graph.weights[arcs] * self.language_weight + self.word_cost * (words > 0)
            stays_in = np.where(reading, biphones.rest[before, phones], stay[origins])
            rows["target"][where] = np.searchsorted(nodes, graph.targets[arcs].astype(np.int64) * count + stays_in)
            last = (places + many[own] - 1)[pauses]
            rows["input"][last] = SILENCE + 1
            rows["weight"][last] = self.silence_cost
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
