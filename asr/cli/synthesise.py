"""`asr synthesise`: make synthetic training speech from text."""

from pathlib import Path
from typing import Annotated

import typer


def synthesise(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...",
            help="Texts, one sentence per line, plain or compressed (.xz, .gz, .bz2).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for train.tsv and wav/. What it holds already is kept.")
    ],
    count: Annotated[int, typer.Option(help="How many sentences.", min=1)] = 1200,
    share: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the sentences drawn from each TEXT, given once per TEXT; they add up to 1. (default: equal)"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of sentences, paces and pitches.")] = 1,
    workers: Annotated[int, typer.Option(help="Programs that run at once.", min=1)] = 2,
) -> None:
    """Have flite and espeak-ng read sentences of TEXT aloud, as a training table with audio."""
    from rich.console import Console
    from rich.progress import track

    from asr.cli.options import training_extra
    from asr.errors import UsageError

    with training_extra():
        from asr.data.synthetic import plan, require_voices
        from asr.data.synthetic import synthesise as speak_all

    shares = share or [1 / len(texts)] * len(texts)
    if len(shares) != len(texts):
        raise UsageError(f"{len(shares)} --share for {len(texts)} texts: give one --share per text, or none")
    if len(set(texts)) != len(texts):
        raise UsageError("the same text is given twice: name each text once")
    require_voices()
    lines = plan(dict(zip(texts, shares, strict=True)), count, seed)
    console = Console(stderr=True)
    spoken = speak_all(lines, output, workers)
    for _ in track(spoken, "Speaking", total=len(lines), console=console, disable=not console.is_terminal):
        pass
    console.print(f"{len(lines)} utterances in {output / 'train.tsv'}", highlight=False)
