"""Formats of a conversation whose speakers are known: utterances in the order in which they begin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from asr.errors import UsageError
from asr.output.formats import as_srt, as_vtt, word_fields
from asr.streaming.results import Result


class Turn(NamedTuple):
    """What one speaker said at a time."""

    channel: int  # from 1
    speaker: str
    result: Result


def in_order(turns: Iterable[Turn]) -> list[Turn]:
    """Turns by their beginning; of those that begin together, by channel."""
    return sorted(turns, key=lambda turn: (turn.result.start_seconds, turn.channel))


def as_text(name: str, turns: Sequence[Turn]) -> str:
    """A line a turn: time, speaker, text."""
    return "\n".join(spoken_line(one.speaker, one.result) for one in turns)


def spoken_line(speaker: str, result: Result) -> str:
    """What somebody said as a line with its time."""
    tenths = round(10 * result.start_seconds)
    return f"[{tenths // 600:02d}:{tenths // 10 % 60:02d}.{tenths % 10}] {speaker}: {result.text}"


def as_json_lines(name: str, turns: Sequence[Turn]) -> str:
    """A JSON object a turn: file, channel, speaker, times in seconds, text, words."""
    return "\n".join(
        json.dumps(
            {
                "file": name,
                "channel": one.channel,
                "speaker": one.speaker,
                "start": round(one.result.start_seconds, 3),
                "end": round(one.result.end_seconds, 3),
                "text": one.result.text,
                "words": word_fields(one.result),
            },
            ensure_ascii=False,
        )
        for one in turns
    )


def as_subtitles(name: str, turns: Sequence[Turn], vtt: bool = False) -> str:
    """SubRip, or WebVTT with its voices; each speaker's subtitles are cut as those of a recording are."""
    cues = []
    for order, one in enumerate(turns):
        written = as_vtt(name, one.result).removeprefix("WEBVTT\n\n") if vtt else as_srt(name, one.result)
        for block in written.split("\n\n"):
            lines = block.split("\n")
            clock, text = lines[0 if vtt else 1], lines[1 if vtt else 2 :]
            voice = f"<v {one.speaker}>" if vtt else f"{one.speaker}: "
            cues.append((clock.partition(" ")[0], order, "\n".join([clock, voice + text[0], *text[1:]])))
    cues.sort()
    if vtt:
        return "\n\n".join(["WEBVTT", *(text for _, _, text in cues)])
    return "\n\n".join(f"{number}\n{text}" for number, (_, _, text) in enumerate(cues, start=1))


def as_vtt_voices(name: str, turns: Sequence[Turn]) -> str:
    """WebVTT with a voice for each speaker."""
    return as_subtitles(name, turns, vtt=True)


DIALOGUE_FORMATS: dict[str, Callable[[str, Sequence[Turn]], str]] = {
    "txt": as_text,
    "jsonl": as_json_lines,
    "srt": as_subtitles,
    "vtt": as_vtt_voices,
}


def find_dialogue_format(names: Sequence[str]) -> Callable[[str, Sequence[Turn]], str]:
    """The format of a name; raises UsageError when there is none, or several are asked for."""
    if len(names) != 1 or names[0] not in DIALOGUE_FORMATS:
        raise UsageError(f"with separate channels, give one format of {', '.join(DIALOGUE_FORMATS)}")
    return DIALOGUE_FORMATS[names[0]]
