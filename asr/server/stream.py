"""One stream of audio on the shared recogniser."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from asr.recognizer import Recognizer
from asr.server.inbox import Audio
from asr.server.pcm import Pcm
from asr.server.service import Service
from asr.streaming.results import Result


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

    def reset(self) -> None:
        """Drop the utterance being spoken; the stream goes on."""
        self._pcm.flush()
        self._before += self._state.samples
        self._state = self._recognizer.start()

    def _hear(self, data: bytes) -> tuple[Result, ...]:
        return self._step(self._pcm.decode(data))

    def _step(self, samples: np.ndarray) -> tuple[Result, ...]:
        begun = time.perf_counter()
        results, self._state = self._recognizer.step(self._state, samples)
        self._count(len(samples), time.perf_counter() - begun)
        return self._shifted(results)

    def _flush(self) -> tuple[Result, ...]:
        heard = self._step(self._pcm.flush())
        last, state = self._recognizer.finish(self._state)
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
                words=tuple(
                    replace(word, start_seconds=word.start_seconds + offset, end_seconds=word.end_seconds + offset)
                    for word in result.words
                ),
            )
            for result in results
        )


class GrowingText:
    """The committed words of a stream, piece by piece, for protocols that cannot revoke a word.

    The pieces joined are the final text.
    """

    def __init__(self) -> None:
        self.text = ""
        self._open = 0  # words of the utterance being spoken that have been sent

    def add(self, results: Iterable[Result]) -> str:
        """What these results add to the text, with the space that belongs before it."""
        pieces = []
        for result in results:
            pieces += [word.text for word in result.words[self._open : result.committed]]
            self._open = 0 if result.final else max(self._open, result.committed)
        piece = " ".join(pieces)
        if piece and self.text:
            piece = " " + piece
        self.text += piece
        return piece
