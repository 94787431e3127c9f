"""Hotwords: words and phrases whose probability is raised above the language model's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import DataError, UsageError
from asr.graph.graph import Graph
from asr.lm.folder import LanguageModel, Twin
from asr.words.text import normalise
from asr.words.tokens import TokenTable

DEFAULT_BOOST = 3.0
MOST_BOOST = 20.0
MOST_PHRASES = 10_000
MOST_PRONUNCIATIONS = 16  # of one phrase
NEW_WORD_COST = 12.0  # nats, of a word that is not in the language model: the cost of its rarest words

Sound = tuple[int, ...]


@dataclass(frozen=True)
class Hotword:
    """A phrase of words in normal form, and the bonus in nats of each of them."""

    words: tuple[str, ...]
    boost: float = DEFAULT_BOOST


def read_hotwords(given: str | Path | Mapping[str, float] | Iterable[str]) -> tuple[Hotword, ...]:
    """Hotwords in any of their forms.

    Args:
        given: the path of a file with an entry per line (# begins a comment); or entries in one string, separated by
            commas; or several entries; or phrases with their boosts. An entry is ``phrase`` or ``phrase:boost``.
    Returns:
        Each phrase once, with the highest of its boosts.
    Raises:
        UsageError: a file that is not there or cannot be read, no entry at all or an empty one, characters that cannot
            be spoken, a boost that is no number or out of range, too many entries.
    """
    entries = _entries(given)
    if not entries:
        raise UsageError(f"hotwords {given!r} have no entry; give words or phrases, each with :BOOST or without")
    if len(entries) > MOST_PHRASES:
        raise UsageError(f"{len(entries)} hotwords are too many; give at most {MOST_PHRASES}")
    boosts: dict[tuple[str, ...], float] = {}
    for where, entry in entries:
        phrase, boost = _parsed(where, entry)
        boosts[phrase] = max(boost, boosts.get(phrase, 0.0))
    return tuple(Hotword(phrase, boost) for phrase, boost in boosts.items())


class Branch(NamedTuple):
    """One pronunciation of a phrase."""

    sounds: tuple[Sound, ...]  # of each word, as phone ids
    words: tuple[int, ...]
    cost: float  # nats, before the language weight
    target: int  # state of the graph after it


def with_hotwords(model: LanguageModel, hotwords: Sequence[Hotword], phones: TokenTable) -> LanguageModel:
    """The model with these phrases boosted, and with those of their words that it lacked.

    A tree of the phrases' pronunciations leaves the graph's state without context, and each path of it ends in the
    state of the graph after the phrase. Its cost is that of the phrase in the graph less the boost of each word, but at
    least 0. So an incomplete phrase has no advantage. Its words have numbers of their own, by which a second language
    model knows their boosts.

    Raises:
        UsageError: no pronunciation can be guessed for a word.
    """
    ids = {word: number for number, word in enumerate(model.words) if word}
    twins = {(word, hotword.boost): 0 for hotword in hotwords for word in hotword.words}
    new = list(dict.fromkeys(word for word, _ in twins if word not in ids))
    guessed = dict(zip(new, _guessed(new, phones), strict=True))
    for place, twin in enumerate(twins):
        twins[twin] = len(model.words) + place
    graph = model.graph.unpacked()
    walk = _Walk(graph)
    branches = []
    for hotword in hotwords:
        numbers = tuple(ids.get(word, len(model.words)) for word in hotword.words)
        written = tuple(twins[word, hotword.boost] for word in hotword.words)
        sounds_of = (guessed[word] if word in guessed else model.pronunciations[ids[word]] for word in hotword.words)
        for sounds in islice(product(*sounds_of), MOST_PRONUNCIATIONS):
            cost, target = walk.phrase(sounds, numbers, known=len(model.words))
            branches.append(Branch(sounds, written, max(0.0, cost - hotword.boost * len(numbers)), target))
    return replace(
        model,
        words=(*model.words, *(word for word, _ in twins)),
        pronunciations=(
            *model.pronunciations,
            *(guessed[word] if word in guessed else model.pronunciations[ids[word]] for word, _ in twins),
        ),
        graph=_grafted(graph, walk.root, branches),
        twins=tuple(Twin(ids.get(word, 0), boost) for word, boost in twins),
    )


def _entries(given: str | Path | Mapping[str, float] | Iterable[str]) -> list[tuple[str, str]]:
    """The place of each entry, for messages, and the entry."""
    if isinstance(given, Mapping):
        given = [f"{phrase}:{boost}" for phrase, boost in given.items()]
    if isinstance(given, Path) or (isinstance(given, str) and _names_a_file(given)):
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"hotwords {given} cannot be read: {reason}") from None
        stripped = ((number, line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1))
        return [(f"{given}, line {number}", line) for number, line in stripped if line]
    if isinstance(given, str):
        given = given.split(",") if given.strip() else []
    entries = list(given)
    if not all(isinstance(entry, str) for entry in entries):
        raise UsageError(f"hotwords must be text, got {entries!r}")
    return [(f"hotword {number}", entry.strip()) for number, entry in enumerate(entries, start=1)]


def _names_a_file(given: str) -> bool:
    if "," in given or "\n" in given:
        return False
    return "/" in given or given.endswith(".txt") or Path(given).is_file()


def _parsed(where: str, entry: str) -> tuple[tuple[str, ...], float]:
    phrase, colon, number = entry.partition(":")
    try:
        boost = float(number) if colon else DEFAULT_BOOST
    except ValueError:
        raise UsageError(f"{where}: the boost of {phrase!r} must be a number, got {number.strip()!r}") from None
    if not (math.isfinite(boost) and 0 < boost <= MOST_BOOST):
        raise UsageError(f"{where}: the boost of {phrase!r} must be above 0 and at most {MOST_BOOST:g}, got {boost:g}")
    try:
        words = tuple(normalise(phrase).split())
    except DataError as error:
        raise UsageError(f"{where}: {phrase!r}: {error}") from None
    if not words:
        raise UsageError(f"{where}: {entry!r} has no word; write a word or phrase, then :BOOST if you like")
    return words, boost


def _guessed(words: Sequence[str], phones: TokenTable) -> Iterator[tuple[Sound, ...]]:
    if not words:
        return
    from asr.words.lexicon import Lexicon

    lexicon = Lexicon.load()
    for word in words:
        try:
            yield tuple(tuple(phones.encode(sound)) for sound in lexicon.pronounce(word))
        except DataError as error:
            raise UsageError(f"hotword {word!r} has no pronunciation: {error}") from None


class _Walk:
    """Finds the cost of words in the graph from the state without context, and the state after them."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._ends = np.cumsum(graph.counts, dtype=np.int64)
        self.root = graph.unigram_state()

    def phrase(self, sounds: Sequence[Sound], words: Sequence[int], known: int) -> tuple[float, int]:
        """Cost of a phrase in nats and the state after it; words numbered from ``known`` are not in the graph."""
        cost, state, place = 0.0, self.root, 0
        while place < len(words):
            run = place
            while run < len(words) and words[run] < known:
                run += 1
            found = self._cheapest([phone for sound in sounds[place:run] for phone in sound], words[place:run])
            if found is None:  # a new word, or another pronunciation
                run = place + 1
                found = NEW_WORD_COST, self.root
            cost, state, place = cost + found[0], found[1], run
        return cost, state

    def _cheapest(self, phones: Sequence[int], words: Sequence[int]) -> tuple[float, int] | None:
        """The cheapest path from the root that reads these phones and writes these words, all of them."""
        if not words:
            return None
        front = {(self.root, 0): 0.0}  # (state, words written) -> cost
        for phone in phones:
            front = self._step(self._silently(front, words), phone, words)
        front = self._silently(front, words)
        done = [(cost, state) for (state, written), cost in front.items() if written == len(words)]
        return min(done) if done else None

    def _step(
        self, front: dict[tuple[int, int], float], phone: int, words: Sequence[int]
    ) -> dict[tuple[int, int], float]:
        after: dict[tuple[int, int], float] = {}
        for (state, written), cost in front.items():
            for key, more in self._arcs(state, written, phone, words):
                after[key] = min(cost + more, after.get(key, np.inf))
        return after

    def _silently(self, front: dict[tuple[int, int], float], words: Sequence[int]) -> dict[tuple[int, int], float]:
        """The front, and what can be reached from it without a phone: by backing off, or at the end of a word."""
        front = dict(front)
        todo = list(front)
        while todo:
            key = todo.pop()
            for other, more in self._arcs(*key, 0, words):
                cost = front[key] + more
                if cost < front.get(other, np.inf) - 1e-6:
                    front[other] = cost
                    todo.append(other)
        return front

    def _arcs(
        self, state: int, written: int, phone: int, words: Sequence[int]
    ) -> Iterator[tuple[tuple[int, int], float]]:
        """Of the arcs that read a phone and write the next word or none: (state, words written) and cost."""
        graph, end = self._graph, int(self._ends[state])
        first = end - int(graph.counts[state])
        for arc in first + np.flatnonzero(graph.phones[first:end] == phone):
            word = graph.words[arc]
            if word == 0 or (written < len(words) and word == words[written]):
                yield (int(graph.targets[arc]), written + int(word != 0)), float(graph.weights[arc])


def _grafted(graph: Graph, root: int, branches: Iterable[Branch]) -> Graph:
    """The graph with a tree of branches that hangs from ``root`` by an arc that reads nothing."""
    children: list[dict[tuple[int, int], int]] = [{}]  # of each node of the tree: (phone, word) -> node
    cheapest = [np.inf]  # of each node: the least that any path through it has cost by then
    leaves: dict[tuple[int, int, int, int], float] = {}  # (node, phone, word, target) -> cost of the whole path
    for sounds, words, cost, target in branches:
        steps = [
            (phone, word if place == len(sound) - 1 else 0)
            for sound, word in zip(sounds, words, strict=True)
            for place, phone in enumerate(sound)
        ]
        node = 0
        for depth, step in enumerate(steps[:-1], start=1):
            child = children[node].setdefault(step, len(children))
            if child == len(children):
                children.append({})
                cheapest.append(np.inf)
            # The cost is paid phone by phone: at once, the search would give up what is still likely; at the end, a
            # beginning would look better than it is.
            cheapest[child] = min(cheapest[child], cost * depth / len(steps))
            node = child
        leaf = (node, *steps[-1], target)
        leaves[leaf] = min(cost, leaves.get(leaf, np.inf))
    cheapest[0] = 0.0
    states = len(graph.counts)
    arcs = [
        (node, phone, word, cheapest[child] - cheapest[node], states + child)
        for node, steps in enumerate(children)
        for (phone, word), child in steps.items()
    ]
    arcs += [(node, phone, word, cost - cheapest[node], target) for (node, phone, word, target), cost in leaves.items()]
    arcs.sort(key=lambda arc: arc[0])
    sources, phones, words, weights, targets = zip(*arcs, strict=True)
    starts = np.zeros(len(children), bool)
    starts[[child for steps in children for (_, word), child in steps.items() if word]] = True
    counts = np.concatenate([graph.counts.astype(np.int32), np.bincount(sources, minlength=len(children))])
    counts[root] += 1
    place = int(graph.counts[: root + 1].sum(dtype=np.int64))

    def joined(column: np.ndarray, entrance: float, rest: Sequence[float]) -> np.ndarray:
        parts = (column[:place], [entrance], column[place:], rest)
        return np.concatenate([np.asarray(part, column.dtype) for part in parts])

    return Graph(
        graph.start,
        counts,
        np.concatenate([graph.finals, np.full(len(children), np.inf, np.float32)]),
        joined(graph.phones, 0, phones),
        joined(graph.words, 0, words),
        joined(graph.weights, 0.0, weights),
        joined(graph.targets, states, targets),
        np.concatenate([graph.word_starts, starts]),
    )
