"""The decoding graph: pronunciations and an n-gram model in one automaton, kept small and unpacked for the decoder.

What is kept is L∘G (Mohri, Pereira & Riley 2002): arcs that read phones and write words. How frames make phones, which
would triple it, is added when it is loaded: the topology of CTC, or that of hidden Markov states.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from asr.errors import ModelError
from asr.graph.compiled import fst_in_memory, kept_fst
from asr.graph.ctc_topology import ARC, STATE, write_with_ctc
from asr.graph.hmm_topology import write_with_states

if TYPE_CHECKING:
    import kaldifst

    from asr.acoustic.phone_states import Biphones

FORMAT = 2
WEIGHT_STEP = 1 / 64  # of a stored weight, in nats
NO_WEIGHT = 32_767  # stored: a state where no sentence ends
COLUMNS = ("format", "start", "counts", "finals", "phones", "words", "weights", "targets", "word_starts")


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
    word_starts: np.ndarray  # (S,) bool: where a word begins, so that somebody may pause

    @classmethod
    def from_fst(cls, path: Path) -> Graph:
        """Read an OpenFst file of type const; input labels are phones. It does not know where words begin."""
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
        """Read what `packed` made; raises ModelError, with the ``name`` of the file, when it is no such thing."""
        try:
            with np.load(io.BytesIO(content)) as archive:
                if int(archive["format"]) != FORMAT:
                    raise ModelError(
                        f"{name} has format {archive['format']}, not {FORMAT}; build it again with 'asr lm build'"
                    )
                columns = {column: archive[column] for column in COLUMNS}
        except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ModelError(f"{name} is no decoding graph ({error}); build it again with 'asr lm build'") from error
        sources = np.repeat(np.arange(len(columns["counts"]), dtype=np.int32), columns["counts"])
        finals = columns["finals"] * np.float32(WEIGHT_STEP)
        finals[columns["finals"] == NO_WEIGHT] = np.inf
        return cls(
            int(columns["start"]),
            columns["counts"],
            finals,
            columns["phones"],
            _joined(columns["words"]),
            columns["weights"].astype(np.float32) * np.float32(WEIGHT_STEP),
            sources + _joined(columns["targets"]),
            np.unpackbits(columns["word_starts"], count=len(columns["counts"])).astype(bool),
        )

    def packed(self) -> bytes:
        """The graph made small: weights in steps of ``WEIGHT_STEP``, numbers as byte planes, deflated."""
        sources = np.repeat(np.arange(len(self.counts)), self.counts)
        content = io.BytesIO()
        np.savez_compressed(
            content,
            format=FORMAT,
            start=self.start,
            counts=self.counts.astype(np.uint16),
            finals=_steps(self.finals),
            phones=self.phones.astype(np.uint8),
            words=_planes(self.words),
            weights=_steps(self.weights),
            targets=_planes(self.targets - sources),
            word_starts=np.packbits(self.word_starts),
        )
        return content.getvalue()

    def unigram_state(self) -> int:
        """The state in which no word before counts: the one that most backing off leads to."""
        backing_off = self.targets[(self.phones == 0) & (self.words == 0)]
        return int(np.bincount(backing_off).argmax()) if len(backing_off) else self.start

    def with_ctc(self, language_weight: float, word_cost: float) -> kaldifst.StdConstFst:
        """The automaton that reads frames, as `ctc_topology.write_with_ctc` makes it."""
        return fst_in_memory(lambda file: write_with_ctc(self, language_weight, word_cost, file))

    def with_states(
        self, biphones: Biphones, language_weight: float, word_cost: float, silence_cost: float
    ) -> kaldifst.StdConstFst:
        """The automaton that reads frames, as `hmm_topology.write_with_states` makes it."""
        return fst_in_memory(
            lambda file: write_with_states(self, biphones, language_weight, word_cost, silence_cost, file)
        )


class StoredGraph(Graph):
    """A graph as `packed` made it. It is unpacked when somebody looks into it, which searching it seldom takes."""

    def __init__(self, content: bytes, checksum: str, name: object) -> None:
        """Take what `packed` made, its checksum, and the name that errors give it."""
        for attribute, value in (("_content", content), ("_checksum", checksum), ("_name", name)):
            object.__setattr__(self, attribute, value)

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("_") or attribute not in {field.name for field in fields(Graph)}:
            raise AttributeError(f"a graph has no {attribute!r}")
        graph = Graph.unpack(self._content, self._name)
        for field in fields(Graph):
            object.__setattr__(self, field.name, getattr(graph, field.name))
        return getattr(graph, attribute)

    def with_ctc(self, language_weight: float, word_cost: float) -> kaldifst.StdConstFst:
        """As of any graph, but from where an earlier start has kept it."""

        def write(file: BinaryIO) -> None:
            write_with_ctc(self._another(), language_weight, word_cost, file)

        return kept_fst(f"{self._checksum} {language_weight} {word_cost}", write)

    def with_states(
        self, biphones: Biphones, language_weight: float, word_cost: float, silence_cost: float
    ) -> kaldifst.StdConstFst:
        """As of any graph, but from where an earlier start has kept it."""

        def write(file: BinaryIO) -> None:
            write_with_states(self._another(), biphones, language_weight, word_cost, silence_cost, file)

        weights = f"{language_weight} {word_cost} {silence_cost}"
        return kept_fst(f"{self._checksum} {biphones.checksum} {weights}", write)

    def _another(self) -> Graph:
        """Unpacked anew, so that this one does not keep in memory what is not needed again."""
        return Graph.unpack(self._content, self._name)


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
