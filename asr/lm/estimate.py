"""From plain text to an n-gram model in ARPA form; the estimation is KenLM's `lmplz`."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import DataError, UsageError
from asr.files import text_lines
from asr.lm.ngram import BEGINS, ENDS, UNKNOWN, NgramModel, mixed, pruned
from asr.words.text import normalise, unusable_characters

HOW_TO_GET_LMPLZ = (
    "lmplz, KenLM's estimator, was not found. Build it once: pip download kenlm --no-binary :all: --no-deps, unpack "
    "the archive, then cmake -B build && make -C build lmplz (Debian: apt-get install cmake g++ libboost-all-dev); "
    "put build/bin on PATH or name it with --lmplz"
)
_PLAIN = re.compile(r"[A-Za-z' ]*")


@dataclass(frozen=True)
class NgramOptions:
    """What is estimated."""

    order: int = 3
    prune: tuple[int, ...] = (0, 2, 3)  # for each order, n-grams seen at most this often are dropped
    vocabulary: int = 50_000  # most frequent words kept
    memory: str = "2G"
    shares: tuple[float, ...] = ()  # of each text, in a mixture of models; without any, all texts make one model
    most: int | None = None  # n-grams kept, those that matter most

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 5:
            raise UsageError(f"the order of an n-gram model must be 1 to 5, got {self.order}")
        if not self.prune or len(self.prune) > self.order or list(self.prune) != sorted(self.prune) or self.prune[0]:
            raise UsageError(
                "prune must begin with 0, never fall, and have at most one number an order; got "
                + " ".join(map(str, self.prune))
            )
        if self.vocabulary < 1:
            raise UsageError(f"the vocabulary must have at least one word, got {self.vocabulary}")
        if self.shares and (min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-3):
            raise UsageError(f"shares must be above 0 and sum to 1, got {' '.join(map(str, self.shares))}")
        if self.most is not None and (self.order < 2 or self.most <= self.vocabulary):
            raise UsageError(
                f"the n-grams kept must be more than the vocabulary's {self.vocabulary} words, and the order at least "
                f"2; got {self.most} and {self.order}"
            )


@dataclass(frozen=True)
class TextCorpus:
    """Normalised sentences in a file, and what was counted in them."""

    path: Path
    sentences: int
    left_out: int  # lines with digits, symbols or foreign letters, which must be spelled out by hand
    words: Counter[str]


def write_corpus(texts: Sequence[Path], path: Path) -> TextCorpus:
    """Bring text files (plain, .gz, .xz, .bz2) into normal form, a sentence per line.

    Raises:
        DataError: a file cannot be read or is not text, or no words are left of all of them.
    """
    words: Counter[str] = Counter()
    count = left_out = 0
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            for sentence in map(_normal_words, text_lines(text)):
                if sentence is None:
                    left_out += 1
                elif sentence:
                    count += 1
                    words.update(sentence)
                    file.write(" ".join(sentence) + "\n")
    if not words:
        names = ", ".join(map(str, texts))
        raise DataError(f"{names}: no words to learn from ({left_out} lines have characters that must be spelt out)")
    return TextCorpus(path, count, left_out, words)


def sentences(text: Path) -> Iterator[list[str]]:
    """Words of each sentence of a text in normal form, without lines that must be spelled out by hand.

    Raises:
        DataError: it cannot be read or is not text.
    """
    return filter(None, map(_normal_words, text_lines(text)))


def _normal_words(line: str) -> list[str] | None:
    """The words of a line, perhaps none; None if it has characters that must be spelt out."""
    line = line.strip()
    if _PLAIN.fullmatch(line):
        line = line.lower()
        if "'" not in line:  # most lines; checking each of their characters would take most of the time
            return line.split()
    elif unusable_characters(line):
        return None
    return [word for word in normalise(line).split() if word.strip("'")]


def find_lmplz(given: Path | None = None) -> Path:
    """The estimator; raises UsageError, with how to get it, where there is none."""
    found = shutil.which(str(given or "lmplz"))
    if found is None:
        raise UsageError(f"{given} is no program that can be run" if given else HOW_TO_GET_LMPLZ)
    return Path(found)


def estimate_mixture(
    corpora: Sequence[TextCorpus], words: Iterable[str], arpa: Path, options: NgramOptions, lmplz: Path
) -> None:
    """Estimate a model of each corpus, mix them by ``options.shares``, prune to ``options.most``, and write the result.

    Raises:
        DataError: lmplz failed; the message is its own.
    """
    words = list(words)
    if len(corpora) == 1 and options.most is None:
        return estimate(corpora[0], words, arpa, options, lmplz)
    shares = options.shares or (1.0,)
    symbols = [UNKNOWN, BEGINS, ENDS, *words]
    models = []
    frequencies = np.zeros(len(symbols))
    for corpus, share in zip(corpora, shares, strict=True):
        estimate(corpus, words, arpa, options, lmplz)
        models.append(NgramModel.read(arpa, symbols))
        total = corpus.words.total()
        often = {**corpus.words, BEGINS: corpus.sentences, ENDS: corpus.sentences}
        frequencies += share / total * np.array([often.get(word, 0) for word in symbols])
    model = mixed(models, shares) if len(models) > 1 else models[0]
    if options.most is not None:
        model = pruned(model, options.most, frequencies)
    model.write(arpa)


def estimate(corpus: TextCorpus, words: Iterable[str], arpa: Path, options: NgramOptions, lmplz: Path) -> None:
    """Estimate a model with modified Kneser-Ney smoothing (Heafield et al. 2013) over ``words`` and write it.

    Words that the corpus lacks count as seen once, alone.

    Raises:
        DataError: lmplz failed; the message is its own.
    """
    words = list(words)
    listed = arpa.with_suffix(".vocabulary")
    listed.write_text(" ".join(words) + "\n", encoding="utf-8")
    with corpus.path.open("a", encoding="utf-8") as file:
        file.writelines(f"{word}\n" for word in words if word not in corpus.words)
    command = [str(lmplz), "--order", str(options.order), "-S", options.memory, "-T", str(arpa.parent)]
    command += ["--limit_vocab_file", str(listed), "--discount_fallback", "--prune", *map(str, options.prune)]
    with corpus.path.open("rb") as source, arpa.open("wb") as target:
        run = subprocess.run(command, stdin=source, stdout=target, stderr=subprocess.PIPE)
    if run.returncode:
        lines = run.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit status {run.returncode}"]
        raise DataError(f"lmplz failed: {lines[-1]}")
