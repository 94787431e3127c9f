"""What it costs to end utterances at pauses, and how soon after the speech their text is final.

    python benchmarks/endpoints.py TABLE [--sources SOURCE,SOURCE] [--model ...] [--engine ...] [--json FILE]

Joins the recordings of every speaker with pauses of 0.3 to 3 s, as quiet as the quietest tenth of what is around them,
and streams each long recording under several endpoint rules. One row per rule: word error rate by source and in all;
how much worse than without endpoints, relative; words of the text that differ from those without endpoints; utterances
found; share of the pauses of more than 1.2 s in which a final result came; and seconds from the end of the last word
before a pause, by forced alignment, to the end of the 80 ms chunk after which its text was final.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import jiwer
import numpy as np

from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.data.manifest import load_audio, read_manifest
from asr.decoding.acoustic_units import units_of
from asr.decoding.beam import GraphDecoder
from asr.decoding.word_alignment import WordAligner
from asr.errors import DataError
from asr.lm.folder import LanguageModel
from asr.streaming.endpoint import NO_ENDPOINTS, EndpointRule
from asr.streaming.engine import Engine, OnnxEngine, Rates
from asr.streaming.runner import Runner
from asr.streaming.stability import NEVER
from asr.words.lexicon import Lexicon
from asr.words.text import normalise

CHUNK_SECONDS = 0.08
LONG_PAUSE_SECONDS = 1.2
ANY_SILENCE = EndpointRule(complete_seconds=float("inf"), reset=False)
RULES = {
    "no endpoints": NO_ENDPOINTS,
    **{f"silence {seconds} s": replace(ANY_SILENCE, silence_seconds=seconds) for seconds in (0.6, 1.0, 1.5)},
    **{
        f"silence 1.0 s, {complete} s at a cost of {cost}": EndpointRule(1.0, complete, cost, reset=False)
        for complete, cost in ((0.5, 4), (0.6, 2), (0.6, 4))
    },
    "silence 0.6 s, reset": replace(ANY_SILENCE, silence_seconds=0.6, reset=True),
    "silence 1.0 s, reset": replace(ANY_SILENCE, reset=True),
    "the default": EndpointRule(),
}


@dataclass(frozen=True)
class Recording:
    """The utterances of a speaker, one after another."""

    source: str
    text: str
    samples: np.ndarray  # (N,)
    pauses: tuple[tuple[float, float, float], ...]  # seconds: end of the last word, start of the next, the pause added


class Played:
    """An engine that has heard a recording before and gives its rows again as the samples arrive."""

    def __init__(self, engine: Engine, samples: np.ndarray) -> None:
        self.rates: Rates = engine.rates
        first, state = engine.step(engine.start(), samples)
        self._rows = np.concatenate([first, engine.finish(state)[0]])

    def start(self) -> tuple[int, int]:
        return 0, 0  # samples heard, rows given

    def step(self, state: tuple[int, int], samples: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        heard = state[0] + len(samples)
        rows = max(0, self.rates.blocks_within(heard) - self.rates.delay_frames)
        return self._rows[state[1] : rows], (heard, max(rows, state[1]))

    def finish(self, state: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
        return self._rows[state[1] :], self.start()


def joined(table: Path, sources: list[str], aligner: WordAligner, rate: int) -> list[Recording]:
    utterances = [utterance for utterance in read_manifest(table).utterances if utterance.source in sources]
    random = np.random.default_rng(0)
    found = []
    for source, speaker in sorted({(utterance.source, utterance.speaker) for utterance in utterances}):
        parts, texts, spoken, added = [], [], [], []
        length = 0
        for utterance in utterances:
            if (utterance.source, utterance.speaker) != (source, speaker):
                continue
            samples = load_audio(utterance, rate)
            frames = samples[: len(samples) // 400 * 400].reshape(-1, 400)
            level = np.quantile(np.sqrt((frames**2).mean(axis=1)), 0.1)
            seconds = random.uniform(0.3, 3.0)
            pause = random.normal(0, level, round(seconds * rate)).astype(np.float32)
            try:
                words = aligner.align(samples, utterance.text)
                spoken.append((length / rate + words[0].start_seconds, length / rate + words[-1].end_seconds))
            except DataError:
                spoken.append((length / rate, (length + len(samples)) / rate))
            parts += [samples, pause]
            texts.append(utterance.text)
            added.append(seconds)
            length += len(samples) + len(pause)
        starts = [start for start, _ in spoken[1:]] + [length / rate]
        pauses = tuple(zip((end for _, end in spoken), starts, added, strict=True))
        found.append(Recording(source, " ".join(texts), np.concatenate(parts), pauses))
    return found


def heard(runner: Runner, samples: np.ndarray, chunk_seconds: float) -> tuple[str, list[float]]:
    """Text of a recording, and when each of its final results with words came, in seconds from its start."""
    chunk = round(chunk_seconds * runner.sample_rate)
    state = runner.start()
    texts, times = [], []
    for start in range(0, len(samples), chunk):
        results, state = runner.step(state, samples[start : start + chunk])
        for result in results:
            if result.final and result.text:
                texts.append(result.text)
                times.append(state.samples / runner.sample_rate)
    results, _ = runner.finish(state)
    return normalise(" ".join([*texts, *(result.text for result in results)])), times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--sources", default="librispeech,speechocean762")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    package = ModelPackage.open(options.model)
    engine = OnnxEngine(package.graph(options.engine), package.rates, units_of(package).head)
    model = LanguageModel.open(package.language_model, package.phones, units_of(package).weights)
    decoder = GraphDecoder(model, units=units_of(package))
    rate = package.rates.sample_rate
    aligner = WordAligner(package, Lexicon.load())
    sources = options.sources.split(",")
    recordings = joined(options.table, sources, aligner, rate)
    played = [Played(engine, recording.samples) for recording in recordings]
    minutes = sum(len(recording.samples) for recording in recordings) / rate / 60
    print(f"{len(recordings)} recordings, {minutes:.1f} min, {sum(len(r.pauses) for r in recordings)} utterances")
    columns = (
        "rule",
        *(f"{source} WER %" for source in sources),
        "all",
        "worse %",
        "other words %",
        "finals",
        "pauses ended %",
        "final after s, median",
        "p95",
    )
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    rows, unbroken = [], []
    for name, rule in RULES.items():
        # Without endpoints every partial result is about the whole recording, and as dear.
        chunk_seconds = CHUNK_SECONDS if rows else 60.0
        runs = [
            heard(Runner(engine if rule.reset else old, decoder, rule, NEVER), recording.samples, chunk_seconds)
            for recording, old in zip(recordings, played, strict=True)
        ]
        texts = [text for text, _ in runs]
        unbroken = unbroken or texts
        errors = {
            source: 100
            * jiwer.wer(
                [r.text for r in recordings if r.source == source],
                [text for r, text in zip(recordings, texts, strict=True) if r.source == source],
            )
            for source in sources
        }
        overall = 100 * jiwer.wer([recording.text for recording in recordings], texts)
        rows.append((name, overall, ()))
        delays, long = [], 0
        for recording, (_, times) in zip(recordings, runs, strict=True):
            for end, start, added in recording.pauses:
                first = next((time for time in times if end < time < start + CHUNK_SECONDS), None)
                long += added > LONG_PAUSE_SECONDS
                delays += [(first - end, added)] if first is not None else []
        ended = sum(added > LONG_PAUSE_SECONDS for _, added in delays) / long
        seconds = [delay for delay, _ in delays] or [float("nan")]
        values = (
            *errors.values(),
            overall,
            100 * (overall / rows[0][1] - 1),
            100 * jiwer.wer(unbroken, texts),
            sum(len(times) for _, times in runs),
            100 * ended,
            *np.percentile(seconds, (50, 95)),
        )
        rows[-1] = (name, overall, values)
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |", flush=True)
    if options.json:
        report = [dict(zip(columns, (name, *map(float, values)), strict=True)) for name, _, values in rows]
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
