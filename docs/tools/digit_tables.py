"""Tables of spoken digits, a speaker in each apart from training: what docs/digits.md begins with.

    python docs/tools/digit_tables.py FOLDER --dev SPEAKER --test SPEAKER

FOLDER has recordings named DIGIT_SPEAKER_NUMBER.wav (or any other audio format), as the Free Spoken Digit Dataset names
them. Written beside it: train.tsv, dev.tsv and test.tsv, and strings.tsv, in which the digits of the test speaker, five
by five with pauses between, make longer recordings (in the folder "strings").
"""

import argparse
import csv
import random
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from asr.audio.files import AudioFile
from asr.audio.recording import SoundFile

WORDS = "zero one two three four five six seven eight nine".split()
NAME = re.compile(r"(\d)_([^_]+)_\d+\.\w+")
RATE = 16_000
DIGITS_A_STRING, PAUSE_SECONDS = 5, 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dev", required=True, help="speaker to measure on while training")
    parser.add_argument("--test", required=True, help="speaker to measure on in the end")
    options = parser.parse_args()
    paths = sorted(options.folder.iterdir())
    found = [(path, *match.groups()) for path in paths if (match := NAME.fullmatch(path.name))]
    speakers = {speaker for *_, speaker in found}
    if len({options.dev, options.test} & speakers) < 2 or len(speakers) < 3:
        parser.error(
            f"{options.folder} needs two speakers for --dev and --test and more to learn from; "
            f"it has {', '.join(sorted(speakers)) or 'none'}"
        )
    rows = {"train": [], "dev": [], "test": []}
    for path, digit, speaker in found:
        table = {options.dev: "dev", options.test: "test"}.get(speaker, "train")
        rows[table].append((path, WORDS[int(digit)], speaker))
    rows["strings"] = list(strings(rows["test"], options.folder.parent / "strings"))
    for name, members in rows.items():
        write_table(options.folder.parent / f"{name}.tsv", members)


def strings(rows: list[tuple[Path, str, str]], folder: Path) -> Iterable[tuple[Path, str, str]]:
    """Recordings of several digits each, made of single ones in random order."""
    folder.mkdir(exist_ok=True)
    rows = random.Random(0).sample(rows, len(rows))
    pause = np.zeros(round(PAUSE_SECONDS * RATE), np.float32)
    for start in range(0, len(rows) - DIGITS_A_STRING + 1, DIGITS_A_STRING):
        members = rows[start : start + DIGITS_A_STRING]
        path = folder / f"string_{start // DIGITS_A_STRING}.flac"
        with SoundFile(path, RATE) as file:
            for recording, *_ in members:
                with AudioFile(recording, RATE) as audio:
                    file.write(np.concatenate([*audio, pause]))
        yield path, " ".join(word for _, word, _ in members), members[0][2]


def write_table(path: Path, rows: Iterable[tuple[Path, str, str]]) -> None:
    """`id`, `path`, `text`, `source`, `speaker`: as source the speaker, by whom error rates are then told apart."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("id", "path", "text", "source", "speaker"))
        count = 0
        for recording, text, speaker in rows:
            writer.writerow((recording.stem, recording.relative_to(path.parent), text, speaker, speaker))
            count += 1
    print(f"{path}: {count} recordings")


if __name__ == "__main__":
    main()
