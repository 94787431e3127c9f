"""`asr evaluate`: word error rates of a model on transcribed recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import FullContext, RecognitionOptions, grouped


@grouped
def evaluate(
    tables: Annotated[
        list[Path],
        typer.Argument(metavar="TABLE", help="TSV or CSV of transcribed recordings.", show_default=False),
    ],
    recognition: RecognitionOptions,
    full_context: FullContext = False,
    chunk_ms: Annotated[int, typer.Option(help="Audio is streamed in chunks of this length.", min=1)] = 160,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write every utterance here as a JSON line.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write an HTML page here: error rates, confused words, the worst utterances with their audio."
        ),
    ] = None,
    worst: Annotated[int, typer.Option(help="Utterances in the report.", min=0)] = 20,
) -> int:
    """Stream the recordings of TABLE and print word and character error rates by source.

    TABLE has a header and the columns id, text and path (an audio file, relative to the table) or shard (a tar beside
    the table that holds ID.opus, ID.wav, ...); optionally source, speaker, seconds.
    """
    import json
    from dataclasses import asdict

    from asr.cli.exits import complain
    from asr.cli.options import training_extra

    with training_extra():
        from asr.data.manifest import load_audio, merge, read_manifest
        from asr.evaluation.report import write_report
        from asr.evaluation.score import recognise, score
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from asr.output.files import LineWriter
    from asr.recognizer import Recognizer

    if report is not None:
        _check_report(report)
    manifest = merge(read_manifest(table) for table in tables)
    options = recognition.recognizer(full_context=full_context)
    recognizer = Recognizer.open(options)
    console = Console(stderr=True)
    results = recognise(manifest.utterances, recognizer, chunk_ms)
    bar = track(results, "Evaluating", total=len(manifest.utterances), console=console, disable=not console.is_terminal)
    if output is None:
        hypotheses = list(bar)
    else:
        hypotheses = []
        with LineWriter(output) as writer:
            for hypothesis in bar:
                hypotheses.append(hypothesis)
                writer.write(json.dumps(asdict(hypothesis)))
    columns = ("source", "utterances", "words", "WER %", "sub", "del", "ins", "CER %", "real-time factor")
    context = "full context" if full_context else f"chunks of {chunk_ms} ms"
    table = Table(*columns, title=f"{options.model}, {options.engine}, {recognizer.decoder}, {context}")
    for row in score(hypotheses):
        table.add_row(
            row.source,
            str(row.utterances),
            str(row.words),
            f"{100 * row.word_error_rate:.1f}",
            str(row.substitutions),
            str(row.deletions),
            str(row.insertions),
            f"{100 * row.character_error_rate:.1f}",
            f"{row.real_time_factor:.4f}",
        )
    Console(width=None if console.is_terminal else 120).print(table)
    if report is not None:
        places = {utterance.id: utterance for utterance in manifest.utterances}
        rate = recognizer.sample_rate
        write_report(report, str(table.title), hypotheses, worst, lambda name: load_audio(places[name], rate), rate)
    for rejected in manifest.rejected:
        complain(f"left out {rejected.id or 'a row'} (line {rejected.line}): {rejected.reason}")
    return 1 if manifest.rejected else 0


def _check_report(path: Path) -> None:
    """Raise UsageError before the work, rather than after it, where a report cannot be written."""
    import os

    from asr.errors import UsageError

    folder = path.absolute().parent
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UsageError(f"--report {path} must be a file that ends in .html")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--report {path} cannot be written: {folder} is not a folder that this user may write in")
