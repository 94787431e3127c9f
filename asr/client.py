"""Recognition by a Rill server: the same results as from a `Recognizer`, over a WebSocket.

>>> client = Client("http://127.0.0.1:8000")
>>> for result in client.stream(chunks, sample_rate=48_000):
...     print(result.text, end="\\n" if result.final else "\\r")
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import numpy as np

from asr.audio.files import AudioFile
from asr.audio.samples import as_samples, check_rate
from asr.errors import RillError, ServerError, UsageError
from asr.streaming.results import Result, Word, joined

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

SAMPLE_RATE = 16_000  # of a stream, unless another is given
KEY_VARIABLE = "RILL_API_KEY"
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
UNAUTHORIZED = ("unauthorized", 401)  # how a server says that it wants another key
FULL = ("busy", 503)


class Client:
    """Speaks to one server. It keeps nothing of a stream, so it serves any number of streams and threads."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        """Name a server; nothing is sent yet.

        Args:
            url: such as ``http://127.0.0.1:8000`` or ``wss://captions.example.org/rill``.
            api_key: the server's key, if it asks for one; by default, what RILL_API_KEY says.
        Raises:
            UsageError: no such address can be; or the library `websockets` is not installed.
        """
        self.url = url
        self._address = _stream_address(url)
        self._key = api_key or os.environ.get(KEY_VARIABLE, "")
        try:
            import websockets  # noqa: F401
        except ImportError as error:
            raise UsageError("a server is spoken to by websockets: pip install 'rill-asr[client]'") from error

    def open(self, sample_rate: int = SAMPLE_RATE) -> RemoteStream:
        """Begin a stream whose samples come at this rate, in Hz.

        Raises:
            ServerError: nobody answers, the key is missing or wrong, the server is full, or is no Rill server.
            UsageError: a sample rate out of range.
        """
        return RemoteStream(self._connect(check_rate(sample_rate)), sample_rate, self.url)

    def stream(self, chunks: Iterable[Any], sample_rate: int = SAMPLE_RATE) -> Iterator[Result]:
        """Recognise audio while it arrives, as `Recognizer.stream` does; the chunks are drawn by another thread.

        Yields:
            Partial results as the text changes, and final ones; when the connection breaks, the last partial result
            as a final one.
        Raises:
            AudioError: a chunk that is not audio.
            ServerError: as for `open`, or the connection broke off; then everything heard until then was yielded.
        """
        if isinstance(chunks, np.ndarray | str | bytes):
            raise UsageError("stream takes an iterable of arrays; use transcribe for a file")
        with self.open(sample_rate) as stream:
            yield from stream.fed_by(chunks)

    def transcribe(self, path: str | os.PathLike[str]) -> Result:
        """Recognise a recording, any audio or video file; it is decoded here.

        Raises:
            AudioError: missing, empty, not audio.
            ServerError: as for `stream`.
        """
        with AudioFile(path, SAMPLE_RATE) as file, self.transcript() as transcript:
            for samples in file:
                transcript.hear(samples)
            return transcript.result()

    def transcript(self) -> RemoteTranscript:
        """Begin a recording whose samples come at `SAMPLE_RATE`; raises ServerError as for `open`."""
        return RemoteTranscript(self.open())

    def _connect(self, sample_rate: int) -> ClientConnection:
        from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
        from websockets.sync.client import connect

        try:
            connecting = connect(
                f"{self._address}?{urlencode({'sample_rate': sample_rate, 'format': 'f32le'})}",
                additional_headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                compression=None,  # samples hardly shrink
            )
            return connecting.__enter__()  # a RemoteStream closes it
        except InvalidStatus as error:
            raise _refusal(self.url, error.response.status_code, "", bool(self._key)) from error
        except (InvalidMessage, InvalidHandshake) as error:
            raise ServerError(f"{self.url} is no Rill server: {error}") from error
        except TimeoutError as error:
            raise ServerError(f"{self.url} does not answer within {OPEN_SECONDS:.0f} s; check the address") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ServerError(f"{self.url} cannot be reached: {reason}; start it with 'asr serve'") from error


class RemoteStream:
    """One stream on a server, a context manager. One thread may send while another one reads the results."""

    def __init__(self, socket: ClientConnection, sample_rate: int, url: str) -> None:
        """Wrap an open connection, and wait until the server is ready.

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
            self.model = self._ready()
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

    def hear(self, samples: Any) -> tuple[Result, ...]:
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
        while not self._arrived.empty():
            item = self._arrived.get()
            if isinstance(item, Result):
                results.append(item)
            elif item is not None:
                if not results:
                    raise item
                self._arrived.put(item)
                break
        return tuple(results)

    def __iter__(self) -> Iterator[Result]:
        """Give results as they come, to the last one after `end`; raises ServerError as `arrived` does."""
        while (item := self._arrived.get()) is not None:
            if not isinstance(item, Result):
                raise item
            yield item

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

    def _ready(self) -> str:
        from websockets.exceptions import ConnectionClosed

        try:
            while (event := json.loads(self._socket.recv(timeout=OPEN_SECONDS))).get("type") != "ready":
                if event.get("type") == "error":
                    key = "Authorization" in self._socket.request.headers
                    raise _refusal(self._url, event.get("code"), event.get("message", ""), key)
        except ConnectionClosed as error:
            raise ServerError(f"{self._url} closed the connection at once: {error}") from error
        except TimeoutError as error:
            raise ServerError(f"{self._url} is not ready within {OPEN_SECONDS:.0f} s; try again later") from error
        except (ValueError, AttributeError) as error:
            raise ServerError(f"{self._url} is no Rill server; its answer is not understood") from error
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
        if self._partial is not None and self._partial.words:
            self._arrived.put(Result.of(self._partial.words, final=True))
        reason = f" ({self._complaint['message']})" if self._complaint.get("message") else ""
        self._arrived.put(
            ServerError(
                f"{self._url}: the connection broke off{reason} after {self.seconds:.1f} s of audio; "
                "what was recognised until then is kept"
            )
        )


