"""How long a recording should be, by what its file says of itself."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

# Containers that state how long the audio is (others, like mp3 without a Xing header, only let one guess).
STATES_LENGTH = {"flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
# Those whose packets carry time stamps; of the others, ffmpeg counts bytes or frames, as if nothing ever changed.
STAMPED = {
    *("asf", "avi", "dv", "flv", "gxf", "kux", "live_flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "mpeg"),
    *("mpegts", "mxf", "nsv", "nut", "ogg", "rm", "wtv"),
}
FROM_ZERO = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}  # whose time stamps count from 0, wherever the audio begins
# Programs that write WAV into a pipe cannot know its size; they put 0, the largest that there is, or a round number.
UNKNOWN_SIZE = 0x7FFF0000
ROUND = 1_000_000
LONGER = 20  # times the file: what states more was never cut off, but begun with a guess


def first_stamp(container: Any) -> float | None:
    """The time stamp in seconds at which a recording begins; None when its first frame says it."""
    if container.format.name in FROM_ZERO:
        return 0.0
    return None if container.start_time is None else container.start_time / 1_000_000  # microseconds


def stated_length(container: Any, track: Any, file: BinaryIO | None) -> tuple[float | None, float | None]:
    """How long the audio of a track should last, for progress, and the time stamp at which it should end.

    Args:
        container: an open one.
        track: its audio track.
        file: what it was opened from, if that can be sought in; it is left where it was.
    Returns:
        Seconds as stated or estimated, or None; and, only where the file itself says so, the last time stamp.
    """
    start = 0.0 if track.start_time is None else float(track.start_time * track.time_base)
    seconds = None
    if track.duration is not None:
        seconds = float(track.duration * track.time_base)
    elif container.duration is not None:
        seconds = container.duration / 1_000_000  # microseconds
    if seconds is None or seconds <= 0:
        return None, None
    name = container.format.name
    if name == "matroska,webm":
        return seconds, seconds if len(container.streams) == 1 else None  # of all tracks, from 0
    if name in STATES_LENGTH:
        return start + seconds if name in FROM_ZERO else seconds, start + seconds
    if file is None or name not in ("wav", "mp3"):
        return seconds, None
    at = file.tell()
    try:
        if name == "mp3":
            return seconds, _mp3_seconds(file)
        return seconds, _wav_end(seconds, file)
    except OSError:
        return seconds, None
    finally:
        file.seek(at)


def _mp3_seconds(file: BinaryIO) -> float | None:
    """The length by the frames that a Xing or Info header counts, which its encoder put into the first frame."""
    file.seek(0)
    head = file.read(10)
    tag = 0
    if head[:3] == b"ID3" and len(head) == 10:
        tag = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(tag)
    frame = file.read(4_096)
    at = max(frame[:256].find(b"Xing"), frame[:256].find(b"Info"))
    if at < 0 or len(frame) < at + 12 or frame[0] != 0xFF or not frame[at + 7] & 1:
        return None
    version, rate = frame[1] >> 3 & 3, frame[2] >> 2 & 3
    if version == 1 or rate == 3:
        return None
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return int.from_bytes(frame[at + 8 : at + 12], "big") * (1_152 if version == 3 else 576) / hertz


def _wav_end(seconds: float, file: BinaryIO) -> float | None:
    """When the audio should end by the size that a WAV file states of its data; ``seconds`` is what the file allows."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    while len(chunk := file.read(8)) == 8:
        stated = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            there = size - file.tell()
            if stated <= there:
                return seconds
            return None if _is_guess(stated, size) else seconds * stated / max(1, there)
        file.seek(stated + stated % 2, os.SEEK_CUR)
    return None


def _is_guess(stated: int, size: int) -> bool:
    """Whether a size of data was put there before anything was known of it; no size is that long by chance."""
    return stated == 0 or stated >= UNKNOWN_SIZE or stated % ROUND == 0 or stated > LONGER * size
