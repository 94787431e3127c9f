"""Where a server listens."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import UsageError
from asr.server.log import log


@dataclass(frozen=True)
class Address:
    """Where to listen, and with which certificate."""

    host: str = "127.0.0.1"
    port: int = 8_000  # 0: any free one
    certificate: Path | None = None
    key: Path | None = None
    wyoming_host: str = "127.0.0.1"
    wyoming_port: int | None = None  # None: no Wyoming

    def bind(self) -> Listening:
        """Take the ports; nobody can connect yet.

        Raises:
            UsageError: they cannot be had, or a certificate lacks its key.
        """
        if (self.certificate is None) != (self.key is None):
            raise UsageError("--ssl-certfile and --ssl-keyfile go together; give both or none")
        web = _bound(self.host, self.port)
        try:
            wyoming = None if self.wyoming_port is None else _bound(self.wyoming_host, self.wyoming_port)
        except UsageError:
            web.close()
            raise
        return Listening(self, web, wyoming)


@dataclass(frozen=True)
class Listening:
    """The sockets of an address."""

    address: Address
    web: socket.socket
    wyoming: socket.socket | None

    def listen(self) -> None:
        """Let clients connect.

        Raises:
            UsageError: another program listens there by now.
        """
        for listening in self.sockets:
            try:
                listening.listen()
            except OSError as error:
                host, port = listening.getsockname()[:2]
                raise _cannot_listen(host, port, error) from error

    @property
    def sockets(self) -> list[socket.socket]:
        return [self.web] if self.wyoming is None else [self.web, self.wyoming]

    @property
    def ports(self) -> dict[str, int | None]:
        """By their names in the log."""
        wyoming = None if self.wyoming is None else self.wyoming.getsockname()[1]
        return {"port": self.web.getsockname()[1], "wyoming_port": wyoming}

    def announce(self, model: str) -> None:
        """Tell people where to go."""
        scheme = "http" if self.address.certificate is None else "https"
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        line = f"asr: serving {model} on {scheme}://{host}:{self.ports['port']}; Ctrl-C ends it"
        print(line, file=sys.stderr, flush=True)

    def log_ready(self, model: str, max_streams: int, workers: int = 1) -> None:
        """Tell programs that clients are served, and where."""
        fields: dict[str, Any] = {"model": model, **self.ports, "max_streams": max_streams, "workers": workers}
        log("ready", **fields)

    def close(self) -> None:
        """Give the ports back."""
        for listening in self.sockets:
            listening.close()


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:  # the system would take it modulo 65,536
        raise UsageError(f"cannot listen on {host}, port {port}: a port is a number from 0 to 65535")
    try:
        family, kind, number, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, number)
        if sys.platform != "win32":  # where it would let another program take the port over
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
    except (OSError, OverflowError) as error:
        raise _cannot_listen(host, port, error) from error
    return listening


def _cannot_listen(host: str, port: int, error: Exception) -> UsageError:
    return UsageError(f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}")
