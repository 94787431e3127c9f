"""Words that are written with a capital wherever they stand, counted in text as people write it.

python -m asr.words.proper_names TEXT... --output asr/words/proper_names.txt
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("proper_names.txt")
LEAST_SEEN = 40  # times, inside a sentence
LEAST_SHARE = 0.97  # of these with a capital
MOST_NAMES = 4_000

# A word inside a sentence: what stands before it is a word in small letters, with nothing but a space or comma between.
_INSIDE = re.compile(r"(?<=[a-z]),?[ \n](?=([A-Za-z][a-z]+)\b)")


def count_names(lines: Iterable[str]) -> list[str]:
    """Names, the most frequent first, as they are written."""
    seen: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for line in lines:
        for word in _INSIDE.findall(line):
            seen[word.lower()] += 1
            capital[word.lower()] += word[0].isupper()
    names = (word for word, count in capital.most_common() if count >= max(LEAST_SEEN, LEAST_SHARE * seen[word]))
    return [name.capitalize() for name, _ in zip(names, range(MOST_NAMES), strict=False)]


@cache
def proper_names() -> dict[str, str]:
    """The list that comes with Rill, from small letters to the way each name is written."""
    return {name.lower(): name for name in FILE.read_text(encoding="utf-8").split()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", type=Path, help="text with capitals and punctuation, UTF-8")
    parser.add_argument("--output", type=Path, default=FILE)
    options = parser.parse_args()
    lines = (line for path in options.texts for line in path.open(encoding="utf-8", errors="replace"))
    names = count_names(lines)
    options.output.write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")
    print(f"{len(names)} names in {options.output}")


if __name__ == "__main__":
    main()
