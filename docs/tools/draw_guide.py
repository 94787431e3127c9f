"""The pictures of docs/guide.md, drawn from the shipped network for one recording.

python docs/tools/draw_guide.py [--audio samples/greeting.wav] [--word 6] [--layer 3] [--output docs/images]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from asr.acoustic.export import load_acoustic_model
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.audio.files import AudioFile
from asr.models.acoustic import AcousticModel
from asr.models.recurrent import RecurrentLayer
from asr.recognizer import Recognizer
from asr.streaming.engine import OnnxEngine
from asr.streaming.results import Word

ROOT = Path(__file__).parents[2]
DPI = 110
UNITS = 48  # shown of each gate
SHOWN_PROBABILITY = 0.15  # a phone that never reaches it is not drawn


class Gates(NamedTuple):
    """What an LSTM layer does in each frame, all (T, H)."""

    take_in: Tensor  # i, 0 to 1
    keep: Tensor  # f, the forget gate: 1 keeps
    show: Tensor  # o, 0 to 1
    candidate: Tensor  # g, -1 to 1
    cell: Tensor  # c[t] = f c[t - 1] + i g
    hidden: Tensor  # h[t] = o tanh(c[t])


class Outputs(NamedTuple):
    """A recording and what the network makes of it; every array is in time with the audio."""

    words: Sequence[Word]
    mels: np.ndarray  # (T, M) in standard deviations, the first of each stack
    gates: Gates
    phones: np.ndarray  # (T, V) probabilities
    symbols: Sequence[str]
    frame_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, default=ROOT / "samples" / "greeting.wav")
    parser.add_argument("--word", type=int, default=6, help="whose states are unrolled, counted from 0")
    parser.add_argument("--layer", type=int, default=3, help="whose states and gates are drawn, counted from 1")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    outputs = run_network(options.audio, options.layer)
    for name, figure in {
        "unrolled": unrolled(outputs, outputs.words[options.word]),
        "gates": gates_over_words(outputs, options.layer),
        "ctc": spikes(outputs),
    }.items():
        path = options.output / f"guide-{name}.png"
        figure.savefig(path, dpi=DPI)
        print(path)


def run_network(audio: Path, layer: int) -> Outputs:
    """Run the shipped model over a recording, and keep what one of its layers computes."""
    package = ModelPackage.open(DEFAULT_MODEL)
    recognizer = Recognizer.load(DEFAULT_MODEL)
    with AudioFile(audio, recognizer.sample_rate) as file:
        samples = np.concatenate(list(file))
    result = recognizer.transcribe(samples)
    engine = OnnxEngine(package.graph("onnx"), package.rates, "phones")  # CTC's, whatever the words were made of
    first, state = engine.step(engine.start(), samples)
    log_probs = np.concatenate([first, engine.finish(state)[0]])
    model = load_acoustic_model(package.folder)
    config = model.config
    silence = np.zeros((config.delay_frames + 1) * config.frame_samples + config.window_samples, np.float32)
    with torch.inference_mode():
        mels = model.logmel(torch.from_numpy(np.concatenate([samples, silence]))[None])  # (1, F, M)
        mels = mels[:, : config.mel_frames(config.frames_of_mels(mels.shape[1]))]
        gates = gates_of(model, mels, layer)
        frames = config.frames_of_mels(mels.shape[1])
        normal = ((mels - model.mel_mean) / model.mel_std)[0, :: config.stack][:frames].numpy()
    late = sum(config.look_ahead_frames[: layer - 1])
    gates = Gates(*(one[late:] for one in gates))
    return Outputs(result.words, normal, gates, np.exp(log_probs), package.phones.symbols, package.rates.seconds(1))


def gates_of(model: AcousticModel, mels: Tensor, number: int) -> Gates:
    """The gates of a layer, counted from 1, over log-mel frames (1, F, M); checked against torch's own LSTM."""
    outputs, _ = model.encode(mels, model.encoder.initial_state(1))
    layer: RecurrentLayer = model.encoder.layers[number - 1]
    frames = model.front((mels - model.mel_mean) / model.mel_std)  # (T, 1, H)
    x = layer.norm(outputs[number - 2] if number > 1 else frames)
    lstm = layer.lstm
    truth, _ = lstm(x)
    hidden = cell = x.new_zeros(1, lstm.hidden_size)
    rows = []
    for frame in x:
        sums = frame @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + hidden @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
        i, f, g, o = sums.chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        cell = f * cell + i * g
        hidden = o * cell.tanh()
        rows.append((i, f, o, g, cell, hidden))
    gates = Gates(*(torch.cat(columns) for columns in zip(*rows, strict=True)))
    torch.testing.assert_close(gates.hidden, truth[:, 0], atol=1e-4, rtol=1e-3)
    return gates


