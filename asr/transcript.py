"""A recording that is being recognised."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from asr.audio.samples import as_samples
from asr.streaming.ahead import Ahead
from asr.streaming.results import Result, joined


class Recognizing(Protocol):
    """What a transcript needs of a recogniser; see `asr.recognizer.Recognizer`."""

    @property
    def sample_rate(self) -> int: ...

    def start(self) -> Any: ...

    def step(self, state: Any, samples: Any) -> tuple[tuple[Result, ...], Any]: ...

    def finish(self, state: Any) -> tuple[tuple[Result, ...], Any]: ...

    def ahead(self) -> Ahead | None: ...

    def written(self, results: tuple[Result, ...], state: Any) -> tuple[tuple[Result, ...], Any]: ...


class Transcript:
    """A recording as far as it has been recognised; its result can be asked for at any time, without ending it.

    Where there are two cores the network runs on one, a chunk ahead of the search for words on the other.
    """

    def __init__(self, recognizer: Recognizing) -> None:
        self._recognizer = recognizer
        self._state = recognizer.start()
        self._finals: tuple[Result, ...] = ()
        self._ahead = recognizer.ahead()

    @property
    def seconds(self) -> float:
        """Length of the audio taken in."""
        samples = self._state.samples if self._ahead is None else self._ahead.samples
        return samples / self._recognizer.sample_rate

    def accept(self, samples: np.ndarray) -> None:
        """Recognise samples (N,) at the recogniser's rate."""
        if self._ahead is None:
            results, self._state = self._recognizer.step(self._state, samples)
        else:
            results = self._written(self._ahead.step(as_samples(samples)))
        self._finals += tuple(result for result in results if result.final)

    def result(self) -> Result:
        """One final result from 0 to the end of the audio so far, as if the recording ended there."""
        if self._ahead is not None:
            results, runner = self._ahead.settle()
            self._finals += self._written(results)
            self._state = self._state._replace(runner=runner)
        last, _ = self._recognizer.finish(self._state)
        return joined(self._finals + last, self.seconds)

    def _written(self, results: tuple[Result, ...]) -> tuple[Result, ...]:
        results, readable = self._recognizer.written(results, self._state.readable)
        self._state = self._state._replace(readable=readable)
        return results
