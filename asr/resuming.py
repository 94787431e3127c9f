"""Streams and recordings on a Rill server that outlive their connections."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from asr.audio.samples import as_samples
from asr.errors import ServerError
from asr.remote import BrokenOff, Refused
from asr.streaming.results import Result, joined

if TYPE_CHECKING:
    from asr.remote import RemoteStream

HOPELESS = ("bad_request", "bad_audio", "too_large", "unauthorized")  # errors that would come again
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 5.0)  # between two attempts; the last one from then on
QUIET_SECONDS = 10.0  # of a live stream that are kept while nothing is being said
LONGEST_SECONDS = 1_800.0  # of audio that is kept for the next connection


class Connecting(Protocol):
    """Opens connections to one server."""

    reached: bool  # the last attempts succeeded: a server that is away now may come back
    retry_seconds: float  # for which it is waited for

    def open(self, sample_rate: int) -> RemoteStream:
        """Begin a stream; raises ServerError."""


class ResumingStream:
    """A stream that goes on over a new connection when one breaks off, a context manager.

    Audio is kept until a final result covers it, and the next connection begins where the last final result ended:
    nothing is lost, nothing comes twice.
    """

    local = False

    def __init__(
        self, client: Connecting, sample_rate: int, live: bool, tell: Callable[[str], object] | None = None
    ) -> None:
        """Connect; a server that has been reached before is waited for.

        Args:
            client: makes the connections.
            sample_rate: of the samples that will come, in Hz.
            live: whether audio comes as it is spoken: then no call waits for a server that is away but the last one,
                and audio is not kept while nothing is being said.
            tell: what to call with a message when the server goes and when it is back.
        Raises:
            ServerError: as for `Client.open`.
        """
        self.sample_rate = sample_rate
        self.samples = 0  # given
        self._client = client
        self._live = live
        self._tell = tell or (lambda message: None)
        self._kept: deque[tuple[int, np.ndarray]] = deque()  # number of the first sample, samples
        self._settled = 0  # samples before this one are covered by final results
        self._base = 0  # sample at which the present connection began
        self._caught_up = 0  # samples given by the time that the server will have read what was sent again
        self._partial: Result | None = None
        self._finishing = False
        self._failure: ServerError | None = None
        self._stream: RemoteStream | None = None
        self._away_since = time.monotonic()
        self._attempts = 0
        self._next_attempt = 0.0
        if client.reached:
            self._connect(wait=True)
        else:
            self._begin(client.open(sample_rate))

    def __enter__(self) -> ResumingStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def seconds(self) -> float:
        """Seconds of audio given."""
        return self.samples / self.sample_rate

    def accept(self, samples: Any) -> tuple[Result, ...]:
        """Send samples, as `Recognizer.step` takes them; the results that have come by now.

        Raises:
            AudioError: samples that are not audio.
            ServerError: the server has been away for too long; every result was given out before.
        """
        samples = as_samples(samples)
        if len(samples):
            self._kept.append((self.samples, samples))
            self.samples += len(samples)
            if self._stream is not None:
                self._stream.send(samples)
        results = () if self._failure is not None else tuple(self._collected(wait=False))
        self._forget()
        if self._failure is not None and not results:
            raise self._failure
        return results

    def finish(self) -> Iterator[Result]:
        """End the stream and give the results that are left; raises ServerError as `accept` does."""
        self._finishing = True
        if self._failure is None:
            if self._stream is not None:
                self._stream.end()
            yield from self._collected(wait=True)
        if self._failure is not None:
            raise self._failure

    def _collected(self, wait: bool) -> Iterator[Result]:
        """Results that are here, or all that come; a failure is kept, and the open result made final."""
        while True:
            try:
                stream = self._stream or self._connect(wait or not self._live)
                if stream is None:
                    return
                for result in stream.items(wait):
                    yield self._placed(result)
                return
            except BrokenOff as error:
                self._close()
                self._away_since, self._attempts, self._next_attempt = time.monotonic(), 0, 0.0
                if error.code in HOPELESS:
                    self._failure = error
                else:
                    self._tell(f"{error}; trying again for {self._client.retry_seconds:.0f} s")
            except ServerError as error:
                self._failure = error
            if self._failure is not None:
                if self._partial is not None and self._partial.words:
                    yield Result.of(self._partial.words, final=True)
                return

    def _connect(self, wait: bool) -> RemoteStream | None:
        """Try to connect when it is time to; with ``wait`` until it succeeds.

        Raises:
            ServerError: the server refuses for good, or has been away for too long.
        """
        while True:
            pause = self._next_attempt - time.monotonic()
            if pause > 0:
                if not wait:
                    return None
                time.sleep(pause)
            try:
                stream = self._client.open(self.sample_rate)
            except Refused:
                raise
            except ServerError:
                now = time.monotonic()
                if now - self._away_since >= self._client.retry_seconds:
                    self._client.reached = False
                    raise
                self._next_attempt = now + PAUSES_SECONDS[min(self._attempts, len(PAUSES_SECONDS) - 1)]
                self._attempts += 1
                continue
            self._begin(stream)
            return stream

    def _begin(self, stream: RemoteStream) -> None:
        """Send what no final result covers."""
        if self._kept and self._kept[0][0] > self._settled and not self._live:
            stream.__exit__()
            raise Refused("the connection broke off, and more audio came without words than could be kept")
        self._stream, self._partial = stream, None
        if self.samples:
            self._tell("connected again")
        self._base = max(self._settled, self._kept[0][0] if self._kept else 0)
        self._caught_up = 2 * self.samples - self._base
        for first, samples in self._kept:
            stream.send(samples[max(0, self._base - first) :])
        if self._finishing:
            stream.end()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.__exit__()
            self._stream = None

    def _placed(self, result: Result) -> Result:
        """A result with times from the start of the stream; a final one settles its audio."""
        offset = self._base / self.sample_rate
        words = tuple(word.shifted(offset) for word in result.words)
        start, end = (words[0].start_seconds, words[-1].end_seconds) if words else (0.0, 0.0)
        placed = replace(result, words=words, start_seconds=start, end_seconds=end)
        self._partial = None if result.final else placed
        if result.final and words:
            self._settled = min(self.samples, max(self._settled, round(placed.end_seconds * self.sample_rate)))
        return placed

    def _forget(self) -> None:
        """Keep no more audio than is needed."""
        if self._live and self._stream is not None and self._partial is None and self.samples >= self._caught_up:
            self._settled = max(self._settled, self.samples - round(QUIET_SECONDS * self.sample_rate))
        least = max(self._settled, self.samples - round(LONGEST_SECONDS * self.sample_rate))
        while self._kept and self._kept[0][0] + len(self._kept[0][1]) <= least:
            self._kept.popleft()


class RemoteTranscript:
    """A recording as far as a server has recognised it, a context manager; else as `asr.transcript.Transcript`."""

    def __init__(self, stream: ResumingStream) -> None:
        self._stream = stream
        self.finals: list[Result] = []  # so far
        self._broken = False

    def __enter__(self) -> RemoteTranscript:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__()

    def accept(self, samples: np.ndarray) -> None:
        """Send samples (N,); raises ServerError when the connection broke off for good."""
        self._keep(self._stream.accept, samples)

    def result(self) -> Result:
        """One final result of all that was sent; after a ServerError, of what came before it."""
        if not self._broken:
            self._keep(self._stream.finish)
        return joined(self.finals, self._stream.seconds)

    def _keep(self, act: Callable[..., Iterable[Result]], *arguments: Any) -> None:
        try:
            for result in act(*arguments):
                if result.final:
                    self.finals.append(result)
        except ServerError:
            self._broken = True
            raise