class RemoteTranscript:
    """A recording as far as a server has heard it, a context manager; else as `asr.recognizer.Transcript`."""

    def __init__(self, stream: RemoteStream) -> None:
        self._stream = stream
        self._finals: list[Result] = []
        self._broken = False

    def __enter__(self) -> RemoteTranscript:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__()

    def hear(self, samples: np.ndarray) -> None:
        """Send samples (N,); raises ServerError when the connection broke off."""
        self._keep(self._stream.hear, samples)

    def result(self) -> Result:
        """One final result of all that was sent; after a ServerError, of what came before it."""
        if not self._broken:
            self._keep(self._stream.finish)
        return joined(self._finals, self._stream.seconds)

    def _keep(self, act: Callable[..., Iterable[Result]], *arguments: Any) -> None:
        try:
            for result in act(*arguments):
                if result.final:
                    self._finals.append(result)
        except ServerError:
            self._broken = True
            raise


def _result(event: dict[str, Any]) -> Result:
    words = tuple(Word(word["word"], word["start"], word["end"], word["confidence"]) for word in event["words"])
    return Result(
        event["text"], words, event["start"], event["end"], event["type"] == "final", event.get("committed", 0)
    )


def _refusal(url: str, code: Any, message: str, key_given: bool) -> ServerError:
    """Why a server takes no stream: an HTTP status, or the code and the message of its error."""
    if code in UNAUTHORIZED:
        what = "does not take this API key; check" if key_given else "wants an API key; give"
        return ServerError(f"{url} {what} --api-key or {KEY_VARIABLE}")
    if code in FULL:
        return ServerError(f"{url} is full{f' ({message})' if message else ''}; try again later")
    if code in (403, 404):  # frameworks answer either to a path that they do not know
        return ServerError(f"{url} has no /v1/stream; check the address")
    return ServerError(f"{url} refuses: {message or f'HTTP status {code}'}")


def _stream_address(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    try:
        sound = bool(scheme and parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(f"{url!r} is no address of a server; give one such as http://127.0.0.1:8000")
    return urlunsplit((scheme, parts.netloc, f"{parts.path.rstrip('/')}/v1/stream", "", ""))
