"""Chromium with a microphone that plays a recording: for tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serving import PATIENCE_SECONDS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
)


@contextmanager
def chromium(heard: Path) -> Iterator[Browser]:
    """A headless browser whose microphone plays a WAV file once, from each time it is opened."""
    if CHROMIUM is None:
        pytest.skip("no Chromium for tests of the page (apt install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*SWITCHES, f"--use-file-for-fake-audio-capture={heard}%noloop"],
            timeout=1_000 * PATIENCE_SECONDS,
        )
        yield browser
        browser.close()
