"""Composing an n-gram model with pronunciations into a decoding graph."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import kaldifst
import numpy as np

from asr.graph.graph import Graph
from asr.graph.word_starts import word_starts

BACKOFF = "#0"


def arpa_words(arpa: Path) -> list[str]:
    """The words of a model in ARPA form, in its order, without <s>, </s> and <unk>."""
    words = []
    with arpa.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("\\1-grams:"):
                break
        for line in file:
            if not line.strip():
                break
            words.append(line.split("\t")[1].strip())
    return [word for word in words if word not in ("<s>", "</s>", "<unk>")]


def build_graph(arpa: Path, pronunciations: Sequence[tuple[str, Sequence[int]]], phones: int, folder: Path) -> Graph:
    """Compose, determinise and minimise L∘G (Mohri, Pereira & Riley 2002).

    Args:
        arpa: the n-gram model.
        pronunciations: (word, phone ids) pairs; a word may have several. Words are numbered from 1 in their order.
        phones: number of phones, the blank included.
        folder: for temporary files.
    """
    words = list(dict.fromkeys(word for word, _ in pronunciations))
    return compose(_grammar(arpa, words, folder), pronunciations, phones, folder)


def compose(
    grammar: kaldifst.StdVectorFst, pronunciations: Sequence[tuple[str, Sequence[int]]], phones: int, folder: Path
) -> Graph:
    """L∘G of any G, an acceptor of words numbered as for `build_graph`, with one more label for back-off arcs."""
    words = list(dict.fromkeys(word for word, _ in pronunciations))
    lexicon = _lexicon(pronunciations, {word: k for k, word in enumerate(words, start=1)}, phones)
    kaldifst.add_self_loops(lexicon, [phones], [len(words) + 1])  # back-off arcs read no phone
    kaldifst.arcsort(lexicon, "olabel")
    kaldifst.arcsort(grammar, "ilabel")
    composed = kaldifst.StdVectorFst(kaldifst.compose(lexicon, grammar))
    del lexicon, grammar
    kaldifst.determinize_star(composed, use_log=True)
    kaldifst.minimize_encoded(composed)
    path = folder / "graph.fst"
    kaldifst.StdConstFst(composed).write(str(path))
    graph = Graph.from_fst(path)
    readable = np.where(graph.phones < phones, graph.phones, 0)  # drop the disambiguation symbols
    sounds = (sound for _, sound in pronunciations)
    starts = word_starts(graph.counts, readable, graph.targets, graph.start, sounds)
    return replace(graph, phones=readable, word_starts=starts)


def _lexicon(
    pronunciations: Sequence[tuple[str, Sequence[int]]], words: dict[str, int], phones: int
) -> kaldifst.StdVectorFst:
    """L: phones in, words out, a loop per pronunciation; homophones and prefixes end in a disambiguation symbol."""
    sounds = [tuple(sound) for _, sound in pronunciations]
    shared = Counter(sounds)
    prefixes = {sound[:length] for sound in shared for length in range(1, len(sound))}
    used: Counter[tuple[int, ...]] = Counter()
    lines = []
    state = 1
    for (word, _), sound in zip(pronunciations, sounds, strict=True):
        labels = list(sound)
        if shared[sound] > 1 or sound in prefixes:
            used[sound] += 1
            labels.append(phones + used[sound])
        source = 0
        for place, label in enumerate(labels):
            last = place == len(labels) - 1
            lines.append(f"{source} {0 if last else state} {label} {words[word] if place == 0 else 0}")
            source = state
            state += not last
    lines.append("0")
    return kaldifst.compile("\n".join(lines) + "\n", acceptor=False)


def _grammar(arpa: Path, words: Sequence[str], folder: Path) -> kaldifst.StdVectorFst:
    """G: the n-gram model as an acceptor of word ids whose back-off arcs have a label of their own."""
    import kaldilm

    symbols = folder / "words.symbols"
    names = ["<eps>", *words, BACKOFF, "<s>", "</s>", "<unk>"]
    symbols.write_text("".join(f"{name} {k}\n" for k, name in enumerate(names)), encoding="utf-8")
    path = folder / "grammar.fst"
    with _quiet():
        kaldilm.arpa2fst(
            str(arpa), str(path), disambig_symbol=BACKOFF, read_symbol_table=str(symbols), max_arpa_warnings=0
        )
    return kaldifst.StdVectorFst.read(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard what a C++ library prints on stderr."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
