"""The runner: one stream from samples to results, its whole memory an immutable state.

A state can be kept, replayed or forked: ``finish`` on a copy tells what the stream would say if it ended now.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from streaming.endpoint import Endpointer, EndpointRule, EndpointState
from streaming.engine import Engine
from streaming.results import Result, Word, WordSpan


class Decoder(Protocol):
    """Turns rows of log-probabilities into words, a block at a time, with the same outcome for any blocks."""

    silent_tokens: frozenset[int]  # tokens that no one speaks: the blank, and the word border where there is one
    border_tokens: frozenset[int]  # tokens that stand between words

    def start(self) -> Any:
        """The state before frame 0 of a stream."""

    def advance(self, state: Any, log_probs: np.ndarray) -> Any:
        """Hear rows (T, V), T >= 0, of natural-log probabilities."""

    def best(self, state: Any) -> tuple[WordSpan, ...]:
        """The words of the utterance as they stand, the last perhaps unfinished."""

    def finish(self, state: Any) -> tuple[tuple[WordSpan, ...], Any]:
        """Close the utterance: its words, and the state of the next one, which goes on counting the frames."""


class RunnerState(NamedTuple):
    engine: Any
    decoder: Any
    endpoint: EndpointState
    samples: int  # heard since the start
    shown: str  # the partial text last reported


class Runner:
    """Drives an engine, a decoder and an endpoint rule over one or many streams."""

    def __init__(self, engine: Engine, decoder: Decoder, rule: EndpointRule | None = None) -> None:
        """Join the parts; without a rule the default one ends utterances."""
        self._engine = engine
        self._decoder = decoder
        self._rates = engine.rates
        self._endpointer = Endpointer(
            rule or EndpointRule(), engine.rates, decoder.silent_tokens, decoder.border_tokens
        )

    @property
    def sample_rate(self) -> int:
        """Samples a second the runner expects."""
        return self._rates.sample_rate

    def start(self) -> RunnerState:
        """The state of a stream before any audio."""
        return RunnerState(self._engine.start(), self._decoder.start(), self._endpointer.start(), 0, "")

    def step(self, state: RunnerState, samples: np.ndarray) -> tuple[tuple[Result, ...], RunnerState]:
        """Hear samples (N,) float32 in [-1, 1] at ``sample_rate``, N >= 0.

        Returns:
            The utterances that ended, as final results, then a partial result if its text changed; and the next state.
        """
        log_probs, engine = self._engine.step(state.engine, samples)
        state = state._replace(engine=engine, samples=state.samples + len(samples))
        results, state = self._decode(state, log_probs)
        if len(log_probs):
            partial = self._result(self._decoder.best(state.decoder), state, final=False)
            if partial.text != state.shown:
                results.append(partial)
                state = state._replace(shown=partial.text)
        return tuple(results), state

    def finish(self, state: RunnerState) -> tuple[tuple[Result, ...], RunnerState]:
        """End the stream: its last final results, and the state of a new stream."""
        log_probs, _ = self._engine.finish(state.engine)
        results, state = self._decode(state, log_probs)
        self._close(state, results)
        return tuple(results), self.start()

    def heard_out(self, state: RunnerState) -> Any:
        """The decoder's state of the utterance being spoken if the stream ended now."""
        log_probs, _ = self._engine.finish(state.engine)
        return self._decoder.advance(state.decoder, log_probs)

    def _decode(self, state: RunnerState, log_probs: np.ndarray) -> tuple[list[Result], RunnerState]:
        results: list[Result] = []
        tokens = log_probs.argmax(axis=1).tolist()
        row = 0
        while row < len(tokens):
            ended, endpoint = self._endpointer.advance(state.endpoint, tokens[row:])
            stop = len(tokens) if ended is None else row + ended
            decoder = self._decoder.advance(state.decoder, log_probs[row:stop])
            state = state._replace(decoder=decoder, endpoint=endpoint)
            if ended is not None:
                state = self._close(state, results)
            row = stop
        return results, state

    def _close(self, state: RunnerState, results: list[Result]) -> RunnerState:
        words, decoder = self._decoder.finish(state.decoder)
        if words or state.shown:  # an empty final takes back a partial that came to nothing
            results.append(self._result(words, state, final=True))
        return state._replace(decoder=decoder, shown="")

    def _result(self, words: tuple[WordSpan, ...], state: RunnerState, final: bool) -> Result:
        heard = state.samples / self._rates.sample_rate
        return Result.of((Word.of(word, self._rates, heard) for word in words), final)
