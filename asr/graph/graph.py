"""The decoding graph: pronunciations and an n-gram model in one automaton, stored small.

It is L∘G (Mohri, Pereira & Riley 2002): arcs read phones and write words. The expansion from phones to the units of a
network, which would triple it, is made by the beam search as it goes along.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import ModelError
from asr.graph.packed_arrays import PackedArrays, join_planes, pack_arrays

FORMAT = 3
WEIGHT_STEP = 1 / 64  # of a stored weight, in nats
NO_WEIGHT = 32_767  # stored: a state where no sentence ends
# States and arcs in OpenFst's files of type "const" (fst/const-fst.h)
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


@dataclass(frozen=True)
class Graph:
    """L∘G as arrays: S states, A arcs sorted by their source. Weights are costs in nats."""

    start: int
    counts: np.ndarray  # (S,) arcs that leave each state
    finals: np.ndarray  # (S,) cost of ending there, infinite where no sentence ends
    phones: np.ndarray  # (A,) phone read, 0 for none
    words: np.ndarray  # (A,) word written, 0 for none
    weights: np.ndarray  # (A,)
    targets: np.ndarray  # (A,) state that the arc leads to
    word_starts: np.ndarray  # (S,) bool: where a word begins: only there can silence be inserted

    checksum = None  # only of stored graphs

    @classmethod
    def from_fst(cls, path: Path) -> Graph:
        """Read an OpenFst file of type const; input labels are phones. ``word_starts`` are left False."""
        content = path.read_bytes()
        place = 4
        for _ in range(2):  # type of the automaton and of its arcs
            place += 4 + struct.unpack_from("<i", content, place)[0]
        _, _, _, start, states, arcs = struct.unpack_from("<iiQqqq", content, place)
        place += struct.calcsize("<iiQqqq")
        table = np.frombuffer(content, STATE, states, place)
        rows = np.frombuffer(content, ARC, arcs, place + table.nbytes)
        return cls(
            start,
            table["arcs"],
            table["final"],
            rows["input"],
            rows["output"],
            rows["weight"],
            rows["target"],
            np.zeros(states, bool),
        )

    @classmethod
    def unpack(cls, content: bytes, name: object = "it") -> Graph:
        """Read what `packed` made; raises ModelError, with the ``name`` of the file, when it is anything else."""
        try:
            columns = PackedArrays(content)
            if int(columns["format"]) != FORMAT:
                raise ModelError(
                    f"{name} has format {columns['format']}, not {FORMAT}; build it again with 'asr lm build'"
                )
            return cls._of(columns)
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{name} is no decoding graph ({error}); build it again with 'asr lm build'") from error

    @classmethod
    def _of(cls, columns: PackedArrays) -> Graph:
        """The graph of a file's columns, unpacked one by one. Raises LookupError or ValueError when they are none."""
        counts, steps = columns["counts"], columns["finals"]
        finals = steps * np.float32(WEIGHT_STEP)
        finals[steps == NO_WEIGHT] = np.inf
        targets = _joined(columns["targets"])
        targets += np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        return cls(
            int(columns["start"]),
            counts,
            finals,
            columns["phones"],
            _joined(columns["words"]),
            columns["weights"] * np.float32(WEIGHT_STEP),
            targets,
            np.unpackbits(columns["word_starts"], count=len(counts)).view(bool),
        )

    def sources(self) -> np.ndarray:
        """(A,) the state that each arc leaves."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    def packed(self) -> bytes:
        """The graph as bytes: weights in steps of ``WEIGHT_STEP``, numbers as byte planes, compressed."""
        sources = self.sources()
        columns = {
            "format": np.array(FORMAT),
            "start": np.array(self.start),
            "counts": self.counts.astype(np.uint16),
            "finals": _steps(self.finals),
            "phones": self.phones.astype(np.uint8),
            "words": _planes(self.words),
            "weights": _steps(self.weights),
            "targets": _planes(self.targets - sources),
            "word_starts": np.packbits(self.word_starts),
        }
        return pack_arrays(columns)

    def unpacked(self) -> Graph:
        """The graph itself, as for a `StoredGraph`."""
        return self

    def unigram_state(self) -> int:
        """The state without context: the target of most back-off arcs."""
        backing_off = self.targets[(self.phones == 0) & (self.words == 0)]
        return int(np.bincount(backing_off).argmax()) if len(backing_off) else self.start


@dataclass(frozen=True)
class StoredGraph:
    """A file that holds what `Graph.packed` made, read when needed: a graph that is kept compiled seldom is."""

    read: Callable[[], bytes]  # its verified content; raises ModelError
    checksum: str  # SHA-256 of the file
    name: object  # of the file, for messages

    def unpacked(self) -> Graph:
        """The graph; raises ModelError when the file is missing, altered or none."""
        return Graph.unpack(self.read(), self.name)


def _steps(weights: np.ndarray) -> np.ndarray:
    """Weights as whole steps: (N,) int16. Pushing them towards the start makes some of them negative."""
    finite = np.isfinite(weights)
    steps = np.rint(np.where(finite, weights, 0) / WEIGHT_STEP).clip(-NO_WEIGHT, NO_WEIGHT - 1)
    return np.where(finite, steps, NO_WEIGHT).astype(np.int16)


def _planes(values: np.ndarray) -> np.ndarray:
    """Numbers (N,) as their bytes (4, N), zigzag-coded so that small ones of either sign have zeros above."""
    values = values.astype(np.int32)
    return np.ascontiguousarray(((values << 1) ^ (values >> 31)).view(np.uint8).reshape(-1, 4).T)


def _joined(planes: np.ndarray) -> np.ndarray:
    """The inverse of `_planes`: (N,) int32."""
    values = join_planes(planes)
    signs = values & 1
    values >>= 1
    values ^= np.negative(signs, out=signs)
    return values.view(np.int32)
