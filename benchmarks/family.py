"""Encoders compared: error rates, delay, speed, memory of the past and how far gradients reach.

    python benchmarks/family.py TABLE MODEL... --lm FOLDER [--source librispeech] [--every N] [--part PART ...]
        [--json FILE] [--plots FOLDER]

MODEL is a model folder or a shipped model; a bidirectional one is measured live and, as "full", with full context.
Parts:

errors     WER and CER with the language model, PER of the likeliest phones, of all sources; WER by length of utterance
delay      from the end of a word, by forced alignment with the shipped model, until a partial result first shows it
speed      of the network alone, one core, chunks of 160 ms, with full context 30 s at once: times real time
past       PER of a source if the network starts anew so many seconds before each second of speech that counts
gradients  size of d output / d input against their distance in time, on utterances of the source joined to 40 s

All but "errors" take every N-th utterance of one source. FILE is written after each part; parts and models that are not
asked for stay in it, and pictures are drawn of all that it holds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch
from latency import delays, shown_words
from measuring import RATE, Row, machine, parser, pin, speech, table

from asr import Recognizer
from asr.acoustic.export import load_acoustic_model
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.data.manifest import Utterance, load_audio, read_manifest
from asr.decoding.word_alignment import WordAligner
from asr.errors import DataError
from asr.evaluation.gradients import GradientDistance, draw_gradients, measure_gradients
from asr.evaluation.score import TOTAL, Hypothesis, score
from asr.streaming.engine import OnnxEngine
from asr.words.lexicon import Lexicon
from asr.words.text import normalise

CHUNK_MS = 160
LENGTHS = (0, 2, 4, 8, 12, 1_000)  # seconds: borders of the classes of utterances
PASTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # seconds
GRADIENT_SECONDS = 10.0
Pieces = Sequence[tuple[Utterance, np.ndarray]]


@dataclass(frozen=True)
class System:
    """A model, and whether it hears whole recordings."""

    folder: Path
    full_context: bool

    @property
    def name(self) -> str:
        return self.folder.name + (" full" if self.full_context else "")

    def engine(self, graph: str = "onnx") -> OnnxEngine:
        package = ModelPackage.open(self.folder)
        return OnnxEngine(package.graph(graph), package.rates, "phones", full_context=self.full_context)

    def recognizer(self, lm: Path) -> Recognizer:
        return Recognizer.load(self.folder, lm=lm, full_context=self.full_context)


def systems(models: Sequence[str]) -> Iterator[System]:
    for model in models:
        package = ModelPackage.open(model)
        yield System(package.folder, False)
        if package.encoder == "blstm":
            yield System(package.folder, True)


def errors(system: System, pieces: Pieces, lm: Path, lexicon: Lexicon) -> Row:
    recognizer = system.recognizer(lm)
    symbols = ModelPackage.open(system.folder).phones.symbols
    found, said, heard = [], [], []
    for utterance, samples in pieces:
        result, log_probs = recognizer.trace(samples)
        seconds = len(samples) / RATE
        text = normalise(result.text)
        found.append(Hypothesis(utterance.id, utterance.source, utterance.text, text, seconds, 0.0))
        said.append(_spoken(utterance.text, lexicon))
        heard.append(_phones(log_probs, symbols))
    rates = {row.source: row for row in score(found)}
    row: Row = {f"WER % {source}": round(100 * one.word_error_rate, 1) for source, one in rates.items()}
    row |= {"CER %": round(100 * rates[TOTAL].character_error_rate, 1), "PER %": round(100 * jiwer.wer(said, heard), 1)}
    for least, most in zip(LENGTHS, LENGTHS[1:], strict=False):
        own = [one for one in found if least <= one.seconds < most]
        if own:
            row[f"WER % from {least} s"] = round(100 * score(own)[-1].word_error_rate, 1)
    return row


def delay(system: System, pieces: Pieces, lm: Path, aligner: WordAligner) -> Row:
    """Seconds until a word is shown; of the words that the final text has right."""
    rates = ModelPackage.open(system.folder).rates
    waits = (rates.delay_frames + (rates.block_frames - 1) / 2) * rates.frame_samples / rates.sample_rate
    row: Row = {"network waits s": round(waits, 3)}
    if system.full_context:
        return {"network waits s": "whole recording"}
    recognizer, chunk, found = system.recognizer(lm), CHUNK_MS * RATE // 1_000, []
    for utterance, samples in pieces:
        try:
            ends = [word.end_seconds for word in aligner.align(samples, utterance.text)]
        except DataError:
            continue
        screens, final = shown_words(recognizer, samples, chunk)
        for part in jiwer.process_words(utterance.text, " ".join(final)).alignments[0]:
            if part.type == "equal":
                for k in range(part.ref_end_idx - part.ref_start_idx):
                    one = delays(screens, final, part.hyp_start_idx + k, ends[part.ref_start_idx + k], chunk / RATE)
                    found += [one[0]] if one else []
    median, late = np.percentile(found, (50, 95))
    return row | {"words": len(found), "median s": round(float(median), 2), "p95 s": round(float(late), 2)}


def speed(system: System) -> Row:
    audio, row = speech(30.0), {}
    chunk = len(audio) if system.full_context else CHUNK_MS * RATE // 1_000
    for graph in ("onnx", "int8"):
        engine = system.engine(graph)

        def hear(engine: OnnxEngine = engine) -> None:
            state = engine.start()
            for start in range(0, len(audio), chunk):
                _, state = engine.step(state, audio[start : start + chunk])
            engine.finish(state)

        row[f"{graph} times real time"] = round(len(audio) / RATE / _computing_seconds(hear), 1)
        row[f"{graph} MB"] = round(ModelPackage.open(system.folder).graph(graph).stat().st_size / 1e6, 1)
    weights = sum(weight.numel() for weight in load_acoustic_model(system.folder).parameters())
    return {"weights": weights, **row}


def _computing_seconds(call: Callable[[], None], runs: int = 5) -> float:
    """Least processor time of a call: other programs on the machine count little."""
    call()
    spent = []
    for _ in range(runs):
        begun = time.process_time()
        call()
        spent.append(time.process_time() - begun)
    return min(spent)


def past(system: System, pieces: Pieces, lexicon: Lexicon) -> Row:
    """PER in percent by seconds of past that the network is given before each second that counts."""
    engine, symbols = system.engine(), ModelPackage.open(system.folder).phones.symbols
    rates = engine.rates
    second = rates.frames(1.0)
    said = [_spoken(utterance.text, lexicon) for utterance, _ in pieces]
    found: Row = {}
    for seconds in PASTS:
        before, heard = rates.frames(seconds), []
        for _, samples in pieces:
            rows = _all_rows(engine, samples)
            known = rows[: before + second]  # nothing is taken from these
            later = []
            for start in range(before + second, len(rows), second):
                first = start - before
                own = _all_rows(engine, samples[first * rates.frame_samples :][: _samples(engine, before + second)])
                later.append(own[before : before + second][: len(rows) - start])
            heard.append(_phones(np.concatenate([known, *later]), symbols))
        found[f"{seconds:g} s"] = round(100 * jiwer.wer(said, heard), 1)
    found["all"] = round(
        100 * jiwer.wer(said, [_phones(_all_rows(engine, samples), symbols) for _, samples in pieces]), 1
    )
    return found


def gradients(system: System, pieces: Pieces) -> GradientDistance:
    model = load_acoustic_model(system.folder)
    audio = np.concatenate([samples for _, samples in pieces])[: 40 * RATE]
    with torch.inference_mode():
        mels = model.logmel(torch.from_numpy(audio)[None])[0]
    return measure_gradients(model, mels.clone(), GRADIENT_SECONDS)


def _samples(engine: OnnxEngine, frames: int) -> int:
    """Samples that so many frames need, with the future that speaks for the last of them."""
    rates = engine.rates
    frames += rates.delay_frames + rates.block_frames - 1
    return (frames - 1) * rates.frame_samples + rates.window_samples


def _all_rows(engine: OnnxEngine, samples: np.ndarray) -> np.ndarray:
    rows, state = engine.step(engine.start(), samples)
    return np.concatenate([rows, engine.finish(state)[0]])


def _spoken(text: str, lexicon: Lexicon) -> str:
    return " ".join(phone for word in text.split() for phone in lexicon.pronounce(word)[0])


def _phones(log_probs: np.ndarray, symbols: Sequence[str]) -> str:
    """The likeliest phones of rows (T, V), repeats merged and blanks dropped."""
    best = log_probs.argmax(axis=1)
    changed = np.flatnonzero(np.diff(best, prepend=-1))
    return " ".join(symbols[token] for token in best[changed] if token)


def plots(folder: Path, parts: dict[str, dict[str, Row]]) -> None:
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    for part, prefix, axis_name, name in (
        ("errors", "WER % from ", "seconds of the utterance, from", "family-length.png"),
        ("past", "", "seconds of past that the network was given", "family-past.png"),
    ):
        if part in parts:
            axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).subplots()
            for system, row in parts[part].items():
                own = {
                    key.removeprefix(prefix): value
                    for key, value in row.items()
                    if key.startswith(prefix) and key.endswith(" s" if prefix else ("s", "all"))
                }
                axes.plot(list(own), list(own.values()), "o-", label=system)
            axes.set_xlabel(axis_name)
            axes.set_ylabel("WER %" if prefix else "phone error rate %")
            axes.grid(alpha=0.3)
            axes.legend()
            figure.savefig(folder / name, dpi=110)
    if "gradients" in parts:
        curves = {
            name: GradientDistance(np.array(row["norms"]), row["look_ahead_frames"], row["frame_seconds"])
            for name, row in parts["gradients"].items()
        }
        draw_gradients(folder / "family-gradients.png", "How far back the output listens", curves, (0.5, 1.0, 2.0, 5.0))


def main() -> None:
    arguments = parser(__doc__)
    names = ("errors", "delay", "speed", "past", "gradients")
    arguments.add_argument("table", type=Path)
    arguments.add_argument("models", nargs="+", metavar="MODEL")
    arguments.add_argument("--lm", type=Path, default=ModelPackage.open(DEFAULT_MODEL).language_model)
    arguments.add_argument("--source", default="librispeech")
    arguments.add_argument("--every", type=int, default=3)
    arguments.add_argument("--part", choices=names, action="append")
    arguments.add_argument("--plots", type=Path, help="folder for the pictures")
    options = arguments.parse_args()
    pin(1)
    torch.set_num_threads(1)
    pieces = [(utterance, load_audio(utterance, RATE)) for utterance in read_manifest(options.table).utterances]
    own = [piece for piece in pieces if piece[0].source == options.source][:: options.every]
    lexicon, shipped = Lexicon.load(), ModelPackage.open(DEFAULT_MODEL)
    aligner = WordAligner(shipped, lexicon)
    parts: dict[str, dict[str, Row]] = {}
    if options.json and options.json.is_file():
        parts = json.loads(options.json.read_text(encoding="utf-8"))["parts"]
    for part in options.part or names:
        found: dict[str, Row] = {}
        for system in systems(options.models):
            if system.full_context and part in ("past", "gradients"):
                continue  # these ask about the past, of which the live form hears as much
            if part == "gradients":
                curve = gradients(system, own)
                found[system.name] = {
                    "norms": np.round(curve.norms, 6).tolist(),
                    "look_ahead_frames": curve.look_ahead_frames,
                    "frame_seconds": curve.frame_seconds,
                    "reach 1 % s": round(curve.reach(0.01), 2),
                    "reach 0.1 % s": round(curve.reach(0.001), 2),
                    "beyond 1 s %": round(100 * curve.lost(1.0), 3),
                }
            else:
                found[system.name] = {
                    "errors": lambda one: errors(one, pieces, options.lm, lexicon),
                    "delay": lambda one: delay(one, own, options.lm, aligner),
                    "speed": speed,
                    "past": lambda one: past(one, own, lexicon),
                }[part](system)
        found = parts[part] = parts.get(part, {}) | found
        print(f"\n{part}\n")
        shown = [
            {"system": name, **{key: value for key, value in row.items() if not isinstance(value, list)}}
            for name, row in found.items()
        ]
        columns = dict.fromkeys(key for row in shown for key in row)
        table([{key: row.get(key, "") for key in columns} for row in shown])
        if options.json:
            content = {"machine": machine(), "parts": parts}
            options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if options.plots:
            plots(options.plots, parts)


if __name__ == "__main__":
    main()
