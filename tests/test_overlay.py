"""Captions without controls for streams and stages, and the sound of a tab, in a real browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from conftest import SAMPLES
from serving import PATIENCE_SECONDS, Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SENTENCE = set((SAMPLES / "greeting.txt").read_text().split())
pytestmark = pytest.mark.usefixtures("shipped_recognizer")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--engine", "int8") as server:
        yield server


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """A function that opens a path; at the end, nothing may have been complained about."""
    contexts, complaints = [], []

    def open_page(path: str, script: str = "") -> Page:
        context = browser.new_context(permissions=["microphone"], viewport={"width": 960, "height": 240})
        contexts.append(context)
        context.set_default_timeout(1_000 * PATIENCE_SECONDS)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def wait_for_words(page: Page, where: str) -> set[str]:
    """The words that are shown once there are some; a busy machine may lose a bit of what the microphone plays."""
    page.wait_for_function(f"() => document.querySelector('{where}').textContent.trim().split(/\\s+/).length > 3")
    return set(page.inner_text(where).split())


def pixels(picture: bytes, folder: Path) -> np.ndarray:
    """A PNG as (height, width, RGBA)."""
    path = folder / "picture.png"
    path.write_bytes(picture)
    with av.open(str(path)) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgba")


def test_captions_alone_on_a_transparent_ground(open_page, tmp_path):
    page = open_page("/overlay?lines=2&size=56&background=transparent&color=%23ffee00&clear=0")
    assert wait_for_words(page, "#words") & SENTENCE
    assert page.locator("button, select, input").count() == 0 and not page.locator("#notice").is_visible()
    style = page.evaluate(
        "() => [getComputedStyle(document.body).fontSize, getComputedStyle(document.documentElement).backgroundColor]"
    )
    assert style == ["56px", "rgba(0, 0, 0, 0)"]
    page.wait_for_function("() => document.querySelectorAll('#words :not(.open)').length > 2")  # those that stay
    picture = page.screenshot(omit_background=True)
    if folder := os.environ.get("RILL_SCREENSHOTS"):
        (Path(folder) / "overlay.png").write_bytes(picture)
    image = pixels(picture, tmp_path)
    assert (image[:40, :, 3] == 0).all()  # nothing above the lines
    yellow = (image[..., 0] > 200) & (image[..., 1] > 190) & (image[..., 2] < 90) & (image[..., 3] > 200)
    assert yellow.sum() > 500
    height = page.evaluate("() => document.querySelector('#captions').clientHeight")
    assert height <= 2 * 1.25 * 56 + 1


def test_wishes_that_are_no_style_change_nothing(open_page):
    page = open_page("/overlay?lines=x&size=9999&background=url(https://example.org/x)&align=start")
    style = page.evaluate("() => [getComputedStyle(document.body).fontSize, document.documentElement.style.cssText]")
    assert style == ["48px", ""]


# A tab with a picture and the microphone's sound takes the place of the browser's question, which a test cannot answer.
A_TAB = """
navigator.mediaDevices.getDisplayMedia = async () => {
  const picture = document.createElement("canvas").captureStream();
  const sound = window.silent ? [] : (await navigator.mediaDevices.getUserMedia({audio: true})).getAudioTracks();
  window.shared = new MediaStream([...picture.getVideoTracks(), ...sound]);
  window.pictures = window.shared.getVideoTracks();
  return window.shared;
};
"""


def test_the_sound_of_a_tab_is_written_down(open_page):
    page = open_page("/", A_TAB)
    page.select_option("#device", "tab")
    page.click("#record")
    assert wait_for_words(page, "#partial") & SENTENCE
    assert page.evaluate("() => window.pictures.map((one) => one.readyState)") == ["ended"]
    page.click("#record")
    page.wait_for_selector("#state[data-state=idle]")

    page = open_page("/", A_TAB + "window.silent = true;")
    page.select_option("#device", "tab")
    page.click("#record")
    page.wait_for_selector("#notice:not([hidden])")
    assert "No sound was shared" in page.inner_text("#notice-text")
