"""Many streams, one step of the network: callers that have audio waiting are run together."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np

from asr.streaming.engine import OnnxEngine, OnnxState, pieces

ACTIVE_SECONDS = 1.0  # a stream that has not stepped for so long is not waited for
ROWS = 1_024  # most frames of all streams together in one run: bounds memory, and how long a run lasts


@dataclass(frozen=True)
class Batching:
    """How streams are put together."""

    wait_ms: float = 10.0  # most that a stream waits for others to join it; 0 where only throughput counts
    most: int = 64  # streams in a batch
    at_once: int | None = None  # batches that run at the same time; as many as there are cores by default
    observe: Callable[[int], None] | None = None  # told the number of streams of each batch, from any thread

    def __post_init__(self) -> None:
        if self.wait_ms < 0 or self.most < 1 or (self.at_once is not None and self.at_once < 1):
            raise ValueError(f"need wait_ms from 0, most from 1, at_once from 1; got {self}")


class BatchedState(NamedTuple):
    """A stream of a `BatchedEngine`."""

    stream: int  # tells streams apart when those that may join a batch are counted
    onnx: OnnxState


class BatchedEngine:
    """An engine for many threads: their network steps run in batches, with the rows that each would get alone.

    A caller whose audio makes a batch complete, or who has waited long enough, runs it for all who are in it; there is
    no thread of its own. A batch is complete when every stream that stepped within the last second is in it, so a lone
    stream never waits. Streams with different numbers of frames waiting run the number common to all of them, and who
    has more goes on in the next batch: the network costs about as much for a frame of one stream as of several.

    In fp32 the rows are those of the stream alone to float rounding. With int8 graphs activations are scaled by the
    largest of the whole batch, so they depend a little on the company, as they do on the chunks.
    """

    def __init__(self, engine: OnnxEngine, batching: Batching | None = None) -> None:
        self._engine = engine
        self._options = batching or Batching()
        self._places = self._options.at_once or _cores()
        self.rates = engine.rates
        self._numbers = count()
        self._lock = threading.Lock()  # of all that follows; never held while the network runs
        self._waiting: deque[_Job] = deque()
        self._running = 0  # batches
        self._aboard = 0  # streams in them
        self._inside = 0  # calls of step and finish
        self._seen: dict[int, float] = {}  # when each stream stepped last
        self._closed = False
        self._nobody_inside = threading.Condition(self._lock)

    def start(self) -> BatchedState:
        return BatchedState(next(self._numbers), self._engine.start())

    def step(self, state: BatchedState, samples: np.ndarray) -> tuple[np.ndarray, BatchedState]:
        """As in `Engine`; returns when the last batch with this stream has run.

        Raises:
            RuntimeError: the engine is closed.
        """
        stream, onnx = state
        with self._entered():
            rows = []
            for piece in pieces(samples, self.rates):
                onnx = self._engine.heard(onnx, piece)
                if frames := self._engine.frames_waiting(onnx):
                    more, onnx = self._run(stream, onnx, frames)
                    rows += more
            return self._engine.joined(rows), BatchedState(stream, onnx)

    def finish(self, state: BatchedState) -> tuple[np.ndarray, BatchedState]:
        owed = self._engine.rows_owed(state.onnx)
        log_probs, _ = self.step(state, self._engine.tail(state.onnx))
        with self._lock:
            self._forget(state.stream)
        return log_probs[:owed], self.start()

    def close(self) -> None:
        """Refuse further steps, and return when those under way are done."""
        with self._lock:
            self._closed = True
            self._nobody_inside.wait_for(lambda: self._inside == 0)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._nobody_inside.notify_all()

    def _run(self, stream: int, state: OnnxState, frames: int) -> tuple[list[np.ndarray], OnnxState]:
        """Give a state's waiting frames to batches, and run those that nobody else does."""
        now = time.monotonic()
        job = _Job(state, frames, self._lock, now + self._options.wait_ms / 1_000)
        with self._lock:
            self._waiting.append(job)
            self._seen[stream] = now
        try:
            while batch := self._batch_to_run(job):
                try:
                    self._advance(batch)
                finally:
                    self._put_back(batch)
            if job.error is not None:
                raise job.error
        except BaseException:
            self._give_up(job, stream)
            raise
        return job.rows, job.state

    def _batch_to_run(self, job: _Job) -> list[_Job]:
        """Wait until this caller is to run a batch, or its job is done: then there is none."""
        with self._lock:
            while not job.done:
                if job.aboard or self._running == self._places:
                    job.changed.wait()
                elif (pause := self._pause()) > 0:
                    job.changed.wait(pause)
                else:
                    return self._take()
        return []

    def _pause(self) -> float:
        """Seconds for which a batch of those that wait should not start yet."""
        now = time.monotonic()
        left = self._waiting[0].due - now
        if left <= 0 or len(self._waiting) >= self._options.most:
            return 0.0
        for stream in [stream for stream, seen in self._seen.items() if seen < now - ACTIVE_SECONDS]:
            del self._seen[stream]
        return 0.0 if len(self._waiting) + self._aboard >= len(self._seen) else min(left, ACTIVE_SECONDS)

    def _take(self) -> list[_Job]:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._options.most))]
        for job in batch:
            job.aboard = True
        self._running += 1
        self._aboard += len(batch)
        self._hand_on()
        return batch

    def _advance(self, batch: list[_Job]) -> None:
        """Run the frames that all of a batch have; an error goes to the job that caused it."""
        block = self.rates.block_frames
        frames = min(min(job.frames for job in batch), max(1, ROWS // len(batch) // block) * block)
        try:
            rows, states = self._engine.advance([job.state for job in batch], frames)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
            else:
                for job in batch:
                    self._advance([job])
            return
        if self._options.observe is not None:
            self._options.observe(len(batch))
        for job, log_probs, state in zip(batch, rows, states, strict=True):
            job.rows.append(log_probs)
            job.state, job.frames = state, job.frames - frames

    def _put_back(self, batch: list[_Job]) -> None:
        """Wake those whose job is done; those with frames left come first in the next batch."""
        with self._lock:
            self._running -= 1
            self._aboard -= len(batch)
            for job in reversed(batch):
                job.aboard = False
                if job.done:
                    job.changed.notify()
                elif not job.given_up:
                    job.due = 0.0
                    self._waiting.appendleft(job)
            self._hand_on()

    def _give_up(self, job: _Job, stream: int) -> None:
        """After an error or an interrupt nobody is left to take a job's rows."""
        with self._lock:
            job.given_up = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._forget(stream)

    def _forget(self, stream: int) -> None:
        """No longer wait for a stream."""
        self._seen.pop(stream, None)
        self._hand_on()

    def _hand_on(self) -> None:
        """Wake the caller that is to see to those who wait."""
        if self._waiting and self._running < self._places:
            self._waiting[0].changed.notify()


class _Job:
    """The frames of one stream that one call has brought."""

    def __init__(self, state: OnnxState, frames: int, lock: threading.Lock, due: float) -> None:
        self.state = state
        self.frames = frames  # not yet run
        self.due = due  # on the monotonic clock; from then on it waits for nobody
        self.rows: list[np.ndarray] = []
        self.error: Exception | None = None
        self.aboard = False  # of a batch that runs
        self.given_up = False
        self.changed = threading.Condition(lock)

    @property
    def done(self) -> bool:
        return self.error is not None or self.frames == 0


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
