"""`asr listen`: live captions from a microphone."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import EndpointOptions, RecognitionOptions, RemoteOptions, TextOptions, grouped

if TYPE_CHECKING:
    from asr.cli.live import LocalStream
    from asr.output.captions import Captions
    from asr.resuming import ResumingStream

BOTH = "both"


@grouped
def listen(
    *,
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Index or part of the name of a microphone; see asr devices.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="microphone; desktop: what the computer plays (PulseAudio, PipeWire); or both.")
    ] = "microphone",
    speakers: Annotated[
        str | None,
        typer.Option(help="With --source both, who speaks into the microphone, and from the desktop.  [me,them]"),
    ] = None,
    format: Annotated[str, typer.Option(help="txt, or jsonl: every partial and final result as an event.")] = "txt",
    seconds: Annotated[float | None, typer.Option(help="Stop after this long. (default: at Ctrl-C)")] = None,
    save_audio: Annotated[Path | None, typer.Option(help="Write the audio into this WAV or FLAC file.")] = None,
    recognition: RecognitionOptions,
    text: TextOptions,
    chunk_ms: Annotated[
        int, typer.Option(help="Audio given to the model at once; shorter chunks show words earlier.")
    ] = 100,
    endpoints: EndpointOptions,
    remote: RemoteOptions,
) -> None:
    """Write down what is spoken into a microphone, while it is spoken.

    On a terminal the words appear at once, those that may still change dim. Elsewhere each finished utterance is a
    line. Ctrl-C, or --seconds, ends it with the last words. With --source both each line says who spoke.
    """
    from asr.audio.desktop import SOURCES, find_desktop
    from asr.audio.microphone import Microphone, find_device
    from asr.audio.recording import SoundFile, check_sound_path
    from asr.cli.exits import complain
    from asr.cli.live import LocalStream, Session, listen_to
    from asr.errors import UsageError
    from asr.output.files import check_stdout
    from asr.output.formats import LINE_FORMATS
    from asr.recognizer import Recognizer, chunk_samples

    remote.check(recognition)
    if source not in (*SOURCES, BOTH):
        raise UsageError(f"unknown --source {source!r}; give {', '.join(SOURCES)} or {BOTH}")
    names = _names(source, speakers)
    if source == BOTH and save_audio is not None:
        raise UsageError("--save-audio is for one source; leave it out, or take --source microphone or desktop")
    if source == "desktop" and device is not None:
        raise UsageError("--device is of a microphone; leave it out, or --source desktop")
    if format not in LINE_FORMATS:
        raise UsageError(f"unknown format {format!r}; give {' or '.join(LINE_FORMATS)}")
    if seconds is not None and not seconds > 0:
        raise UsageError(f"--seconds must be positive, got {seconds:g}")
    if save_audio is not None:
        check_sound_path(save_audio)
    else:
        check_stdout()
    if remote.server is not None and endpoints.given:
        raise UsageError("when an utterance ends cannot be chosen with --server, which has its own rule")
    options = recognition.recognizer(endpoint=endpoints.rule(), readable=text.readable)
    client = None
    if remote.server is not None:
        from asr.client import Client

        client = Client(remote.server, remote.api_key, text.of_server)
    devices = {} if source == "desktop" else {"microphone": find_device(device)}
    local = Recognizer.open(options) if client is None else None

    def new_stream() -> LocalStream | ResumingStream:
        if local is not None:
            return LocalStream(local)
        assert client is not None
        return stack.enter_context(client.resuming(tell=complain))

    with ExitStack() as stack:
        captions = _captions(format)
        sessions: list[Session] = []
        begun = 0.0
        # The microphone first: to find the desktop is to tell PulseAudio's library what to record from then on.
        for name, one in zip(names, SOURCES if source == BOTH else (source,), strict=True):
            stream = new_stream()
            chunk_samples(chunk_ms, stream.sample_rate)
            chosen = devices.get(one) or find_desktop()
            microphone = stack.enter_context(Microphone(chosen, stream.sample_rate))
            sound = None if save_audio is None else stack.enter_context(SoundFile(save_audio, stream.sample_rate))
            sessions.append(Session(stream, microphone, captions, sound, name))
            begun = begun or time.monotonic()
            sessions[-1].skip(time.monotonic() - begun)
            said = f" as {name}" if name else ""
            print(f"listening to {chosen.name}{said}, {microphone.device_rate} Hz; Ctrl-C ends it", file=sys.stderr)
        stack.enter_context(captions)
        listen_to(sessions, chunk_ms / 1_000, seconds)


def _names(source: str, speakers: str | None) -> tuple[str, ...]:
    """The speaker of each source, "" for the only one."""
    from asr.errors import UsageError

    if source != BOTH:
        if speakers is not None:
            raise UsageError(f"--speakers is for --source {BOTH}")
        return ("",)
    names = tuple(name.strip() for name in (speakers or "me,them").split(","))
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UsageError(f"--speakers {speakers!r} must be two different names, as me,them")
    return names


def _captions(format: str) -> Captions:
    from asr.output.captions import EventCaptions, LineCaptions, TerminalCaptions

    if format == "jsonl":
        return EventCaptions()
    return TerminalCaptions() if sys.stdout.isatty() else LineCaptions()
