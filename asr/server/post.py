"""What a worker process of a server is given."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from asr.recognizer_options import RecognizerOptions
from asr.server.address import Address
from asr.server.options import ServerOptions


@dataclass(frozen=True)
class Job:
    """What every worker of a server does."""

    recognizer: RecognizerOptions
    options: ServerOptions
    address: Address
    workers: int

    @property
    def model(self) -> str:
        """Its name, as clients are told."""
        return Path(self.recognizer.model).name


@dataclass(frozen=True)
class Post:
    """The place of one worker, and what connects it with the supervisor."""

    number: int  # from 0
    folder: Path  # where all workers count, while the server runs
    connections: socket.socket  # brings connections of clients, each with a byte: which listening socket it came to
    reports: Connection  # takes None once the worker serves, or the error because of which it does not
