"""A stream over one connection to a Rill server, and why a server may refuse it."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from asr.audio.samples import as_samples
from asr.errors import RillError, ServerError
from asr.streaming.results import Result, Word

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

UNAUTHORIZED = ("unauthorized", 401)  # how a server asks for another key
FULL = ("busy", 503)
NOT_FOUND = ("not_found", "forbidden", 403, 404)  # frameworks answer either to a path that they do not know


class Refused(ServerError):
    """A server that will refuse the next attempt as well."""


class BrokenOff(ServerError):
    """A connection that ended before its stream did."""

    def __init__(self, message: str, code: Any, last: Result | None) -> None:
        super().__init__(message)
        self.code = code  # of the server's last error, if it sent one
        self.last = last  # the partial result that was open, as a final one


class RemoteStream:
    """One stream on a server, a context manager. One thread may send while another one reads the results."""

    def __init__(self, socket: ClientConnection, sample_rate: int, url: str, ready_seconds: float) -> None:
        """Wrap an open connection, and wait for so many seconds at most until the server is ready.

        Raises:
            ServerError: it refuses.
        """
        self.samples = 0  # sent
        self.sample_rate = sample_rate
        self._socket = socket
        self._url = url
        self._partial: Result | None = None
        self._complaint: dict[str, Any] = {}
        self._arrived: queue.SimpleQueue[Result | RillError | None] = queue.SimpleQueue()  # None: done
        try:
            self.model = self._ready(ready_seconds)
        except BaseException:
            socket.close()
            raise
        self._reader = threading.Thread(target=self._read, name="rill-client", daemon=True)
        self._reader.start()

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def seconds(self) -> float:
        """Seconds of audio sent."""
        return self.samples / self.sample_rate

    def send(self, samples: Any) -> None:
        """Send samples, as `Recognizer.step` takes them. It waits while the server is busy.

        Raises:
            AudioError: samples that are not audio.
        """
        from websockets.exceptions import ConnectionClosed

        samples = as_samples(samples)
        if len(samples) == 0:
            return
        # A connection that is lost is told by the results, once those that came before have been read.
        with contextlib.suppress(ConnectionClosed):
            self._socket.send(samples.astype("<f4", copy=False).tobytes())
            self.samples += len(samples)

    def end(self) -> None:
        """No more audio will come."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            self._socket.send(json.dumps({"type": "finish"}))

    def accept(self, samples: Any) -> tuple[Result, ...]:
        """Send samples; the results that have come by now. Raises what `send` and `arrived` raise."""
        self.send(samples)
        return self.arrived()

    def finish(self) -> Iterator[Result]:
        """End the stream and give the results that are left; raises ServerError as `arrived` does."""
        self.end()
        return iter(self)

    def arrived(self) -> tuple[Result, ...]:
        """Results that have come since they were last asked for, without waiting.

        Raises:
            ServerError: the connection broke off, and everything that had come before has been given out.
        """
        results = []
        try:
            for result in self.items(wait=False):
                results.append(result)
        except BrokenOff as error:
            if error.last is not None:
                results.append(error.last)
                error.last = None
            if not results:
                raise
        return tuple(results)

    def __iter__(self) -> Iterator[Result]:
        """Give results as they come, to the last one after `end`; raises ServerError as `arrived` does."""
        try:
            yield from self.items(wait=True)
        except BrokenOff as error:
            if error.last is not None:
                last, error.last = error.last, None
                yield last
            raise

    def items(self, wait: bool) -> Iterator[Result]:
        """Results as they came: those that are here, or with ``wait`` all to the end of the stream.

        Raises:
            BrokenOff: the connection ended too early; each time, once there are no more results.
        """
        while wait or not self._arrived.empty():
            item = self._arrived.get()
            if isinstance(item, Result):
                yield item
                continue
            self._arrived.put(item)  # for whoever asks again
            if item is None:
                return
            raise item

    def fed_by(self, chunks: Iterable[Any]) -> Iterator[Result]:
        """Give the results of chunks, which a thread of its own draws and sends; raises what drawing them raised."""
        failures: list[BaseException] = []

        def feed() -> None:
            try:
                for chunk in chunks:
                    self.send(chunk)
                self.end()
            except BaseException as error:
                failures.append(error)
                self._socket.close()

        threading.Thread(target=feed, name="rill-client-feed", daemon=True).start()
        try:
            yield from self
        except ServerError:
            if failures:
                raise failures[0] from None
            raise

    def _ready(self, seconds: float) -> str:
        from websockets.exceptions import ConnectionClosed

        try:
            while (event := json.loads(self._socket.recv(timeout=seconds))).get("type") != "ready":
                if event.get("type") == "error":
                    request = self._socket.request
                    key = request is not None and "Authorization" in request.headers
                    raise refusal(self._url, event.get("code"), event.get("message", ""), key)
        except ConnectionClosed as error:
            raise ServerError(f"{self._url} closed the connection at once: {error}") from error
        except TimeoutError as error:
            raise ServerError(f"{self._url} is not ready within {seconds:.0f} s; try again later") from error
        except (ValueError, AttributeError) as error:
            raise Refused(f"{self._url} is not a Rill server; its answer is not understood") from error
        return str(event.get("model", ""))

    def _read(self) -> None:
        """Runs in the reader's thread until the connection ends."""
        from websockets.exceptions import ConnectionClosed

        done = False
        try:
            for message in self._socket:
                event = json.loads(message)
                if event["type"] in ("partial", "final"):
                    result = _result(event)
                    self._partial = None if result.final else result
                    self._arrived.put(result)
                elif event["type"] == "error":
                    self._complaint = event
                elif event["type"] == "done":
                    done = True
        except ConnectionClosed:
            pass
        except (ValueError, KeyError, TypeError) as error:
            self._complaint = {"message": f"the server's answer is not understood ({error})"}
        if done:
            self._arrived.put(None)
            return
        open_words = () if self._partial is None else self._partial.words
        reason = f" ({self._complaint['message']})" if self._complaint.get("message") else ""
        self._arrived.put(
            BrokenOff(
                f"{self._url}: the connection broke off{reason} after {self.seconds:.1f} s of audio; "
                "what was recognised until then is kept",
                self._complaint.get("code"),
                Result.of(open_words, final=True) if open_words else None,
            )
        )


