"""The page, in a real browser: a microphone that plays a sample, recordings, servers that go and come back."""

from __future__ import annotations

import base64
import random
import re
import socket
import struct
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import SAMPLES, wav_bytes
from serving import PATIENCE_SECONDS, Server, serving, streamed, text_of

from asr.client import Client
from asr.output.formats import as_srt, as_vtt

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, WebSocket

SENTENCE = (SAMPLES / "greeting.txt").read_text().strip()
KEY = "open sesame"
UNREACHABLE = ("ERR_CONNECTION_REFUSED", "WebSocket connection to")
PATIENT = ("--engine", "onnx", "--end-silence", "600", "--end-sentence", "600")  # words stay open until a test goes on

pytestmark = pytest.mark.usefixtures("shipped_recognizer")


class Restartable:
    """A server that can crash and come back at the same address."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self.server: Server
        self.start(str(unlikely_port()))

    def start(self, port: str) -> None:
        self.server = self._running.enter_context(serving(*PATIENT, "--plain", "--port", port))

    def kill(self) -> None:
        self._running.close()


def unlikely_port() -> int:
    """A free port that no connection going out takes while nobody listens on it."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


class Sent:
    """The audio that a page sends, over its latest connection."""

    def __init__(self, page: Page) -> None:
        self._data = b""
        page.on("websocket", self._begin)

    def _begin(self, connection: WebSocket) -> None:
        self._data = b""
        connection.on("framesent", self._keep)

    def _keep(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._data += message

    @property
    def seconds(self) -> int:
        return len(self._data) // 2 // 16_000

    @property
    def clock(self) -> str:
        """Its length as the page shows it."""
        return f"{self.seconds // 60}:{self.seconds % 60:02d}"

    def text(self, server: Server, **query: object) -> str:
        """What the server reads in it. A busy machine may lose a bit of what the browser's microphone plays."""
        text = text_of(streamed(server.stream_url(sample_rate=16_000, **query), self._data))
        assert set(text.split()) & set(SENTENCE.split())
        return text


@pytest.fixture(scope="module")
def host(browser: Browser) -> Iterator[Restartable]:
    """One server for all these tests."""
    host = Restartable()
    yield host
    host.kill()


@pytest.fixture
def open_page(browser: Browser, host: Restartable) -> Iterator[Callable[..., Page]]:
    """A function that opens the page in a fresh profile; at the end, nothing may have been complained about."""
    contexts, complaints, expected = [], [], []

    def open_page(server: Server | None = None, microphone: bool = True, complaining=(), **options) -> Page:
        context = browser.new_context(permissions=["microphone"] if microphone else [], **options)
        contexts.append(context)
        context.set_default_timeout(1_000 * PATIENCE_SECONDS)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((server or host.server).url)
        expected.extend(complaining)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(word in text for word in expected)] == []


def finals(page: Page) -> str:
    return " ".join(page.locator("#finals .text").all_inner_texts())


def wait_for_text(page: Page, text: str, where: str = "#finals") -> None:
    page.wait_for_function(
        "([where, text]) => document.querySelector(where).textContent.includes(text)", arg=[where, text]
    )


def downloaded(page: Page, format: str) -> str:
    with page.expect_download() as download:
        page.click(f"[data-format={format}]")
    assert download.value.suggested_filename == f"captions.{format}"
    return Path(download.value.path()).read_text(encoding="utf-8")


