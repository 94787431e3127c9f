"""Limits of a server, and its key."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.recognizer_options import RecognizerOptions

MIB = 1 << 20
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE)  # as browsers write it


@dataclass(frozen=True)
class ServerOptions:
    """Limits of one server, and its key. Clients that exceed a limit are sent the reason."""

    api_key: str | None = None  # None: no key is needed
    allow_origins: tuple[str, ...] = ()  # of other pages that may use the server; "*": all
    max_streams: int = 32  # live streams and files together
    max_message_bytes: int = 4 * MIB  # one WebSocket message
    max_upload_bytes: int = 100 * MIB
    max_waiting_bytes: int = MIB  # audio of a stream not yet recognised, before reading from it stops
    idle_seconds: float = 60.0  # without a message
    longest_seconds: float = 4 * 3_600.0  # of one connection, and of the audio in an uploaded file
    send_seconds: float = 20.0  # for a client to read what it is sent
    hotword_lists: int = 2  # of single streams, in use at a time; each has a decoding graph, some 200 MB
    grace_seconds: float = 10.0  # from the signal to stop until connections are cut
    log_transcripts: bool = False

    def __post_init__(self) -> None:
        for name in (
            "max_streams",
            "max_message_bytes",
            "max_upload_bytes",
            "max_waiting_bytes",
            "idle_seconds",
            "longest_seconds",
            "send_seconds",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.hotword_lists < 0:
            raise ValueError(f"hotword_lists must not be negative, got {self.hotword_lists}")
        for origin in self.allow_origins:
            if origin != "*" and origin != "null" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; give one such as https://example.org, or *")
        if self.api_key == "":
            raise ValueError("the API key is empty; give one, or none")

    def batched(
        self, recognizer: RecognizerOptions, observe: Callable[[int], None], workers: int = 1
    ) -> RecognizerOptions:
        """The options of a recogniser for this server: its streams run in batches, whose sizes ``observe`` gets.

        Each of several worker processes runs as many batches at once as is its share of the cores.
        """
        from asr.streaming.batcher import Batching, usable_cores

        if recognizer.engine == "torch":
            return recognizer
        share = -(-usable_cores() // workers)
        return replace(recognizer, batching=Batching(most=self.max_streams, at_once=share, observe=observe))
