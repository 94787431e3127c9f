"""Lattices: the cheapest distinct word sequences of an utterance."""

from __future__ import annotations

from typing import NamedTuple

import kaldifst
import numpy as np
from kaldi_decoder import DecodableCtc, LatticeSimpleDecoder, LatticeSimpleDecoderConfig

MOST_STATES = 20_000  # of the automaton of distinct sentences; above it the beam is halved


class Sentence(NamedTuple):
    """A word sequence of a lattice."""

    words: list[int]
    cost: float  # nats: acoustic and graph
    graph_cost: float  # the graph's part of it


class _Arc(NamedTuple):
    source: str
    target: str
    label: int  # input label of the graph: 1 + unit, or 0 for none
    word: int
    graph_cost: float
    acoustic_cost: float


def cheapest_sentences(
    graph: kaldifst.StdConstFst, rows: np.ndarray, count: int, beam: float
) -> list[tuple[list[int], float]]:
    """Word ids and cost of the ``count`` cheapest distinct sentences, cheapest first.

    Args:
        graph: the compiled decoding graph.
        rows: (T, V) float32 scores.
        count: how many; fewer are returned when there are no more within the beam.
        beam: nats; paths dearer than the cheapest one by more are pruned.
    """
    return [([], 0.0)] if len(rows) == 0 else WordLattice(graph, rows, beam, beam).cheapest(count)


class WordLattice:
    """The paths through a graph that cost little more than the cheapest one, and the sentences on them."""

    def __init__(self, graph: kaldifst.StdConstFst, rows: np.ndarray, beam: float, width: float) -> None:
        """Search H∘L∘G.

        Args:
            graph: the compiled decoding graph.
            rows: (T, V) float32 log-probabilities, T >= 1.
            beam: nats; partial paths dearer than the cheapest one by more are pruned.
            width: nats; whole paths dearer than the cheapest one by more are left out of the lattice.
        """
        while True:
            decoder = LatticeSimpleDecoder(graph, LatticeSimpleDecoderConfig(beam=beam, lattice_beam=width))
            decoder.decode(DecodableCtc(np.ascontiguousarray(rows)))
            self._arcs, self._ends = _read(decoder.get_raw_lattice()[1])
            try:
                self._distinct = self._determinised(1.0)
                return
            except RuntimeError:  # too many sentences, as in long unclear speech
                beam, width = beam / 2, width / 2

    def cheapest(self, count: int) -> list[tuple[list[int], float]]:
        """Words and cost of the ``count`` cheapest distinct sentences, cheapest first."""
        found = []
        for path in kaldifst.convert_nbest_to_vector(kaldifst.shortest_path(self._distinct, n=count)):
            _, labels, _, weight = kaldifst.get_linear_symbol_sequence(path)
            found.append((list(labels), float(weight.value)))
        return sorted(found, key=lambda item: item[1])

    def sentences(self, count: int) -> list[Sentence]:
        """As `cheapest`, with the graph's part of each cost."""
        try:
            steps, ends = _walkable(self._determinised(0.0))
        except RuntimeError:  # the graph's costs alone tell fewer paths apart
            return [Sentence(words, cost, cost) for words, cost in self.cheapest(1)]
        found = []
        for words, cost in self.cheapest(count):
            state, graph_cost = "0", 0.0
            for word in words:
                state, step = steps[state, word]
                graph_cost += step
            found.append(Sentence(words, cost, graph_cost + ends[state]))
        return found

    def tokens(self, words: list[int]) -> np.ndarray:
        """Unit of each frame (T,) on the cheapest path with the words of one of the sentences."""
        lines = [
            f"{arc.source} {arc.target} {arc.word} {number} {arc.graph_cost + arc.acoustic_cost}"
            for number, arc in enumerate(self._arcs, start=1)
        ]
        lines += [f"{state} {sum(costs)}" for state, costs in self._ends.items()]
        numbered = kaldifst.compile("\n".join(lines) + "\n", acceptor=False)
        kaldifst.arcsort(numbered, sort_type="ilabel")
        line = "".join(f"{place} {place + 1} {word} {word}\n" for place, word in enumerate(words))
        wanted = kaldifst.compile(f"{line}{len(words)} 0\n", acceptor=False)
        path = kaldifst.shortest_path(kaldifst.compose(wanted, numbered), n=1)
        _, _, numbers, _ = kaldifst.get_linear_symbol_sequence(path)
        labels = (self._arcs[number - 1].label for number in numbers)
        return np.array([label - 1 for label in labels if label], dtype=int)

    def _determinised(self, acoustic: float) -> kaldifst.StdVectorFst:
        """The acceptor of words with one path per sentence, the cheapest; ``acoustic``: weight of the acoustic costs.

        Raises:
            RuntimeError: it would have too many states.
        """
        lines = [
            f"{arc.source} {arc.target} {arc.word} {arc.graph_cost + acoustic * arc.acoustic_cost}"
            for arc in self._arcs
        ]
        lines += [f"{state} {graph + acoustic * cost}" for state, (graph, cost) in self._ends.items()]
        words = kaldifst.compile("\n".join(lines) + "\n", acceptor=True)
        kaldifst.determinize_star(words, max_states=MOST_STATES)
        return words


def _read(lattice: kaldifst.Lattice) -> tuple[list[_Arc], dict[str, tuple[float, float]]]:
    """Arcs, and graph and acoustic cost of ending in each final state."""
    arcs, ends = [], {}
    # Python cannot walk the arcs of a lattice, only print them.
    for line in lattice.to_str(show_weight_one=True, fst_field_separator=" ").splitlines():
        *places, costs = line.split()
        graph_cost, acoustic_cost = map(float, costs.split(","))
        if len(places) == 1:
            ends[places[0]] = (graph_cost, acoustic_cost)
        else:
            source, target, label, word = places
            arcs.append(_Arc(source, target, int(label), int(word), graph_cost, acoustic_cost))
    return arcs, ends


def _walkable(acceptor: kaldifst.StdVectorFst) -> tuple[dict[tuple[str, int], tuple[str, float]], dict[str, float]]:
    """Of a deterministic acceptor: where each word leads from each state, at which cost; and the costs of ending."""
    steps, ends = {}, {}
    for line in acceptor.to_str(show_weight_one=True, fst_field_separator=" ").splitlines():
        *places, cost = line.split()
        if len(places) == 1:
            ends[places[0]] = float(cost)
        else:
            steps[places[0], int(places[2])] = (places[1], float(cost))
    return steps, ends