def unrolled(outputs: Outputs, word: Word) -> Figure:
    """A word frame by frame: input, state, output, and the arrows that are the same weights in every frame."""
    first, last = (round(seconds / outputs.frame_seconds) for seconds in (word.start_seconds, word.end_seconds))
    frames = range(max(0, first - 1), min(last + 1, len(outputs.phones)))
    figure = Figure(figsize=(max(8.0, 0.85 * len(frames) + 1.2), 6.2), layout="constrained")
    axis = figure.subplots()
    hidden = outputs.gates.hidden.numpy()
    units = np.argsort(-hidden[frames.start : frames.stop].std(axis=0))[:16]
    units = units[np.argsort(np.argmax(np.abs(hidden[frames.start : frames.stop, units]), axis=0))]
    for place, frame in enumerate(frames):
        box = (place + 0.22, place + 0.78)
        axis.imshow(
            outputs.mels[frame][:, None],
            extent=(*box, 0.0, 2.0),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-2,
            vmax=2,
        )
        state = axis.imshow(
            hidden[frame, units][:, None],
            extent=(*box, 2.9, 4.9),
            origin="lower",
            aspect="auto",
            cmap="RdBu_r",
            vmin=-0.8,
            vmax=0.8,
        )
        best = int(outputs.phones[frame].argmax())
        name = "blank" if best == 0 else outputs.symbols[best]
        axis.text(
            place + 0.5,
            6.0,
            f"{name}\n{100 * outputs.phones[frame, best]:.0f} %",
            ha="center",
            va="center",
            color="grey" if best == 0 else "tab:red",
            fontsize=9,
            weight="normal" if best == 0 else "bold",
        )
        _arrow(axis, (place + 0.5, 2.05), (place + 0.5, 2.85), "U")
        _arrow(axis, (place + 0.5, 4.95), (place + 0.5, 5.65), "V")
        if place + 1 < len(frames):
            _arrow(axis, (place + 0.8, 3.9), (place + 1.2, 3.9), "W")
        axis.text(
            place + 0.5, -0.3, f"{1000 * frame * outputs.frame_seconds:.0f}", ha="center", va="center", fontsize=8
        )
    _arrow(axis, (-0.15, 3.9), (0.2, 3.9), "W")
    _arrow(axis, (len(frames) - 0.2, 3.9), (len(frames) + 0.15, 3.9), "")
    axis.set_xlim(-0.2, len(frames) + 0.2)
    axis.set_ylim(-0.75, 6.5)
    axis.text(len(frames) / 2, -0.65, "milliseconds: one column is one frame of 30 ms", ha="center", fontsize=9)
    axis.set_xticks([])
    names = (
        "input x:\n80 mels,\nlow to high",
        f"state h:\n{len(units)} of {hidden.shape[1]}\nunits",
        "output:\nlikeliest\nphone",
    )
    axis.set_yticks([1.0, 3.9, 6.0], names)
    axis.set_title(f"“{word.text}” unrolled: the same U, W and V in every frame")
    figure.colorbar(state, ax=axis, label="state of a unit", shrink=0.5, pad=0.01)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.tick_params(length=0)
    return figure


