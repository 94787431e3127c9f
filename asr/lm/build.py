"""From plain text to a language model folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.errors import DataError, UsageError
from asr.graph.build import build_graph
from asr.graph.graph import Graph
from asr.lm.corpus import TextCorpus, WordNumbers
from asr.lm.estimate import NgramOptions, Texts
from asr.lm.folder import DecodingWeights, LanguageModel, copy_lstm, write_language_model
from asr.lm.large_ngrams import LargeNgrams
from asr.lm.ngram import mixed, pruned
from asr.words.lexicon import Lexicon, Pronunciation
from asr.words.tokens import PHONES, TokenTable


@dataclass(frozen=True)
class Built:
    """What a language model was made of."""

    sentences: int
    left_out: int  # lines with characters that must be spelt out
    text_words: int
    covered: float  # part of the text's words that the vocabulary has
    words: int
    guessed: int  # words whose pronunciation was guessed
    ngrams: int
    second: int  # n-grams of the second model, 0 without one
    states: int
    arcs: int
    bytes: int


def build_language_model(
    texts: Sequence[Path],
    output: Path,
    extra: dict[str, tuple[Pronunciation, ...]],
    options: NgramOptions,
    vocabulary: int = 50_000,
    second: NgramOptions | None = None,
    weights: DecodingWeights | None = None,
    report: Callable[[str], None] = lambda stage: None,
) -> Built:
    """Estimate n-gram models, add pronunciations, compose, pack; the folder appears when all of it is done.

    Args:
        texts: text files, a sentence per line; a folder stands for all files in it.
        output: folder to write: new, empty, or a language model that is replaced.
        extra: words to know in any case, with their pronunciations where they are known.
        options: of the n-gram model in the decoding graph.
        vocabulary: how many of the texts' words to know.
        second: options of a larger model of the same words, for the second pass.
        weights: to decode with; the defaults of the acoustic model's units where None.
        report: called with the name of each stage.
    Raises:
        UsageError: a folder that holds something else, not a share for each text, or too few n-grams for the words.
        DataError: text that cannot be read or has no words, or a word without a pronunciation.
    """
    for shares in (options.shares, second.shares if second else ()):
        if shares and len(shares) != len(texts):
            raise UsageError(f"{len(texts)} texts need as many shares, got {len(shares)}")
    _check_output(output)
    report("reading text")
    numbers = WordNumbers()
    found = Texts([TextCorpus.read(_files(text), numbers) for text in texts], numbers)
    words = found.vocabulary(vocabulary, options.shares, extra)
    for most in (options.most, second.most if second else None):
        if most is not None and most <= len(words) + 2:
            raise UsageError(f"the n-grams kept must be more than the {len(words)} words, got {most}")
    report("looking up pronunciations")
    phones = TokenTable(PHONES)
    lexicon = Lexicon.load(extra, guesses=1)
    pronunciations = [(word, phones.encode(sound)) for word in words for sound in lexicon.pronounce(word)]
    report("estimating n-grams")
    model = found.model(words, options)
    ngrams = model.size
    with tempfile.TemporaryDirectory(prefix="rill-lm-") as name:
        scratch = Path(name)
        model.write(scratch / "model.arpa")
        del model
        report("composing the graph")
        graph = build_graph(scratch / "model.arpa", pronunciations, len(phones), scratch)
    larger = None
    if second is not None:
        report("estimating the n-grams of the second pass")
        larger = LargeNgrams.from_model(found.model(words, second), words)
    report("packing")
    about = asdict(options) | {"words": len(words)} | ({} if second is None else {"second": asdict(second)})
    write_language_model(output, graph, pronunciations, phones, weights, about, larger)
    return _built(found, words, lexicon, ngrams, larger, graph, output)


def adapt_language_model(
    texts: Sequence[Path],
    base: Path,
    output: Path,
    extra: dict[str, tuple[Pronunciation, ...]],
    share: float = 0.5,
    most: int = 1_250_000,
    report: Callable[[str], None] = lambda stage: None,
) -> Built:
    """Mix a text and its words into a language model that has a second model, without the text that it was made of.

    An LSTM of the base goes on to score the words that it knows.

    Args:
        texts: text files, as for `build_language_model`, together some hundred sentences or more.
        base: folder of the language model, with ``second.packed``.
        output: folder to write: new, empty, or a language model that is replaced.
        extra: words to know in any case, with their pronunciations where they are known.
        share: of the text in the mixture, above 0 and below 1.
        most: n-grams of the graph.
        report: called with the name of each stage.
    Raises:
        UsageError: a share that is none, a base without a second model, an output that holds something else, or
            fewer n-grams than words.
        ModelError: the base is damaged.
        DataError: as for `build_language_model`.
    """
    if not 0 < share < 1:
        raise UsageError(f"the text's share must be above 0 and below 1, got {share}")
    _check_output(output)
    phones = TokenTable(PHONES)
    known = LanguageModel.open(base, phones)
    if known.second is None:
        raise UsageError(f"{base} has no second model, which is what a text is mixed into; build one with --second")
    report("reading text")
    numbers = WordNumbers()
    found = Texts([TextCorpus.read([file for text in texts for file in _files(text)], numbers)], numbers)
    own = dict.fromkeys(known.words[1:])
    added = [word for word in found.vocabulary(len(numbers), (), extra) if word not in own]
    words = [*own, *added]
    if most <= len(words) + 2:
        raise UsageError(f"the n-grams kept must be more than the {len(words)} words, got {most}")
    report("looking up pronunciations")
    lexicon = Lexicon.load(extra, guesses=1)
    sounds = [
        (word, sound) for word, listed in zip(own, list(known.pronunciations)[1:], strict=True) for sound in listed
    ]
    sounds = [(word, sound) for word, sound in sounds if not extra.get(word)]
    sounds += [(word, tuple(phones.encode(sound))) for word in own if extra.get(word) for sound in extra[word]]
    sounds += [(word, tuple(phones.encode(sound))) for word in added for sound in lexicon.pronounce(word)]
    ids = {word: k for k, word in enumerate(words)}
    pronunciations = sorted(sounds, key=lambda entry: ids[entry[0]])
    report("mixing n-grams")
    larger = known.second.open().model(tuple(own)).with_words(added)
    small = found.model(words, NgramOptions(larger.order, (0,)))
    mixture = mixed([larger, small], [1 - share, share])
    del larger, small
    model = pruned(mixture.shorter(3).normalised(), most, mixture.frequencies())
    packed = LargeNgrams.from_model(mixture, words)
    del mixture
    report("composing the graph")
    with tempfile.TemporaryDirectory(prefix="rill-lm-") as name:
        model.write(Path(name) / "model.arpa")
        graph = build_graph(Path(name) / "model.arpa", pronunciations, len(phones), Path(name))
    report("packing")
    about = {"words": len(words), "most": most, "adapted": {"share": share, "words": len(added)}}
    write_language_model(output, graph, pronunciations, phones, None, about, packed)
    copy_lstm(base, output)
    return _built(found, words, lexicon, model.size, packed, graph, output)


def _check_output(output: Path) -> None:
    """Raises UsageError unless a language model may be written there."""
    if output.exists() and not (output / "config.json").is_file() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} exists and is no language model folder; give another name")


def _built(
    found: Texts,
    words: Sequence[str],
    lexicon: Lexicon,
    ngrams: int,
    larger: LargeNgrams | None,
    graph: Graph,
    output: Path,
) -> Built:
    return Built(
        sentences=sum(corpus.sentences for corpus in found.corpora),
        left_out=sum(corpus.left_out for corpus in found.corpora),
        text_words=sum(corpus.words for corpus in found.corpora),
        covered=found.covered(words),
        words=len(words),
        guessed=sum(word not in lexicon for word in words),
        ngrams=ngrams,
        second=0 if larger is None else len(larger.last),
        states=len(graph.counts),
        arcs=len(graph.phones),
        bytes=sum(file.stat().st_size for file in output.iterdir()),
    )


def _files(text: Path) -> list[Path]:
    if not text.is_dir():
        return [text]
    files = sorted(path for path in text.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise DataError(f"{text}: there is no file in this folder")
    return files
