"""`asr lm`: language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

lm = typer.Typer(help="Language models: what people are likely to say.", no_args_is_help=True)


@lm.callback()
def _group() -> None:
    """Language models: what people are likely to say."""


@lm.command()
def build(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...", help="Plain text, a sentence a line; .gz, .xz and .bz2 too.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)],
    words: Annotated[
        Path | None,
        typer.Option(help="Words to know in any case, one a line, each with its phones in ARPAbet if you know them."),
    ] = None,
    vocabulary: Annotated[int, typer.Option(help="How many of the text's most frequent words to know.")] = 50_000,
    order: Annotated[int, typer.Option(help="Words an n-gram may have.")] = 3,
    prune: Annotated[
        str, typer.Option(help="For each order, the count up to which n-grams are dropped; the last one goes on.")
    ] = "0,2,3",
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="S,S...",
            help="Estimate a model of each TEXT and mix them by these shares, as 0.7,0.3. [default: one of all]",
        ),
    ] = None,
    most: Annotated[
        int | None, typer.Option(help="How many n-grams to keep, the ones that matter most (pruning by entropy).")
    ] = None,
    lmplz: Annotated[Path | None, typer.Option(help="KenLM's estimator. [default: lmplz on PATH]")] = None,
    memory: Annotated[str, typer.Option(help="What lmplz may use, as 2G or 50%.")] = "2G",
) -> None:
    """Build a language model from plain text, to be given to --lm.

    Estimates a pruned n-gram model with KenLM's lmplz, looks up or guesses pronunciations, and composes both into a
    decoding graph. A build that fails leaves nothing behind.
    """
    from rich.console import Console

    from asr.errors import UsageError
    from asr.language_model_build import build_language_model
    from asr.lexicon import read_entries
    from asr.ngram import NgramOptions

    console = Console(stderr=True, highlight=False)
    try:
        counts = tuple(int(part) for part in prune.split(","))
    except ValueError:
        raise UsageError(f"prune must be whole numbers with commas between them, got {prune!r}") from None
    try:
        parts = tuple(float(part) for part in shares.split(",")) if shares else ()
    except ValueError:
        raise UsageError(f"shares must be numbers with commas between them, got {shares!r}") from None
    options = NgramOptions(order, counts[:order], vocabulary, memory, parts, most)
    extra = read_entries(words, bare_words=True) if words else {}
    with console.status("starting") as status:
        built = build_language_model(texts, output, extra, options, lmplz, report=status.update)
    for line in (
        f"{built.sentences} sentences, {built.text_words} words of text",
        f"{built.left_out} lines left out for characters that must be spelt out",
        f"{built.words} words known, which are {100 * built.covered:.1f} % of the text",
        f"{built.guessed} pronunciations guessed",
        f"{built.states} states, {built.arcs} arcs, {built.bytes / 1e6:.1f} MB: {output}",
    ):
        console.print(line)
