"""What engines of exported networks share: the samples that wait for their frames, and steps of whole frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.streaming.rates import Rates, pieces


class FramedState(NamedTuple):
    """A stream between two chunks."""

    samples: np.ndarray  # (R,) audio not yet consumed
    memory: tuple[np.ndarray, ...]  # what the network remembers of this stream
    frames: int  # acoustic frames consumed since the start, warm-up included


class FramedEngine(ABC):
    """An `Engine` that consumes whole frames of one stream or of several together."""

    rates: Rates
    full_context = False

    def __init__(self, rates: Rates, run_rates: Rates, start: FramedState, outputs: int) -> None:
        """Say how frames lie on the audio (as told to others, and as they are run), and the sizes of state and rows."""
        self.rates = rates
        self._run_rates = run_rates
        self._start = start
        self._no_rows = np.zeros((0, outputs), np.float32)

    def start(self) -> FramedState:
        return self._start

    def step(self, state: FramedState, samples: np.ndarray) -> tuple[np.ndarray, FramedState]:
        rows = []
        for piece in pieces(samples, self.rates):
            state = self.accept(state, piece)
            if frames := self.frames_waiting(state):
                (log_probs,), (state,) = self.advance((state,), frames)
                rows.append(log_probs)
        return self.joined(rows), state

    def finish(self, state: FramedState) -> tuple[np.ndarray, FramedState]:
        owed = self.rows_owed(state)
        log_probs, state = self.step(state, self.tail(state))
        if frames := self.rates.blocks_within(len(state.samples)):  # with full context: the last block is shorter
            (last,), _ = self.advance((state,), frames)
            log_probs = self.joined([log_probs, last])
        return log_probs[:owed], self.start()

    def close(self) -> None:
        """Nothing to release."""
        return

    def accept(self, state: FramedState, samples: np.ndarray) -> FramedState:
        """The state with samples (N,) appended to those not yet consumed."""
        return state._replace(samples=np.concatenate([state.samples, samples], dtype=np.float32))

    def frames_waiting(self, state: FramedState) -> int:
        """Acoustic frames whose samples have all arrived, in whole blocks."""
        return self._run_rates.blocks_within(len(state.samples))

    def tail(self, state: FramedState) -> np.ndarray:
        """The zeros that end a stream: with them every frame that covers its audio is returned."""
        return np.zeros(self.rates.tail_samples(self._samples_so_far(state)), np.float32)

    def rows_owed(self, state: FramedState) -> int:
        """Rows still to come if the stream ends here; those beyond describe its tail only."""
        return self.rates.rows_owed(self._samples_so_far(state), state.frames)

    def joined(self, rows: list[np.ndarray]) -> np.ndarray:
        """Rows of consecutive frames as one array (T, V)."""
        return stacked(rows, self._no_rows)

    @abstractmethod
    def advance(self, states: Sequence[FramedState], frames: int) -> tuple[list[np.ndarray], list[FramedState]]:
        """Run the network once over the next frames of B streams.

        Args:
            states: of the streams, each with at least ``frames`` frames waiting.
            frames: to consume from each, at least 1, in whole blocks.
        Returns:
            Rows (T, V) of each stream, T <= frames, and its next state.
        """

    def _after(self, state: FramedState, frames: int, memory: tuple[np.ndarray, ...]) -> FramedState:
        """The state of a stream of which these frames have been run."""
        rest = state.samples[frames * self.rates.frame_samples :]
        if len(rest) < self.rates.window_samples:
            rest = rest.copy()  # a view of these few samples would keep the whole block of audio in memory
        return FramedState(rest, memory, state.frames + frames)

    def _warm_up(self, state: FramedState, frames: int) -> int:
        """How many of the next rows describe no frame yet."""
        return min(frames, max(0, self.rates.delay_frames - state.frames))

    def _samples_so_far(self, state: FramedState) -> int:
        """Samples since the start of a stream."""
        return state.frames * self.rates.frame_samples + len(state.samples)


def stacked(rows: list[np.ndarray], no_rows: np.ndarray) -> np.ndarray:
    """Rows of consecutive frames as one array (T, V)."""
    return rows[0] if len(rows) == 1 else np.concatenate([no_rows, *rows])
