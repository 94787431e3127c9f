"""Decoding graphs ready to be searched: unpacked into arrays that are mapped from a file of the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from asr.errors import ModelError
from asr.graph.graph import Graph, StoredGraph
from asr.graph.kept_arrays import Arrays, kept_arrays
from asr.native import library

FORMAT = 4  # part of every name: raised when files of older versions must not be used
ARC = np.dtype([("target", "<u4"), ("weight", "<f4"), ("label", "<u4")])  # as in asr/native/types.h
MOST_PHONES = 64  # "no phone" included


@dataclass(frozen=True)
class CompiledGraph:
    """L∘G as the beam search reads it: S states, A arcs sorted by source and as asr/native/linking.h says."""

    start: int
    first: np.ndarray  # (S + 1,) uint32: first arc of each state
    arcs: np.ndarray  # (A,) ARC
    finals: np.ndarray  # (S,) float32: cost of ending there in nats, infinite where no sentence ends
    word_starts: np.ndarray  # (S,) uint8: where a word begins


def compiled(graph: Graph | StoredGraph) -> CompiledGraph:
    """A graph as arrays. Of a stored graph a file is kept in `asr.files.cache_folder` for later starts.

    Raises:
        ModelError: a graph that cannot be read, or has too many phones.
    """
    name = None
    if graph.checksum is not None:
        identity = f"{FORMAT} {graph.checksum}"
        name = f"graph-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
    arrays = kept_arrays(name, lambda: _arrays(graph.unpacked()))
    return CompiledGraph(
        int(arrays["start"][0]), *(arrays[part] for part in ("first", "arcs", "finals", "word_starts"))
    )


def _arrays(graph: Graph) -> Arrays:
    if int(graph.phones.max(initial=0)) >= MOST_PHONES:
        raise ModelError(f"a decoding graph can have {MOST_PHONES - 1} phones, not {int(graph.phones.max())}")
    first = np.zeros(len(graph.counts) + 1, np.uint32)
    np.cumsum(graph.counts, out=first[1:])
    arcs = np.empty(len(graph.phones), ARC)
    arcs["target"], arcs["weight"] = graph.targets, graph.weights
    arcs["label"] = graph.words
    arcs["label"] *= MOST_PHONES  # in place: a sum would take as much memory as the arcs
    np.add(arcs["label"], graph.phones, out=arcs["label"], casting="unsafe")  # those of a grammar have 64 bits
    library().rill_graph_link(first.ctypes.data, arcs.ctypes.data, len(graph.counts))
    arrays: Mapping[str, np.ndarray] = {
        "start": np.array([graph.start], np.uint32),
        "first": first,
        "arcs": arcs,
        "finals": graph.finals.astype(np.float32),
        "word_starts": graph.word_starts.astype(np.uint8),
    }
    return arrays