def gates_over_words(outputs: Outputs, layer: int) -> Figure:
    """The gates and cells of some units, and one unit closely, over the words."""
    gates = outputs.gates
    length = len(outputs.phones)
    seconds = (np.arange(length) + 0.5) * outputs.frame_seconds
    figure = Figure(figsize=(11, 10.5), layout="constrained")
    mel, take_in, keep, show, cell, one = figure.subplots(6, 1, sharex=True, height_ratios=(1.2, 1, 1, 1, 1, 1.8))
    extent = (0, length * outputs.frame_seconds)
    mel.imshow(
        outputs.mels[:length].T, origin="lower", aspect="auto", cmap="magma", extent=(*extent, 0, 80), vmin=-2, vmax=2
    )
    mel.set_ylabel("input\n(mel band)")
    order = torch.argsort(gates.keep[:length].mean(dim=0)).numpy()
    units = order[np.linspace(0, len(order) - 1, UNITS).astype(int)]
    for axis, values, name, limits, colours in (
        (take_in, gates.take_in, "input gate i", (0, 1), "viridis"),
        (keep, gates.keep, "forget gate f", (0, 1), "viridis"),
        (show, gates.show, "output gate o", (0, 1), "viridis"),
        (cell, gates.cell, "cell c", (-2, 2), "RdBu_r"),
    ):
        picture = axis.imshow(
            values[:length, units].T,
            origin="lower",
            aspect="auto",
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
            extent=(*extent, 0, UNITS),
            interpolation="nearest",
        )
        axis.set_ylabel(f"{name}\n({UNITS} units)")
        axis.set_yticks([])
        figure.colorbar(picture, ax=axis, pad=0.01)
    unit = _example_unit(gates, length)
    for values, name, colour in (
        (gates.take_in, "input gate i", "tab:green"),
        (gates.keep, "forget gate f", "tab:blue"),
        (gates.show, "output gate o", "tab:orange"),
    ):
        one.plot(seconds, values[:length, unit], label=name, color=colour, linewidth=1.2)
    one.plot(seconds, gates.cell[:length, unit], label="cell c", color="black", linewidth=2)
    one.set_ylabel(f"unit {unit}")
    one.axhline(0, color="grey", linewidth=0.5)
    one.legend(loc="upper right", ncols=4, fontsize=8)
    one.set_ylim(top=one.get_ylim()[1] + 0.5)
    one.set_xlabel("seconds")
    for axis in (mel, take_in, keep, show, cell, one):
        _borders(axis, outputs.words, named=axis is mel)
    mel.set_title(f"Layer {layer} over spoken words; units sorted by how much they keep, most at the top", pad=20)
    one.set_xlim(*extent)
    return figure


def spikes(outputs: Outputs) -> Figure:
    """The probabilities of blank and phones over time, the phones named at their peaks."""
    probabilities = outputs.phones
    length = len(probabilities)
    seconds = (np.arange(length) + 0.5) * outputs.frame_seconds
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    lines, blank = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    shown = [token for token in range(1, probabilities.shape[1]) if probabilities[:, token].max() > SHOWN_PROBABILITY]
    palette = [*_palette("tab10"), *_palette("Dark2")]
    best = probabilities.argmax(axis=1)
    for number, token in enumerate(shown):
        colour = palette[number % len(palette)]
        lines.fill_between(seconds, 100 * probabilities[:, token], color=colour, alpha=0.35, linewidth=0)
        lines.plot(seconds, 100 * probabilities[:, token], color=colour, linewidth=1.2)
        runs = np.split(np.flatnonzero(best == token), np.flatnonzero(np.diff(np.flatnonzero(best == token)) > 1) + 1)
        for run in runs:
            if len(run):
                peak = run[probabilities[run, token].argmax()]
                lines.text(
                    seconds[peak],
                    100 * probabilities[peak, token] + 2,
                    outputs.symbols[token],
                    color=colour,
                    ha="center",
                    fontsize=9,
                    weight="bold",
                )
    lines.set_ylim(0, 118)
    lines.set_ylabel("probability of a phone (%)")
    blank.fill_between(seconds, 100 * probabilities[:, 0], color="grey", alpha=0.5, step="mid")
    blank.set_ylim(0, 105)
    blank.set_ylabel("of the blank (%)")
    blank.set_xlabel("seconds")
    _borders(lines, outputs.words, named=True)
    _borders(blank, outputs.words, named=False)
    lines.set_title("What the phone head predicts in each frame of 30 ms", pad=20)
    blank.set_xlim(0, length * outputs.frame_seconds)
    return figure


def _example_unit(gates: Gates, length: int) -> int:
    """A unit that both keeps and forgets, and whose cell moves."""
    moved = gates.cell[:length].std(dim=0).clamp(max=1.5)
    return int((gates.keep[:length].std(dim=0) * gates.take_in[:length].std(dim=0) * moved).argmax())


def _borders(axis: Axes, words: Sequence[Word], named: bool) -> None:
    for word in words:
        for seconds in (word.start_seconds, word.end_seconds):
            axis.axvline(seconds, color="white" if axis.images else "grey", linewidth=0.9, linestyle="--")
        if named:
            middle = (word.start_seconds + word.end_seconds) / 2
            axis.text(middle, 1.03, word.text, transform=axis.get_xaxis_transform(), ha="center", fontsize=10)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], name: str) -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "dimgrey"})
    upright = start[0] == end[0]
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    axis.text(
        x + 0.07 * upright,
        y + (0 if upright else 0.12),
        name,
        fontsize=8,
        color="dimgrey",
        ha="left" if upright else "center",
        va="center" if upright else "bottom",
    )


def _palette(name: str) -> Sequence[tuple[float, float, float]]:
    from matplotlib import colormaps

    return colormaps[name].colors


if __name__ == "__main__":
    main()
