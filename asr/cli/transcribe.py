"""`asr transcribe`: audio files in, text out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import FullContext, RecognitionOptions, RemoteOptions, TextOptions, grouped

if TYPE_CHECKING:
    from asr.cli.progress import TranscriptionProgress
    from asr.cli.sources import Found
    from asr.cli.transcribers import Transcribed, Transcriber
    from asr.output.files import LineWriter, OutputFolder, Source
    from asr.output.formats import Format
    from asr.streaming.batcher import Batching


@grouped
def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Audio or video files; folders, for all such files in them and below; - for stdin.",
            show_default=False,
        ),
    ],
    *,
    format: Annotated[
        list[str] | None,
        typer.Option(
            help="txt; jsonl: duration and word times too, one object per line; or srt, vtt, tsv, ctm, json. "
            "Several, as in srt,txt, go into a folder. (default: the ending of --output, or txt)"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write here instead of stdout; a folder for several files or formats."),
    ] = None,
    recognition: RecognitionOptions,
    text: TextOptions,
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
            help="Of several audio tracks, the number from 1 or the language. (default: English, or the default one)",
        ),
    ] = None,
    channels: Annotated[
        str, typer.Option(help="average; or separate: each channel is a speaker, as the two sides of a call are.")
    ] = "average",
    speakers: Annotated[
        str | None, typer.Option(metavar="NAME,NAME...", help="With separate channels: who speaks in each.")
    ] = None,
    remote: RemoteOptions,
    ray: Annotated[bool, typer.Option("--ray", help="Spread the files over a Ray cluster, --jobs at a time.")] = False,
) -> int:
    """Transcribe audio or video files of any length and format.

    Several files give one line each, in order, that starts with the file's name. With several formats, with subtitles,
    tables or json of several files, or where --output is a folder, each file gets its own text in that folder, at the
    place that it has in the folder given. A file that fails is named on stderr, the others are still transcribed, and
    the exit status is 1. Ctrl-C prints the text so far; --resume continues a folder of texts.
    """
    from asr.cli.exits import complain
    from asr.cli.sources import STDIN, find_sources
    from asr.recognizer import chunk_samples

    remote.check(recognition, full_context=full_context)
    _check_options(files, output, raw_rate, jobs)
    chunk_samples(chunk_ms, 1_000)
    if ray and (remote.server is not None or STDIN in files):
        raise _usage(
            f"--ray is for files and models here; leave out {'--server' if remote.server is not None else STDIN}"
        )
    options = recognition.recognizer(readable=text.readable, full_context=full_context)
    if channels != "average":
        from asr.cli.channels import transcribe_channels

        _check_channels(channels, resume=resume, raw_rate=raw_rate, server=remote.server, ray=ray, full=full_context)
        return transcribe_channels(files, options, _formats(format, output), output, speakers, track, chunk_ms)
    if speakers is not None:
        raise _usage("--speakers go with --channels separate")
    found = find_sources(files)
    plan = Plan.of(files, found, _formats(format, output), output, resume)
    status = max((complain(problem) for problem in found.problems), default=0)
    if found.remark is not None:
        complain(found.remark)
    with ExitStack() as stack:
        if ray:  # which takes long to start
            from asr.cli.ray_workers import by_ray

            transcriber = by_ray(stack, jobs, chunk_ms, track, options) if plan.todo else None
        elif remote.server is not None:
            from asr.cli.transcribers import by_server

            transcriber = by_server(remote.server, remote.api_key, text.of_server, chunk_ms, raw_rate, track)
        else:
            from dataclasses import replace

            from asr.cli.transcribers import here
            from asr.recognizer import Recognizer

            batching = _batching(jobs, options.engine, full_context)
            transcriber = here(Recognizer.open(replace(options, batching=batching)), chunk_ms, raw_rate, track)
        return max(status, plan.carry_out(stack, transcriber, jobs))


def _check_channels(channels: str, **others: object) -> None:
    if channels != "separate":
        raise _usage(f"unknown --channels {channels!r}; give average or separate")
    if given := [name for name, value in others.items() if value]:
        names = {"raw_rate": "--raw-rate", "full": "--full-context"}
        raise _usage(f"{names.get(given[0], f'--{given[0]}')} does not go with separate channels; leave it out")


@dataclass(frozen=True)
class Plan:
    """What is transcribed, and where the results go."""

    todo: list[Source]
    skipped: int  # recordings whose texts exist
    several: bool
    output: Path | None  # a file; None for stdout, or where there is a folder
    folder: OutputFolder | None
    line: Format | None  # of a recording in the output; None where there is a folder

    @classmethod
    def of(cls, files: list[str], found: Found, formats: tuple[str, ...], output: Path | None, resume: bool) -> Plan:
        """Lay out the work; raises UsageError for outputs that cannot be."""
        from asr.output.files import OutputFolder
        from asr.output.formats import find_format

        of_folder = any(os.path.isdir(name) for name in files)
        several = len(found.sources) > 1 or of_folder
        if not _wants_folder(formats, output, several, of_folder):
            if resume:
                raise _usage("--resume is for a folder of texts; give --output FOLDER")
            return cls(found.sources, 0, several, output, None, find_format(formats[0], several))
        folder = OutputFolder(output, formats, found.sources)
        todo = [source for source in found.sources if not (resume and folder.has(source))]
        return cls(todo, len(found.sources) - len(todo), several, None, folder, None)

    def carry_out(self, stack: ExitStack, transcriber: Transcriber, jobs: int) -> int:
        """Transcribe, write, tell what failed; the exit status."""
        from asr.cli.exits import INTERRUPTED, complain
        from asr.cli.progress import progress
        from asr.output.files import LineWriter

        writer = stack.enter_context(LineWriter(self.output)) if self.folder is None else None
        shown = stack.enter_context(progress([source.name for source in self.todo]))
        status = done = 0
        interrupted = False
        work = partial(self._done, transcriber, shown)
        try:
            for outcome in _outcomes(self.todo, work, jobs):
                status = max(status, self._tell(outcome, writer))
                done += outcome.whole
                interrupted = outcome.interrupted
                if interrupted:
                    break
        except KeyboardInterrupt:  # between two recordings
            interrupted = True
        if interrupted and self.several:
            complain(f"interrupted: {done} of {len(self.todo)} files are done; {self._how_to_resume}")
        elif self.folder is not None:
            files = f"{done} file{'s' * (done != 1)}"
            summary = f"{files}, {shown.hours:.2f} h of audio, {shown.speed:.0f} times as fast as real time"
            skipped = f"; {self.skipped} left out, as they were done" if self.skipped else ""
            failed = f"; {len(self.todo) - done} failed" if done < len(self.todo) else ""
            complain(f"{summary}{failed}{skipped}")
        return INTERRUPTED if interrupted else status

    def _done(self, transcriber: Transcriber, shown: TranscriptionProgress, source: Source, stop: Event) -> Transcribed:
        """Transcribe a recording, and write its result into the folder if there is one; any thread may."""
        from asr.errors import OutputError

        outcome = transcriber(source, shown, stop)
        if self.folder is None or not outcome.whole:
            return outcome
        try:
            self.folder.write(source, _printable(source.name), outcome.result)
        except OutputError as error:
            return outcome._replace(result=None, problem=error)
        return outcome

    def _tell(self, outcome: Transcribed, writer: LineWriter | None) -> int:
        """Print or write a result, and what there is to say about it; the exit status of it alone."""
        from asr.cli.exits import complain

        name, result = _printable(outcome.source.name), outcome.result
        worth = result is not None and (result.text or not outcome.interrupted)
        if worth and writer is not None:
            writer.write(self.line(name, result))
        elif worth and outcome.interrupted:  # the part of a recording goes into no folder
            print(f"{name}: {result.text}", flush=True)
        if outcome.remark is not None:
            complain(outcome.remark)
        if outcome.problem is not None and (worth or not outcome.interrupted):
            return complain(outcome.problem)
        return 0

    @property
    def _how_to_resume(self) -> str:
        if self.folder is not None:
            return "the same command with --resume goes on from there"
        return "with --output FOLDER and --resume it could go on from there"


def _formats(given: list[str] | None, output: Path | None) -> tuple[str, ...]:
    """Formats of options like ``srt`` and ``srt,jsonl``, each once; by default that of the output's ending, or txt.

    Raises:
        UsageError: an unknown format.
    """
    from asr.output.formats import FORMATS, find_format

    if given is None:
        ending = "" if output is None or output.is_dir() else output.suffix.lower().removeprefix(".")
        return (ending if ending in FORMATS else "txt",)
    names = tuple(dict.fromkeys(name.strip() for option in given for name in option.split(",") if name.strip()))
    for name in names or ("",):
        find_format(name)
    return names


def _check_options(files: list[str], output: Path | None, raw_rate: int | None, jobs: int) -> None:
    from asr.audio.samples import check_rate
    from asr.cli.sources import STDIN

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
    from asr.output.formats import FORMATS, LINE_FORMATS

    needed = len(formats) > 1 or (several and formats[0] not in LINE_FORMATS)
    what = "several formats" if len(formats) > 1 else f"several files as {formats[0]}"
    if output is None:
        if needed:
            raise _usage(f"{what} need --output FOLDER, for a file each")
        return False
    named_as_file = output.suffix.lower().removeprefix(".") in FORMATS and not output.is_dir()
    if named_as_file and needed:
        raise _usage(f"{what} need a folder, and --output {output} is named as a file; give another name")
    return needed or output.is_dir() or (of_folder and not named_as_file)


def _batching(jobs: int, engine: str, full_context: bool) -> Batching | None:
    from asr.streaming.batcher import Batching

    return Batching(wait_ms=0) if jobs > 1 and engine != "torch" and not full_context else None


def _outcomes(sources: list[Source], work: Callable[[Source, Event], Transcribed], jobs: int) -> Iterator[Transcribed]:
    """The outcome of each recording, in order; after Ctrl-C one that is interrupted, and no more."""
    from asr.cli.transcribers import Transcribed

    stop = Event()
    if not sources:
        return
    pool = ThreadPoolExecutor(jobs) if jobs > 1 and len(sources) > 1 else None
    try:
        if pool is None:
            yield from (work(source, stop) for source in sources)
            return
        futures = deque(pool.submit(work, source, stop) for source in sources)
        while futures:
            yield futures.popleft().result()
    except KeyboardInterrupt:  # while waiting for a recording, or before it is opened
        yield Transcribed(sources[0], None, interrupted=True)
    finally:
        stop.set()
        if pool is not None:
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
    """A file name with the bytes that are not UTF-8 replaced, so that it can be written."""
    return os.fsencode(name).decode("utf-8", "replace")
