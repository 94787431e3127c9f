"""`asr lm`: language models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

Number = TypeVar("Number", int, float)
lm = typer.Typer(help="Language models: what people are likely to say.", no_args_is_help=True)


@lm.callback()
def _group() -> None:
    """Language models: what people are likely to say."""


@lm.command()
def build(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...",
            help="Plain text, a sentence a line; .gz, .xz and .bz2 too. A folder is a text of all files in it.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)],
    words: Annotated[
        Path | None,
        typer.Option(help="Words to know in any case, one a line, each with its phones in ARPAbet if you know them."),
    ] = None,
    vocabulary: Annotated[int, typer.Option(help="How many of the text's words to know.", min=1)] = 50_000,
    order: Annotated[int, typer.Option(help="Words an n-gram may have.")] = 3,
    prune: Annotated[
        str, typer.Option(help="For each order, the count up to which n-grams are dropped; the last one goes on.")
    ] = "0,1,2",
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="S,S...",
            help="Estimate a model of each TEXT and mix them by these shares, as 0.7,0.3. (default: one of all)",
        ),
    ] = None,
    most: Annotated[
        int | None, typer.Option(help="How many n-grams to keep, the ones that matter most (pruning by entropy).")
    ] = None,
    second: Annotated[
        int | None,
        typer.Option(help="Add a model of so many n-grams, which the decoder looks up beside the graph.", min=1),
    ] = None,
    second_order: Annotated[int, typer.Option(help="Words that an n-gram of it may have.")] = 4,
    second_prune: Annotated[str, typer.Option(help="As --prune, for it.")] = "0,0,1",
    second_shares: Annotated[
        str | None, typer.Option(metavar="S,S...", help="As --shares, for it. (default: the same)")
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Mix TEXT and its words into the language model of this model, or this one, instead of building anew. "
            "Of the options only --words, --most and --adapt-share go with it.",
        ),
    ] = None,
    adapt_share: Annotated[float, typer.Option(help="With --adapt: TEXT's share of the mixture.")] = 0.5,
) -> None:
    """Build a language model from plain text, to be given to --lm.

    Estimates a pruned n-gram model, looks up or guesses pronunciations, and composes both into a decoding graph. A
    build that fails leaves nothing behind.
    """
    from rich.console import Console

    from asr.acoustic.folder import find_model
    from asr.lm.build import adapt_language_model, build_language_model
    from asr.lm.estimate import NgramOptions
    from asr.lm.folder import LEXICON
    from asr.words.lexicon import read_entries

    console = Console(stderr=True, highlight=False)
    parts = _numbers("shares", shares or "", float)
    options = NgramOptions(order, _numbers("prune", prune, int)[:order], parts, most)
    larger = None
    if second is not None:
        parts = _numbers("second-shares", second_shares or "", float) or parts
        larger = NgramOptions(second_order, _numbers("second-prune", second_prune, int)[:second_order], parts, second)
    extra = read_entries(words, bare_words=True) if words else {}
    with console.status("starting") as status:
        if adapt is not None:
            base = Path(adapt) if (Path(adapt) / LEXICON).is_file() else find_model(adapt) / "lm"
            kept = {} if most is None else {"most": most}
            built = adapt_language_model(texts, base, output, extra, adapt_share, **kept, report=status.update)
        else:
            built = build_language_model(texts, output, extra, options, vocabulary, larger, report=status.update)
    for line in (
        f"{built.sentences} sentences, {built.text_words} words of text",
        f"{built.left_out} lines left out for characters that must be spelt out",
        f"{built.words} words known, which are {100 * built.covered:.1f} % of the text",
        f"{built.guessed} pronunciations guessed",
        f"{built.ngrams} n-grams" + (f", {built.second} for the second pass" if built.second else ""),
        f"{built.states} states, {built.arcs} arcs, {built.bytes / 1e6:.1f} MB: {output}",
    ):
        console.print(line)


def _numbers(name: str, written: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """Numbers with commas between them, perhaps none; raises UsageError."""
    from asr.errors import UsageError

    try:
        return tuple(kind(part) for part in written.split(",")) if written else ()
    except ValueError:
        kinds = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{name} must be {kinds} with commas between them, got {written!r}") from None


Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="An LSTM language model, from asr lm train-lstm.", show_default=False)
]
Ngram = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|FOLDER",
        help="An n-gram model to compare and mix with: in ARPA form, or the second one of a language model folder.",
    ),
]


@lm.command("train-lstm")
def train_lstm(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...", help="Plain text, a sentence a line; .gz, .xz and .bz2 too.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, or go on in.", show_default=False)],
    lexicon: Annotated[
        Path | None, typer.Option("--lm", help="Know the words of this language model, from asr lm build.")
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Begin with the weights, the shape and the words of another one."),
    ] = None,
    vocabulary: Annotated[int, typer.Option(help="Without --lm: how many frequent words to know.")] = 50_000,
    million_words: Annotated[float, typer.Option(help="To see, those seen more than once included.")] = 30.0,
    size: Annotated[int, typer.Option(help="Units of an LSTM layer.", min=1)] = 512,
    layers: Annotated[int, typer.Option(min=1)] = 1,
    dropout: Annotated[float, typer.Option(min=0.0, max=0.9)] = 0.0,
    rows: Annotated[int, typer.Option(help="Of text, read side by side.", min=1)] = 128,
    steps: Annotated[int, typer.Option(help="Words back that errors are propagated.", min=1)] = 24,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 3e-3,
    shares: Annotated[
        str | None, typer.Option(metavar="S,S...", help="Of each TEXT in what is seen. (default: by their lengths)")
    ] = None,
    ngram: Ngram = None,
    seed: int = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Cores to use. (default: all)", min=1)] = None,
) -> int:
    """Train an LSTM language model on plain text, to be given to --rescore.

    The last 1 % of each text (at most 1,000 sentences) is kept for measuring. Ctrl-C or a kill loses at most a minute:
    the same command goes on.
    """
    from asr.cli.options import training_extra

    with training_extra():
        import torch

        from asr.training.language_model import (
            LanguageModelProgress,
            LanguageTrainingOptions,
            export_language_model,
            train_language_model,
        )
        from asr.training.language_text import encode_texts
    from rich.console import Console

    from asr.cli.exits import INTERRUPTED
    from asr.errors import UsageError
    from asr.lm.folder import LEXICON
    from asr.lm.lstm import LstmLanguageModel
    from asr.models.language import LanguageConfig

    console = Console(stderr=True, highlight=False)
    parts = _numbers("shares", shares or "", float)
    if parts and len(parts) != len(texts):
        raise UsageError(f"{len(texts)} texts need as many shares, got {len(parts)}")
    options = LanguageTrainingOptions(million_words, rows, steps, learning_rate, shares=parts, seed=seed)
    known = begin = None
    if start_from is not None:
        if lexicon is not None:
            raise UsageError("--start-from knows the words of its model; leave out --lm")
        begin = LstmLanguageModel.open(start_from)
    if lexicon is not None:
        try:
            lines = (lexicon / LEXICON).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsageError(f"--lm {lexicon} has no {LEXICON}; give a folder that asr lm build made") from error
        known = list(dict.fromkeys(line.split(" ")[0] for line in lines))
    if threads is not None:
        torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    words = None if begin is None else begin.words
    text = encode_texts(texts, vocabulary, known, lambda stage: console.print(f"{stage} ..."), words)
    if begin is None:
        config = LanguageConfig.for_vocabulary(len(text.words), size, layers, dropout)
    else:
        config = LanguageConfig(begin.bands, begin.widths, begin.size, begin.layers, dropout)
    console.print(f"{text.size:,} words of text, {len(text.words):,} known")

    def report(progress: LanguageModelProgress) -> None:
        measured = "" if progress.perplexity is None else f", held-out perplexity {progress.perplexity:.1f}"
        console.print(
            f"batch {progress.batch} of {progress.batches}: {progress.loss:.3f} nats a word, "
            f"{progress.words_a_second:,.0f} words/s{measured}"
        )

    weights = None if begin is None else begin.weights()
    network, complete = train_language_model(text, config, options, output, report, device, weights=weights)
    if not complete:
        console.print(f"interrupted; the same command goes on in {output}")
        return INTERRUPTED
    export_language_model(network, text, output, options)
    size_mb = sum(file.stat().st_size for file in output.iterdir() if file.suffix != ".pt") / 1e6
    console.print(f"{output}: {size_mb:.1f} MB; checkpoint.pt is needed no more")
    held_out = output / "held_out.txt"
    held_out.write_text(text.held_out_text(), encoding="utf-8")
    _print_perplexities([held_out], output, ngram, carry=True)
    return 0


@lm.command()
def perplexity(
    folder: Folder,
    texts: Annotated[list[Path], typer.Argument(metavar="TEXT...", help="A sentence a line.", show_default=False)],
    ngram: Ngram = None,
    carry: Annotated[bool, typer.Option("--carry", help="Let the LSTM remember the sentences before.")] = False,
) -> None:
    """Print how well an LSTM language model foretells texts, and an n-gram model the same words."""
    _print_perplexities(texts, folder, ngram, carry)


@lm.command()
def generate(
    folder: Folder,
    prompt: Annotated[str, typer.Option(help="Words to go on from.")] = "",
    temperature: Annotated[float, typer.Option(help="Below 1 keeps to likely words, above 1 dares more.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same one gives the same words.")] = 0,
    words: Annotated[int, typer.Option(help="How many.")] = 50,
) -> None:
    """Let an LSTM language model go on from a prompt; a line a sentence."""
    from asr.lm.lstm import LstmLanguageModel
    from asr.lm.lstm import generate as drawn
    from asr.words.text import normalise

    model = LstmLanguageModel.open(folder)
    sentence = normalise(prompt).split()
    for word in drawn(model, sentence, temperature, seed, words):
        if word:
            sentence.append(word)
        elif sentence:
            print(" ".join(sentence), flush=True)
            sentence = []
    if sentence:
        print(" ".join(sentence))


def _print_perplexities(texts: list[Path], folder: Path, ngram: Path | None, carry: bool) -> None:
    from asr.lm.folder import LanguageModel
    from asr.lm.lstm import LstmLanguageModel
    from asr.lm.perplexity import ArpaModel, SecondModel, SentenceModel, measure_perplexity
    from asr.words.tokens import PHONES, TokenTable

    model = LstmLanguageModel.open(folder)
    other: SentenceModel | None = None
    if ngram is not None:
        other = SecondModel(LanguageModel.open(ngram, TokenTable(PHONES))) if ngram.is_dir() else ArpaModel(ngram)
    for text in texts:
        found = measure_perplexity(text, model, other, carry)
        beside = "" if found.ngram is None else f", n-grams {found.ngram:.1f}, the mean of both {found.mixed:.1f}"
        counts = f"{found.words} words, {found.unknown} unknown left out"
        print(f"{text}: perplexity LSTM {found.lstm:.1f}{beside}; {counts}")
