"""Takes the pictures of the page that stand in the README: real captions of the samples, by a real server and browser.

pip install '.[serve]' playwright  (and Debian's chromium, fonts-inter and fonts-sil-charis)
python docs/tools/make_screenshots.py [--output docs/images]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from asr.audio.files import AudioFile

ROOT = Path(__file__).parents[2]
SPOKEN = ("greeting", "weather", "telephone", "directions")
PAUSE_SECONDS = 1.6
RATE = 48_000
UNTIL = "street on the"  # the picture is taken while the rest is being spoken
VIEWS = {
    "page": {"viewport": {"width": 1100, "height": 640}, "color_scheme": "light", "device_scale_factor": 1.5},
    "page-dark": {"viewport": {"width": 1100, "height": 640}, "color_scheme": "dark", "device_scale_factor": 1.5},
    "page-phone": {"viewport": {"width": 390, "height": 760}, "color_scheme": "light", "device_scale_factor": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        speech = Path(temporary) / "speech.wav"
        write_speech(speech)
        with serving() as url, chromium(speech) as browser:
            for name, view in VIEWS.items():
                take(browser, url, folder / f"{name}.png", view)


def write_speech(path: Path) -> None:
    """The samples one after another, with pauses, equally loud."""
    pieces = [np.zeros(RATE // 2, np.float32)]
    for name in SPOKEN:
        with AudioFile(ROOT / "samples" / f"{name}.wav", RATE) as file:
            samples = np.concatenate(list(file))
        pieces += [0.5 * samples / np.abs(samples).max(), np.zeros(round(PAUSE_SECONDS * RATE), np.float32)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.concatenate(pieces) * 32_767).astype("<i2").tobytes())


@contextmanager
def serving() -> Iterator[str]:
    command = [sys.executable, "-m", "asr", "serve", "--engine", "onnx", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield next(match[0] for line in process.stderr if (match := re.search(r"http://[\w.]+:\d+", line)))
        finally:
            process.terminate()


@contextmanager
def chromium(speech: Path) -> Iterator[Browser]:
    """A browser whose microphone plays a file, once."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={speech}%noloop",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def take(browser: Browser, url: str, path: Path, view: dict) -> None:
    """Let the page transcribe the speech, and picture it in the middle of the last sentence."""
    context = browser.new_context(permissions=["microphone"], **view)
    page = context.new_page()
    page.goto(url)
    page.click("#record")
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_function(
        "(words) => document.getElementById('partial').textContent.includes(words)", arg=UNTIL, timeout=60_000
    )
    page.screenshot(path=path)
    context.close()
    print(f"{path}: {path.stat().st_size // 1_000} kB", file=sys.stderr)


if __name__ == "__main__":
    main()
