"""Switching a running dictation on and off from elsewhere: a key of the desktop, another terminal."""

from __future__ import annotations

import getpass
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from asr.errors import UsageError

ORDERS = ("toggle", "start", "stop", "quit")
ANSWER_SECONDS = 5.0
NO_SOCKETS = "switching dictation from elsewhere is for Linux and macOS; leave out --paused and --order"


def switch_path() -> Path:
    """Of the socket: in the folder that the system gives this user for such, else in the one for temporary files."""
    folder = os.environ.get("XDG_RUNTIME_DIR")
    if folder:
        return Path(folder) / "rill-dictate"
    return Path(tempfile.gettempdir()) / f"rill-dictate-{getpass.getuser()}"


def can_be_switched() -> bool:
    """Whether this system has such sockets: Windows has none in Python."""
    return hasattr(socket, "AF_UNIX")


class Switch:
    """A socket on which orders come, a context manager."""

    def __init__(self, obey: Callable[[str], None]) -> None:
        """Listen for `ORDERS`; ``obey`` is called with each, in a thread.

        Raises:
            UsageError: another dictation listens, or this system has no such sockets.
        """
        if not can_be_switched():
            raise UsageError(NO_SOCKETS)
        self._path = switch_path()
        self._obey = obey
        try:
            send("status", self._path)
        except ConnectionError:
            self._path.unlink(missing_ok=True)  # left by one that was killed
        else:
            raise UsageError("another asr dictate is running; 'asr dictate --order quit' ends it")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # for this user alone, from the first moment on
        try:
            self._socket.bind(str(self._path))
        finally:
            os.umask(before)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            with connection:
                connection.settimeout(ANSWER_SECONDS)
                try:
                    order = connection.recv(32).decode(errors="replace").strip()
                    if order in ORDERS:
                        self._obey(order)
                    connection.sendall(b"ok\n")
                except OSError:
                    continue


def send(order: str, path: Path | None = None) -> None:
    """Send an order to a running dictation; raises ConnectionError when none is running."""
    if not can_be_switched():
        raise UsageError(NO_SOCKETS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path or switch_path()))
            connection.sendall(order.encode())
            connection.recv(16)
        except OSError as error:
            raise ConnectionError("no asr dictate is running") from error
