"""Beam search with a lexicon and a language model: the cheapest path through a decoding graph, block by block."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import kaldifst
import numpy as np
from kaldi_decoder import DecodableCtc, FasterDecoder, FasterDecoderOptions

from asr.decoding.acoustic_units import CtcUnits, SearchOptions, Units
from asr.decoding.lattice import WordLattice, cheapest_sentences
from asr.decoding.rescoring import Rescorer
from asr.decoding.word_times import spans_of_words
from asr.graph.compiled import compiled
from asr.lm.folder import LanguageModel
from asr.lm.lstm import LstmState
from asr.streaming.results import Alternative, WordSpan
from asr.words.tokens import BLANK


class GraphState(NamedTuple):
    """An utterance as far as it has been decoded."""

    frames: int  # decoded since the start of the stream
    blank: bool  # whether the last frame was a confident blank
    rows: tuple[np.ndarray, ...]  # blocks (T, V) of scores of the frames that are searched
    phones: tuple[np.ndarray, ...]  # blocks (T, P) of log-probabilities of phones in them
    numbers: tuple[np.ndarray, ...]  # blocks (T,) of the numbers of those frames
    search: _Search | None  # the search over them; None before the first frame
    context: LstmState | None = None  # of earlier utterances, where finals are rescored

    @property
    def searched(self) -> int:
        """Frames of the utterance that are searched."""
        return sum(map(len, self.numbers))


class GraphDecoder:
    """Beam search over a decoding graph with kaldi-decoder (Povey et al. 2011), frame by frame.

    A state behaves as an immutable value, though states share a search that moves on: an older state that is used again
    is searched again from the start of its utterance.
    """

    name = "lm"
    silent_tokens = frozenset((BLANK,))
    border_tokens: frozenset[int] = frozenset()

    def __init__(
        self,
        model: LanguageModel,
        options: SearchOptions | None = None,
        rescorer: Rescorer | None = None,
        units: Units | None = None,
    ) -> None:
        """Search the graph of a model.

        Args:
            model: the language model.
            options: of the search; the units' own by default.
            rescorer: chooses the final words of an utterance among the likeliest sentences.
            units: of the acoustic model; those of CTC by default.
        """
        # The packed graph is not kept: it would add a third to the memory of the one that is searched.
        self._texts, self._sounds, self._weights = model.words, model.pronunciations, model.weights
        self._rescorer = rescorer
        self._units = units or CtcUnits()
        self.head = self._units.head
        self._options = options or self._units.search
        self._graph = compiled(model.graph, self._units.topology(self._weights))

    def start(self) -> GraphState:
        return GraphState(0, False, (), (), (), None, None if self._rescorer is None else self._rescorer.start())

    def advance(self, state: GraphState, log_probs: np.ndarray) -> GraphState:
        """Decode rows (T, V), T >= 0, of natural-log probabilities of units."""
        count = len(log_probs)
        if count == 0:
            return state
        blank = log_probs[:, BLANK] > np.log(self._options.certain_blank)  # (T,)
        kept = np.flatnonzero(~(blank & np.concatenate([[state.blank], blank[:-1]])))
        numbers = state.frames + kept
        state = state._replace(frames=state.frames + count, blank=bool(blank[-1]))
        if len(kept) == 0:
            return state
        rows = self._units.scores(log_probs[kept], self._weights)
        phones = self.symbol_log_probs(log_probs[kept])
        state = state._replace(
            rows=(*state.rows, rows), phones=(*state.phones, phones), numbers=(*state.numbers, numbers)
        )
        return state._replace(search=self._search(state))

    def symbol_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        """Log-probabilities of phones (T, P), silence or the blank first, from those of units (T, V)."""
        return self._units.by_phone(log_probs)

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        """The unit (T,) predicted by each row (T, V)."""
        return self._units.likeliest(log_probs)

    def best(self, state: GraphState) -> tuple[WordSpan, ...]:
        """The words of the utterance as they stand, the last one perhaps unfinished."""
        return self._words(state, ended=False)

    def certain(self, state: GraphState) -> None:
        """None: kaldi-decoder gives access to the best path only, not to what all active paths share."""
        return None

    def ending_cost(self, state: GraphState) -> float:
        """Cost in nats, by the language model, of ending the best path here as a sentence."""
        if state.search is None:
            return math.inf
        cost = state.search.ending_cost(state.searched)
        return self._searched_again(state).ending_cost(state.searched) if cost is None else cost

    def finish(self, state: GraphState, committed: Sequence[WordSpan] = ()) -> tuple[tuple[WordSpan, ...], GraphState]:
        """Close the utterance: its words, and the state of the next one.

        With a rescorer these are the best of the likeliest sentences that begin with the ``committed`` words.
        """
        words, context = self._words(state, ended=True), state.context
        if self._rescorer is not None and words:
            words, context = self._rescored(state, words, [word.text for word in committed])
        return words, GraphState(state.frames, state.blank, (), (), (), None, context)

    def alternatives(self, state: GraphState, count: int) -> tuple[Alternative, ...]:
        """At most ``count`` distinct texts of the utterance if it ended now, likeliest first.

        The whole utterance is searched again, with lattices, which is slower than `best`: for users who choose.
        """
        rows = np.concatenate(state.rows) if state.rows else np.zeros((0, 0), np.float32)
        found = cheapest_sentences(self._graph, rows, count, self._options.alternatives_beam)
        costs = np.array([cost for _, cost in found])
        shares = np.exp(costs.min() - costs)
        return tuple(
            Alternative(" ".join(self._texts[word] for word in words), float(share))
            for (words, _), share in zip(found, shares / shares.sum(), strict=True)
        )

    def _search(self, state: GraphState) -> _Search:
        """The search of a state: continued, or restarted."""
        if state.search is not None and state.search.advance(state.rows[-1], state.searched - len(state.rows[-1])):
            return state.search
        return self._searched_again(state)

    def _searched_again(self, state: GraphState) -> _Search:
        search = _Search(self._graph, self._options)
        search.advance(np.concatenate(state.rows), 0)
        return search

    def _words(self, state: GraphState, ended: bool) -> tuple[WordSpan, ...]:
        if state.search is None:
            return ()
        path = state.search.path(state.searched, ended)
        if path is None:  # the search has gone on from another state
            path = self._searched_again(state).path(state.searched, ended)
        tokens, words = path
        found = self._spans(state, tokens, words)
        if sum(word.confidence for word in found) < self._weights.least_confidence * len(found):
            return ()
        return found

    def _rescored(
        self, state: GraphState, words: tuple[WordSpan, ...], committed: list[str]
    ) -> tuple[tuple[WordSpan, ...], LstmState]:
        """The words of a finished utterance after rescoring, and the context of the next one."""
        rescorer, weights = self._rescorer, self._weights
        options = rescorer.options
        scale = max(1.0, weights.language_weight)  # path costs are larger with a language weight above 1
        lattice = WordLattice(self._graph, np.concatenate(state.rows), scale * options.beam, scale * options.width)
        sentences = [
            sentence
            for sentence in lattice.sentences(options.hypotheses)
            if sentence.words and [self._texts[word] for word in sentence.words[: len(committed)]] == committed
        ]
        texts = [word.text for word in words]
        if not sentences:  # the decoder's sentences no longer begin with the committed words
            ids = {text: number for number, text in enumerate(self._texts)}
            return words, rescorer.context_after([ids[text] for text in texts], state.context)
        chosen, context = rescorer.choose(sentences, weights.language_weight, weights.word_cost, state.context)
        found = sentences[chosen].words
        if [self._texts[word] for word in found] == texts:
            return words, context
        return self._spans(state, lattice.tokens(found), found), context

    def _spans(self, state: GraphState, tokens: np.ndarray, words: list[int]) -> tuple[WordSpan, ...]:
        """Words with their times and confidences, from the unit of each frame (T,)."""
        rows = np.concatenate(state.phones)
        tokens = self._units.phones(tokens)
        numbers = np.concatenate(state.numbers)
        sounds = [self._sounds[word] for word in words]
        texts = [self._texts[word] for word in words]
        spans = spans_of_words(tokens, sounds)
        confidences = self._confidences(tokens, rows[np.arange(len(tokens)), tokens], spans)
        return tuple(
            WordSpan(text, int(numbers[start]), int(numbers[end - 1]) + 1, float(confidence))
            for text, (start, end), confidence in zip(texts, spans, confidences, strict=True)
        )

    def _confidences(self, tokens: np.ndarray, log_probs: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """Confidence of each word, from the phone of each frame (T,) and its log-probability (T,)."""
        if not spans:
            return np.zeros(0)
        starts, ends = np.array(spans).T
        runs = np.unique(np.concatenate([[0], np.flatnonzero(np.diff(tokens)) + 1, starts, ends[ends < len(tokens)]]))
        words = np.stack([np.searchsorted(runs, starts), np.searchsorted(runs, ends)], axis=1)
        return self._units.confidences(np.maximum.reduceat(log_probs, runs), tokens[runs], words)


class _Search:
    """One of kaldi's decoders and its position; locked, because several threads may hold states of one search."""

    def __init__(self, graph: kaldifst.StdConstFst, options: SearchOptions) -> None:
        self._decoder = FasterDecoder(graph, FasterDecoderOptions(beam=options.beam, max_active=options.most_active))
        self._decoder.init_decoding()
        self._lock = threading.Lock()

    def advance(self, rows: np.ndarray, after: int) -> bool:
        """Search rows (T, V) that follow the first ``after`` ones; False, and nothing done, at another position."""
        with self._lock:
            if self._decoder.num_frames_decoded() != after:
                return False
            self._decoder.advance_decoding(DecodableCtc(np.ascontiguousarray(rows), after))
            return True

    def path(self, frames: int, ended: bool) -> tuple[np.ndarray, list[int]] | None:
        """Unit of each frame (T,) and words of the best path after ``frames``; None at another position."""
        with self._lock:
            if self._decoder.num_frames_decoded() != frames:
                return None
            found, lattice = self._decoder.get_best_path(ended)
        if not found:
            return np.zeros(frames, dtype=int), []
        _, labels, words, _ = kaldifst.get_linear_symbol_sequence(lattice)
        return np.array(labels, dtype=int) - 1, words

    def ending_cost(self, frames: int) -> float | None:
        """Cost of the best path after ``frames`` that ends a sentence over the best of all; None elsewhere."""
        with self._lock:
            if self._decoder.num_frames_decoded() != frames:
                return None
            if not self._decoder.reached_final():
                return math.inf
            (_, ended), (_, open_) = (self._decoder.get_best_path(final) for final in (True, False))
        return _cost(ended) - _cost(open_)


def _cost(path: kaldifst.Lattice) -> float:
    *_, weight = kaldifst.get_linear_symbol_sequence(path)
    return weight.value1 + weight.value2
