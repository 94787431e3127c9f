"""Draws the lattice of a sample for docs/decoding.md: what the two language models make of the same sounds.

pip install '.[train]'
python docs/tools/draw_lattice.py [--sample weather] [--output docs/images/lattice.png]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.audio.files import AudioFile
from asr.decoding.acoustic_units import StateUnits
from asr.decoding.beam import GraphDecoder, GraphState
from asr.decoding.lattice import cheapest_sentences
from asr.lm.folder import LanguageModel

ROOT = Path(__file__).parents[2]
SENTENCES, WIDTH, ROWS = 60, 8.0, 5
NEAR = 4  # frames within which borders of the same word count as the same
INK, BEST = "#475569", "#c2410c"

Place = tuple[str, int, int]  # a word, its first frame, the frame after it


def lattice(decoder: GraphDecoder, state: GraphState) -> tuple[dict[Place, float], list[Place]]:
    """Words by place, with the probability of the sentences that have them; and the words of the best sentence."""
    sentences = cheapest_sentences(decoder._search, state.search, SENTENCES, WIDTH)
    shares = np.exp([-one.cost for one in sentences])
    shares /= shares.sum()
    found: dict[Place, float] = {}
    best: list[Place] = []
    for sentence, share in zip(sentences, shares, strict=True):
        for span in decoder._spans(state, sentence.units, sentence.words):
            new = (span.text, span.start_frame, span.end_frame)
            like = (old for old in found if old[0] == new[0] and max(abs(old[k] - new[k]) for k in (1, 2)) <= NEAR)
            place = next(like, new)
            found[place] = found.get(place, 0.0) + float(share)
            if sentence is sentences[0]:
                best.append(place)
    return found, best


def draw(axes: Axes, title: str, found: dict[Place, float], best: list[Place], seconds: float) -> None:
    """Words as boxes over time, the best sentence in the lowest row, what competes above it."""
    rows: list[list[Place]] = [list(best)]
    for place in sorted(set(found) - set(best), key=lambda one: -found[one]):
        free = (row for row in rows[1:] if all(place[2] <= one[1] or one[2] <= place[1] for one in row))
        row = next(free, None)
        if row is None:
            if len(rows) == ROWS:
                continue
            rows.append(row := [])
        row.append(place)
    for height, row in enumerate(rows):
        for place in row:
            text, start, end = place
            colour = BEST if height == 0 else INK
            width = (end - start) * seconds
            axes.barh(height, width, left=start * seconds, height=0.8, color=colour, alpha=0.12 + 0.6 * found[place])
            size = min(10.0, 100 * width / max(3, len(text)))
            axes.text((start + end) * seconds / 2, height, text, ha="center", va="center", fontsize=max(6.5, size))
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_yticks([])
    axes.set_ylim(-0.6, ROWS - 0.4)
    axes.spines[["top", "right", "left"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", default="weather")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images/lattice.png")
    options = parser.parse_args()
    matplotlib.rcParams["font.family"] = "DejaVu Sans"
    package = ModelPackage.open(DEFAULT_MODEL)
    units = StateUnits(package.biphones)
    both = LanguageModel.open(package.folder / "lm", package.phones, units.weights)
    recognizer = Recognizer.load(engine="onnx")
    rows: list[np.ndarray] = []
    with AudioFile(ROOT / "samples" / f"{options.sample}.wav", recognizer.sample_rate) as audio:
        samples = np.concatenate(list(audio))
    Recognizer(recognizer._runner.observed(rows.append), recognizer._decoder, recognizer._engine).transcribe(samples)
    figure = Figure(figsize=(11, 5), layout="constrained")
    models = {"1.25 M 3-grams alone": replace(both, second=None), "with 12.7 M 4-grams in the same pass": both}
    for axes, (title, model) in zip(figure.subplots(2, sharex=True), models.items(), strict=True):
        decoder = GraphDecoder(model, units=units)
        state = decoder.advance(decoder.start(), np.concatenate(rows))
        draw(axes, title, *lattice(decoder, state), package.rates.seconds(1))
    axes.set_xlabel("s")
    figure.savefig(options.output, dpi=110)


if __name__ == "__main__":
    main()
