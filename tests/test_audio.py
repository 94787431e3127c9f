"""Audio files of every kind, whole, damaged and false."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import SAMPLE_RATE, wav_bytes

from asr.audio.files import AudioFile, RawAudio
from asr.audio.pipes import looks_like_a_file
from asr.errors import AudioError
from asr.streaming.sources import resampled

TONE_HZ = 440.0


def tone(sample_rate: int, seconds: float = 1.0) -> np.ndarray:
    """A quiet sine (N,)."""
    return (0.3 * np.sin(2 * np.pi * TONE_HZ * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(
        np.float32
    )


def encode(path: Path, codec: str, sample_rate: int, seconds: float = 2.0, layout: str = "mono") -> Path:
    """Write a tone; an mp4 gets a moving picture too."""
    samples = (tone(sample_rate, seconds) * 32_767).astype("<i2")
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=sample_rate)
        track.layout = layout
        channels = track.layout.nb_channels
        if path.suffix == ".mp4":
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 64
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        converter = av.AudioResampler(format=track.format, layout=layout, rate=sample_rate)
        frame = av.AudioFrame.from_ndarray(np.repeat(samples, channels)[None], format="s16", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = sample_rate, Fraction(1, sample_rate), 0
        fifo = av.AudioFifo()
        for piece in (*converter.resample(frame), *converter.resample(None)):
            fifo.write(piece)
        while piece := fifo.read(track.frame_size or 1_024, partial=True):
            container.mux(track.encode(piece))
        container.mux(track.encode(None))
    return path


def decode(source: object, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    with AudioFile(source, sample_rate) as audio:
        samples = np.concatenate(list(audio))
        assert audio.damage is None
    return samples


def loudest_hz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


@pytest.mark.parametrize(
    ("name", "codec", "sample_rate"),
    [
        ("a.wav", "pcm_s16le", 8_000),
        ("b.wav", "pcm_s24le", 48_000),
        ("c.wav", "pcm_f32le", 44_100),
        ("d.wav", "pcm_u8", 16_000),
        ("e.flac", "flac", 16_000),
        ("f.mp3", "libmp3lame", 44_100),
        ("g.m4a", "aac", 48_000),
        ("h.ogg", "libopus", 48_000),
        ("i.webm", "libopus", 48_000),
        ("j.mp4", "aac", 44_100),
    ],
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_files_of_every_kind_are_read(tmp_path, name, codec, sample_rate, layout):
    samples = decode(encode(tmp_path / name, codec, sample_rate, layout=layout))
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, rel=0.05)
    assert loudest_hz(samples) == pytest.approx(TONE_HZ, abs=2)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("channels", [2, 3, 8])
def test_channels_are_averaged(write_wav, channels):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (5_000, channels)).astype(np.float32)
    np.testing.assert_allclose(decode(write_wav("many.wav", samples)), samples.mean(axis=1), atol=1e-4)


def test_a_file_at_the_models_rate_is_read_sample_by_sample(write_wav):
    samples = tone(SAMPLE_RATE)
    np.testing.assert_allclose(decode(write_wav("a.wav", samples)), samples, atol=1e-4)


@pytest.mark.parametrize("sample_rate", [8_000, 48_000])
def test_a_file_and_an_array_are_resampled_alike(write_wav, sample_rate):
    samples = tone(sample_rate)
    array = np.concatenate(list(resampled([samples], sample_rate, SAMPLE_RATE)))
    np.testing.assert_allclose(decode(write_wav("a.wav", samples, sample_rate)), array, atol=1e-4)


def test_blocks_are_small_however_long_the_file(tmp_path):
    path = encode(tmp_path / "long.flac", "flac", SAMPLE_RATE, seconds=60)
    with AudioFile(path, SAMPLE_RATE) as audio:
        sizes = [len(block) for block in audio]
    assert sum(sizes) == 60 * SAMPLE_RATE and max(sizes) < SAMPLE_RATE


class Pipe(io.RawIOBase):
    """Bytes that can be read once and not sought in."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer) -> int:
        return self._data.readinto(buffer)


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.webm", "libopus")])
def test_files_are_read_from_a_pipe(tmp_path, name, codec):
    data = encode(tmp_path / name, codec, 48_000).read_bytes()
    assert looks_like_a_file(data[:12])
    samples = decode(io.BufferedReader(Pipe(data)))
    assert loudest_hz(samples) == pytest.approx(TONE_HZ, abs=2)


@pytest.mark.parametrize("head", [b"", b"hello world!", bytes(12), tone(16_000)[:6].tobytes()])
def test_bytes_that_are_no_file_are_told_apart(head):
    assert not looks_like_a_file(head)


def test_raw_samples_are_read_whatever_the_reads_give():
    samples = tone(SAMPLE_RATE)
    data = (samples * 32_768).astype("<i2").tobytes()

    class Odd(Pipe):
        def read(self, size: int = -1) -> bytes:
            return super().read(777)

    blocks = list(RawAudio(Odd(data), "stdin", SAMPLE_RATE, SAMPLE_RATE))
    np.testing.assert_allclose(np.concatenate(blocks), samples, atol=1e-4)
    with pytest.raises(AudioError, match="stdin: holds no audio"):
        list(RawAudio(Pipe(b"\0"), "stdin", SAMPLE_RATE, SAMPLE_RATE))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("missing.wav", None, "no such file"),
        ("empty.wav", b"", "is empty"),
        ("text.wav", b"this is text\n" * 50, "is no audio file"),
        ("header.wav", wav_bytes(tone(SAMPLE_RATE))[:20], "is no audio file"),
        ("silent.wav", wav_bytes(np.zeros(0, np.float32)), "holds no audio: it is 0 s long"),
        ("list.wav", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n", "is no audio file"),
    ],
)
def test_what_is_no_audio_is_told_in_one_line(tmp_path, name, data, reason):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(AudioError) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


def test_a_folder_is_told(tmp_path):
    with pytest.raises(AudioError, match="is a folder"):
        AudioFile(tmp_path, SAMPLE_RATE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(tone(SAMPLE_RATE)))
    path.chmod(0)
    with pytest.raises(AudioError, match="no permission"):
        AudioFile(path, SAMPLE_RATE)


def test_a_video_without_sound_is_told(tmp_path):
    path = tmp_path / "mute.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 64
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    with pytest.raises(AudioError, match="there is no audio in it"):
        AudioFile(path, SAMPLE_RATE)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.webm", "libopus")]
)
def test_a_truncated_file_gives_what_is_there_and_says_so(tmp_path, name, codec):
    path = encode(tmp_path / name, codec, 48_000, seconds=8)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with AudioFile(path, SAMPLE_RATE) as audio:
        heard = sum(len(block) for block in audio)
    assert heard == pytest.approx(4 * SAMPLE_RATE, rel=0.35)
    assert audio.damage.startswith(f"{path}: truncated: it should last 8.") and "\n" not in audio.damage


def test_a_truncated_file_that_cannot_be_opened_is_told(tmp_path):
    path = encode(tmp_path / "a.m4a", "aac", 48_000)
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(AudioError, match="or a damaged one"):
        AudioFile(path, SAMPLE_RATE)


def test_a_wav_of_unknown_length_is_whole(write_wav):
    path = write_wav("pipe.wav", tone(SAMPLE_RATE))
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"  # what a program writes that cannot seek back
    path.write_bytes(data)
    assert len(decode(path)) == SAMPLE_RATE
