"""Recognition by a Rill server: the same results as from a `Recognizer`, over a WebSocket.

A connection that breaks off is made anew, for `RETRY_SECONDS` at most, and the audio that no final result covers is
sent again.

>>> client = Client("http://127.0.0.1:8000")
>>> for result in client.stream(chunks, sample_rate=48_000):
...     print(result.text, end="\\n" if result.final else "\\r")
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import numpy as np

from asr.audio.files import AudioFile
from asr.audio.samples import check_rate
from asr.errors import ServerError, UsageError, how_to_install
from asr.remote import Refused, RemoteStream, refusal
from asr.resuming import RemoteTranscript, ResumingStream
from asr.streaming.results import Result

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

SAMPLE_RATE = 16_000  # of a stream, unless another is given
KEY_VARIABLE = "RILL_API_KEY"
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
RETRY_SECONDS = 60.0  # a server that has been away for longer is given up


class Client:
    """Connects to one server. It keeps no state of a stream, so it serves any number of streams and threads."""

    reached = False  # by the last attempts: a server that is away now is waited for by recordings
    retry_seconds = RETRY_SECONDS

    def __init__(self, url: str, api_key: str | None = None, readable: bool | None = None) -> None:
        """Name a server; nothing is sent yet.

        Args:
            url: such as ``http://127.0.0.1:8000`` or ``wss://captions.example.org/rill``.
            api_key: the server's key, if it asks for one; by default, what RILL_API_KEY says.
            readable: whether results are written for readers, or in normal form; by default, as the server was started.
        Raises:
            UsageError: not an address; or the library `websockets` is not installed.
        """
        self.url = url
        self._address = _stream_address(url)
        self._query = {} if readable is None else {"readable": int(readable)}
        self._key = api_key or os.environ.get(KEY_VARIABLE, "")
        try:
            import websockets  # noqa: F401
        except ImportError as error:
            raise UsageError(f"a client needs websockets; {how_to_install('client')}") from error

    def open(self, sample_rate: int = SAMPLE_RATE) -> RemoteStream:
        """Begin a stream whose samples come at this rate, in Hz.

        Raises:
            ServerError: no answer, the key is missing or wrong, the server is full, or is not a Rill server.
            UsageError: a sample rate out of range.
        """
        stream = RemoteStream(self._connect(check_rate(sample_rate)), sample_rate, self.url, OPEN_SECONDS)
        self.reached = True
        return stream

    def resuming(
        self, sample_rate: int = SAMPLE_RATE, live: bool = True, tell: Callable[[str], object] | None = None
    ) -> ResumingStream:
        """Begin a stream that goes on over a new connection when one breaks off.

        Args:
            sample_rate: of its samples, in Hz.
            live: whether audio comes as it is spoken.
            tell: what to call with a message when the server goes and when it is back.
        Raises:
            ServerError: as for `open`; but a server that has been reached before is waited for.
        """
        return ResumingStream(self, check_rate(sample_rate), live, tell)

    def stream(self, chunks: Iterable[Any], sample_rate: int = SAMPLE_RATE) -> Iterator[Result]:
        """Recognise audio while it arrives, as `Recognizer.stream` does; the chunks are drawn by another thread.

        Yields:
            Partial results as the text changes, and final ones; when the connection breaks, the last partial result
            as a final one.
        Raises:
            AudioError: a chunk that is not audio.
            ServerError: as for `open`, or the connection broke off; then everything recognised before was yielded.
        """
        if isinstance(chunks, np.ndarray | str | bytes):
            raise UsageError("stream takes an iterable of arrays; use transcribe for a file")
        with self.open(sample_rate) as stream:
            yield from stream.fed_by(chunks)

    def transcribe(self, path: str | os.PathLike[str]) -> Result:
        """Recognise a recording, any audio or video file; it is decoded here.

        A connection that breaks off is made anew, for a minute at most.

        Raises:
            AudioError: missing, empty, not audio.
            ServerError: as for `stream`.
        """
        with AudioFile(path, SAMPLE_RATE) as file, self.transcript() as transcript:
            for samples in file:
                transcript.accept(samples)
            return transcript.result()

    def transcript(self, tell: Callable[[str], object] | None = None) -> RemoteTranscript:
        """Begin a recording whose samples come at `SAMPLE_RATE`; raises ServerError as for `resuming`."""
        return RemoteTranscript(self.resuming(live=False, tell=tell))

    def _connect(self, sample_rate: int) -> ClientConnection:
        from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
        from websockets.sync.client import connect

        try:
            connecting = connect(
                f"{self._address}?{urlencode({'sample_rate': sample_rate, 'format': 'f32le', **self._query})}",
                additional_headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                compression=None,  # samples hardly shrink
                proxy=None if _is_loopback(self._address) else True,
            )
            return connecting.__enter__()  # a RemoteStream closes it
        except InvalidStatus as error:
            raise refusal(self.url, error.response.status_code, "", bool(self._key)) from error
        except (InvalidMessage, InvalidHandshake) as error:
            raise Refused(f"{self.url} is not a Rill server: {error}") from error
        except TimeoutError as error:
            raise ServerError(f"{self.url} does not answer within {OPEN_SECONDS:.0f} s; check the address") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ServerError(f"{self.url} cannot be reached: {reason}; start it with 'asr serve'") from error


def _stream_address(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    try:
        sound = bool(scheme and parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(f"{url!r} is not the address of a server; give one such as http://127.0.0.1:8000")
    return urlunsplit((scheme, parts.netloc, f"{parts.path.rstrip('/')}/v1/stream", "", ""))


def _is_loopback(address: str) -> bool:
    """Whether an address is of this machine, which no proxy leads to."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
