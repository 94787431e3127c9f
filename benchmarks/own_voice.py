"""Tables for docs/fine_tuning.md: one person's recordings, for training and for testing.

    apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-wav      (Debian)
    for package in *.deb; do dpkg -x "$package" asterisk; done
    python benchmarks/own_voice.py asterisk OUT

The announcements of a telephone exchange, read by Allison Smith (CC BY-SA 3.0) and kept at 8 kHz. Of those between
--shortest and --longest, every fifth is written into OUT/test.tsv and the others into OUT/mine.tsv, but for those whose
words are in the test too; the text of the others is OUT/letters.txt.
"""

import argparse
import csv
import gzip
import re
import wave
from pathlib import Path

from asr.errors import DataError
from asr.importing.spoken import spelled_out

EVERY = 5
# Tones and silence; and what is spelled.
NO_WORDS = re.compile(r"\[|\(|seconds? of silence|[A-Z]{2}|\b[A-Z]\b[^a-z]+[A-Z]\b|www")
Row = tuple[str, str, str, str]  # id, path, seconds, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder in which the packages were unpacked")
    parser.add_argument("out", type=Path)
    parser.add_argument("--shortest", type=float, default=1.0, help="seconds")
    parser.add_argument("--longest", type=float, default=32.0, help="seconds")
    options = parser.parse_args()
    found = announcements(options.packages, options.shortest, options.longest)
    test = found[::EVERY]
    tested = {text for *_, text in test}
    write(options.out / "test.tsv", test)
    mine = [row for at, row in enumerate(found) if at % EVERY and row[-1] not in tested]
    write(options.out / "mine.tsv", mine)
    (options.out / "letters.txt").write_text("".join(f"{text}\n" for *_, text in mine), encoding="utf-8")


def announcements(packages: Path, shortest: float, longest: float) -> list[Row]:
    """The announcements within these lengths, in the order of their names; tones and codes are left out."""
    sounds = next(packages.glob("usr/share/asterisk/sounds/en_US*"))
    texts = packages / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    rows = []
    for line in sorted(gzip.decompress(texts.read_bytes()).decode().splitlines()):
        name, _, text = line.partition(": ")
        path = sounds / f"{name}.wav"
        if name.startswith(";") or NO_WORDS.search(text) or not path.is_file():
            continue
        with wave.open(str(path)) as file:
            seconds = file.getnframes() / file.getframerate()
        try:
            spoken = spelled_out(text)
        except DataError:
            continue
        if shortest <= seconds <= longest:
            rows.append((name.replace("/", "-"), str(path.resolve()), f"{seconds:.2f}", spoken))
    return rows


def write(table: Path, rows: list[Row]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("id", "path", "seconds", "text"))
        writer.writerows(rows)
    print(f"{table}: {len(rows)} recordings, {sum(float(row[2]) for row in rows) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
