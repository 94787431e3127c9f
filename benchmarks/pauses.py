"""Pauses in read speech, by the mark before them: what `asr train-punctuation` draws its pauses from.

    python benchmarks/pauses.py TABLE [TEXT...] [--source NAME] [--every N] [--recognised] [--model NAME_OR_PATH]

Looks for the transcripts of TABLE in the TEXTs that were read out, aligns them with their recordings as `asr align`
does, and prints for words after no mark, after commas and after the ends of sentences how often a pause is there at
all, its median and the spread of its logarithm. With --recognised the words are recognised and their times those of
live results; the marks are then those of the words that were recognised rightly. Without a TEXT it does so for words
after any mark or none.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import jiwer
import numpy as np
from spoken_references import Spoken, found_in

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.data.manifest import Utterance, load_audio, read_manifest
from asr.decoding.word_alignment import WordAligner
from asr.errors import DataError
from asr.training.punctuation_text import COMMA, ENDING
from asr.words.lexicon import Lexicon
from asr.words.tagger import PAUSE_BORDERS

NAMES = {0: "no mark", COMMA: "a comma"}
LEAST_SECONDS = PAUSE_BORDERS[0]  # shorter ones are not told from none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("texts", type=Path, nargs="*")
    parser.add_argument("--source", help="of the utterances, as in the table")
    parser.add_argument("--every", type=int, default=1, help="take every N-th utterance that was found")
    parser.add_argument("--recognised", action="store_true")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    utterances = [one for one in read_manifest(options.table).utterances if options.source in (None, one.source)]
    pauses: dict[str, list[float]] = defaultdict(list)
    if options.texts:
        spoken = found_in(utterances, options.texts)[:: options.every]
        utterances = [one.utterance for one in spoken]
        for mark, pause in (recognised if options.recognised else aligned)(spoken, options.model):
            pauses["the end of a sentence" if mark in ENDING else NAMES[mark]].append(pause)
    else:
        utterances = utterances[:: options.every]
        pauses["any mark or none"] = list(heard(utterances, options.model))
    hours, speakers = sum(one.seconds for one in utterances) / 3600, {one.speaker for one in utterances}
    print(f"{len(utterances)} utterances, {hours:.2f} h, {len(speakers)} speakers")
    print("| after | words | a pause % | median s | spread of its logarithm | longer than 0.7 s % |\n|" + "---|" * 6)
    for name, times in sorted(pauses.items()):
        found = np.array(times)
        there = found[found >= LEAST_SECONDS]
        print(
            f"| {name} | {len(found)} | {100 * len(there) / len(found):.1f} | {np.median(there):.2f} "
            f"| {np.log(there).std():.2f} | {100 * (found > 0.7).mean():.1f} |"
        )


def aligned(spoken: list[Spoken], model: str) -> Iterator[tuple[int, float]]:
    """Mark and pause after each word but the last ones, by forced alignment."""
    package = ModelPackage.open(model)
    aligner = WordAligner(package, Lexicon.load())
    for one in spoken:
        samples = load_audio(one.utterance, package.rates.sample_rate)
        try:
            words = aligner.align(samples, " ".join(tagged.word for tagged in one.words))
        except DataError:
            continue
        for tagged, word, after in zip(one.words, words, words[1:], strict=False):
            yield tagged.mark, after.start_seconds - word.end_seconds


def recognised(spoken: list[Spoken], model: str) -> Iterator[tuple[int, float]]:
    """Mark and pause after each word that was recognised rightly and whose next word was."""
    recognizer = Recognizer.load(model, engine="int8")
    for one in spoken:
        words = recognizer.transcribe(load_audio(one.utterance, recognizer.sample_rate)).words
        if not words:
            continue
        reference, found = " ".join(tagged.word for tagged in one.words), " ".join(word.text for word in words)
        for chunk in jiwer.process_words(reference, found).alignments[0]:
            if chunk.type == "equal":
                for place in range(chunk.ref_start_idx, chunk.ref_end_idx - 1):
                    word = words[place - chunk.ref_start_idx + chunk.hyp_start_idx]
                    after = words[place - chunk.ref_start_idx + chunk.hyp_start_idx + 1]
                    yield one.words[place].mark, after.start_seconds - word.end_seconds


def heard(utterances: list[Utterance], model: str) -> Iterator[float]:
    """Pauses after each recognised word but the last ones."""
    recognizer = Recognizer.load(model, engine="int8")
    for one in utterances:
        words = recognizer.transcribe(load_audio(one, recognizer.sample_rate)).words
        yield from (after.start_seconds - word.end_seconds for word, after in zip(words, words[1:], strict=False))


if __name__ == "__main__":
    main()
