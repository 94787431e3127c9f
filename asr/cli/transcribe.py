"""`asr transcribe`: audio files in, text out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import DecoderName, EngineName, LanguageModelFolder, Model

if TYPE_CHECKING:
    import numpy as np

    from asr.audio import AudioFile, RawAudio
    from asr.recognizer import Recognizer
    from streaming.results import Result

STDIN = "-"
LONG_SECONDS = 30.0  # from here on, or when the length is unknown, a progress bar is worth having


def transcribe(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Audio or video files; - for stdin.", show_default=False)
    ],
    format: Annotated[
        str,
        typer.Option(help="txt; jsonl: duration and word times too, an object a line; or srt, vtt, tsv, ctm, json."),
    ] = "txt",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write here instead of stdout; with several files and srt to json, a folder."
        ),
    ] = None,
    model: Model = None,
    engine: EngineName = "onnx",
    decoder: DecoderName = None,
    lm: LanguageModelFolder = None,
    chunk_ms: Annotated[int, typer.Option(help="Audio given to the model at once; the text is the same.")] = 2_000,
    raw_rate: Annotated[
        int | None, typer.Option(help="- is raw signed 16-bit little-endian mono samples at this rate in Hz.")
    ] = None,
) -> int:
    """Transcribe audio or video files of any length and format.

    Several files give a line each, in order, that starts with the file's name; subtitles, tables and json go into a
    file each, named like the recording. A file that fails is named on stderr, the others are still transcribed, and the
    exit status is 1. Ctrl-C prints what was heard so far.
    """
    from asr.cli.main import INTERRUPTED, complain
    from asr.errors import AudioError, UsageError
    from asr.package import DEFAULT_MODEL
    from asr.recognizer import Recognizer, chunk_samples
    from asr.samples import check_rate
    from asr.subtitles import DOCUMENTS
    from asr.writers import LineWriter, line_format

    documents = _documents(files, format, output) if format in DOCUMENTS and len(files) > 1 else None
    line = DOCUMENTS[format] if format in DOCUMENTS else line_format(format, several=len(files) > 1)
    if files.count(STDIN) > 1:
        raise UsageError("- was given more than once; stdin can be read only once")
    if raw_rate is not None:
        check_rate(raw_rate)
        if STDIN not in files:
            raise UsageError("--raw-rate is about stdin; give - as the file")
    if output is not None and any(name != STDIN and _same(Path(name), output) for name in files):
        raise UsageError(f"--output {output} is one of the files to transcribe; give another name")
    recognizer = Recognizer.load(DEFAULT_MODEL if model is None else model, engine=engine, decoder=decoder, lm=lm)
    chunk = chunk_samples(chunk_ms, recognizer.sample_rate)
    status = 0
    with LineWriter(output if documents is None else None) as writer:
        for name in files:
            try:
                with _opened(name, recognizer.sample_rate, raw_rate) as audio:
                    result, interrupted = _recognise(recognizer, audio, chunk)
                    damage = audio.damage
            except AudioError as error:
                status = complain(error)
                continue
            if interrupted and not result.text:
                return INTERRUPTED
            if documents is None:
                writer.write(line(_printable(name), result))
            else:
                with LineWriter(documents[name]) as document:
                    document.write(line(_printable(name), result))
            if interrupted:
                complain(f"{name}: interrupted after {result.end_seconds:.1f} s of audio; the text is of that part")
                return INTERRUPTED
            if damage is not None:
                status = complain(damage)
    return status


def _documents(files: list[str], format: str, folder: Path | None) -> dict[str, Path]:
    """Where the document of each of several files goes."""
    from asr.errors import UsageError

    if folder is None:
        raise UsageError(f"several files as {format} need --output FOLDER, for a file each")
    paths = {name: folder / f"{'stdin' if name == STDIN else Path(name).stem}.{format}" for name in files}
    for name, path in paths.items():
        if sum(other == path for other in paths.values()) > 1:
            raise UsageError(f"{name} and another file would both be written to {path}; transcribe them one by one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {folder} cannot be a folder: {error.strerror}") from error
    return paths


def _recognise(recognizer: Recognizer, audio: AudioFile | RawAudio, chunk: int) -> tuple[Result, bool]:
    """The result of a recording, and whether Ctrl-C ended it early."""
    from asr.recognizer import Transcript
    from streaming.sources import rechunked

    transcript = Transcript(recognizer)
    interrupted = False

    def until_interrupted() -> Iterator[np.ndarray]:
        nonlocal interrupted
        try:
            yield from audio
        except KeyboardInterrupt:  # while waiting for audio: the end of it, so that what has come is still heard
            interrupted = True

    try:
        with _progress(audio) as show:
            for samples in rechunked(until_interrupted(), chunk):
                transcript.hear(samples)
                show(transcript.seconds)
    except KeyboardInterrupt:
        interrupted = True
    return transcript.result(), interrupted


@contextmanager
def _progress(audio: AudioFile | RawAudio) -> Iterator[Callable[[float], None]]:
    """A bar on stderr for a long recording when someone can see it; gives the function that moves it."""
    if not sys.stderr.isatty() or (audio.seconds is not None and audio.seconds < LONG_SECONDS):
        yield lambda seconds: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed:.0f} s"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(os.path.basename(audio.name), total=audio.seconds)
        yield lambda seconds: progress.update(task, completed=seconds)


def _opened(name: str, sample_rate: int, raw_rate: int | None) -> AudioFile | RawAudio:
    from asr.audio import AudioFile, RawAudio, looks_like_a_file
    from asr.errors import AudioError, UsageError

    if name != STDIN:
        return AudioFile(name, sample_rate)
    stdin = sys.stdin.buffer
    if stdin.isatty():
        raise UsageError("stdin is a terminal; pipe audio into it, as in: asr transcribe - < speech.wav")
    if raw_rate is not None:
        return RawAudio(stdin, "stdin", raw_rate, sample_rate)
    head = stdin.peek(12)
    if head and not looks_like_a_file(head):
        raise AudioError("stdin: is no audio file; give --raw-rate if it is raw 16-bit samples")
    return AudioFile(stdin, sample_rate)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _printable(name: str) -> str:
    """A file name with the bytes that are not UTF-8 replaced, so that it can be printed."""
    return os.fsencode(name).decode("utf-8", "replace")
