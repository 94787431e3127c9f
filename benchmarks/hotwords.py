"""What hotwords do: recall of rare words, false alarms and word error rate, by boost.

    python benchmarks/hotwords.py TABLE [--every N] [--boost B ...] [--model NAME_OR_PATH] [--json FILE]

The hotwords are the rare words of TABLE: five letters or more, one or two occurrences, and late in the lexicon (which
has words in the order of their first occurrence in its text) or not in it; and as many decoys that are only in the
lexicon. The network runs over every utterance once, whole and without endpoints; its log-probabilities are then decoded
with each boost. A false alarm is a listed word, decoys included, recognised more often than it occurs.
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import jiwer
import numpy as np

from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.data.manifest import Utterance, load_audio, read_manifest
from asr.decoding.acoustic_units import Units, units_of
from asr.decoding.beam import GraphDecoder
from asr.lm.folder import LanguageModel
from asr.lm.hotwords import Hotword, with_hotwords
from asr.streaming.engine import OnnxEngine
from asr.words.text import normalise

COMMON = 10_000  # words of the lexicon that are taken for common
LETTERS = 5
MOST_TIMES = 2


def rare_words(utterances: list[Utterance], lexicon: tuple[str, ...]) -> list[str]:
    counts = Counter(word for utterance in utterances for word in utterance.text.split())
    common = set(lexicon[: COMMON + 1])
    return sorted(
        word for word, count in counts.items() if count <= MOST_TIMES and len(word) >= LETTERS and word not in common
    )


def decoys(count: int, utterances: list[Utterance], lexicon: tuple[str, ...]) -> list[str]:
    said = {word for utterance in utterances for word in utterance.text.split()}
    unsaid = [word for word in lexicon[COMMON + 1 :] if word not in said and len(word) >= LETTERS]
    return random.Random(0).sample(unsaid, count)


def heard(engine: OnnxEngine, samples: np.ndarray) -> np.ndarray:
    """Log-probabilities (T, V) of a whole utterance."""
    rows, state = engine.step(engine.start(), samples)
    return np.concatenate([rows, engine.finish(state)[0]])


def measure(
    model: LanguageModel, units: Units, pieces: list[tuple[str, np.ndarray]], listed: set[str], old: set[str]
) -> dict:
    decoder = GraphDecoder(model, units=units)
    texts = []
    for _, rows in pieces:
        words, _ = decoder.finish(decoder.advance(decoder.start(), rows))
        texts.append(" ".join(word.text for word in words))
    hits, said, false = Counter(), Counter(), 0
    for (reference, _), text in zip(pieces, texts, strict=True):
        spoken, written = (Counter(word for word in line.split() if word in listed) for line in (reference, text))
        for word in spoken | written:
            kind = "in lexicon" if word in old else "new"
            said[kind] += spoken[word]
            hits[kind] += min(spoken[word], written[word])
            false += max(0, written[word] - spoken[word])
    recall = {f"recall {kind} %": round(100 * hits[kind] / max(1, said[kind]), 1) for kind in ("in lexicon", "new")}
    wer = jiwer.wer([reference for reference, _ in pieces], texts)
    return {**recall, "false alarms": false, "WER %": round(100 * wer, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--every", type=int, default=1, help="take every N-th utterance only")
    parser.add_argument("--boost", type=float, action="append", help="nats; may be given several times")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    package = ModelPackage.open(options.model)
    model = LanguageModel.open(package.language_model, package.phones, units_of(package).weights)
    utterances = list(read_manifest(options.table).utterances)[:: options.every]
    engine = OnnxEngine(package.graph("int8"), package.rates, units_of(package).head, 1)
    sample_rate = package.rates.sample_rate
    pieces = [(normalise(one.text), heard(engine, load_audio(one, sample_rate))) for one in utterances]
    rare = rare_words(utterances, model.words)
    listed = [*rare, *decoys(len(rare), utterances, model.words)]
    old = set(model.words)
    said = Counter(word in old for one in utterances for word in one.text.split() if word in rare)
    print(
        f"{len(utterances)} utterances; {len(rare)} rare words, said {said[True]} times in lexicon and {said[False]} "
        f"times new; {len(listed) - len(rare)} decoys\n"
    )
    rows = []
    for boost in [0.0, *(options.boost or [2.0, 3.0, 4.0, 5.0, 6.0, 8.0])]:
        steered = model
        if boost:
            steered = with_hotwords(model, [Hotword((word,), boost) for word in listed], package.phones)
        rows.append({"boost": boost or "none", **measure(steered, units_of(package), pieces, set(listed), old)})
        if len(rows) == 1:
            print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
        print("| " + " | ".join(str(value) for value in rows[-1].values()) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
