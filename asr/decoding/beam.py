"""Beam search with a lexicon and a language model: the cheapest path through a decoding graph, block by block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile
from operator import is_
from typing import NamedTuple

import numpy as np

from asr.decoding.acoustic_units import CtcUnits, SearchOptions, Units
from asr.decoding.lattice import cheapest_sentences
from asr.decoding.rescoring import LAG_FRAMES, Rescorer
from asr.decoding.search import Hypotheses, LargeModel, Lstm, Path, Search, SearchWeights
from asr.decoding.word_times import Division, spans_of_words
from asr.graph.compiled import CompiledGraph, compiled
from asr.lm.folder import LanguageModel
from asr.native import NONE
from asr.streaming.results import Alternative, WordSpan
from asr.words.tokens import BLANK

NO_PATH = Path(np.zeros(0, np.uint16), [], math.inf, 0.0)


class Trace(NamedTuple):
    """The words that were last read off a path: those that a later path shares are not computed again."""

    rows: tuple[np.ndarray, ...]  # blocks (T, P) of log-probabilities that it was read with
    phones: np.ndarray  # (N,) of each frame
    frames: list[tuple[int, int]]  # of each word among these
    words: list[int]
    spans: tuple[WordSpan, ...]
    division: Division | None


class Memo:
    """A place for the last trace, shared by the states of an utterance: what it holds is compared before it is used."""

    __slots__ = ("trace",)

    def __init__(self) -> None:
        self.trace: Trace | None = None


class GraphState(NamedTuple):
    """An utterance as far as it has been decoded: a value, which may be kept, copied and decoded on from again."""

    frames: int  # decoded since the start of the stream
    blank: bool  # whether the last frame was a confident blank
    phones: tuple[np.ndarray, ...]  # blocks (T, P) of log-probabilities of phones in the frames that are searched
    numbers: tuple[np.ndarray, ...]  # blocks (T,) of the numbers of those frames
    search: Hypotheses | None  # the paths over them; None before the first frame
    context: np.ndarray | None = None  # (D,) the rescorer's state at the start of the utterance, where there is one
    memo: Memo | None = None  # None before the first frame

    @property
    def searched(self) -> int:
        """Frames of the utterance that are searched."""
        return sum(map(len, self.numbers))


class Searched(NamedTuple):
    """What of a language model is searched: unpacked, in the first start, and mapped."""

    graph: CompiledGraph
    large: LargeModel | None

    @classmethod
    def of(cls, model: LanguageModel) -> Searched:
        """Open a model's graph and, where it has one, its large n-gram model; raises ModelError."""
        return cls(compiled(model.graph), _large(model))


