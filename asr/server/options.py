"""What a server allows its clients."""

from __future__ import annotations

import re
from dataclasses import dataclass

MIB = 1 << 20
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE)  # as browsers write it


@dataclass(frozen=True)
class ServerOptions:
    """Limits of one server, and its key. Each limit is answered with a reason before the connection closes."""

    api_key: str | None = None  # None: everybody may
    allow_origins: tuple[str, ...] = ()  # whose pages may use the server besides its own; "*": everybody's
    max_streams: int = 32  # live streams and files together
    max_message_bytes: int = 4 * MIB  # one WebSocket message
    max_upload_bytes: int = 100 * MIB
    max_waiting_bytes: int = MIB  # audio of a stream that came faster than it is heard, before reading from it stops
    idle_seconds: float = 60.0  # without a message
    longest_seconds: float = 4 * 3_600.0  # of one connection, and of the audio in an uploaded file
    send_seconds: float = 20.0  # for a client to take what it is sent
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
        for origin in self.allow_origins:
            if origin != "*" and origin != "null" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin; give one such as https://example.org, or *")
        if self.api_key == "":
            raise ValueError("the API key is empty; give one, or none")
