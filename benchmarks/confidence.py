"""Calibration of word confidences.

    python benchmarks/confidence.py TABLE [--model NAME_OR_PATH] [--engine int8]

Transcribes TABLE, aligns each text with its reference, and prints: how often words of each confidence are right, the
area under the ROC curve and the Brier score by source; and the logistic regression of being right on the log-odds of
the confidence, whose slope and offset are 1 and 0 where confidences are probabilities.
"""

import argparse
from pathlib import Path

import jiwer
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL
from asr.data.manifest import load_audio, read_manifest
from asr.words.text import normalise

LEAST = 1e-6  # so that confidences of 0 and 1 have log-odds


def judged(recognizer: Recognizer, table: Path) -> list[tuple[str, float, bool]]:
    """Source, confidence, and whether it is right, of every word recognised."""
    found = []
    for utterance in read_manifest(table).utterances:
        words = recognizer.transcribe(load_audio(utterance, recognizer.sample_rate)).words
        if not words:
            continue
        right = np.zeros(len(words), bool)
        texts = " ".join(normalise(word.text) for word in words)
        for chunk in jiwer.process_words(utterance.text, texts).alignments[0]:
            right[chunk.hyp_start_idx : chunk.hyp_end_idx] = chunk.type == "equal"
        found += [(utterance.source, word.confidence, bool(ok)) for word, ok in zip(words, right, strict=True)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", default="int8")
    options = parser.parse_args()
    sources, confidences, right = map(
        np.array, zip(*judged(Recognizer.load(options.model, engine=options.engine), options.table), strict=True)
    )
    print("| confidence | words | right % |\n|---|---|---|")
    edges = np.linspace(0, 1, 11)
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (confidences >= low) & ((confidences < high) | (high == 1))
        if inside.any():
            print(f"| {low:.1f} to {high:.1f} | {inside.sum()} | {100 * right[inside].mean():.0f} |")
    print("\n| source | words | right % | mean confidence % | ROC area | Brier |\n|---|---|---|---|---|---|")
    for source in [*sorted(set(sources)), "all"]:
        own = (sources == source) | (source == "all")
        area = roc_auc_score(right[own], confidences[own])
        brier = np.mean((confidences[own] - right[own]) ** 2)
        print(
            f"| {source} | {own.sum()} | {100 * right[own].mean():.0f} | {100 * confidences[own].mean():.0f} "
            f"| {area:.3f} | {brier:.3f} |"
        )
    bounded = confidences.clip(LEAST, 1 - LEAST)
    fitted = LogisticRegression(C=np.inf).fit(np.log(bounded / (1 - bounded))[:, None], right)
    print(f"\nslope {fitted.coef_[0, 0]:.3f}, offset {fitted.intercept_[0]:.3f}")


if __name__ == "__main__":
    main()
