"""Draws docs/images/listen.svg, the picture in the README: what `asr listen` shows in the middle of a sentence.

    python docs/tools/draw_listen.py

Feeds the samples to the shipped model as a microphone would, 100 ms at a time, stops within the last one, and lets rich
draw the screen.
"""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from asr import Recognizer
from asr.audio.files import AudioFile
from asr.output.captions import Status, TerminalCaptions

ROOT = Path(__file__).parents[2]
NAMES = ("greeting", "weather", "request", "weather")
CHUNK_SECONDS = 0.1
PAUSE_SECONDS = 1.2
SHARE_OF_THE_LAST = 0.75


def main() -> None:
    recognizer = Recognizer.load()
    rate = recognizer.sample_rate
    pieces = []
    for name in NAMES:
        with AudioFile(ROOT / "samples" / f"{name}.wav", rate) as audio:
            pieces += [np.concatenate(list(audio)), np.zeros(round(PAUSE_SECONDS * rate), np.float32)]
    samples = np.concatenate([*pieces[:-2], pieces[-2][: round(SHARE_OF_THE_LAST * len(pieces[-2]))]])
    screen = Console(record=True, file=io.StringIO(), width=92, force_terminal=True, color_system="truecolor")
    screen.print("$ asr listen", style="green")
    captions = TerminalCaptions(Console(file=io.StringIO()))
    state = recognizer.start()
    chunk = round(CHUNK_SECONDS * rate)
    spent = 0.0
    for start in range(0, len(samples), chunk):
        piece = samples[start : start + chunk]
        begun = time.perf_counter()
        results, state = recognizer.step(state, piece)
        last = time.perf_counter() - begun
        spent += last
        level = 20 * np.log10(max(1e-5, float(np.abs(piece).max())))
        seconds = state.samples / rate
        status = Status(seconds, level, 0.0, CHUNK_SECONDS + last, spent / seconds, 0.0, 0)
        captions.show(results, status)
        for result in results:
            if result.final and result.text:
                screen.print(captions.line(result))
    screen.print(captions.screen(status))
    drawing = screen.export_svg(title="asr listen")
    drawing = re.sub(r"\s*@font-face \{.*?\}", "", drawing, flags=re.DOTALL)  # they would come from another host
    (ROOT / "docs" / "images" / "listen.svg").write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()
