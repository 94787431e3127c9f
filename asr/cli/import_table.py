"""`asr import`: a table of utterances from the corpus of others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asr.importing.item import Item, Reject

KINDS = ("commonvoice", "kaldi", "librispeech", "huggingface", "nemo", "ljspeech", "lhotse")


def import_table(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS) + ".", show_default=False)],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Its folder or table.", show_default=False)],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The TSV to write.", show_default=False)],
    copy: Annotated[
        Path | None,
        typer.Option(help="Folder for audio that is in no file of its own: parts of recordings (FLAC), Parquet."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="For the column source. (default: the kind)")] = None,
    numbers: Annotated[
        str, typer.Option(help="spell: write figures as words, as they are read aloud; reject: leave such texts out.")
    ] = "spell",
    text_column: Annotated[
        str | None, typer.Option(help="Of huggingface: the column of the text. (default: text, transcription, ...)")
    ] = None,
) -> None:
    """Write the table that asr train and asr evaluate read, from the corpus of another toolkit.

    Audio stays where it is. What cannot be used is named, with the reason, in OUT.rejected.tsv. Commands that a corpus
    contains are never run.
    """
    import sys

    from asr.cli.options import import_extra
    from asr.errors import UsageError

    with import_extra():
        import num2words  # noqa: F401

        from asr.importing.table import Importer, import_items

        if kind not in KINDS:
            raise UsageError(f"unknown kind {kind!r}; give {', '.join(KINDS)}")
        if numbers not in ("spell", "reject"):
            raise UsageError(f"unknown --numbers {numbers!r}; give spell or reject")
        if text_column is not None and kind != "huggingface":
            raise UsageError(f"--text-column goes with huggingface; {kind} says itself where its texts are")
        if not source.exists():
            raise UsageError(f"{source}: there is no such file or folder")
        if output.is_dir() or output.suffix.lower() != ".tsv":
            raise UsageError(f"{output} must be a file that ends in .tsv")
        importer = Importer(output.absolute(), copy, name or kind, numbers == "spell")
        done = import_items(_items(kind, source, text_column), importer)
    print(f"{done.used} utterances in {output}", file=sys.stderr)
    if done.rejected:
        print(f"{len(done.rejected)} left out, named in {done.rejects}:", file=sys.stderr)
        for reason, count in Counter(one.reason.split(":")[0] for one in done.rejected).most_common(5):
            print(f"  {count} because {reason}", file=sys.stderr)


def _items(kind: str, source: Path, text_column: str | None) -> Iterator[Item | Reject]:
    from asr.importing import folders, packed

    if kind == "huggingface":
        return packed.hugging_face(source, text_column)
    if kind == "lhotse":
        return packed.lhotse_cuts(source)
    readers = {
        "commonvoice": folders.common_voice,
        "kaldi": folders.kaldi,
        "librispeech": folders.libri_speech,
        "nemo": folders.nemo,
        "ljspeech": folders.lj_speech,
    }
    return readers[kind](source)
