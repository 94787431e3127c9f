"""Delay from the end of a spoken word to its display.

    python benchmarks/latency.py TABLE [--source SOURCE] [--chunk-ms 160] [--model ...] [--engine ...] [--json FILE]

Streams recordings in chunks and aligns their words with the known text. For every word that the final result has right:
seconds from its end in the audio to the end of the chunk after which a partial result first shows it in its place
(first), and after which it stays there (settled). Computing is not counted: it is a few hundredths of the audio.
"""

import argparse
import json
import platform
from pathlib import Path

import jiwer
import numpy as np

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.data.manifest import load_audio, read_manifest
from asr.decoding.word_alignment import WordAligner
from asr.errors import DataError
from asr.words.lexicon import Lexicon


def shown_words(recognizer: Recognizer, samples: np.ndarray, chunk: int) -> tuple[list[list[str]], list[str]]:
    """Words on the screen after every chunk, and at the end."""
    state = recognizer.start()
    settled: list[str] = []
    screens = []
    for start in range(0, len(samples), chunk):
        results, state = recognizer.step(state, samples[start : start + chunk])
        open_words: list[str] = screens[-1][len(settled) :] if screens else []
        for result in results:
            if result.final:
                settled, open_words = settled + result.text.split(), []
            else:
                open_words = result.text.split()
        screens.append(settled + open_words)
    results, _ = recognizer.finish(state)
    return screens, settled + [word for result in results for word in result.text.split()]


def delays(
    screens: list[list[str]], final: list[str], place: int, end: float, step: float
) -> tuple[float, float] | None:
    """Seconds from ``end`` until word ``place`` is first shown, and until it stays; None if only the end shows it."""
    right = [len(screen) > place and screen[place] == final[place] for screen in screens]
    if not right or not right[-1]:
        return None
    first = right.index(True)
    stays = len(right) - next((k for k, value in enumerate(reversed(right)) if not value), len(right))
    return (first + 1) * step - end, (stays + 1) * step - end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--source")
    parser.add_argument("--chunk-ms", type=int, default=160)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--decoder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recognizer = Recognizer.load(options.model, engine=options.engine, decoder=options.decoder)
    package = ModelPackage.open(options.model)
    aligner = WordAligner(package, Lexicon.load())
    rate = recognizer.sample_rate
    chunk = options.chunk_ms * rate // 1_000
    found, late, utterances = [], 0, 0
    for utterance in read_manifest(options.table).utterances:
        if options.source and utterance.source != options.source:
            continue
        samples = load_audio(utterance, rate)
        screens, final = shown_words(recognizer, samples, chunk)
        try:
            ends = [word.end_seconds for word in aligner.align(samples, utterance.text)]
        except DataError:
            continue
        utterances += 1
        alignment = jiwer.process_words(utterance.text, " ".join(final)).alignments[0]
        for piece in alignment:
            if piece.type == "equal":
                for offset in range(piece.ref_end_idx - piece.ref_start_idx):
                    end = ends[piece.ref_start_idx + offset]
                    delay = delays(screens, final, piece.hyp_start_idx + offset, end, chunk / rate)
                    late += delay is None
                    found += [delay] if delay else []
    table = np.array(found)
    report = {
        "machine": platform.machine(),
        "engine": options.engine,
        "decoder": recognizer.decoder,
        "chunk_ms": options.chunk_ms,
        "utterances": utterances,
        "words": len(found),
        "shown_only_at_the_end": late,
    }
    for name, column in zip(("first", "settled"), table.T, strict=True):
        median, p95 = np.percentile(column, (50, 95))
        report |= {f"{name}_median_s": round(float(median), 3), f"{name}_p95_s": round(float(p95), 3)}
    print("\n".join(f"{key}: {value}" for key, value in report.items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
