"""Dynamic batching: network steps of streams that have audio waiting at the same time are run as one batch."""

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

from asr.streaming.framed import FramedEngine, FramedState
from asr.streaming.rates import pieces

ACTIVE_SECONDS = 1.0  # batches do not wait for streams that have not stepped for this long
ROWS = 1_024  # most frames in one run, all streams together: bounds memory, and how long a run lasts


@dataclass(frozen=True)
class Batching:
    """How streams are batched."""

    wait_ms: float = 10.0  # longest time that a stream waits for others; 0 where only throughput counts
    most: int = 64  # streams in a batch
    at_once: int | None = None  # batches that run at the same time; as many as there are cores by default
    observe: Callable[[int], None] | None = None  # called with the size of each batch, from any thread

    def __post_init__(self) -> None:
        if self.wait_ms < 0 or self.most < 1 or (self.at_once is not None and self.at_once < 1):
            raise ValueError(f"need wait_ms from 0, most from 1, at_once from 1; got {self}")


class BatchedState(NamedTuple):
    """A stream of a `BatchedEngine`."""

    stream: int  # identifies the stream when those that may join a batch are counted
    inner: FramedState


class BatchedEngine:
    """An engine for many threads: their network steps run in batches and give the rows that each would get alone.

    The caller whose audio completes a batch, or who has waited long enough, runs it for all callers in it; there is no
    thread of its own. A batch is complete when every stream that stepped within the last second is in it, so a single
    stream never waits. Streams with different numbers of frames waiting run the number common to all of them, and those
    with more continue in the next batch: the network costs about as much for a frame of one stream as of several.

    In fp32 the rows equal those of the stream alone up to float rounding. onnxruntime's int8 scales activations by the
    largest of the whole batch, so rows depend a little on the other streams, as they do on the chunks.
    """

    full_context = False

    def __init__(self, engine: FramedEngine, batching: Batching | None = None) -> None:
        """Batch the steps of an engine without full context."""
        self._engine = engine
        self._options = batching or Batching()
        self._places = self._options.at_once or usable_cores()
        self.rates = engine.rates
        self._numbers = count()
        self._lock = threading.Lock()  # guards all that follows; never held while the network runs
        self._waiting: deque[_Job] = deque()
        self._running = 0  # batches
        self._aboard = 0  # streams in them
        self._inside = 0  # calls of step and finish
        self._seen: dict[int, float] = {}  # when each stream stepped last
        self._closed = False
        self._idle = threading.Condition(self._lock)

    def start(self) -> BatchedState:
        return BatchedState(next(self._numbers), self._engine.start())

    def step(self, state: BatchedState, samples: np.ndarray) -> tuple[np.ndarray, BatchedState]:
        """As in `Engine`; returns when the last batch with these samples has run.

        Raises:
            RuntimeError: the engine is closed.
        """
        stream, inner = state
        with self._entered():
            rows = []
            for piece in pieces(samples, self.rates):
                inner = self._engine.accept(inner, piece)
                if frames := self._engine.frames_waiting(inner):
                    more, inner = self._run(stream, inner, frames)
                    rows += more
            return self._engine.joined(rows), BatchedState(stream, inner)

    def finish(self, state: BatchedState) -> tuple[np.ndarray, BatchedState]:
        owed = self._engine.rows_owed(state.inner)
        log_probs, _ = self.step(state, self._engine.tail(state.inner))
        with self._lock:
            self._forget(state.stream)
        return log_probs[:owed], self.start()

    def close(self) -> None:
        """Refuse further steps, and return when those under way are done."""
        with self._lock:
            self._closed = True
            self._idle.wait_for(lambda: self._inside == 0)

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
                    self._idle.notify_all()

    def _run(self, stream: int, state: FramedState, frames: int) -> tuple[list[np.ndarray], FramedState]:
        """Queue the frames of a state, and run the batches that no other caller runs."""
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
        """Wait until this caller has to run a batch; empty when its job is done."""
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
        """Seconds to wait before the next batch starts."""
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
        """Run as many frames as all jobs of a batch have; an error goes to the job that caused it."""
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
        """Wake the callers whose jobs are done; jobs with frames left come first in the next batch."""
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
        """Drop a job whose caller has left by an error or an interrupt."""
        with self._lock:
            job.given_up = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._forget(stream)

    def _forget(self, stream: int) -> None:
        """Stop waiting for a stream."""
        self._seen.pop(stream, None)
        self._hand_on()

    def _hand_on(self) -> None:
        """Wake the caller that runs the next batch."""
        if self._waiting and self._running < self._places:
            self._waiting[0].changed.notify()


class _Job:
    """The frames of one stream that one call has queued."""

    def __init__(self, state: FramedState, frames: int, lock: threading.Lock, due: float) -> None:
        self.state = state
        self.frames = frames  # not yet run
        self.due = due  # on the monotonic clock: when it stops waiting for other streams
        self.rows: list[np.ndarray] = []
        self.error: Exception | None = None
        self.aboard = False  # whether it is in a batch that runs
        self.given_up = False
        self.changed = threading.Condition(lock)

    @property
    def done(self) -> bool:
        return self.error is not None or self.frames == 0


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
