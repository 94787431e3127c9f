"""H∘L∘G: the CTC topology put around a decoding graph, written as a file that the decoder maps into memory."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from asr.graph.graph import Graph

SLICE = 1 << 15  # states at a time: bounds memory

# How OpenFst lays out a file of type "const" (fst/const-fst.h).
MAGIC = 2_125_659_606
STATE = np.dtype(
    [
        ("final", "<f4"),
        ("first_arc", "<u4"),
        ("arcs", "<u4"),
        ("input_epsilons", "<u4"),
        ("output_epsilons", "<u4"),
    ]
)
ARC = np.dtype([("input", "<i4"), ("output", "<i4"), ("weight", "<f4"), ("target", "<i4")])
HEADER = struct.Struct("<i i5s i8s iiQqqq")
VERSION, ALIGNED, EXPANDED = 2, 4, 1  # of the format; of its parts, without which it cannot be mapped; a property
ALIGNMENT = 16  # bytes


class Layout(NamedTuple):
    """Where the parts of a file are, in bytes."""

    states: int
    arcs: int
    end: int

    @classmethod
    def of(cls, states: int, arcs: int) -> Layout:
        first = _aligned(HEADER.size)
        second = _aligned(first + states * STATE.itemsize)
        return cls(first, second, second + arcs * ARC.itemsize)


def is_whole(file: BinaryIO) -> bool:
    """Whether a file is as long as its header says: one that is not must never be mapped."""
    head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        return False
    magic, _, _, _, _, version, flags, _, _, states, arcs = HEADER.unpack(head)
    size = file.seek(0, 2)
    return (magic, version, flags) == (MAGIC, VERSION, ALIGNED) and size == Layout.of(states, arcs).end


def write_header(file: BinaryIO, start: int, states: int, arcs: int) -> Layout:
    """Write the head of a file; returns where the rest belongs."""
    file.write(HEADER.pack(MAGIC, 5, b"const", 8, b"standard", VERSION, ALIGNED, EXPANDED, start, states, arcs))
    return Layout.of(states, arcs)


def write_with_ctc(graph: Graph, language_weight: float, word_cost: float, file: BinaryIO) -> None:
    """Write the automaton that reads frames: input labels are 1 + token, the blank being token 0.

    Every state is split by the phone that leads into it: that phone may go on, then blanks may follow. A phone may
    follow itself without a blank between (the "modified" topology of k2), which saves half the arcs.

    Args:
        graph: L∘G, of at most 63 phones.
        language_weight: factor on all weights of the graph.
        word_cost: added for every word.
        file: empty; it is written slice by slice.
    """
    count = len(graph.counts)
    kinds = int(graph.phones.max(initial=0)) + 1
    if kinds > 64:
        raise ValueError(f"a decoding graph may have 63 phones, not {kinds - 1}")
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
        table["final"] = graph.finals[own][state] * language_weight
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
        rows["weight"][where] = graph.weights[some] * language_weight + word_cost * (words > 0)
        below = reached[targets] & (bit[phones] - np.uint64(1))  # phones that lead there and come before this one
        rows["target"][where] = base[targets] + np.bitwise_count(below)
        file.seek(layout.arcs + int(arcs_before[begin]) * ARC.itemsize)
        file.write(rows.data)
    file.flush()


def _aligned(place: int) -> int:
    return -(-place // ALIGNMENT) * ALIGNMENT
