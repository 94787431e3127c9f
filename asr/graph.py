"""The decoding graph: pronunciations and an n-gram model in one automaton, kept small and unpacked for the decoder.

What is kept is L∘G (Mohri, Pereira & Riley 2002): arcs that read phones and write words. The CTC topology, which would
triple it, is added when it is loaded.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import ModelError

if TYPE_CHECKING:
    import kaldifst

FORMAT = 1
WEIGHT_STEP = 1 / 64  # of a stored weight, in nats
NO_WEIGHT = 32_767  # stored: a state where no sentence ends
COLUMNS = ("format", "start", "counts", "finals", "phones", "words", "weights", "targets")

# How OpenFst lays out a file of type "const" (fst/const-fst.h).
_MAGIC = 2_125_659_606
_STATE = np.dtype([
    ("final", "<f4"), ("first_arc", "<u4"), ("arcs", "<u4"), ("input_epsilons", "<u4"), ("output_epsilons", "<u4"),
])  # fmt: skip
_ARC = np.dtype([("input", "<i4"), ("output", "<i4"), ("weight", "<f4"), ("target", "<i4")])
_EXPANDED = 1  # the only property claimed of what is written


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

    @classmethod
    def from_fst(cls, path: Path) -> Graph:
        """Read an OpenFst file of type const; input labels are phones."""
        content = path.read_bytes()
        place = 4
        for _ in range(2):  # type of the automaton and of its arcs
            place += 4 + struct.unpack_from("<i", content, place)[0]
        _, _, _, start, states, arcs = struct.unpack_from("<iiQqqq", content, place)
        place += struct.calcsize("<iiQqqq")
        table = np.frombuffer(content, _STATE, states, place)
        rows = np.frombuffer(content, _ARC, arcs, place + table.nbytes)
        return cls(
            start, table["arcs"], table["final"], rows["input"], rows["output"], rows["weight"], rows["target"]
        )  # fmt: skip

    @classmethod
    def unpack(cls, content: bytes, name: object = "it") -> Graph:
        """Read what `packed` made; raises ModelError, with the ``name`` of the file, when it is no such thing."""
        try:
            with np.load(io.BytesIO(content)) as archive:
                columns = {column: archive[column] for column in COLUMNS}
        except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ModelError(f"{name} is no decoding graph ({error}); build it again with 'asr lm build'") from error
        if int(columns["format"]) != FORMAT:
            raise ModelError(f"{name} has format {columns['format']}, not {FORMAT}; build it again with 'asr lm build'")
        sources = np.repeat(np.arange(len(columns["counts"]), dtype=np.int32), columns["counts"])
        finals = columns["finals"] * np.float32(WEIGHT_STEP)
        finals[columns["finals"] == NO_WEIGHT] = np.inf
        return cls(
            int(columns["start"]), columns["counts"], finals, columns["phones"], _joined(columns["words"]),
            columns["weights"].astype(np.float32) * np.float32(WEIGHT_STEP), sources + _joined(columns["targets"]),
        )  # fmt: skip

    def packed(self) -> bytes:
        """The graph made small: weights in steps of ``WEIGHT_STEP``, numbers as byte planes, deflated."""
        sources = np.repeat(np.arange(len(self.counts)), self.counts)
        content = io.BytesIO()
        np.savez_compressed(
            content, format=FORMAT, start=self.start, counts=self.counts.astype(np.uint16), finals=_steps(self.finals),
            phones=self.phones.astype(np.uint8), words=_planes(self.words), weights=_steps(self.weights),
            targets=_planes(self.targets - sources),
        )  # fmt: skip
        return content.getvalue()

    def unigram_state(self) -> int:
        """The state in which no word before counts: the one that most backing off leads to."""
        backing_off = self.targets[(self.phones == 0) & (self.words == 0)]
        return int(np.bincount(backing_off).argmax()) if len(backing_off) else self.start

    def with_ctc(self, language_weight: float, word_cost: float) -> kaldifst.StdConstFst:
        """The automaton that reads frames: input labels are 1 + token, the blank being token 0.

        Every state is split by the phone that leads into it: that phone may go on, then blanks may follow. A phone may
        follow itself without a blank between (the "modified" topology of k2), which saves half the arcs.

        Args:
            language_weight: factor on all weights of the graph.
            word_cost: added for every word.
        """
        import kaldifst

        with _file(*self._topology(language_weight, word_cost)) as path:
            return kaldifst.StdConstFst.read(path)

    def _topology(self, language_weight: float, word_cost: float) -> tuple[int, np.ndarray, np.ndarray]:
        """Start, states and arcs of H∘L∘G."""
        counts = self.counts.astype(np.int32)
        states = len(counts)
        phones = self.phones.astype(np.int32)
        reached = np.zeros((states, int(phones.max(initial=0)) + 1), dtype=bool)  # by a phone; column 0: all is over
        reached[:, 0] = True
        reached[self.targets, phones] = True
        rank = np.cumsum(reached, axis=1, dtype=np.uint8)
        parts = rank[:, -1].astype(np.int32)  # states that each state becomes
        base = np.cumsum(parts, dtype=np.int32) - parts
        targets = base[self.targets] + rank[self.targets, phones] - 1
        state, token = np.nonzero(reached)
        del rank, reached

        over = token == 0  # blanks, then whatever may follow; in the others the phone goes on, or is over
        out = np.where(over, counts[state] + 1, 2).astype(np.int32)
        first = np.cumsum(out, dtype=np.int32) - out
        sources = np.repeat(np.arange(states, dtype=np.int32), counts)
        table = np.zeros(len(state), _STATE)
        table["final"] = self.finals[state] * language_weight
        table["first_arc"], table["arcs"] = first, out
        silent, wordless = (np.bincount(sources[labels == 0], minlength=states) for labels in (phones, self.words))
        table["input_epsilons"] = np.where(over, silent[state], 1)
        table["output_epsilons"] = np.where(over, wordless[state] + 1, 2)

        arcs = np.zeros(int(out.sum()), _ARC)
        arcs["input"][first] = token + 1
        arcs["target"][first] = np.arange(len(state))
        ends = first[~over] + 1
        arcs["target"][ends] = base[state[~over]]
        where = (first[over] + 1 - (np.cumsum(counts, dtype=np.int32) - counts))[sources]
        where += np.arange(len(phones), dtype=np.int32)
        arcs["input"][where] = np.where(phones == 0, 0, phones + 1)
        arcs["output"][where] = self.words
        arcs["weight"][where] = self.weights * language_weight + word_cost * (self.words > 0)
        arcs["target"][where] = targets
        return int(base[self.start]), table, arcs


@contextmanager
def _file(start: int, states: np.ndarray, arcs: np.ndarray) -> Iterator[str]:
    """The name of a file of OpenFst's type const, in memory where the system can."""
    with _memory_file() as file:
        file.write(struct.pack("<i", _MAGIC))
        for name in (b"const", b"standard"):
            file.write(struct.pack("<i", len(name)) + name)
        file.write(struct.pack("<iiQqqq", 2, 0, _EXPANDED, start, len(states), len(arcs)))
        file.write(states.data)
        file.write(arcs.data)
        file.flush()
        del states, arcs  # whoever reads the file makes its own
        yield file.name if isinstance(file.name, str) else f"/proc/self/fd/{file.fileno()}"


def _memory_file() -> io.IOBase:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("graph"), "wb")
    return tempfile.NamedTemporaryFile(suffix=".fst")


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
    values = np.ascontiguousarray(planes.T).view(np.uint32).reshape(-1)
    return (values >> 1).view(np.int32) ^ -(values & 1).view(np.int32)
