"""Small audio files of many kinds, made by PyAV for the tests that read them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from asr.audio.files import AudioFile

RATE = 16_000


def tone(sample_rate: int = RATE, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    """A quiet sine (N,)."""
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(np.float32)


@dataclass
class Track:
    """A tone in a file: when it starts, where its time stamps jump, and how the track is tagged."""

    codec: str = "aac"
    rate: int = 48_000
    seconds: float = 2.0
    hertz: float = 440.0
    layout: str = "mono"
    starts: float = 0.0
    jump: tuple[float, float] = (np.inf, 0.0)  # at this second of the tone, so many seconds further
    language: str = ""
    default: bool = False


def write(
    tracks: Sequence[Track],
    format: str,
    video_seconds: float = 0.0,
    options: dict[str, str] | None = None,
    path: Path | None = None,
) -> bytes:
    """A file with these audio tracks, and a black picture if wanted; written to a path if one is given."""
    file = io.BytesIO() if path is None else str(path)
    with av.open(file, "w", format=format, container_options=options or {}) as container:
        packets = []
        if video_seconds:
            packets += _video(container, video_seconds)
        streams = []
        for track in tracks:
            stream = container.add_stream(track.codec, rate=track.rate)
            stream.layout = track.layout
            if track.language:
                stream.metadata["language"] = track.language
            if hasattr(stream, "disposition"):
                stream.disposition = 1 if track.default else 0
            streams.append(stream)
        for track, stream in zip(tracks, streams, strict=True):
            packets += _audio(stream, track)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return file.getvalue() if path is None else path.read_bytes()


def _video(container, seconds: float) -> list[av.Packet]:
    video = container.add_stream("mpeg4", rate=25)
    video.width = video.height = 64
    video.pix_fmt = "yuv420p"
    packets = []
    for number in range(round(25 * seconds)):
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        packets += video.encode(frame)
    return packets + video.encode(None)


def _audio(stream, track: Track) -> list[av.Packet]:
    samples = np.round(tone(track.rate, track.seconds, track.hertz) * 32_767).astype("<i2")
    converter = av.AudioResampler(format=stream.format, layout=track.layout, rate=track.rate)
    channels = stream.layout.nb_channels
    frame = av.AudioFrame.from_ndarray(np.repeat(samples, channels)[None], format="s16", layout=track.layout)
    frame.sample_rate, frame.time_base, frame.pts = track.rate, Fraction(1, track.rate), 0
    fifo = av.AudioFifo()
    for piece in (*converter.resample(frame), *converter.resample(None)):
        fifo.write(piece)
    packets = []
    while piece := fifo.read(stream.frame_size or 1_024, partial=True):
        packets += stream.encode(piece)
    packets += stream.encode(None)
    for packet in packets:
        at = float(packet.pts * packet.time_base)
        late = track.starts + (track.jump[1] if at >= track.jump[0] else 0.0)
        packet.pts = packet.dts = packet.pts + round(late / packet.time_base)
    return packets


def heard(source: object, **options) -> tuple[np.ndarray, AudioFile]:
    """The samples (N,) of a file at `RATE`, and the file."""
    with AudioFile(source, RATE, **options) as audio:
        return np.concatenate(list(audio)), audio


def sounding(samples: np.ndarray) -> list[tuple[float, float]]:
    """Where there is sound, as (start, end) in seconds, between silences of at least 0.1 s."""
    loud = np.flatnonzero(np.abs(samples) > 0.05)
    breaks = np.flatnonzero(np.diff(loud) > 0.1 * RATE)
    starts, ends = [loud[0], *loud[breaks + 1]], [*loud[breaks], loud[-1]]
    return [(start / RATE, end / RATE) for start, end in zip(starts, ends, strict=True)]


def loudest_hz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples))


def saved(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
