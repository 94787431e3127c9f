"""Error rate and delay of committing words of partial results.

    python benchmarks/stability.py TABLE [--source SOURCE] [--chunk-ms 90] [--model ...] [--engine ...] [--json FILE]

Streams every recording of TABLE under several stability rules and compares with a rule that commits nothing before the
end. One row per rule: word error rate; words of the final texts that the commitments changed, in percent; share of
words committed before their utterance's end, and seconds of audio from a word's end (as recognised) to its commitment;
words revoked or changed on the screen per second of audio. That committed words stay is checked, not measured.
"""

import argparse
import json
from pathlib import Path

import jiwer
import numpy as np
from rapidfuzz.distance import Levenshtein

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL
from asr.data.manifest import load_audio, read_manifest
from asr.streaming.stability import NEVER, StabilityRule
from asr.words.text import normalise

RULES = {
    "never": NEVER,
    **{
        f"unchanged {unchanged} s, behind {behind} s": StabilityRule(unchanged_seconds=unchanged, behind_seconds=behind)
        for unchanged, behind in (
            (0.6, 0),
            (0.9, 0),
            (1.2, 0),
            (1.5, 0),
            (2.1, 0),
            (0, 1.0),
            (0, 2.0),
            (0, 3.0),
            (0.9, 1.2),
            (1.2, 0.9),
        )
    },
}


class Watcher:
    """Follows the results of one recording."""

    def __init__(self) -> None:
        self.finals: list[str] = []
        self.delays: list[float] = []  # of words promised before the end
        self.words = 0
        self.revoked = 0
        self._shown: list[str] = []
        self._promised: tuple = ()

    def see(self, results: tuple, heard_seconds: float) -> None:
        for result in results:
            if result.words[: len(self._promised)] != self._promised:
                raise SystemExit(f"a promise was broken: {self._promised} became {result.words}")
            if not result.final:
                new = result.words[len(self._promised) : result.committed]
                self.delays += [heard_seconds - word.end_seconds for word in new]
            texts = [word.text for word in result.words]
            self.revoked += sum(edit.tag != "insert" for edit in Levenshtein.editops(self._shown, texts))
            self._shown, self._promised = ([], ()) if result.final else (texts, result.words[: result.committed])
            if result.final:
                self.finals.append(result.text)
                self.words += len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--source")
    parser.add_argument("--chunk-ms", type=int, default=90)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rate = Recognizer.load(options.model).sample_rate
    recordings = [
        (utterance.text, load_audio(utterance, rate))
        for utterance in read_manifest(options.table).utterances
        if options.source in (None, utterance.source)
    ]
    seconds = sum(len(samples) for _, samples in recordings) / rate
    references = [text for text, _ in recordings]
    print(f"{len(recordings)} recordings, {seconds:.0f} s, chunks of {options.chunk_ms} ms, {options.engine}")
    print("| rule | WER % | changed % | promised early % | delay s, median | p95 | revoked a second |")
    print("|---|---|---|---|---|---|---|", flush=True)
    unbound: list[str] = []
    rows = []
    for name, rule in RULES.items():
        recognizer = Recognizer.load(options.model, engine=options.engine, stability=rule)
        watchers = [_watched(recognizer, samples, options.chunk_ms * rate // 1_000) for _, samples in recordings]
        texts = [normalise(" ".join(watcher.finals)) for watcher in watchers]
        unbound = unbound or texts
        said = [k for k, text in enumerate(unbound) if text]  # jiwer wants references with words
        changed = jiwer.process_words([unbound[k] for k in said], [texts[k] for k in said])
        delays = [delay for watcher in watchers for delay in watcher.delays] or [float("nan")]
        median, p95 = np.percentile(delays, (50, 95))
        words = sum(watcher.words for watcher in watchers)
        row = {
            "rule": name,
            "wer": round(100 * jiwer.wer(references, texts), 2),
            "changed": round(100 * changed.wer, 2),
            "early": round(100 * sum(len(watcher.delays) for watcher in watchers) / words, 1),
            "delay_median_s": round(float(median), 2),
            "delay_p95_s": round(float(p95), 2),
            "revoked": round(sum(watcher.revoked for watcher in watchers) / seconds, 3),
        }
        rows.append(row)
        print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _watched(recognizer: Recognizer, samples: np.ndarray, chunk: int) -> Watcher:
    watcher = Watcher()
    state = recognizer.start()
    for start in range(0, len(samples), chunk):
        results, state = recognizer.step(state, samples[start : start + chunk])
        watcher.see(results, state.samples / recognizer.sample_rate)
    results, _ = recognizer.finish(state)
    watcher.see(results, len(samples) / recognizer.sample_rate)
    return watcher


if __name__ == "__main__":
    main()
