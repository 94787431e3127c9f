"""A decoding graph of a grammar, which takes the place of a language model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import kaldifst
import numpy as np

from asr.errors import DataError, UsageError
from asr.graph.build import compose
from asr.graph.graph import Graph
from asr.lm.folder import CTC_WEIGHTS, DecodingWeights, LanguageModel
from asr.lm.grammar import Grammar, read_grammar
from asr.words.tokens import TokenTable


def grammar_model(path: Path, phones: TokenTable, weights: DecodingWeights = CTC_WEIGHTS) -> LanguageModel:
    """The words, pronunciations and graph of a grammar file.

    Saying nothing is part of every grammar: silence gives no words. So are any phones at a cost, and they write no
    words: speech that fits these better than any sentence is taken for something else. All sentences are equally
    likely but for the weights' cost of a word.

    Raises:
        UsageError: a grammar that `read_grammar` refuses, or a word of it that has no pronunciation.
    """
    from asr.words.lexicon import Lexicon

    grammar = read_grammar(path)
    lexicon = Lexicon.load()
    try:
        sounds = {word: tuple(tuple(phones.encode(s)) for s in lexicon.pronounce(word)) for word in grammar.words}
    except DataError as error:
        raise UsageError(f"grammar {path}: {error}") from None
    pronunciations = [(word, sound) for word, spoken in sounds.items() for sound in spoken]
    with tempfile.TemporaryDirectory(prefix="rill-grammar-") as scratch:
        graph = compose(_acceptor(grammar), pronunciations, len(phones), Path(scratch))
    graph = _with_other_speech(graph, len(phones), weights.other_speech_cost / weights.language_weight)
    return LanguageModel(path, ("", *sounds), ((), *sounds.values()), graph, weights)


def _with_other_speech(graph: Graph, phones: int, cost: float) -> Graph:
    """The graph, or instead any phones at this cost each: two more states, a new start and one for the phones."""
    start = len(graph.counts)
    other = start + 1
    loop = range(1, phones)

    def joined(column: np.ndarray, *more: float) -> np.ndarray:
        return np.concatenate([column, np.asarray(more, column.dtype)])

    return Graph(
        start,
        joined(graph.counts.astype(np.int32), 2, len(loop)),
        joined(graph.finals, np.inf, 0.0),
        joined(graph.phones.astype(np.int32), 0, 0, *loop),
        joined(graph.words, 0, 0, *[0] * len(loop)),
        joined(graph.weights, 0.0, 0.0, *[cost] * len(loop)),
        joined(graph.targets, graph.start, other, *[other] * len(loop)),
        joined(graph.word_starts, True, True),
    )


def _acceptor(grammar: Grammar) -> kaldifst.StdVectorFst:
    ids = {word: number for number, word in enumerate(grammar.words, start=1)}
    lines = [f"{source} {target} {ids.get(word, 0)}" for source, target, word in grammar.arcs]
    acceptor = kaldifst.compile("\n".join([*lines, f"{grammar.final}", "0"]) + "\n", acceptor=True)
    kaldifst.determinize_star(acceptor)
    kaldifst.minimize_encoded(acceptor)
    return acceptor
