"""A recording on two cores: its network runs one chunk ahead of the search for its words."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from asr.streaming.batcher import usable_cores
from asr.streaming.results import Result
from asr.streaming.runner import Heard, Runner, RunnerState


class Ahead:
    """A stream whose words come one chunk late, and are those of `Runner.step` exactly.

    Both halves release Python's lock while they work. It has no partial results: it is for recordings.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._state = runner.start()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._heard: deque[Future[Heard]] = deque()  # chunks whose words are not in the state yet

    @property
    def samples(self) -> int:
        """Samples taken in."""
        return self._state.samples + sum(heard.result().samples for heard in self._heard)

    def step(self, samples: np.ndarray) -> tuple[Result, ...]:
        """Take samples (N,); the utterances that ended in those of the call before."""
        before = self._heard[-1].result() if self._heard else self._state
        self._heard.append(self._thread.submit(self._runner.hear, before, samples))
        return self._understood(all_but=1)

    def settle(self) -> tuple[tuple[Result, ...], RunnerState]:
        """The utterances that ended in the samples of the last call, and the state of the stream after all samples."""
        return self._understood(all_but=0), self._state

    def _understood(self, all_but: int) -> tuple[Result, ...]:
        results: tuple[Result, ...] = ()
        while len(self._heard) > all_but:
            found, self._state = self._runner.understand(self._state, self._heard[0].result())
            self._heard.popleft()  # only now: Ctrl-C may come at any time, and then `settle`
            results += tuple(found)
        return results


def two_cores() -> bool:
    """Whether this process may use more than one core."""
    return usable_cores() > 1
