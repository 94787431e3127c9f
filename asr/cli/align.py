"""`asr align`: word times of a known text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Model


def align(
    audio: Annotated[Path, typer.Argument(help="A recording, any audio or video file.", show_default=False)],
    text: Annotated[Path, typer.Argument(help="A text file with its transcript.", show_default=False)],
    model: Model = None,
    words: Annotated[
        Path | None,
        typer.Option(help='A file of pronunciations that the dictionary lacks: "word PHONE PHONE ..." per line.'),
    ] = None,
    format: Annotated[
        str, typer.Option(help="tsv: start, end, word, confidence; or jsonl: an object per word.")
    ] = "tsv",
) -> None:
    """Find when each word of TEXT is spoken in AUDIO; times in seconds.

    Pronunciations of words that the dictionary lacks are guessed from their letters.
    """
    import json
    from dataclasses import asdict

    import numpy as np

    from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
    from asr.audio.files import AudioFile
    from asr.decoding.word_alignment import WordAligner
    from asr.errors import DataError, UsageError
    from asr.words.lexicon import Lexicon, read_entries

    if format not in ("tsv", "jsonl"):
        raise UsageError(f"unknown format {format!r}; give tsv or jsonl")
    try:
        transcript = text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{text} cannot be read as text: {error}") from None
    lexicon = Lexicon.load(read_entries(words) if words else None)
    package = ModelPackage.open(model or DEFAULT_MODEL)
    with AudioFile(audio, package.rates.sample_rate) as file:
        samples = np.concatenate([np.zeros(0, np.float32), *file])
    for word in WordAligner(package, lexicon).align(samples, transcript):
        if format == "jsonl":
            print(json.dumps(asdict(word)))
        else:
            print(f"{word.start_seconds:.2f}\t{word.end_seconds:.2f}\t{word.text}\t{word.confidence:.2f}")
