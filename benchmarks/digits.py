"""Word error rates of spoken digits by decoder, and what a grammar makes of other speech.

    python benchmarks/digits.py TABLE [--every N] [--others N] [--model NAME_OR_PATH] [--json FILE]

Of the utterances of TABLE that consist of digits, every N-th is streamed through the greedy decoder, the language
model and the grammar "digit+"; and every --others-th utterance without digits through the grammar, which should then
give no text.
"""

import argparse
import json
import tempfile
from pathlib import Path

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL
from asr.data.manifest import read_manifest
from asr.evaluation.score import recognise, score

DIGITS = "zero oh one two three four five six seven eight nine".split()
CHUNK_MS = 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--every", type=int, default=1, help="take every N-th utterance of digits only")
    parser.add_argument("--others", type=int, default=10, help="take every N-th other utterance only")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    utterances = read_manifest(options.table).utterances
    digits = [one for one in utterances if set(one.text.split()) <= set(DIGITS)][:: options.every]
    others = [one for one in utterances if not set(one.text.split()) & set(DIGITS)][:: options.others]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        grammar = Path(folder) / "digits.txt"
        grammar.write_text(f"({' | '.join(DIGITS)})+\n", encoding="utf-8")
        for name, steering in {
            "greedy": {"decoder": "greedy"},
            "language model": {},
            "grammar": {"grammar": grammar},
        }.items():
            recognizer = Recognizer.load(options.model, engine="int8", **steering)
            for one in score(list(recognise(digits, recognizer, CHUNK_MS))):
                rows.append(
                    {
                        "decoder": name,
                        "source": one.source,
                        "words": one.words,
                        "WER %": round(100 * one.word_error_rate, 1),
                        "insertions": one.insertions,
                    }
                )
                if len(rows) == 1:
                    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
                print("| " + " | ".join(str(value) for value in rows[-1].values()) + " |", flush=True)
        found = list(recognise(others, recognizer, CHUNK_MS))
    said, written = (
        sum(len(text.split()) for text in texts)
        for texts in ([one.reference for one in found], [one.text for one in found])
    )
    quiet = sum(not one.text for one in found)
    print(f"\nother speech: {len(found)} utterances of {said} words; the grammar wrote {written}, nothing for {quiet}")
    if options.json:
        rows.append({"decoder": "grammar", "source": "other speech", "words": said, "written": written, "quiet": quiet})
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