def _result(event: dict[str, Any]) -> Result:
    words = words_of(event["words"])
    committed, covered = 0, 0  # the server counts words as they are spoken
    while committed < len(words) and covered + max(1, len(words[committed].spoken)) <= event.get("committed", 0):
        covered += max(1, len(words[committed].spoken))
        committed += 1
    return Result(event["text"], words, event["start"], event["end"], event["type"] == "final", committed)


def words_of(fields: list[dict[str, Any]]) -> tuple[Word, ...]:
    """The words of a result from what `asr.output.formats.word_fields` made of them."""
    words: list[list[Word]] = []
    written: list[str | None] = []
    for one in fields:
        word = Word(one["word"], one["start"], one["end"], one["confidence"])
        form = one.get("written")
        if form == "" and words:
            words[-1].append(word)
            continue
        words.append([word])
        written.append(form)
    return tuple(
        spoken[0] if form is None else Word.written(form, spoken) for form, spoken in zip(written, words, strict=True)
    )


def refusal(url: str, code: Any, message: str, key_given: bool) -> ServerError:
    """Why a server takes no stream: from an HTTP status, or from the code and the message of its error."""
    if code in UNAUTHORIZED:
        what = "does not accept this API key; check" if key_given else "wants an API key; give"
        return Refused(f"{url} {what} --api-key or RILL_API_KEY")
    if code in FULL:
        return ServerError(f"{url} is full{f' ({message})' if message else ''}; try again later")
    if code in NOT_FOUND:
        return Refused(f"{url} has no /v1/stream; check the address")
    return ServerError(f"{url} refuses: {message or f'HTTP status {code}'}")
