"""Servers for tests: `asr serve` as a process of its own, and what a client needs to know of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from conftest import ROOT

PATIENCE_SECONDS = 120  # far more than anything takes: a busy machine is no failure


@dataclass
class Server:
    """A running `asr serve`."""

    process: subprocess.Popen[str]
    port: int = 0
    wyoming_port: int | None = None
    log: list[dict[str, Any]] = field(default_factory=list)  # its events
    lines: list[str] = field(default_factory=list)  # all it wrote on stderr
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def stream_url(self, **query: Any) -> str:
        pairs = "&".join(f"{name}={value}" for name, value in query.items())
        return f"{self.url.replace('http', 'ws', 1)}/v1/stream?{pairs}"

    def metrics(self, key: str | None = None) -> dict[str, float]:
        """Every sample of /metrics by its name with labels."""
        request = urllib.request.Request(f"{self.url}/metrics")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def settled(self, key: str | None = None) -> dict[str, float]:
        """The metrics once no stream runs; fails when one goes on for long after its client has left."""
        wait_for(lambda: not any(n for name, n in self.metrics(key).items() if name.startswith("rill_streams{")))
        return self.metrics(key)

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_mib(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1_024

    def stop(self) -> int:
        """Ask it to stop, as a service manager does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[Server]:
    """`asr serve` on a free port with these options."""
    command = [sys.executable, "-m", "asr", "serve", "--port", "0", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its workers are of its process group, and nothing else is
    )
    server = Server(process, scheme="https" if "--ssl-certfile" in options else "http")
    ready = threading.Event()

    def read() -> None:
        for line in process.stderr:
            server.lines.append(line)
            if line.startswith("{"):
                event = json.loads(line)
                server.log.append(event)
                if event["event"] == "ready":
                    server.port, server.wyoming_port = event["port"], event["wyoming_port"]
                    ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(PATIENCE_SECONDS) and server.port, "".join(server.lines)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(5)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key; the test is skipped without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return certificate, key


def wait_for(true: Callable[[], bool]) -> None:
    """Return when it is; fail when it does not come."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def pcm(path: Path) -> tuple[bytes, int]:
    """The samples of a mono 16-bit WAV file, and their rate."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.readframes(file.getnframes()), file.getframerate()


def events_until_closed(socket: websockets.sync.client.ClientConnection) -> list[dict[str, Any]]:
    """All the events that still come."""
    events = []
    try:
        for message in socket:
            events.append(json.loads(message))
    except websockets.ConnectionClosed:
        pass
    return events


def text_of(events: list[dict[str, Any]]) -> str:
    """What the final events say."""
    return " ".join(event["text"] for event in events if event["type"] == "final" and event["text"])


def connect(url: str, **options: Any) -> websockets.sync.client.ClientConnection:
    """A WebSocket with the patience of a test."""
    patience = {"open_timeout": PATIENCE_SECONDS, "close_timeout": PATIENCE_SECONDS, "ping_interval": None}
    return websockets.sync.client.connect(url, **{**patience, **options})


def streamed(url: str, data: bytes, size: int = 5_120) -> list[dict[str, Any]]:
    """The events of a stream that is sent this audio in messages of this size, to its end."""
    with connect(url) as socket:
        for start in range(0, len(data), size):
            socket.send(data[start : start + size])
        socket.send(json.dumps({"type": "finish"}))
        events = events_until_closed(socket)
    assert socket.close_code == 1000, events[-1]
    return events