def drop(page: Page, name: str, content: bytes) -> None:
    transfer = page.evaluate_handle(
        """([name, content]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(content), (one) => one.charCodeAt(0))], name));
            return transfer;
        }""",
        [name, base64.b64encode(content).decode()],
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    assert page.locator("#drop").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    assert not page.locator("#drop").is_visible()


def wait_for_words(page: Page) -> None:
    """Until something is being said."""
    page.wait_for_function("() => document.querySelector('#partial').textContent.trim().split(/\\s+/).length > 2")


def test_what_the_microphone_hears_is_written_down(open_page: Callable[..., Page], host: Restartable) -> None:
    page = open_page()
    sent = Sent(page)
    page.evaluate(
        """() => {
            window.opens = 0;
            window.delays = [];
            new MutationObserver(() => {
                window.opens = Math.max(window.opens, document.querySelectorAll("#partial .open").length);
                window.delays.push(document.getElementById("delay").textContent);
            }).observe(document.body, {childList: true, subtree: true});
        }"""
    )
    page.click("#record")
    wait_for_words(page)
    assert page.inner_text("#state") == "Listening"
    assert not page.locator("#welcome").is_visible()
    page.wait_for_function("() => window.opens > 0")  # the tail of a partial is dim
    page.wait_for_function("() => window.delays.some((text) => /^\\d+\\.\\d s behind your voice$/.test(text))")
    page.click("#record")
    page.wait_for_selector("#state[data-state=idle]")
    first, first_seconds = finals(page), sent.seconds
    assert first == sent.text(host.server) and page.inner_text("#clock") == sent.clock
    assert page.locator("#finals").get_attribute("aria-live") == "polite"
    assert downloaded(page, "txt") == f"{first}\n"
    page.click("#record")  # the clock goes on where it was
    wait_for_words(page)
    page.click("#record")
    page.wait_for_selector("#state[data-state=idle]")
    assert finals(page) == f"{first} {sent.text(host.server)}" and page.inner_text("#partial") == ""
    assert int(re.findall(r"--> 00:00:(\d\d)", downloaded(page, "srt"))[-1]) >= first_seconds


def test_the_microphone_opens_once_all_is_ready_for_its_audio(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.evaluate(
        """() => {
            window.order = [];
            const add = AudioWorklet.prototype.addModule;
            AudioWorklet.prototype.addModule = async function (...given) {
                await new Promise((resolve) => setTimeout(resolve, 300));
                await add.apply(this, given);
                window.order.push("worklet");
            };
            const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = (...given) => (window.order.push("microphone"), open(...given));
        }"""
    )
    page.click("#record")
    wait_for_words(page)
    page.click("#record")
    page.wait_for_selector("#state[data-state=idle]")
    assert page.evaluate("window.order") == ["worklet", "microphone"]


def test_a_recording_without_words_is_told(open_page: Callable[..., Page]) -> None:
    page = open_page()
    drop(page, "quiet.wav", wav_bytes(np.full(16_000, 0.001)))
    page.wait_for_selector("#notice-text:has-text('No words')")
    told = page.inner_text("#notice-text")
    assert told == "quiet.wav: No words were recognised in 1.0 s of audio (peak -60 dBFS, mean -60 dBFS)."


def test_a_dropped_recording_reads_like_the_command(open_page: Callable[..., Page], host: Restartable) -> None:
    page = open_page()
    result = Client(host.server.url).transcribe(SAMPLES / "numbers.wav")
    drop(page, "numbers.wav", (SAMPLES / "numbers.wav").read_bytes())
    wait_for_text(page, result.words[-1].text)  # to work takes too little time to be seen for certain
    page.wait_for_selector("#state[data-state=idle]")
    assert finals(page) == result.text
    assert downloaded(page, "srt") == as_srt("", result) + "\n"
    assert downloaded(page, "vtt") == as_vtt("", result) + "\n"
    drop(page, "weather.wav", (SAMPLES / "weather.wav").read_bytes())
    wait_for_text(page, (SAMPLES / "weather.txt").read_text().split()[-1])
    page.wait_for_selector("#state[data-state=idle]")
    assert finals(page) != result.text
    page.click("#notice-action")  # the former captions come back
    assert finals(page) == result.text


def test_text_for_readers(open_page: Callable[..., Page]) -> None:
    with serving("--engine", "onnx") as server:
        result = Client(server.url).transcribe(SAMPLES / "numbers.wav")
        assert any(len(word.spoken) > 1 for word in result.words), "a number of several words"
        page = open_page(server)
        drop(page, "numbers.wav", (SAMPLES / "numbers.wav").read_bytes())
        wait_for_text(page, result.words[-1].text)
        page.wait_for_selector("#state[data-state=idle]")
        assert finals(page) == result.text
        assert downloaded(page, "srt") == as_srt("", result) + "\n"


def test_a_recording_that_the_browser_cannot_decode_is_uploaded(open_page: Callable[..., Page], tmp_path: Path) -> None:
    with wave.open(str(SAMPLES / "greeting.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        rate = file.getframerate()
    path = tmp_path / "greeting.au"
    path.write_bytes(b".snd" + struct.pack(">5I", 24, 2 * len(samples), 3, rate, 1) + samples.astype(">i2").tobytes())
    page = open_page(complaining=["400 (Bad Request)"])
    page.set_input_files("#file", path)
    wait_for_text(page, "show")
    assert finals(page) == SENTENCE
    page.wait_for_selector("#state[data-state=idle]")
    drop(page, "noise.bin", b"no audio at all" * 10)
    # First comes the notice that the captions of the other recording were put away.
    page.wait_for_selector("#notice-text:has-text('noise.bin: ')")
    assert page.inner_text("#notice-text").startswith("noise.bin: is no audio file")


@pytest.mark.parametrize(
    ("error", "told"), [(None, "blocked"), ("NotFoundError", "No microphone"), ("NotReadableError", "in use")]
)
def test_a_microphone_that_cannot_be_had_is_explained(
    error: str | None, told: str, open_page: Callable[..., Page]
) -> None:
    page = open_page(microphone=error is not None)
    if error is not None:
        page.evaluate(
            "name => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', name)); }", error
        )
    page.click("#record")
    page.wait_for_selector("#notice:not([hidden])")
    assert told in page.inner_text("#notice-text") and page.locator("#notice").get_attribute("role") == "alert"
    assert page.inner_text("#state") == "Ready" and page.locator("#choose").is_enabled()


def test_a_server_that_goes_and_comes_back_costs_no_words(open_page: Callable[..., Page], host: Restartable) -> None:
    page = open_page(complaining=UNREACHABLE)
    sent = Sent(page)
    page.click("#record")
    wait_for_words(page)
    port = host.server.port
    host.kill()
    page.wait_for_selector("#state[data-state=waiting]")
    assert "Go on speaking" in page.inner_text("#notice-text")
    assert page.inner_text("#partial"), "what was there stays to be read"
    host.start(str(port))
    page.wait_for_selector("#state[data-state=listening]")
    assert not page.locator("#notice").is_visible()
    wait_for_words(page)
    page.click("#record")
    page.wait_for_selector("#state[data-state=idle]")
    assert finals(page) == sent.text(host.server) and page.inner_text("#clock") == sent.clock


def test_the_keyboard_is_enough(open_page: Callable[..., Page]) -> None:
    page = open_page()
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["theme", "record", "device", "choose"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") in ("Cancel", "Stop listening")
    wait_for_words(page)
    page.keyboard.press("Space")
    page.wait_for_selector("#state[data-state=idle]")
    assert page.evaluate("document.activeElement.id") == "record"
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.format") == "txt"
    with page.expect_download():
        page.keyboard.press("Enter")


def test_a_key_is_asked_for_until_it_fits(open_page: Callable[..., Page]) -> None:
    with serving("--engine", "onnx", "--plain", RILL_API_KEY=KEY) as server:
        page = open_page(server, complaining=["401"])
        sent = Sent(page)
        page.click("#record")
        page.wait_for_selector("#key-dialog[open]")
        assert page.evaluate("document.activeElement.id") == "key"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        wait_for_text(page, "does not take", "#key-hint")
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#finals .text")  # this server takes a pause for an end
        page.click("#record")
        page.wait_for_selector("#state[data-state=idle]")
        assert finals(page) == sent.text(server, api_key=KEY.replace(" ", "%20"))
        assert page.inner_text("#clock") == sent.clock, "what was said before the key fitted is written down too"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme: str, open_page: Callable[..., Page]) -> None:
    page = open_page(color_scheme=scheme, viewport={"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    ratios = page.evaluate(
        """() => {
            const value = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
            const light = (colour) => {
                const parts = colour.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16) / 255);
                const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
            };
            const pairs = ["ink ground", "ink raised", "ink warn", "soft ground", "soft raised", "accent-ink accent"];
            return pairs.map((pair) => {
                const [one, other] = pair.split(" ").map((name) => light(value(`--${name}`)));
                return [pair, Math.max(one, other) / Math.min(one, other)];
            });
        }"""
    )
    assert [pair for pair, ratio in ratios if ratio < 4.5] == []
    assert page.evaluate("document.documentElement.scrollWidth") == 320, "nothing sticks out of a narrow screen"
    page.click("#theme")
    other = "dark" if scheme == "light" else "light"
    assert page.evaluate("document.documentElement.dataset.theme") == other
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == other, "the choice is kept"


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_resampling_depends_on_no_blocks_and_folds_nothing_back(rate: int, open_page: Callable[..., Page]) -> None:
    page = open_page()
    worst, kept, folded, length = page.evaluate(
        """async (rate) => {
            const { Resampler } = await import("/page/resampler.js");
            const sine = (hertz, at) => (_, k) => Math.sin(2 * Math.PI * hertz * k / at);
            const tone = (hertz) => Float32Array.from({length: rate}, sine(hertz, rate));
            const whole = (samples) => {
                const resampler = new Resampler(rate, 16000);
                return [...resampler.push(samples), ...resampler.flush()];
            };
            const samples = tone(440).map((sample, k) => sample + 0.3 * Math.sin(k * k / 50000));
            const inBlocks = [];
            const resampler = new Resampler(rate, 16000);
            for (let from = 0, size = 1; from < rate; from += size, size = 1 + (7 * size) % 997) {
                inBlocks.push(...resampler.push(samples.subarray(from, from + size)));
            }
            inBlocks.push(...resampler.flush());
            const expected = whole(samples);
            const worst = Math.max(...expected.map((sample, k) => Math.abs(sample - inBlocks[k])));
            const middle = (all) => all.slice(2000, -2000);
            const decibels = (all) => 10 * Math.log10(2 * all.reduce((sum, x) => sum + x * x, 0) / all.length + 1e-15);
            const low = middle(whole(tone(1000)));
            const error = low.map((x, k) => x - Math.sin(2 * Math.PI * 1000 * (k + 2000) / 16000));
            const folded = rate > 16400 ? decibels(middle(whole(tone(8200)))) : -200;
            return [worst, decibels(error), folded, inBlocks.length - expected.length];
        }""",
        rate,
    )
    assert (worst, length) == (0, 0)
    assert kept < -80 and folded < -85