class GraphDecoder:
    """Beam search over a decoding graph, with `asr.decoding.search`."""

    name = "lm"
    silent_tokens = frozenset((BLANK,))
    border_tokens: frozenset[int] = frozenset()

    def __init__(
        self,
        model: LanguageModel,
        options: SearchOptions | None = None,
        rescorer: Rescorer | None = None,
        units: Units | None = None,
        searched: Searched | None = None,
    ) -> None:
        """Search the graph of a model.

        Args:
            model: the language model.
            options: of the search; the units' own by default.
            rescorer: scores the words that paths write; without one the n-grams alone do.
            units: of the acoustic model; those of CTC by default.
            searched: of the model, if it is open already.
        """
        # The packed graph is not kept: it would add a third to the memory of the one that is searched.
        self._texts, self._sounds, self._weights = model.words, model.pronunciations, model.weights
        self._rescorer = rescorer
        self._units = units or CtcUnits()
        self.head = self._units.head
        self._options = options or self._units.search
        graph, large = searched or Searched.of(model)
        self._search = Search(
            graph,
            self._units.topology(self._weights),
            self._search_weights(),
            large,
            self._options.alternatives_beam,
            rescorer and Lstm(rescorer.model, rescorer.ids, rescorer.options.weight),
        )

    def start(self) -> GraphState:
        first = None if self._rescorer is None else self._rescorer.start()
        return GraphState(0, False, (), (), None, first)

    def advance(self, state: GraphState, log_probs: np.ndarray) -> GraphState:
        """Decode rows (T, V), T >= 0, of natural-log probabilities of units."""
        count = len(log_probs)
        if count == 0:
            return state
        if self._rescorer is None:
            return self._searched(state, log_probs)
        begin = 0
        while begin < count:
            end = begin + LAG_FRAMES - state.frames % LAG_FRAMES
            state = self._searched(state, log_probs[begin:end])
            begin = end
            if state.frames % LAG_FRAMES == 0:
                state = self._scored(state)
        return state

    def _searched(self, state: GraphState, log_probs: np.ndarray) -> GraphState:
        count = len(log_probs)
        blank = log_probs[:, BLANK] > np.log(self._options.certain_blank)  # (T,)
        kept = np.flatnonzero(~(blank & np.concatenate([[state.blank], blank[:-1]])))
        numbers = state.frames + kept
        state = state._replace(frames=state.frames + count, blank=bool(blank[-1]))
        if len(kept) == 0:
            return state
        rows = self._units.scores(log_probs[kept], self._weights)
        phones = self.symbol_log_probs(log_probs[kept])
        search = self._search.advance(state.search, rows, state.context)
        return state._replace(
            phones=(*state.phones, phones),
            numbers=(*state.numbers, numbers),
            search=search,
            memo=state.memo or Memo(),
        )

    def symbol_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        """Log-probabilities of phones (T, P), silence or the blank first, from those of units (T, V)."""
        return self._units.by_phone(log_probs)

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        """The unit (T,) predicted by each row (T, V)."""
        return self._units.likeliest(log_probs)

    def best(self, state: GraphState) -> tuple[WordSpan, ...]:
        """The words of the utterance as they stand, the last one perhaps unfinished."""
        return self._words(state, self._path(state, ended=False))

    def certain(self, state: GraphState) -> None:
        """None: a word that all active paths share is seldom younger than one that has been the same for long."""
        return None

    def ending_cost(self, state: GraphState) -> float:
        """Cost in nats, by the language model, of ending the best path here as a sentence."""
        return math.inf if state.search is None else self._search.ending_cost(state.search)

    def finish(self, state: GraphState, committed: Sequence[WordSpan] = ()) -> tuple[tuple[WordSpan, ...], GraphState]:
        """Close the utterance: its words, and the state of the next one."""
        context, state = state.context, self._scored(state)
        path = self._path(state, ended=True)
        words = self._words(state, path)
        if self._rescorer is not None and self._rescorer.options.carry and words:
            context = self._search.lstm_context(state.search, path)
        return words, GraphState(state.frames, state.blank, (), (), None, context)

    def alternatives(self, state: GraphState, count: int) -> tuple[Alternative, ...]:
        """At most ``count`` distinct texts of the utterance if it ended now, likeliest first."""
        if state.search is None:
            return (Alternative("", 1.0),)
        state = self._scored(state)
        ends = self._ending_costs(state)
        found = cheapest_sentences(self._search, state.search, count, self._options.alternatives_beam, ends)
        costs: dict[str, float] = {}
        for one in found:  # cheapest first; a hotword's words have the texts of others
            costs.setdefault(" ".join(self._texts[word] for word in one.words), one.cost)
        shares = np.exp(-np.array(list(costs.values())))
        return tuple(Alternative(text, float(share)) for text, share in zip(costs, shares / shares.sum(), strict=True))

    def _scored(self, state: GraphState) -> GraphState:
        """The state with its newest words scored by the rescorer, if there is one."""
        if self._rescorer is None or state.search is None:
            return state
        return state._replace(search=self._search.rescore(state.search))

    def _ending_costs(self, state: GraphState) -> np.ndarray | None:
        """What the rescorer makes of ending a sentence after the words of a state that it has scored."""
        return None if self._rescorer is None else self._search.lstm_ends(state.search)

    def _search_weights(self) -> SearchWeights:
        weights, options = self._weights, self._options
        return SearchWeights(
            weights.language_weight,
            weights.word_cost,
            options.beam,
            options.most_active,
            weights.first_weight,
            weights.second_weight,
        )

    def _path(self, state: GraphState, ended: bool) -> Path:
        if state.search is None:
            return NO_PATH
        return self._search.best(state.search, ended, self._ending_costs(state) if ended else None)

    def _words(self, state: GraphState, path: Path) -> tuple[WordSpan, ...]:
        if not path.words:
            return ()
        found = self._spans(state, path.units, path.words)
        least = self._weights.least_confidence
        if len(found) == 1:
            least = max(least, self._weights.lone_confidence)
        if sum(word.confidence for word in found) < least * len(found):
            return ()
        return found

    def _spans(self, state: GraphState, tokens: np.ndarray, words: list[int]) -> tuple[WordSpan, ...]:
        """Words with their times and confidences, from the unit of each frame (T,)."""
        phones = self._units.phones(tokens)
        last = state.memo.trace
        sounds = [self._sounds[word] for word in words]
        frames, division = spans_of_words(phones, sounds, last and last.division)
        kept = 0 if last is None else _kept(last, state.phones, phones, frames, words)
        spans = () if last is None else last.spans[:kept]
        if kept < len(words):
            begin = min(start for start, _ in frames[kept:])  # the words before it have ended by then
            rows, numbers = (_from(blocks, begin, len(phones)) for blocks in (state.phones, state.numbers))
            chosen = rows[np.arange(len(rows)), phones[begin:]]
            places = [(start - begin, end - begin) for start, end in frames[kept:]]
            confidences = self._confidences(phones[begin:], chosen, places)
            spans += tuple(
                WordSpan(self._texts[word], int(numbers[start]), int(numbers[end - 1]) + 1, float(confidence))
                for word, (start, end), confidence in zip(words[kept:], places, confidences, strict=True)
            )
        state.memo.trace = Trace(state.phones, phones, frames, words, spans, division)
        return spans

    def _confidences(self, tokens: np.ndarray, log_probs: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """Confidence of each word, from the phone of each frame (T,) and its log-probability (T,)."""
        if not spans:
            return np.zeros(0)
        starts, ends = np.array(spans).T
        begins = np.ones(len(tokens), bool)
        begins[1:] = tokens[1:] != tokens[:-1]
        begins[starts] = begins[ends[ends < len(tokens)]] = True
        runs = np.flatnonzero(begins)
        words = np.stack([np.searchsorted(runs, starts), np.searchsorted(runs, ends)], axis=1)
        return self._units.confidences(np.maximum.reduceat(log_probs, runs), tokens[runs], words)


def _kept(
    last: Trace, rows: Sequence[np.ndarray], phones: np.ndarray, frames: list[tuple[int, int]], words: list[int]
) -> int:
    """How many leading words of a trace are those of another path, with the same frames and confidences."""
    same = len(last.phones)  # frames of which both have the same rows and phones
    if not all(map(is_, last.rows, rows)):
        shared = takewhile(lambda pair: pair[0] is pair[1], zip(last.rows, rows, strict=False))
        same = sum(len(one) for one, _ in shared)
    same = min(same, len(phones))
    different = np.flatnonzero(last.phones[:same] != phones[:same])
    same = int(different[0]) if len(different) else same
    count = 0
    for was, now, old, new in zip(last.frames, frames, last.words, words, strict=False):
        if was != now or old != new or now[1] >= same:
            break
        count += 1
    # What follows begins behind them, so that no run of a phone is cut otherwise than in a whole path.
    while count and min((start for start, _ in frames[count:]), default=same) < frames[count - 1][1]:
        count -= 1
    return count


def _from(blocks: Sequence[np.ndarray], begin: int, end: int) -> np.ndarray:
    """Blocks of ``end`` rows in all joined, from a row on."""
    first = len(blocks)
    while end > begin:
        first -= 1
        end -= len(blocks[first])
    return np.concatenate(blocks[first:])[begin - end :]


def _large(model: LanguageModel) -> LargeModel | None:
    """The large n-gram model of a language model, which is opened now."""
    if model.second is None:
        return None
    ngrams = model.second.open()
    numbers, boosts = np.arange(len(model.words)), np.zeros(len(model.words))
    for number, twin in enumerate(model.twins, start=len(model.words) - len(model.twins)):
        numbers[number], boosts[number] = twin.word or NONE, twin.boost
    return LargeModel(ngrams, numbers, boosts)
