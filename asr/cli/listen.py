"""`asr listen`: live captions from a microphone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import (
    ApiKey,
    DecoderName,
    EndSentence,
    EndSilence,
    EngineName,
    Forget,
    GrammarFile,
    Hotwords,
    LanguageModelFolder,
    LeadSilence,
    Longest,
    Model,
    Pretty,
    Rescore,
    RescoreAlone,
    RescoreBest,
    RescoreWeight,
    Server,
    check_server_options,
    endpoint_rule,
    rescoring,
)

if TYPE_CHECKING:
    import numpy as np

    from asr.audio.microphone import Microphone
    from asr.audio.recording import SoundFile
    from asr.client import RemoteStream
    from asr.output.captions import Captions
    from asr.recognizer import Recognizer
    from asr.streaming.results import Result

FORMATS = ("txt", "jsonl")
LAG_SECONDS = 2.0  # of audio waiting: it is time to say so


def listen(
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Index or part of the name of a microphone; see asr devices.")
    ] = None,
    format: Annotated[str, typer.Option(help="txt, or jsonl: every partial and final result as an event.")] = "txt",
    seconds: Annotated[float | None, typer.Option(help="Stop after this long. [default: at Ctrl-C]")] = None,
    save_audio: Annotated[Path | None, typer.Option(help="Write what is heard into this WAV or FLAC file.")] = None,
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
    chunk_ms: Annotated[int, typer.Option(help="Audio given to the model at once; less is livelier.")] = 100,
    end_silence: EndSilence = None,
    end_sentence: EndSentence = None,
    lead_silence: LeadSilence = None,
    longest: Longest = None,
    forget: Forget = None,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Write down what a microphone hears, while it is spoken.

    On a terminal the words appear at once, those that may still change dim. Elsewhere each finished utterance is a
    line. Ctrl-C, or --seconds, ends it with the last words.
    """
    from asr.acoustic.folder import DEFAULT_MODEL
    from asr.audio.microphone import Microphone, find_device
    from asr.audio.recording import SoundFile, check_sound_path
    from asr.errors import UsageError
    from asr.recognizer import Recognizer, chunk_samples

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
    )
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; give {' or '.join(FORMATS)}")
    if seconds is not None and seconds <= 0:
        raise UsageError(f"--seconds must be positive, got {seconds:g}")
    if save_audio is not None:
        check_sound_path(save_audio)
    ends = (end_silence, end_sentence, lead_silence, longest)
    if server is not None and any(value is not None for value in (*ends, forget)):
        raise UsageError("when an utterance ends cannot be chosen with --server, which has its own rule")
    rule = endpoint_rule(*ends, forget)
    client = None
    if server is not None:
        from asr.client import Client

        client = Client(server, api_key)
    chosen = find_device(device)
    with ExitStack() as stack:
        if client is None:
            recognizer = Recognizer.load(
                model or DEFAULT_MODEL,
                engine=engine,
                decoder=decoder,
                lm=lm,
                hotwords=hotwords,
                grammar=grammar,
                endpoint=rule,
                pretty=pretty,
                rescoring=rescoring(rescore, rescore_weight, rescore_best, rescore_alone),
            )
            ear = _LocalEar(recognizer)
        else:
            ear = stack.enter_context(client.open())
        chunk_samples(chunk_ms, ear.sample_rate)
        microphone = stack.enter_context(Microphone(chosen, ear.sample_rate))
        sound = None if save_audio is None else stack.enter_context(SoundFile(save_audio, ear.sample_rate))
        captions = stack.enter_context(_captions(format))
        print(f"listening to {chosen.name}, {microphone.device_rate} Hz; Ctrl-C ends it", file=sys.stderr)
        _listen(ear, microphone, captions, chunk_ms / 1_000, seconds, sound)


class _LocalEar:
    """A live stream recognised here, with the methods of one on a server."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.sample_rate = recognizer.sample_rate
        self._recognizer = recognizer
        self._state = recognizer.start()

    @property
    def samples(self) -> int:
        return self._state.samples

    def hear(self, samples: np.ndarray) -> tuple[Result, ...]:
        results, self._state = self._recognizer.step(self._state, samples)
        return results

    def finish(self) -> Iterator[Result]:
        results, self._state = self._recognizer.finish(self._state)
        yield from results


def _listen(
    ear: _LocalEar | RemoteStream,
    microphone: Microphone,
    captions: Captions,
    chunk_seconds: float,
    seconds: float | None,
    sound: SoundFile | None,
) -> None:
    import numpy as np

    from asr.cli.main import complain
    from asr.errors import AudioError
    from asr.interrupt import deferred_interrupt
    from asr.output.captions import Status

    computing = 0.0
    told_lost, told_late = 0.0, False

    def hear(samples: np.ndarray) -> Status:
        nonlocal computing, told_lost, told_late
        if sound is not None:
            sound.write(samples)
        begun = time.perf_counter()
        results = ear.hear(samples)
        spent = time.perf_counter() - begun
        computing += spent
        now = status(samples, spent)
        captions.show(results, now)
        if now.lost_seconds > told_lost:
            told_lost = now.lost_seconds
            complain(f"too slow: {told_lost:.1f} s of audio lost so far")
        if told_late != (now.waiting_seconds > (0.0 if told_late else LAG_SECONDS)):
            told_late = not told_late
            if told_late:
                complain(f"too slow: {now.waiting_seconds:.1f} s of audio wait; catching up, nothing is lost yet")
        return now

    def status(samples: np.ndarray, spent: float) -> Status:
        heard = ear.samples / ear.sample_rate
        waiting = microphone.waiting_seconds
        level = 20 * np.log10(max(1e-5, float(np.abs(samples).max(initial=0.0))))
        return Status(
            heard,
            level,
            waiting,
            len(samples) / ear.sample_rate + spent + waiting,
            computing / max(heard, 1e-9) if isinstance(ear, _LocalEar) else None,
            microphone.lost_seconds,
            microphone.overflows,
        )

    rest = np.zeros(0, np.float32)
    gone: AudioError | None = None
    with deferred_interrupt() as asked_to_end:
        try:
            while not asked_to_end() and (seconds is None or ear.samples < seconds * ear.sample_rate):
                hear(microphone.read(chunk_seconds, asked_to_end))
        except AudioError as error:  # nothing is left to read, but what was said before is still to be written
            gone = error
    if gone is None:
        rest = microphone.close()
    if seconds is not None:
        rest = rest[: max(0, round(seconds * ear.sample_rate) - ear.samples)]
    last = hear(rest)
    for result in ear.finish():
        captions.show((result,), last)
    if gone is not None:
        raise gone
    if microphone.overflows:
        complain(f"PortAudio lost audio {microphone.overflows} times")


def _captions(format: str) -> Captions:
    from asr.output.captions import EventCaptions, LineCaptions, TerminalCaptions

    if format == "jsonl":
        return EventCaptions()
    return TerminalCaptions() if sys.stdout.isatty() else LineCaptions()
