"""Other things that may have been said: the cheapest distinct word sequences of a lattice."""

from __future__ import annotations

from typing import NamedTuple

import kaldifst
import numpy as np
from kaldi_decoder import DecodableCtc, LatticeSimpleDecoder, LatticeSimpleDecoderConfig

MOST_STATES = 20_000  # of the automaton of distinct sentences; above it the beam is halved


class Alternative(NamedTuple):
    """One of several guesses at an utterance."""

    text: str
    probability: float  # among the alternatives given with it; they sum to 1


def cheapest_sentences(
    graph: kaldifst.StdConstFst, rows: np.ndarray, count: int, beam: float
) -> list[tuple[list[int], float]]:
    """Word ids and cost of the ``count`` cheapest distinct sentences, cheapest first.

    Args:
        graph: H∘L∘G.
        rows: (T, V) float32 log-probabilities.
        count: how many; fewer come when there are no more within the beam.
        beam: nats from the cheapest path at which others are given up.
    """
    if len(rows) == 0:
        return [([], 0.0)]
    while True:
        decoder = LatticeSimpleDecoder(graph, LatticeSimpleDecoderConfig(beam=beam, lattice_beam=beam))
        decoder.decode(DecodableCtc(np.ascontiguousarray(rows)))
        _, lattice = decoder.get_raw_lattice()
        words = _words_only(lattice)
        try:  # to keep one path a sentence, the cheapest of all its alignments
            kaldifst.determinize_star(words, max_states=MOST_STATES)
            break
        except RuntimeError:  # too many sentences: it was mumbled for long
            beam /= 2
    paths = kaldifst.convert_nbest_to_vector(kaldifst.shortest_path(words, n=count))
    found = []
    for path in paths:
        _, labels, _, weight = kaldifst.get_linear_symbol_sequence(path)
        found.append((list(labels), float(weight.value)))
    return sorted(found, key=lambda item: item[1])


def _words_only(lattice: kaldifst.Lattice) -> kaldifst.StdVectorFst:
    """The lattice as an acceptor of words, graph and acoustic costs added up."""
    lines = []
    # Python cannot walk the arcs of a lattice, only print them.
    for line in lattice.to_str(show_weight_one=True, fst_field_separator=" ").splitlines():
        *ends, costs = line.split()
        graph_cost, acoustic_cost = map(float, costs.split(","))
        if len(ends) == 1:
            lines.append(f"{ends[0]} {graph_cost + acoustic_cost}")
        else:
            source, target, _, word = ends
            lines.append(f"{source} {target} {word} {graph_cost + acoustic_cost}")
    return kaldifst.compile("\n".join(lines) + "\n", acceptor=True)
