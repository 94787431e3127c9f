"""The runner: one stream from samples to results, its whole memory an immutable state.

A state can be kept, replayed or forked: ``finish`` on it returns the results of the stream if it ended now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple, Protocol

import numpy as np

from asr.streaming.endpoint import Endpointer, EndpointRule, EndpointState
from asr.streaming.engine import Engine
from asr.streaming.level import Level, LevelState
from asr.streaming.quiet import QuietFrames
from asr.streaming.results import Alternative, Result, Word, WordSpan
from asr.streaming.stability import StabilityRule, StabilityState, Stabilizer

RESET_PIECE_SECONDS = (
    1.0  # given to the network at once where an endpoint resets it, after which some audio is run again
)


class Decoder(Protocol):
    """Turns rows of log-probabilities into words, block by block; the words do not depend on the blocks."""

    name: str  # ``lm`` or ``greedy``
    head: str  # the output of the network that it decodes: ``characters``, ``phones`` or ``states``
    silent_tokens: frozenset[int]  # tokens without sound: the blank or silence, and the word border where there is one
    border_tokens: frozenset[int]  # tokens between words

    def start(self) -> Any:
        """The state before frame 0 of a stream."""

    def advance(self, state: Any, log_probs: np.ndarray) -> Any:
        """Decode rows (T, V), T >= 0, of natural-log probabilities."""

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        """The token (T,) predicted by each row (T, V): pauses are found by it."""

    def symbol_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        """Rows (T, V) as log-probabilities (T, S) of the symbols of a token table: phones or characters."""

    def best(self, state: Any) -> tuple[WordSpan, ...]:
        """The words of the utterance as they stand, the last perhaps unfinished."""

    def certain(self, state: Any) -> int | None:
        """How many leading words of `best` no further audio can change; None if the decoder cannot tell."""

    def ending_cost(self, state: Any) -> float:
        """Cost in nats of ending the best hypothesis here as a sentence; infinite if the decoder cannot tell."""

    def finish(self, state: Any, committed: Sequence[WordSpan] = ()) -> tuple[tuple[WordSpan, ...], Any]:
        """Close the utterance: its words, and the state of the next one, which goes on counting the frames.

        A decoder that searches the whole utterance again looks for words that begin with the ``committed`` ones.
        """

    def alternatives(self, state: Any, count: int) -> tuple[Alternative, ...]:
        """At most ``count`` distinct texts of the utterance if it ended now, likeliest first.

        Decoders that know one text only raise an error meant for the user.
        """


class RunnerState(NamedTuple):
    engine: Any
    decoder: Any
    endpoint: EndpointState
    stability: StabilityState
    level: LevelState
    quiet: np.ndarray  # (K,) bool: whether each block is quiet, from the first block of the next frame on
    undecoded: np.ndarray  # (N,) samples from the next frame's first on, kept only where endpoints reset the network
    samples: int  # received since the start
    frames: int  # decoded since the start
    shown: str  # the last partial text returned
    committed: int  # how many words of it were committed


class Heard(NamedTuple):
    """What the network makes of a chunk, before its words are searched."""

    log_probs: np.ndarray  # (T, V) the rows that the chunk completes
    quiet: np.ndarray  # (K,) bool: whether each of its blocks is quiet
    amplified: np.ndarray  # (N,) samples, none where endpoints do not reset the network
    samples: int  # of the chunk
    engine: Any
    level: LevelState


class Runner:
    """Drives an engine, a decoder, an endpoint and a stability rule over one or many streams."""

    def __init__(
        self,
        engine: Engine,
        decoder: Decoder,
        rule: EndpointRule | None = None,
        stability: StabilityRule | None = None,
    ) -> None:
        """Join the parts; the default rules end utterances and commit words where none are given."""
        self._engine = engine
        self._decoder = decoder
        self._rates = engine.rates
        self._rule = rule or EndpointRule()
        self._endpointer = Endpointer(self._rule, engine.rates, decoder.silent_tokens, decoder.border_tokens)
        self._stabilizer = Stabilizer(stability or StabilityRule(), engine.rates)
        self._level = Level(engine.rates)
        self._quiet = QuietFrames(engine.rates)
        self._observe: Callable[[np.ndarray], object] | None = None

    def with_rule(self, rule: EndpointRule) -> Runner:
        """The same runner with another endpoint rule; they share their states."""
        other = copy(self)
        other._rule = rule
        other._endpointer = Endpointer(rule, self._rates, self._decoder.silent_tokens, self._decoder.border_tokens)
        return other

    def observed(self, observe: Callable[[np.ndarray], object]) -> Runner:
        """The same runner that also calls ``observe`` with all rows (T, V) in order, each once, as they are decoded."""
        other = copy(self)
        other._observe = observe
        return other

    @property
    def sample_rate(self) -> int:
        """Samples a second the runner expects."""
        return self._rates.sample_rate

    def start(self) -> RunnerState:
        """The state of a stream before any audio."""
        return RunnerState(
            self._engine.start(),
            self._decoder.start(),
            self._endpointer.start(),
            self._stabilizer.start(),
            self._level.start(),
            self._quiet.start(),
            np.zeros(0, np.float32),
            0,
            0,
            "",
            0,
        )

    def step(self, state: RunnerState, samples: np.ndarray) -> tuple[tuple[Result, ...], RunnerState]:
        """Recognise samples (N,) float32 in [-1, 1] at ``sample_rate``, N >= 0.

        Returns:
            The utterances that ended, as final results, then a partial result if its text changed or more of it is
            committed; and the next state.
        """
        decoded = state.frames
        results: list[Result] = []
        for piece in self._pieces(samples):
            found, state = self.understand(state, self.hear(state, piece))
            results += found
        if state.frames > decoded:
            guess = self._stabilizer.kept(state.stability, self._decoder.best(state.decoder))
            text, committed = " ".join(word.text for word in guess), len(state.stability.committed)
            # A decoder may have no words for a moment when its confidence is low; the display keeps the last text.
            if text and (text, committed) != (state.shown, state.committed):
                results.append(self._result(guess, state, final=False))
                state = state._replace(shown=text, committed=committed)
        return tuple(results), state

    @property
    def hears_ahead(self) -> bool:
        """Whether the network can run ahead of the search: endpoints do not reset it."""
        return not self._rule.reset

    def hear(self, before: RunnerState | Heard, samples: np.ndarray) -> Heard:
        """The half of `step` that is the network's: it depends on what was heard before, not on the words.

        Where ``before`` is a `Heard`, `hears_ahead` must hold.
        """
        return self._heard(before, len(samples), *self._level.accept(before.level, samples))

    def understand(self, state: RunnerState, heard: Heard) -> tuple[list[Result], RunnerState]:
        """The other half, for what was heard in order: the utterances that ended, and the next state."""
        return self._decode(self._taken(state, heard), heard.log_probs)

    def finish(self, state: RunnerState) -> tuple[tuple[Result, ...], RunnerState]:
        """End the stream: its last final results, and the state of a new stream."""
        log_probs, state = self._run_out(state)
        results, state = self._decode(state, log_probs, ended=True)
        self._close(state, results)
        return tuple(results), self.start()

    def alternatives(self, state: RunnerState, count: int) -> tuple[Alternative, ...]:
        """At most ``count`` texts of the utterance being spoken if the stream ended now, likeliest first."""
        log_probs, state = self._run_out(state)
        decoder = self._decoder.advance(state.decoder, self._quiet.silenced(state.quiet, log_probs))
        return self._decoder.alternatives(decoder, count)

    def _heard(
        self, before: RunnerState | Heard, samples: int, amplified: np.ndarray, quiet: np.ndarray, level: LevelState
    ) -> Heard:
        log_probs, engine = self._engine.step(before.engine, amplified)
        return Heard(log_probs, quiet, amplified if self._rule.reset else amplified[:0], samples, engine, level)

    def _taken(self, state: RunnerState, heard: Heard) -> RunnerState:
        """The state after a chunk whose rows are still to be decoded."""
        state = state._replace(
            engine=heard.engine,
            level=heard.level,
            quiet=np.concatenate([state.quiet, heard.quiet]),
            samples=state.samples + heard.samples,
        )
        if self._rule.reset:
            state = state._replace(undecoded=np.concatenate([state.undecoded, heard.amplified]))
        return state

    def _run_out(self, state: RunnerState) -> tuple[np.ndarray, RunnerState]:
        """The rows (T, V) that are owed if the stream ends now."""
        heard = self._heard(state, 0, *self._level.finish(state.level), state.level)
        state = self._taken(state, heard)
        last, _ = self._engine.finish(state.engine)
        return np.concatenate([heard.log_probs, last]), state

    def _decode(
        self, state: RunnerState, log_probs: np.ndarray, ended: bool = False
    ) -> tuple[list[Result], RunnerState]:
        results: list[Result] = []
        log_probs = self._quiet.silenced(state.quiet, log_probs)
        tokens = self._decoder.likeliest(log_probs).tolist()
        row = 0
        while row < len(tokens):
            look = row + self._stabilizer.rows_to_look(state.frames)
            endpoint, after = self._endpointer.advance(state.endpoint, tokens[row:look])
            stop = min(look, len(tokens)) if endpoint is None else row + endpoint.rows
            decoder = self._decoder.advance(state.decoder, log_probs[row:stop])
            if self._observe is not None:
                self._observe(log_probs[row:stop])
            state = self._counted(state._replace(decoder=decoder, endpoint=after), stop - row)
            row = stop
            if endpoint and (not endpoint.if_complete or self._complete(state)):
                state = self._close(state, results)
                if self._rule.reset:
                    log_probs, engine = self._engine.step(self._engine.start(), state.undecoded)
                    if ended:
                        log_probs = np.concatenate([log_probs, self._engine.finish(engine)[0]])
                    state = state._replace(engine=engine)
                    log_probs = self._quiet.silenced(state.quiet, log_probs)
                    tokens, row = self._decoder.likeliest(log_probs).tolist(), 0
            elif stop == look:
                state = self._look(state)
        return results, state

    def _counted(self, state: RunnerState, rows: int) -> RunnerState:
        undecoded = state.undecoded[rows * self._rates.frame_samples :]
        return state._replace(
            frames=state.frames + rows,
            quiet=state.quiet[rows:],
            undecoded=undecoded.copy() if len(undecoded) else undecoded,
        )

    def _complete(self, state: RunnerState) -> bool:
        return self._decoder.ending_cost(state.decoder) <= self._rule.complete_cost

    def _pieces(self, samples: np.ndarray) -> list[np.ndarray]:
        """The samples in pieces so short that running the rest of one again costs little."""
        if not self._rule.reset:
            return [samples]
        size = round(RESET_PIECE_SECONDS * self.sample_rate)
        return [samples[start : start + size] for start in range(0, len(samples), size)]

    def _look(self, state: RunnerState) -> RunnerState:
        guess = self._decoder.best(state.decoder)
        certain = self._decoder.certain(state.decoder)
        return state._replace(stability=self._stabilizer.look(state.stability, guess, state.frames, certain))

    def _close(self, state: RunnerState, results: list[Result]) -> RunnerState:
        words, decoder = self._decoder.finish(state.decoder, state.stability.committed)
        words = self._stabilizer.kept(state.stability, words)
        if words or state.shown:  # an empty final revokes the last partial
            results.append(self._result(words, state, final=True))
        return state._replace(
            decoder=decoder,
            endpoint=self._endpointer.start(),
            stability=self._stabilizer.start(),
            shown="",
            committed=0,
        )

    def _result(self, words: tuple[WordSpan, ...], state: RunnerState, final: bool) -> Result:
        seconds = state.samples / self._rates.sample_rate
        spans = (Word.of(word, self._rates, seconds) for word in words)
        return Result.of(spans, final, len(state.stability.committed))
