"""`asr train-punctuation`: from written text to a model of marks and capitals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_punctuation(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...",
            help="Text as it is written, a paragraph or sentence a line; .gz, .xz and .bz2 too.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, or go on in.", show_default=False)],
    minutes: Annotated[float, typer.Option(help="Of training; the learning rate follows the clock.")] = 30.0,
    vocabulary: Annotated[int, typer.Option(help="How many frequent words to know.", min=1)] = 24_000,
    most: Annotated[float, typer.Option(help="Million words to read of each text.", min=0.001)] = 5.0,
    size: Annotated[int, typer.Option(help="Units of an LSTM layer.", min=1)] = 128,
    layers: Annotated[int, typer.Option(min=1)] = 1,
    look_ahead: Annotated[int, typer.Option(help="Words after a word that are read before it is tagged.", min=1)] = 3,
    rows: Annotated[int, typer.Option(help="Of text, read side by side.", min=1)] = 24,
    steps: Annotated[int, typer.Option(help="Words back that errors are propagated.", min=1)] = 32,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 4e-3,
    seed: Annotated[int, typer.Option(help="Of the weights and of the pauses.")] = 0,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="A punctuation model whose weights it begins with; a larger --size adds to it.", show_default=False
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch's choice]", min=1)] = None,
) -> int:
    """Train a model of English marks and capitals; stop it at will and give the same command to go on.

    Pauses are drawn as they lie in speech, long after sentences and short within them, and left out at random, so that
    the model works without. The last hundredth of each TEXT is kept for measuring.
    """
    from rich.console import Console

    from asr.cli.exits import INTERRUPTED
    from asr.cli.options import training_extra

    with training_extra():
        import num2words  # noqa: F401  (numbers in the text are spelt out)
        import torch

        from asr.training.punctuation import (
            PunctuationOptions,
            PunctuationProgress,
            export_punctuation,
        )
        from asr.training.punctuation import train_punctuation as trained
        from asr.training.punctuation_rows import outcomes, read_texts
    from asr.errors import UsageError
    from asr.models.punctuation import PunctuationConfig
    from asr.words.tagger import PAUSES, Tagger

    console = Console(stderr=True, highlight=False)
    options = PunctuationOptions(minutes, rows, steps, learning_rate, seed=seed)
    if output.is_file():
        raise UsageError(f"{output} is a file; --output names a folder")
    begin = None if start_from is None else Tagger.open(start_from)
    if threads is not None:
        torch.set_num_threads(threads)
    suffixes = PunctuationConfig(1).suffixes
    text = read_texts(texts, vocabulary, suffixes, round(most * 1e6), lambda stage: console.print(f"{stage} ..."))
    config = PunctuationConfig(
        len(text.words), suffixes, PAUSES, outcomes(), size=size, layers=layers, look_ahead=look_ahead
    )
    console.print(f"{text.size:,} words of text, {len(text.words):,} known")
    output.mkdir(parents=True, exist_ok=True)

    def report(progress: PunctuationProgress) -> None:
        scores = progress.scores or {}
        measured = (
            "; held out F1 " + ", ".join(f"{name} {value:.1f}" for name, value in scores.items()) if scores else ""
        )
        console.print(
            f"batch {progress.batch}, {progress.minutes:.1f} of {minutes:g} minutes: {progress.loss:.3f} nats a word, "
            f"{progress.words_a_second:,.0f} words/s{measured}"
        )

    network, complete = trained(text, config, options, output, report, start_from=begin)
    if not complete:
        console.print(f"interrupted; the same command goes on in {output}")
        return INTERRUPTED
    export_punctuation(network, text, output, {"minutes": minutes, "words_read": text.size})
    size_mb = sum(file.stat().st_size for file in output.iterdir() if file.suffix != ".pt") / 1e6
    console.print(f"{output}: {size_mb:.1f} MB; checkpoint.pt is needed no more")
    return 0
