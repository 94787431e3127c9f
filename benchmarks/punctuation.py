"""F1 of marks and capitals on written text, against simple rules, and the time that a word takes.

    python benchmarks/punctuation.py TEXT... [--model FOLDER] [--words N] [--json FILE]

Each TEXT is read as `asr train-punctuation` reads it, one paragraph, sentence or what somebody said a line, and given
to the model as plain words: without pauses, and with pauses drawn as in training, which break off at long ones as live
speech does. Beside it: a full stop where a line ends and a capital after it, which is what can be done without a
model; and the commonest of all, no mark and no capital but the first.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.acoustic.folder import DEFAULT_MODEL, PUNCTUATION, find_model
from asr.files import text_lines
from asr.training.punctuation_rows import BREAK_SECONDS, Stream, pauses_before
from asr.training.punctuation_text import TaggedWord, tagged_text
from asr.words.readable import ALWAYS_CAPITAL
from asr.words.tagger import ENDINGS, LOWER, MARKS, Tag, Tagger

NAMES = {".": "full stop", ",": "comma", "?": "question", "!": "exclamation"}
CAPITALS = "capitals"
KINDS = (*NAMES.values(), CAPITALS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, default=find_model(DEFAULT_MODEL) / PUNCTUATION)
    parser.add_argument("--words", type=int, default=50_000, help="of each text")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tagger = Tagger.open(options.model)
    rows = []
    for path in options.texts:
        words = list(islice(tagged_text(text_lines(path)), options.words))
        pauses = list(pauses_of(words))
        begun = time.process_time()
        without = tags_of(tagger, words, [None] * len(words))
        seconds = time.process_time() - begun
        for name, tags in {
            "model, no pauses": without,
            "model, pauses": tags_of(tagger, words, pauses),
            "full stop at a line's end": rule(words),
            "the commonest: none": [Tag("", LOWER)] * len(words),
        }.items():
            cased = tagger if name.startswith("model") else None
            rows.append(
                {"text": path.name.split(".")[0], "words": len(words), "by": name, **scores(words, tags, cased)}
            )
        print(f"{path.name}: {1e6 * seconds / len(words):.0f} µs a word")
    print("| text | words | by | " + " | ".join(KINDS) + " |\n|" + "---|" * (3 + len(KINDS)))
    for row in rows:
        print(f"| {row['text']} | {row['words']} | {row['by']} | " + " | ".join(f"{row[k]:.1f}" for k in KINDS) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def pauses_of(words: list[TaggedWord]) -> np.ndarray:
    """Seconds of silence before each word, as in training."""
    count = len(words)
    marks = np.array([word.mark for word in words], np.int8)
    stream = Stream(np.zeros(count, np.int32), marks, np.zeros(count, np.int8), np.zeros(count, bool))
    return pauses_before(stream, np.random.default_rng(0))


def tags_of(tagger: Tagger, words: list[TaggedWord], pauses: list[float | None]) -> list[Tag]:
    """Tags by the model, which is told where an utterance breaks off: at long pauses, and at the end."""
    tags: list[Tag] = []
    state = tagger.start()
    for word, pause in zip(words, pauses, strict=True):
        if pause is not None and pause > BREAK_SECONDS:
            rest, state = tagger.finish(state)
            tags += rest
        new, state = tagger.read([word.word], [pause], state)
        tags += new
    return tags + tagger.finish(state)[0]


def rule(words: list[TaggedWord]) -> list[Tag]:
    """A full stop before each word that begins a line."""
    return [Tag("." if following.first else "", LOWER) for following in [*words[1:], words[0]._replace(first=True)]]


def scores(words: list[TaggedWord], tags: list[Tag], tagger: Tagger | None) -> dict[str, float]:
    """F1 in per cent, of each mark and of words that begin with a capital."""
    plain = [word.word for word in words]
    cased = tagger.cased(plain, tags) if tagger else plain
    pairs, start = [], True
    for word, tag, form in zip(words, tags, cased, strict=True):
        capital = start or word.word in ALWAYS_CAPITAL or form != word.word
        pairs.append((Form(MARKS[word.mark], word.written[:1].isupper()), Form(tag.mark, capital)))
        start = tag.mark in ENDINGS
    return f1(pairs)


class Form(NamedTuple):
    """How a word is written."""

    mark: str  # after it, of `MARKS`
    capital: bool


def f1(pairs: Iterable[tuple[Form | None, Form | None]]) -> dict[str, float]:
    """F1 in per cent, of each mark and of words with a capital; of pairs of how words should be and are written.

    One of a pair is None where a word is missing or was not said.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for true, guessed in pairs:
        for kind in KINDS:
            holds = [
                form is not None and (form.capital if kind == CAPITALS else NAMES.get(form.mark) == kind)
                for form in (true, guessed)
            ]
            counts[kind, "either"] += sum(holds)
            counts[kind, "right"] += all(holds)
    return {kind: 200 * counts[kind, "right"] / max(1, counts[kind, "either"]) for kind in KINDS}


if __name__ == "__main__":
    main()
