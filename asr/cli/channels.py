"""`asr transcribe --channels separate`: each channel of a recording is recognised by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asr.audio.files import AudioFile
from asr.cli.exits import complain
from asr.cli.sources import STDIN, find_sources
from asr.errors import AudioError, UsageError
from asr.files import write_whole
from asr.output.dialogue import Turn, find_dialogue_format, in_order
from asr.recognizer import Recognizer, chunk_samples
from asr.recognizer_options import RecognizerOptions
from asr.streaming.sources import rechunked

MOST_CHANNELS = 16


def transcribe_channels(
    files: list[str],
    options: RecognizerOptions,
    formats: tuple[str, ...],
    output: Path | None,
    speakers: str | None,
    track: str | None,
    chunk_ms: int,
) -> int:
    """Write the conversations of files, one after the other; a file that fails is named, and the status is 1.

    Raises:
        UsageError: stdin, which cannot be read once for each channel; formats or outputs that cannot be.
    """
    write = find_dialogue_format(formats)
    if STDIN in files:
        raise UsageError("each channel is read by itself, so stdin does not go with separate channels; give a file")
    found = find_sources(files)
    status = max((complain(problem) for problem in found.problems), default=0)
    if len(found.sources) > 1 and formats[0] in ("srt", "vtt"):
        raise UsageError(
            f"{formats[0]} with separate channels is for one file at a time; take txt or jsonl, or one file"
        )
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError(f"--output {output} must be a file in a folder that is there")
    recognizer = Recognizer.open(options)
    texts = []
    for source in found.sources:
        try:
            text = write(source.name, in_order(_turns(recognizer, source.name, speakers, track, chunk_ms)))
        except AudioError as error:
            status = complain(error)
            continue
        if len(found.sources) > 1 and formats[0] == "txt":
            text = f"{source.name}\n{text}\n"
        if output is None:
            print(text, flush=True)
        texts.append(text)
    if output is not None:
        content = "".join(f"{text}\n" for text in texts).encode()
        write_whole(output, lambda file: file.write(content))
    return status


def _turns(recognizer: Recognizer, name: str, speakers: str | None, track: str | None, chunk_ms: int) -> Iterator[Turn]:
    rate = recognizer.sample_rate
    with AudioFile(name, rate, track) as audio:
        count = audio.channels
    named = [one.strip() for one in speakers.split(",")] if speakers else [str(one) for one in range(1, count + 1)]
    if not 2 <= count <= MOST_CHANNELS:
        raise AudioError(
            f"{name}: has {count} channel{'s' * (count != 1)}; separate channels are for 2 to {MOST_CHANNELS}"
        )
    if len(named) != count or not all(named):
        raise UsageError(f"--speakers names {len(named)}, {name} has {count} channels; give a name for each")
    for channel in range(count):
        with AudioFile(name, rate, track, channel) as audio:
            for result in recognizer.stream(rechunked(audio, chunk_samples(chunk_ms, rate))):
                if result.final and result.words:
                    yield Turn(channel + 1, named[channel], result)
            if audio.damage is not None and channel == 0:
                complain(audio.damage)
