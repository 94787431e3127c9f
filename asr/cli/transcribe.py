"""`asr transcribe`: audio files in, text out."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import (
    ApiKey,
    DecoderName,
    EngineName,
    FullContext,
    GrammarFile,
    Hotwords,
    LanguageModelFolder,
    Model,
    Pretty,
    Rescore,
    RescoreAlone,
    RescoreBest,
    RescoreWeight,
    Server,
    check_server_options,
    rescoring,
)

if TYPE_CHECKING:
    from asr.cli.transcribers import Outcome
    from asr.output.files import Recording

STDIN = "-"


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
    rescore: Rescore = None,
    rescore_weight: RescoreWeight = None,
    rescore_best: RescoreBest = None,
    rescore_alone: RescoreAlone = False,
    hotwords: Hotwords = None,
    grammar: GrammarFile = None,
    pretty: Pretty = False,
    full_context: FullContext = False,
    jobs: Annotated[int, typer.Option(help="Files transcribed at the same time.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out files whose texts are in the folder.")] = False,
    chunk_ms: Annotated[int, typer.Option(help="Audio given to the model at once; the text is the same.")] = 2_000,
    raw_rate: Annotated[
        int | None, typer.Option(help="- is raw signed 16-bit little-endian mono samples at this rate in Hz.")
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="N|LANG",
            help="Of several audio tracks, the number from 1 or the language. [default: English, or the default one]",
        ),
    ] = None,
    server: Server = None,
    api_key: ApiKey = None,
    ray: Annotated[bool, typer.Option("--ray", help="Spread the files over a Ray cluster, --jobs at a time.")] = False,
) -> int:
    """Transcribe audio or video files of any length and format.

    Several files give a line each, in order, that starts with the file's name. With several formats, with subtitles,
    tables or json of several files, or where --output is a folder, each file gets its own text in that folder, at the
    place that it has in the folder given. A file that fails is named on stderr, the others are still transcribed, and
    the exit status is 1. Ctrl-C prints what was heard so far; a folder of texts is gone on with by --resume.
    """
    from asr.acoustic.folder import DEFAULT_MODEL
    from asr.cli.main import INTERRUPTED, complain
    from asr.cli.progress import progress
    from asr.cli.transcribers import by_ray, by_server, here
    from asr.errors import ServerError
    from asr.output.files import OutputFolder, find_recordings, parse_formats
    from asr.output.formats import LineWriter, line_format
    from asr.output.subtitles import DOCUMENTS
    from asr.recognizer import Recognizer, chunk_samples

    formats = parse_formats(format)
    _check_options(files, output, raw_rate, jobs)
    check_server_options(
        server,
        api_key,
        model=model,
        engine=engine,
        decoder=decoder,
        lm=lm,
        hotwords=hotwords,
        grammar=grammar,
        rescore=rescore,
        pretty=pretty,
        full_context=full_context,
    )
    if ray and (server is not None or STDIN in files):
        raise _usage(f"--ray is for files and models here; leave out {'--server' if server is not None else STDIN}")
    recordings, problems = find_recordings(files)
    several = len(recordings) > 1 or any(os.path.isdir(name) for name in files)
    folder = None
    if _wants_folder(formats, output, several, any(os.path.isdir(name) for name in files)):
        folder = OutputFolder(output, formats, recordings)
    elif resume:
        raise _usage("--resume is for a folder of texts; give --output FOLDER")
    local = {
        "engine": engine,
        "decoder": decoder,
        "lm": lm,
        "hotwords": hotwords,
        "grammar": grammar,
        "pretty": pretty,
        "full_context": full_context,
        "rescoring": rescoring(rescore, rescore_weight, rescore_best, rescore_alone),
    }
    chunk_samples(chunk_ms, 1_000)
    status = 0
    for problem in problems:
        status = complain(problem)
    todo = [recording for recording in recordings if not (resume and folder and folder.has(recording))]
    skipped = len(recordings) - len(todo)
    line = None
    if folder is None:
        line = DOCUMENTS[formats[0]] if formats[0] in DOCUMENTS else line_format(formats[0], several)
    with ExitStack() as stack:
        if ray:  # which takes long to start
            transcribed = by_ray(stack, jobs, chunk_ms, model or DEFAULT_MODEL, local, track) if todo else None
        elif server is not None:
            transcribed = by_server(server, api_key, chunk_ms, raw_rate, track)
        else:
            batching = _batching(jobs, engine, full_context)
            recognizer = Recognizer.load(model or DEFAULT_MODEL, batching=batching, **local)
            transcribed = here(recognizer, chunk_ms, raw_rate, track)
        writer = stack.enter_context(LineWriter(output if folder is None else None))
        shown = stack.enter_context(progress([one.name for one in todo]))

        def work(recording: Recording, stop: Event) -> Outcome:
            outcome = transcribed(recording, shown, stop)
            partial = outcome.interrupted or isinstance(outcome.problem, ServerError)
            if folder is not None and outcome.result is not None and not partial:
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
    from asr.audio.samples import check_rate

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
    from asr.output.subtitles import DOCUMENTS

    needed = len(formats) > 1 or (several and formats[0] in DOCUMENTS)
    if output is None:
        if needed:
            what = "several formats" if len(formats) > 1 else f"several files as {formats[0]}"
            raise _usage(f"{what} need --output FOLDER, for a file each")
        return False
    return needed or of_folder or output.is_dir()


def _batching(jobs: int, engine: str, full_context: bool):
    from asr.streaming.batcher import Batching

    return Batching(wait_ms=0) if jobs > 1 and engine != "torch" and not full_context else None


def _outcomes(recordings: list[Recording], work: Callable[[Recording, Event], Outcome], jobs: int) -> Iterator[Outcome]:
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
        from asr.cli.transcribers import Outcome

        yield Outcome(recordings[0], None, None, interrupted=True)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


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
