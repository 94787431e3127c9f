"""From plain text to a language model folder."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.errors import UsageError
from asr.graph.build import arpa_words, build_graph
from asr.lm.estimate import NgramOptions, estimate_mixture, find_lmplz, write_corpus
from asr.lm.folder import DecodingWeights, write_language_model
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
    states: int
    arcs: int
    bytes: int


def build_language_model(
    texts: Sequence[Path],
    output: Path,
    extra: dict[str, tuple[Pronunciation, ...]],
    options: NgramOptions,
    lmplz: Path | None = None,
    weights: DecodingWeights | None = None,
    report: Callable[[str], None] = lambda stage: None,
) -> Built:
    """Estimate an n-gram model, add pronunciations, compose, pack; the folder appears when all of it is done.

    Args:
        texts: text files, a sentence per line.
        output: folder to write: new, empty, or a language model that is replaced.
        extra: words to know in any case, with their pronunciations where they are known.
        options: of the n-gram model.
        lmplz: KenLM's estimator; looked for on PATH by default.
        weights: to decode with; the defaults of the acoustic model's units where None.
        report: called with the name of each stage.
    Raises:
        UsageError: no lmplz, a folder that holds something else, or not a share for each text.
        DataError: text that cannot be read or has no words, a word without a pronunciation, lmplz failed.
    """
    if options.shares and len(options.shares) != len(texts):
        raise UsageError(f"{len(texts)} texts need as many shares, got {len(options.shares)}")
    if output.exists() and not (output / "config.json").is_file() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} exists and is no language model folder; give another name")
    estimator = find_lmplz(lmplz)
    phones = TokenTable(PHONES)
    lexicon = Lexicon.load(extra, guesses=1)
    with tempfile.TemporaryDirectory(prefix="rill-lm-") as name:
        scratch = Path(name)
        arpa = scratch / "model.arpa"
        report("reading text")
        groups = [[text] for text in texts] if options.shares else [texts]
        corpora = [write_corpus(group, scratch / f"corpus-{k}.txt") for k, group in enumerate(groups)]
        counts = sum((corpus.words for corpus in corpora), Counter())
        known = list(dict.fromkeys([*extra, *(word for word, _ in counts.most_common(options.vocabulary))]))
        report("estimating n-grams")
        estimate_mixture(corpora, known, arpa, options, estimator)
        report("looking up pronunciations")
        spoken = arpa_words(arpa)
        pronunciations = [(word, phones.encode(sound)) for word in spoken for sound in lexicon.pronounce(word)]
        report("composing the graph")
        graph = build_graph(arpa, pronunciations, len(phones), scratch)
        report("packing")
        about = {key: value for key, value in asdict(options).items() if key != "memory"} | {"words": len(spoken)}
        write_language_model(output, graph, pronunciations, phones, weights, about)
    total = counts.total()
    return Built(
        sentences=sum(corpus.sentences for corpus in corpora),
        left_out=sum(corpus.left_out for corpus in corpora),
        text_words=total,
        covered=sum(counts[word] for word in known) / total,
        words=len(spoken),
        guessed=sum(word not in lexicon for word in spoken),
        states=len(graph.counts),
        arcs=len(graph.phones),
        bytes=sum(file.stat().st_size for file in output.iterdir()),
    )
