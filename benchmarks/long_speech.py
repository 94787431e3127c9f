"""Long recordings against short ones: word error rates when the state is carried for minutes.

    python benchmarks/long_speech.py TABLE [--source librispeech] [--model NAME_OR_PATH ...] [--json FILE]

WER in percent of the utterances of a source one by one; joined to one recording a speaker, with pauses of half a second
to a second and a half; and so with pauses of a tenth to three tenths of a second, in which no utterance ends.
"""

import argparse
import json
from pathlib import Path

from accuracy import RATE, joined, run

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL
from asr.data.manifest import load_audio, read_manifest
from asr.evaluation.score import TOTAL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--source", default="librispeech")
    parser.add_argument("--model", action="append")
    parser.add_argument("--engine", default="int8")
    parser.add_argument("--chunk-ms", type=int, default=160)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    utterances = [
        utterance for utterance in read_manifest(options.table).utterances if utterance.source == options.source
    ]
    short = [(utterance, load_audio(utterance, RATE)) for utterance in utterances]
    conditions = {"utterances": short, "long": list(joined(short)), "long, no pauses": list(joined(short, 0.1, 0.3))}
    rows = []
    print("| model | decoder | " + " | ".join(conditions) + " |\n" + "|---" * (2 + len(conditions)) + "|", flush=True)
    for model in options.model or [DEFAULT_MODEL]:
        for decoder in ("lm", "greedy"):
            recognizer = Recognizer.load(model, engine=options.engine, decoder=decoder)
            rates = {name: run(recognizer, pieces, options.chunk_ms)[TOTAL] for name, pieces in conditions.items()}
            rows.append({"model": Path(model).name, "decoder": decoder, **rates})
            print("| " + " | ".join(str(value) for value in rows[-1].values()) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
