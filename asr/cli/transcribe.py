"""`asr transcribe`: audio files in, text out."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from asr.cli.options import DecoderName, EngineName, GrammarFile, Hotwords, LanguageModelFolder, Model

if TYPE_CHECKING:
    import numpy as np

    from asr.audio import AudioFile, RawAudio
    from asr.cli.progress import Progress
    from asr.errors import AudioError
    from asr.outputs import Recording
    from asr.recognizer import Recognizer
    from streaming.results import Result

STDIN = "-"


class Outcome(NamedTuple):
    """What became of a recording."""

    recording: Recording
    result: Result | None
    problem: str | AudioError | None  # what is wrong with it; there may be a result all the same
    interrupted: bool = False  # by Ctrl-C: the result is of what was heard until then


def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Audio or video files; folders, for all such files in them and below; - for stdin.",
            show_default=False,
        ),
    ],
    format: Annotated[
        list[str],
        typer.Option(
            help="txt; jsonl: duration and word times too, an object a line; or srt, vtt, tsv, ctm, json. "
            "Several, as in srt,txt, go into a folder."
        ),
    ] = ["txt"],  # noqa: B006 (typer wants a list)
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write here instead of stdout; a folder for several files or formats."),
    ] = None,
    model: Model = None,
    engine: EngineName = "onnx",
    decoder: DecoderName = None,
    lm: LanguageModelFolder = None,
    hotwords: Hotwords = None,
    grammar: GrammarFile = None,
    jobs: Annotated[int, typer.Option(help="Files transcribed at the same time.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out files whose texts are in the folder.")] = False,
    chunk_ms: Annotated[int, typer.Option(help="Audio given to the model at once; the text is the same.")] = 2_000,
    raw_rate: Annotated[
        int | None, typer.Option(help="- is raw signed 16-bit little-endian mono samples at this rate in Hz.")
    ] = None,
) -> int:
    """Transcribe audio or video files of any length and format.

    Several files give a line each, in order, that starts with the file's name. With several formats, with subtitles,
    tables or json of several files, or where --output is a folder, each file gets its own text in that folder, at the
    place that it has in the folder given. A file that fails is named on stderr, the others are still transcribed, and
    the exit status is 1. Ctrl-C prints what was heard so far; a folder of texts is gone on with by --resume.
    """
    from asr.cli.main import INTERRUPTED, complain
    from asr.cli.progress import progress
    from asr.outputs import OutputFolder, find_recordings, parse_formats
    from asr.package import DEFAULT_MODEL
    from asr.recognizer import Recognizer, chunk_samples
    from asr.subtitles import DOCUMENTS
    from asr.writers import LineWriter, line_format

    formats = parse_formats(format)
    _check_options(files, output, raw_rate, jobs)
    recordings, problems = find_recordings(files)
    several = len(recordings) > 1 or any(os.path.isdir(name) for name in files)
    folder = None
    if _wants_folder(formats, output, several, any(os.path.isdir(name) for name in files)):
        folder = OutputFolder(output, formats, recordings)
    elif resume:
        raise _usage("--resume is for a folder of texts; give --output FOLDER")
    recognizer = Recognizer.load(
        DEFAULT_MODEL if model is None else model, engine=engine, decoder=decoder, lm=lm, hotwords=hotwords,
        grammar=grammar, batching=_batching(jobs, engine),
    )  # fmt: skip
    chunk = chunk_samples(chunk_ms, recognizer.sample_rate)
    status = 0
    for problem in problems:
        status = complain(problem)
    todo = [recording for recording in recordings if not (resume and folder and folder.has(recording))]
    skipped = len(recordings) - len(todo)
    line = None
    if folder is None:
        line = DOCUMENTS[formats[0]] if formats[0] in DOCUMENTS else line_format(formats[0], several)
    with LineWriter(output if folder is None else None) as writer, progress([one.name for one in todo]) as shown:

        def work(recording: Recording, stop: Event) -> Outcome:
            outcome = _transcribed(recognizer, recording, chunk, raw_rate, shown, stop)
            if folder is not None and outcome.result is not None and not outcome.interrupted:
                folder.write(recording, _printable(recording.name), outcome.result)
            return outcome

        done = 0
        interrupted = False
        for recording, result, problem, interrupted in _outcomes(todo, work, jobs):
            if line is not None and result is not None and (result.text or not interrupted):
                writer.write(line(_printable(recording.name), result))
            if problem is not None and not (interrupted and result is not None and not result.text):
                status = complain(problem)
            done += not interrupted
            if interrupted:
                break
    if interrupted and several:
        resumable = "; the same command with --resume goes on from there" if folder is not None else ""
        complain(f"interrupted: {done} of {len(todo)} files are done{resumable}")
    elif folder is not None:
        summary = f"{shown.files} files, {shown.hours:.2f} h of audio, {shown.speed:.0f} times as fast as real time"
        print(summary + (f"; {skipped} left out, as they were done" if skipped else ""), file=sys.stderr)
    return INTERRUPTED if interrupted else status


def _check_options(files: list[str], output: Path | None, raw_rate: int | None, jobs: int) -> None:
    from asr.samples import check_rate

    if files.count(STDIN) > 1:
        raise _usage("- was given more than once; stdin can be read only once")
    if raw_rate is not None:
        check_rate(raw_rate)
        if STDIN not in files:
            raise _usage("--raw-rate is about stdin; give - as the file")
    if jobs < 1:
        raise _usage(f"--jobs must be a whole number from 1, got {jobs}")
    if jobs > 1 and STDIN in files:
        raise _usage("--jobs is for files; transcribe stdin (-) without it")
    if output is not None and not output.is_dir() and any(_same(Path(name), output) for name in files if name != STDIN):
        raise _usage(f"--output {output} is one of the files to transcribe; give another name")


def _wants_folder(formats: tuple[str, ...], output: Path | None, several: bool, of_folder: bool) -> bool:
    """Whether each recording gets its own files; raises UsageError when it should, and there is no place for them."""
    from asr.subtitles import DOCUMENTS

    needed = len(formats) > 1 or (several and formats[0] in DOCUMENTS)
    if output is None:
        if needed:
            what = "several formats" if len(formats) > 1 else f"several files as {formats[0]}"
            raise _usage(f"{what} need --output FOLDER, for a file each")
        return False
    return needed or of_folder or output.is_dir()


def _batching(jobs: int, engine: str):
    from streaming.batcher import Batching

    return Batching(wait_ms=0) if jobs > 1 and engine != "torch" else None


def _outcomes(
    recordings: list[Recording], work: Callable[[Recording, Event], Outcome], jobs: int
) -> Iterator[Outcome]:
    """What becomes of each recording, in order; after Ctrl-C one that is interrupted, and no more."""
    stop = Event()
    if jobs == 1 or len(recordings) < 2:
        yield from (work(recording, stop) for recording in recordings)
        return
    pool = ThreadPoolExecutor(jobs)
    futures = deque(pool.submit(work, recording, stop) for recording in recordings)
    try:
        while futures:
            yield futures.popleft().result()
    except KeyboardInterrupt:
        yield Outcome(recordings[0], None, None, interrupted=True)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _transcribed(
    recognizer: Recognizer, recording: Recording, chunk: int, raw_rate: int | None, shown: Progress, stop: Event
) -> Outcome:
    from asr.errors import AudioError

    try:
        with _opened(recording.name, recognizer.sample_rate, raw_rate) as audio:
            shown.begin(recording.name, audio.seconds)
            result, interrupted = _recognise(recognizer, audio, chunk, recording.name, shown, stop)
    except AudioError as error:
        return Outcome(recording, None, error)
    finally:
        shown.end(recording.name)
    if interrupted:
        heard = f"interrupted after {result.end_seconds:.1f} s of audio; the text is of that part"
        return Outcome(recording, result, f"{recording.name}: {heard}", interrupted=True)
    return Outcome(recording, result, audio.damage)


def _recognise(
    recognizer: Recognizer, audio: AudioFile | RawAudio, chunk: int, name: str, shown: Progress, stop: Event
) -> tuple[Result, bool]:
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
        for samples in rechunked(until_interrupted(), chunk):
            transcript.hear(samples)
            shown.hear(name, len(samples) / recognizer.sample_rate, audio.seconds)
            if stop.is_set():
                interrupted = True
                break
    except KeyboardInterrupt:
        interrupted = True
    return transcript.result(), interrupted


def _opened(name: str, sample_rate: int, raw_rate: int | None) -> AudioFile | RawAudio:
    from asr.audio import AudioFile, RawAudio, looks_like_a_file
    from asr.errors import AudioError

    if name != STDIN:
        return AudioFile(name, sample_rate)
    stdin = sys.stdin.buffer
    if stdin.isatty():
        raise _usage("stdin is a terminal; pipe audio into it, as in: asr transcribe - < speech.wav")
    if raw_rate is not None:
        return RawAudio(stdin, "stdin", raw_rate, sample_rate)
    head = stdin.peek(12)
    if head and not looks_like_a_file(head):
        raise AudioError("stdin: is no audio file; give --raw-rate if it is raw 16-bit samples")
    return AudioFile(stdin, sample_rate)


def _usage(message: str) -> Exception:
    from asr.errors import UsageError

    return UsageError(message)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _printable(name: str) -> str:
    """A file name with the bytes that are not UTF-8 replaced, so that it can be printed."""
    return os.fsencode(name).decode("utf-8", "replace")
