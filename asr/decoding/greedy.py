"""Greedy decoding of connectionist temporal classification (Graves et al. 2006), a block of frames at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.errors import ModelError, UsageError
from asr.streaming.results import Alternative, WordSpan
from asr.words.tokens import BLANK, WORD_BORDER


class TokenSpan(NamedTuple):
    """A token and the run of frames in which it was the most probable one."""

    token: int
    start_frame: int
    end_frame: int  # one past the last
    confidence: float  # its highest probability in those frames


class GreedyState(NamedTuple):
    frames: int  # decoded since the start of the stream
    token: int  # most probable in the last frame; the same one in the next frame continues it
    words: tuple[WordSpan, ...]  # finished words of the utterance
    letters: tuple[TokenSpan, ...]  # of the word still open


class GreedyDecoder:
    """Takes the most probable token of each frame, merges repeats and drops blanks.

    A word lasts from the first frame of its first token to the last frame of its last one. Its confidence is the mean
    over its tokens of the highest probability each reached. Any split of the rows gives the same words, and the cost
    of a row does not grow with the stream.
    """

    name = "greedy"
    head = "characters"

    def __init__(self, symbols: Sequence[str], border: str = WORD_BORDER) -> None:
        """Decode with a token table.

        Args:
            symbols: the text of each token id; id 0 is the blank.
            border: the symbol between words.
        Raises:
            ModelError: the border is not among the symbols.
        """
        self._symbols = tuple(symbols)
        if border not in self._symbols[1:]:
            raise ModelError(
                f"greedy decoding needs the word border {border!r} among its tokens; export the model again"
            )
        self._border = self._symbols.index(border)
        self.silent_tokens = frozenset((BLANK, self._border))
        self.border_tokens = frozenset((self._border,))

    def start(self) -> GreedyState:
        return GreedyState(0, BLANK, (), ())

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        """The token (T,) of the highest probability in each row (T, V)."""
        return log_probs.argmax(axis=1)

    def symbol_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        """The rows (T, V) as they are: of characters."""
        return log_probs

    def advance(self, state: GreedyState, log_probs: np.ndarray) -> GreedyState:
        """Decode rows (T, V), T >= 0, of natural-log probabilities."""
        count = len(log_probs)
        if count == 0:
            return state
        tokens = self.likeliest(log_probs)
        peaks = np.exp(log_probs[np.arange(count), tokens])  # (T,)
        starts = np.concatenate([[0], np.flatnonzero(tokens[1:] != tokens[:-1]) + 1])  # of runs
        ends = np.append(starts[1:], count)
        confidences = np.maximum.reduceat(peaks, starts)
        spoken = np.flatnonzero(tokens[starts] != BLANK)  # the loop below skips blanks, the majority of frames
        words, letters = list(state.words), list(state.letters)
        for run in spoken.tolist():
            start, end = int(starts[run]), int(ends[run])
            span = TokenSpan(int(tokens[start]), state.frames + start, state.frames + end, float(confidences[run]))
            if span.token == self._border:
                if letters:
                    words.append(self._word(letters))
                    letters = []
            elif start == 0 and span.token == state.token:
                if letters:  # there are none when an utterance was cut inside this token
                    letters[-1] = letters[-1]._replace(
                        end_frame=span.end_frame, confidence=max(span.confidence, letters[-1].confidence)
                    )
            else:
                letters.append(span)
        return GreedyState(state.frames + count, int(tokens[-1]), tuple(words), tuple(letters))

    def best(self, state: GreedyState) -> tuple[WordSpan, ...]:
        """The words of the utterance, the last one perhaps unfinished."""
        return (*state.words, self._word(state.letters)) if state.letters else state.words

    def certain(self, state: GreedyState) -> int:
        """Words that have ended."""
        return len(state.words)

    def ending_cost(self, state: GreedyState) -> float:
        """Infinite: without a language model nothing is known of ends of sentences."""
        return math.inf

    def finish(
        self, state: GreedyState, committed: Sequence[WordSpan] = ()
    ) -> tuple[tuple[WordSpan, ...], GreedyState]:
        """Close the utterance: its words, and the state of the next one."""
        return self.best(state), state._replace(words=(), letters=())

    def alternatives(self, state: GreedyState, count: int) -> tuple[Alternative, ...]:
        """Raises UsageError: greedy decoding has one text only."""
        raise UsageError("only decoder lm knows alternatives")

    def _word(self, letters: Sequence[TokenSpan]) -> WordSpan:
        text = "".join(self._symbols[letter.token] for letter in letters)
        confidence = sum(letter.confidence for letter in letters) / len(letters)
        return WordSpan(text, letters[0].start_frame, letters[-1].end_frame, min(confidence, 1.0))
