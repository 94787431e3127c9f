"""One stream of audio on the shared recogniser."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from asr.recognizer import Recognizer, RecognizerState, chunk_samples
from asr.server.inbox import Audio
from asr.server.pcm import Pcm
from asr.server.service import Service
from asr.streaming.results import Alternative, Result
from asr.streaming.sources import rechunked

TEXTS_MS = 250


class Stream:
    """Recognises audio in order; results have times from the start of the stream."""

    def __init__(self, service: Service, protocol: str, pcm: Pcm) -> None:
        """A stream of a client of ``protocol``."""
        self._service = service
        self._protocol = protocol
        self._pcm = pcm
        self._recognizer = service.recognizer
        self._state = self._recognizer.start()
        self._before = 0  # samples received before the last flush
        self.most_texts = 0  # of each final result, beside the best: see `texts`
        self.texts: tuple[Alternative, ...] = ()  # of the last final result with words, likeliest first

    @property
    def seconds(self) -> float:
        """Length of the audio received."""
        return (self._before + self._state.samples) / self._recognizer.sample_rate

    async def hear(self, audio: Audio) -> tuple[Result, ...]:
        """The results of what came; raises AudioError for bytes that are not audio."""
        self._service.metrics.queue_seconds.observe(time.monotonic() - audio.arrived)
        return await self._service.run(self._hear, audio.data)

    async def flush(self) -> tuple[Result, ...]:
        """End the utterance now: its final results. The stream goes on."""
        return await self._service.run(self._flush)

    def change(self, pcm: Pcm) -> None:
        """Expect another format from now on."""
        self._pcm = pcm

    def go_on_with(self, recognizer: Recognizer) -> None:
        """Continue with another recogniser that shares its states."""
        self._recognizer = recognizer

    def begin_with(self, recognizer: Recognizer) -> None:
        """Start anew with a recogniser that has states of its own; what is being spoken must have been flushed."""
        self._before += self._state.samples
        self._recognizer, self._state = recognizer, recognizer.start()

    def reset(self) -> None:
        """Drop the utterance being spoken; the stream goes on."""
        self._pcm.flush()
        self._before += self._state.samples
        self._state = self._recognizer.start()

    def _hear(self, data: bytes) -> tuple[Result, ...]:
        return self._step(self._pcm.decode(data))

    def _step(self, samples: np.ndarray) -> tuple[Result, ...]:
        if self.most_texts:  # what was likely is asked for a little before an utterance's end, so in short steps
            pieces = list(rechunked([samples], chunk_samples(TEXTS_MS, self._recognizer.sample_rate)))
            return tuple(result for piece in pieces for result in self._one_step(piece))
        return self._one_step(samples)

    def _one_step(self, samples: np.ndarray) -> tuple[Result, ...]:
        begun = time.perf_counter()
        before = self._state
        results, self._state = self._recognizer.step(before, samples)
        self._keep_texts(before, results)
        self._count(len(samples), time.perf_counter() - begun)
        return self._shifted(results)

    def _keep_texts(self, before: RecognizerState, results: Iterable[Result]) -> None:
        """Search for the other texts of an utterance that has just ended, in the state before its end."""
        final = next((result for result in reversed(tuple(results)) if result.final and result.words), None)
        if not self.most_texts or final is None:
            return
        found = self._recognizer.alternatives(before, self.most_texts)
        self.texts = found if found and found[0].text == final.text else ()

    def _flush(self) -> tuple[Result, ...]:
        heard = self._step(self._pcm.flush())
        last, state = self._recognizer.finish(self._state)
        self._keep_texts(self._state, last)
        results = tuple(result for result in heard if result.final) + self._shifted(last)
        self._before, self._state = self._before + self._state.samples, state
        return results

    def _count(self, samples: int, seconds: float) -> None:
        metrics = self._service.metrics
        metrics.step_seconds.observe(seconds)
        if samples:
            audio_seconds = samples / self._recognizer.sample_rate
            metrics.audio_seconds.labels(self._protocol).inc(audio_seconds)
            metrics.real_time_factor.observe(seconds / audio_seconds)

    def _shifted(self, results: tuple[Result, ...]) -> tuple[Result, ...]:
        if not self._before:
            return results
        offset = self._before / self._recognizer.sample_rate
        return tuple(
            replace(
                result,
                start_seconds=result.start_seconds + offset,
                end_seconds=result.end_seconds + offset,
                words=tuple(word.shifted(offset) for word in result.words),
            )
            for result in results
        )
