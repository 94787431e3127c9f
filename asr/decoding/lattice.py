"""The cheapest distinct sentences of an utterance, from the junctions that the beam search has kept."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count as counted
from typing import NamedTuple

import numpy as np

from asr.decoding.search import Hypotheses, Search
from asr.native import JUNCTION, NONE

NO_UNIT = 0xFFFF  # of a record that reads no frame
MOST_TRIED = 10_000  # paths looked at: many differ in their times only


class Sentence(NamedTuple):
    """A word sequence of an utterance, by its cheapest path."""

    words: list[int]
    cost: float  # nats: acoustic and language, over the cheapest sentence
    graph_cost: float  # the part of the language models, words and all
    units: np.ndarray  # (T,) unit of each frame on the path


class _Open(NamedTuple):
    """A path known from its end back to a record, at its exact cost: where paths met, both their costs are known."""

    cost: float
    number: int  # to order those of equal cost
    record: int
    graph_cost: float
    words: tuple[int, ...]  # from here on
    later: tuple | None  # (record, later): entries from here on


def cheapest_sentences(
    search: Search, state: Hypotheses, count: int, width: float, lstm: np.ndarray | None = None
) -> list[Sentence]:
    """At most ``count`` distinct sentences, cheapest first: A* search backwards, with exact costs to go (Soong & Huang
    1991).

    Args:
        search: whose lattice beam is at least ``width``, or sentences within it may be missing.
        state: of an utterance that ends here.
        count: how many.
        width: nats; sentences dearer than the cheapest one by more are left out.
        lstm: (N,) an LSTM's cost of ending here after each node, as in `Search.ends`.
    """
    records = search.records(state)
    parents, words = records["parent"].tolist(), records["word"].tolist()
    more, more_graph = (np.ascontiguousarray(records[name]).view(np.float32).tolist() for name in ("place", "units"))
    ends = sorted(zip(*(part.tolist() for part in search.ends(state, lstm)), strict=True), key=lambda end: end[1])
    if not ends:
        return []
    least, number = ends[0][1], counted()
    near = (end for end in ends if end[1] <= least + width)
    heap = [_Open(cost - least, next(number), record, graph, (), None) for record, cost, graph in near]
    found: dict[tuple[int, ...], Sentence] = {}
    seen = set()  # what has been left by a cheaper path: where to go on from is the same, and so are the words after it
    for _ in range(MOST_TRIED):
        if not heap or len(found) == count:
            break
        path = heappop(heap)
        record, following, later = path.record, path.words, path.later
        if (record, following) in seen:
            continue
        seen.add((record, following))
        while record != NONE:
            if words[record] & JUNCTION:
                cost = path.cost + more[record]
                if cost <= width:
                    graph = path.graph_cost + more_graph[record]
                    other = words[record] & ~JUNCTION
                    heappush(heap, _Open(cost, next(number), other, graph, following, later))
            else:
                later = (record, later)
                if words[record]:
                    following = (words[record], *following)
            record = parents[record]
        entries = []
        while later is not None:
            entries.append(later[0])
            later = later[1]
        if following not in found:
            units = _units(records, entries, state.frames)
            found[following] = Sentence(list(following), path.cost, path.graph_cost, units)
    return list(found.values())


def _units(records: np.ndarray, entries: list[int], frames: int) -> np.ndarray:
    units = np.zeros(frames, int)
    for one in records[entries]:
        begin, read, kind = int(one["place"]), int(one["units"]) & NO_UNIT, int(one["units"]) >> 16
        units[begin:] = kind
        if read != NO_UNIT and begin < frames:
            units[begin] = read
    return units
