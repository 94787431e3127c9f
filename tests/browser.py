"""A server in a second process, and Chromium with a microphone that plays a recording: for tests of the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
)  # fmt: skip


@contextmanager
def chromium(heard: Path) -> Iterator[Browser]:
    """A headless browser whose microphone plays a WAV file once, from each time it is opened."""
    if CHROMIUM is None:
        pytest.skip("no Chromium for tests of the page (apt install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*SWITCHES, f"--use-file-for-fake-audio-capture={heard}%noloop"]
        )
        yield browser
        browser.close()


class ServerProcess:
    """`asr serve` in a process of its own."""

    def __init__(self, *options: str, port: int = 0, key: str | None = None) -> None:
        command = [sys.executable, "-m", "asr", "serve", "--engine", "onnx", "--port", str(port), *options]
        environment = {name: value for name, value in os.environ.items() if name != "RILL_API_KEY"}
        if key is not None:
            environment["RILL_API_KEY"] = key
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        """Where it serves; waits until it does."""
        assert self._listening.wait(60), "the server does not start"
        found = [match[0] for line in self.log if (match := re.search(r"http://\S+:\d+", line))]
        assert found, "".join(self.log)
        return found[0]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.log.append(line)
            if "http://" in line:
                self._listening.set()
        self._listening.set()
