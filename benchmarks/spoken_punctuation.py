"""F1 of marks and capitals on recorded speech, as it is recognised and with the words that were read out.

    python benchmarks/spoken_punctuation.py TABLE TEXT... [--punctuation FOLDER] [--model NAME_OR_PATH] [--json FILE]

Looks for the transcripts of TABLE in the TEXTs that were read out, and joins the utterances of a speaker to a
recording, in the order of the text, half a second of silence between them. Each is streamed. Marks and capitals are
those of the words that belong together; a mark after a word that is missing, or that was not said, counts as wrong.
"Right words" are given to the punctuation model with the pauses of forced alignment. The rule is the one without a
model: a full stop where speech breaks off, a capital after it and for the names of the punctuation model's list.
"""

import argparse
import json
import re
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import jiwer
import numpy as np
from punctuation import KINDS, Form, f1
from spoken_references import Spoken, found_in

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL, PUNCTUATION, ModelPackage, find_model
from asr.data.manifest import load_audio, read_manifest
from asr.decoding.word_alignment import WordAligner
from asr.streaming.results import Result, Word
from asr.training.punctuation_rows import BREAK_SECONDS
from asr.words.lexicon import Lexicon
from asr.words.readable import ALWAYS_CAPITAL, ReadableText
from asr.words.tagger import MARKS, Tagger

JOIN_SECONDS = 0.5
CHUNK_MS = 100
ABBREVIATED = re.compile(r"(Mr|Mrs|Dr|.*[ap]\.m|[A-Z]|[A-Z]\..* [A-Z])\.")  # with a point that ends no sentence
Written = list[tuple[str, Form]]  # words in normal form and how they are written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--punctuation", type=Path, default=find_model(DEFAULT_MODEL) / PUNCTUATION)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tagger = Tagger.open(options.punctuation)
    recognizer = Recognizer.load(options.model, engine="int8")
    aligner = WordAligner(ModelPackage.open(options.model), Lexicon.load())
    spoken = found_in(read_manifest(options.table).utterances, options.texts)
    spent = seconds = 0.0
    true, found = [], {"model, right words": [], "model, recognised": [], "rule, recognised": []}
    for _, utterances in groupby(sorted(spoken, key=key), key):
        samples, right = recording(list(utterances), recognizer.sample_rate)
        size = recognizer.sample_rate * CHUNK_MS // 1000
        live = list(recognizer.stream(np.split(samples, range(size, len(samples), size))))
        heard = [one for one in live if one.final]
        spent, seconds = spent + writing_seconds(live, tagger), seconds + len(samples) / recognizer.sample_rate
        aligned = aligner.align(samples, " ".join(word for word, _ in right))
        true.append(right)
        found["model, right words"].append(by_model(utterances_of(aligned), tagger))
        found["model, recognised"].append(by_model(heard, tagger))
        found["rule, recognised"].append(by_rule(heard, tagger))
    words = sum(map(len, true))
    print(f"{len(spoken)} utterances in {len(true)} recordings, {words} words, {seconds / 60:.1f} minutes")
    print(f"written for readers live, in chunks of {CHUNK_MS} ms: {100 * spent / seconds:.2f} % of one core")
    print("| by | WER % | " + " | ".join(KINDS) + " |\n|" + "---|" * (2 + len(KINDS)))
    rows = []
    for name, recordings in found.items():
        wrong, pairs = 0, []
        for right, one in zip(true, recordings, strict=True):
            more, errors = together(right, one)
            pairs += more
            wrong += errors
        rows.append({"by": name, "WER %": 100 * wrong / words, **f1(pairs)})
        print(f"| {name} | " + " | ".join(f"{rows[-1][k]:.1f}" for k in ("WER %", *KINDS)) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def key(spoken: Spoken) -> tuple[str, str]:
    """What the utterances of a recording have in common."""
    return (spoken.utterance.source, spoken.utterance.speaker)


def recording(spoken: list[Spoken], rate: int) -> tuple[np.ndarray, Written]:
    """Utterances one after the other, and how their words are written."""
    pieces, words = [], []
    for one in sorted(spoken, key=lambda one: one.place):
        pieces += [load_audio(one.utterance, rate), np.zeros(round(JOIN_SECONDS * rate), np.float32)]
        words += [(word.word, Form(MARKS[word.mark], word.written[:1].isupper())) for word in one.words]
    return np.concatenate(pieces[:-1]), words


def utterances_of(words: tuple[Word, ...]) -> Iterator[Result]:
    """Final results of words, which break off at long pauses."""
    kept: list[Word] = []
    for word in words:
        if kept and word.start_seconds - kept[-1].end_seconds > BREAK_SECONDS:
            yield Result.of(kept, True)
            kept = []
        kept.append(word)
    yield Result.of(kept, True)


def by_model(results: Iterable[Result], tagger: Tagger) -> Written:
    """As people get them."""
    readable, found = ReadableText(tagger), []
    state, results = readable.start(), list(results)
    for number, result in enumerate(results, 1):
        written, state = readable.write(result, state, last=number == len(results))
        for word in written.words:
            mark = word.text[-1] if word.text[-1] in MARKS and not ABBREVIATED.fullmatch(word.text) else ""
            *before, last = word.spoken
            found += [(one.text, Form("", one is word.spoken[0] and word.text[0].isupper())) for one in before]
            found.append((last.text, Form(mark, not before and word.text[0].isupper())))
    return found


def writing_seconds(results: list[Result], tagger: Tagger) -> float:
    """Of processor time, for the results of a live stream, partial ones too."""
    readable = ReadableText(tagger)
    state, begun = readable.start(), time.process_time()
    for result in results:
        _, state = readable.write(result, state)
    return time.process_time() - begun


def by_rule(results: Iterable[Result], tagger: Tagger) -> Written:
    """A full stop where speech breaks off, a capital after it and for names."""
    found = []
    for result in results:
        for place, word in enumerate(result.words):
            capital = not place or word.text in ALWAYS_CAPITAL or word.text.removesuffix("'s") in tagger.names
            found.append((word.text, Form("." if place == len(result.words) - 1 else "", capital)))
    return found


def together(true: Written, found: Written) -> tuple[list[tuple[Form | None, Form | None]], int]:
    """The forms of words that belong together, None for a word that has no other; and how many words are wrong."""
    texts = (" ".join(word for word, _ in words) for words in (true, found))
    pairs: list[tuple[Form | None, Form | None]] = []
    compared = jiwer.process_words(*texts)
    for chunk in compared.alignments[0]:
        ours = [form for _, form in true[chunk.ref_start_idx : chunk.ref_end_idx]]
        theirs = [form for _, form in found[chunk.hyp_start_idx : chunk.hyp_end_idx]]
        count = max(len(ours), len(theirs))
        pairs += zip([*ours, *[None] * (count - len(ours))], [*theirs, *[None] * (count - len(theirs))], strict=True)
    return pairs, compared.substitutions + compared.deletions + compared.insertions


if __name__ == "__main__":
    main()
