"""Beam search through a decoding graph, with one or two language models: states that are values."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import numpy as np

from asr.decoding.scratches import SCRATCHES
from asr.graph.compiled import CompiledGraph
from asr.lm.large_ngrams import LargeNgrams
from asr.lm.lstm import LstmLanguageModel
from asr.native import NONE, RECORD, Model, Ngrams, library


class Topology(NamedTuple):
    """How phones are read from frames, one unit per frame; a path is in a unit that its last phone goes on with."""

    enter: np.ndarray  # (P, P) unit of the first frame of [phone before, phone]
    stay: np.ndarray  # (P, P) unit of its other frames
    phones: np.ndarray  # (K,) phone of each unit; unit 0 is silence, or the blank
    pause_cost: float  # nats, of silence where a word begins
    pauses_anywhere: bool = False  # whether unit 0 may follow any phone
    forgets: bool = False  # whether an arc that reads nothing ends the phone before it


class SearchWeights(NamedTuple):
    """Weights of the scores, and the width of the search."""

    language_weight: float  # factor on the costs of the graph
    word_cost: float  # nats per word
    beam: float  # nats: paths dearer than the cheapest one by more are dropped
    most_active: int  # paths
    first_weight: float = 0.0  # factor on the costs of the graph where a large model has given its own
    second_weight: float = 0.0  # factor on the costs of the large model


class LargeModel(NamedTuple):
    """A large n-gram model, and how the words of the graph are known to it."""

    ngrams: LargeNgrams
    numbers: np.ndarray  # (W,) the model's number of each word of the graph, NONE where it knows none
    bonuses: np.ndarray  # (W,) nats that each word's cost is lowered by


class Lstm(NamedTuple):
    """An LSTM language model, and how the words of the graph are known to it."""

    model: LstmLanguageModel
    numbers: np.ndarray  # (W,) the model's number of each word of the graph
    weight: float  # of its probabilities in their mean with those of the n-grams


class Path(NamedTuple):
    """The cheapest path of a state."""

    units: np.ndarray  # (T,) of each frame
    words: list[int]
    cost: float  # nats
    graph_cost: float  # the part of the language models
    token: int = NONE  # its number among those of the state


class Hypotheses:
    """The paths of an utterance as far as it has been searched. It never changes; `Search.advance` makes the next."""

    __slots__ = ("_pointer", "_free", "frames")

    def __init__(self, pointer: int, frames: int, free: Callable[[int], None]) -> None:
        self._pointer, self._free, self.frames = pointer, free, frames

    def __del__(self) -> None:
        self._free(self._pointer)


class Search:
    """A graph, a topology and weights, ready to search. Any number of threads may use it at once."""

    def __init__(
        self,
        graph: CompiledGraph,
        topology: Topology,
        weights: SearchWeights,
        large: LargeModel | None = None,
        lattice_beam: float = 0.0,
        lstm: Lstm | None = None,
    ) -> None:
        """Prepare a search.

        Args:
            graph: to search.
            topology: of its phones.
            weights: of the scores.
            large: the language model that has the last say on every word.
            lattice_beam: nats within which other sentences than the best are kept, for `sentences`; 0: none are.
            lstm: whose say is asked for, word by word, with `rescore`.
        """
        self._library = library()
        self._units = len(topology.phones)
        pausing = np.ones(len(graph.finals), np.uint8) if topology.pauses_anywhere else graph.word_starts
        phones = len(topology.enter)
        arrays = {
            "first": graph.first,
            "arcs": graph.arcs,
            "finals": graph.finals,
            "pausing": pausing,
            "enter": _flat(topology.enter, np.uint16),
            "stay": _flat(topology.stay, np.uint16),
            "phone_of": _flat(topology.phones, np.uint8),
        }
        if large is not None:
            arrays |= {
                "ngram_word": _flat(large.numbers, np.uint32),
                "bonus": _flat(large.bonuses, np.float32),
            }
        if lstm is not None:
            arrays["lstm_word"] = _flat(lstm.numbers, np.uint32)
        self._arrays, self._large, self._lstm = arrays, large, lstm  # kept alive: the model points to them
        self.model = Model(
            start=graph.start,
            phones=phones,
            forgets=topology.forgets,
            pause_cost=topology.pause_cost,
            lattice_beam=lattice_beam,
            identity=next(_identities),
            **weights._asdict(),
            **{name: array.ctypes.data for name, array in arrays.items()},
        )
        if large is not None:
            self._ngrams = _ngrams(large.ngrams)
            self.model.ngrams, self.model.most_bonus = ctypes.pointer(self._ngrams), arrays["bonus"].max(initial=0.0)
        if lstm is not None:
            self.model.lstm, self.model.lstm_weight = ctypes.pointer(lstm.model.network), lstm.weight

    def advance(self, before: Hypotheses | None, rows: np.ndarray, context: np.ndarray | None = None) -> Hypotheses:
        """Search on.

        Args:
            before: what has been searched, None at the start of an utterance.
            rows: (T, K) of scores, T >= 0, the higher the better.
            context: (D,) float32, the LSTM's state at the start of the utterance, if there is an LSTM.
        Raises:
            MemoryError: there is not enough.
        """
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self._units:
            raise ValueError(f"scores of {self._units} units are needed, got {rows.shape}")
        with SCRATCHES.lent() as scratch:
            pointer = self._library.rill_advance(
                self.model,
                scratch,
                None if before is None else before._pointer,
                _address(context),
                rows.ctypes.data,
                len(rows),
                self._units,
            )
        if not pointer:
            raise MemoryError("no memory is left for the beam search")
        frames = len(rows) + (0 if before is None else before.frames)
        return Hypotheses(pointer, frames, self._library.rill_state_free)

    def rescore(self, state: Hypotheses) -> Hypotheses:
        """A state with the words that its paths have written since the last time scored by the LSTM.

        Raises:
            MemoryError: there is not enough.
        """
        return self._asked(self._library.rill_rescore, state)

    def lstm_ends(self, state: Hypotheses) -> np.ndarray:
        """The LSTM's cost in nats (N,) of ending a sentence after each node of a state from `rescore`.

        Raises:
            MemoryError: there is not enough.
        """
        costs = np.empty(self._library.rill_node_count(state._pointer), np.float32)
        self._asked(self._library.rill_lstm_ends, state, costs.ctypes.data)
        return costs

    def lstm_context(self, state: Hypotheses, path: Path) -> np.ndarray:
        """The LSTM's state (D,) after a path of a state from `rescore`, and the end of a sentence.

        Raises:
            MemoryError: there is not enough.
        """
        assert self._lstm is not None
        context = np.empty(self._lstm.model.start().shape[1], np.float32)
        self._asked(self._library.rill_lstm_context, state, path.token, context.ctypes.data)
        return context

    def rows(self, state: Hypotheses) -> int:
        """How many states of the LSTM a state keeps."""
        return self._library.rill_row_count(state._pointer)

    def _asked(self, function: Callable[..., int], state: Hypotheses, *arguments: int) -> Hypotheses:
        """A copy of a state that a function has changed, for which the LSTM may have read on."""
        after = self.advance(state, np.zeros((0, self._units), np.float32))
        with SCRATCHES.lent() as scratch:
            if not function(self.model, scratch, after._pointer, *arguments):
                raise MemoryError("no memory is left for the beam search")
        return after

    def best(self, state: Hypotheses, ended: bool, lstm: np.ndarray | None = None) -> Path:
        """The cheapest path; if ``ended``, of those that end a sentence, where any does.

        ``lstm`` (N,) float32 is the LSTM's cost of ending a sentence after each node, where its say counts.
        """
        cost, graph_cost = ctypes.c_double(), ctypes.c_float()
        token = self._library.rill_best(self.model, state._pointer, ended, _address(lstm), cost, graph_cost)
        units = np.zeros(state.frames, np.uint16)
        if token == NONE:
            return Path(units, [], math.inf, 0.0)
        words = np.empty(state.frames + 1, np.uint32)
        while True:
            found = self._library.rill_path(state._pointer, token, units.ctypes.data, words.ctypes.data, len(words))
            if found <= len(words):
                return Path(units, words[:found][::-1].tolist(), cost.value, graph_cost.value, token)
            words = np.empty(found, np.uint32)

    def ending_cost(self, state: Hypotheses) -> float:
        """Cost in nats of the cheapest path that ends a sentence over that of the cheapest of all."""
        return self._library.rill_ending_cost(self.model, state._pointer)

    def records(self, state: Hypotheses) -> np.ndarray:
        """A copy of the state's records (N,), for `asr.decoding.lattice`."""
        size = self._library.rill_record_count(state._pointer)
        if not size:
            return np.zeros(0, RECORD)
        content = ctypes.string_at(self._library.rill_records(state._pointer), size * RECORD.itemsize)
        return np.frombuffer(content, RECORD)

    def ends(self, state: Hypotheses, lstm: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each path that ends a sentence, or of each path if none does; ``lstm`` is as in `best`.

        Returns:
            (E,) its record, (E,) its cost over that of the cheapest path, (E,) its cost of language.
        """
        room = self._library.rill_token_count(state._pointer)
        records, costs, graphs = np.empty(room, np.uint32), np.empty(room, np.float32), np.empty(room, np.float32)
        found = self._library.rill_ends(
            self.model,
            state._pointer,
            _address(lstm),
            *(array.ctypes.data for array in (records, costs, graphs)),
            room,
        )
        return records[:found], costs[:found], graphs[:found]


_identities = count(1)  # of searches: what a scratch holds is of one of them


def _address(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def _flat(values: np.ndarray, kind: type) -> np.ndarray:
    return np.ascontiguousarray(values, kind).reshape(-1)


def _ngrams(given: LargeNgrams) -> Ngrams:
    pointers = {name: array.ctypes.data for name, array in vars(given).items()}
    return Ngrams(**pointers, words=given.vocabulary)
