"""Audio from a pipe: what a file can be, a stream can be, too."""

from __future__ import annotations

import io

import numpy as np
import pytest
from sounds import RATE, Track, heard, write

from asr.audio import pipes
from asr.audio.pipes import Pipe, looks_like_a_file, readable
from asr.errors import AudioError

# Format of the muxer, codec, rate.
KINDS = [
    ("wav", "pcm_s16le", 16_000),
    ("w64", "pcm_s16le", 16_000),
    ("flac", "flac", 16_000),
    ("mp3", "libmp3lame", 44_100),
    ("mp2", "mp2", 44_100),
    ("adts", "aac", 48_000),
    ("ac3", "ac3", 48_000),
    ("mp4", "aac", 48_000),
    ("mov", "pcm_s16le", 48_000),
    ("ipod", "aac", 48_000),
    ("3gp", "aac", 48_000),
    ("matroska", "libopus", 48_000),
    ("webm", "libopus", 48_000),
    ("ogg", "libopus", 48_000),
    ("ogg", "flac", 16_000),
    ("asf", "wmav2", 44_100),
    ("mpegts", "aac", 48_000),
    ("mpeg", "mp2", 48_000),
    ("flv", "aac", 44_100),
    ("avi", "pcm_s16le", 16_000),
    ("aiff", "pcm_s16be", 16_000),
    ("au", "pcm_s16be", 16_000),
    ("caf", "pcm_s16le", 16_000),
    ("amr", "libopencore_amrnb", 8_000),
    ("wv", "wavpack", 16_000),
    ("tta", "tta", 16_000),
    ("nut", "flac", 16_000),
    ("voc", "pcm_s16le", 16_000),
    ("rm", "ac3", 44_100),
    ("mxf", "pcm_s16le", 48_000),
    ("latm", "aac", 48_000),
    ("dts", "dca", 48_000),
    ("truehd", "truehd", 48_000),
    ("sox", "pcm_s32le", 16_000),
]


class Stream(io.RawIOBase):
    """Bytes that can be read once, a few at a time, and not sought in."""

    name = "<stdin>"

    def __init__(self, data: bytes, most: int = 1 << 20) -> None:
        self._data = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._data.readinto(memoryview(buffer)[: self._most])


def made(format: str, codec: str, rate: int, **options) -> bytes:
    try:
        return write([Track(codec, rate, layout="stereo" if codec == "dca" else "mono", **options)], format)
    except Exception as error:  # noqa: BLE001 (PyAV's errors are many)
        pytest.skip(f"this PyAV cannot write {format} with {codec}: {error}")


@pytest.mark.parametrize(("format", "codec", "rate"), KINDS)
def test_a_pipe_gives_what_the_file_gives(format, codec, rate):
    data = made(format, codec, rate)
    assert looks_like_a_file(data[: pipes.HEAD_BYTES])
    whole, _ = heard(io.BytesIO(data))
    assert len(whole) / RATE == pytest.approx(2.0, abs=0.15)
    for most in (1 << 20, 1_000):
        samples, audio = heard(io.BufferedReader(Stream(data, most)))
        both = min(len(samples), len(whole)) - 1_000  # the padding at the end of an mp3 is known in a file only
        assert abs(len(samples) - len(whole)) < 0.02 * RATE
        np.testing.assert_array_equal(samples[:both], whole[:both])
        assert audio.damage is None


@pytest.mark.parametrize("faststart", [False, True])
def test_an_mp4_is_kept_in_a_file_only_if_its_index_is_at_its_end(tmp_path, faststart):
    options = {"movflags": "faststart"} if faststart else {}
    data = write([Track("aac")], "mp4", options=options, path=tmp_path / "a.mp4")
    source = readable(Stream(data), "a")
    assert isinstance(source, Pipe) == faststart
    if not faststart:
        source.close()
    fragments = write([Track("aac")], "mp4", options={"movflags": "frag_keyframe+empty_moov"})
    assert isinstance(readable(Stream(fragments), "a"), Pipe)
    for file in (data, fragments):
        assert len(heard(Stream(file))[0]) / RATE == pytest.approx(2.0, abs=0.1)


def test_a_temporary_file_has_a_limit(monkeypatch):
    monkeypatch.setattr(pipes, "MOST_SPOOLED", 5_000)
    with pytest.raises(AudioError, match="stdin: this format cannot be read from a pipe beyond"):
        heard(Stream(write([Track("aac")], "mp4")))


def test_a_pipe_is_not_read_further_than_it_must(monkeypatch):
    """An hour of silence would not fit: what is heard comes while the rest is still to be spoken."""
    data = made("wav", "pcm_s16le", 16_000, seconds=60.0)
    stream = Stream(data)
    from asr.audio.files import AudioFile

    with AudioFile(stream, RATE) as audio:
        next(iter(audio))
        assert stream._data.tell() < len(data) / 2


def test_the_command_takes_from_stdin_what_it_takes_as_a_file(asr, model_folder, tmp_path):
    for format, codec, rate in (("mp4", "aac", 48_000), ("adts", "aac", 48_000), ("mpegts", "aac", 48_000)):
        data = made(format, codec, rate)
        (tmp_path / "a").write_bytes(data)
        options = ("--model", model_folder, "--decoder", "greedy")
        named, piped = asr("transcribe", tmp_path / "a", *options), asr("transcribe", "-", *options, stdin=data)
        assert (named.returncode, piped.returncode) == (0, 0), piped.stderr
        assert piped.stdout == named.stdout


@pytest.mark.parametrize(
    "data", [b"hello world! " * 99, bytes(9_999), (np.arange(9_999) % 700 * 40).astype("<i2").tobytes()]
)
def test_what_is_no_file_is_not_taken_for_one(asr, model_folder, data):
    assert not looks_like_a_file(data[: pipes.HEAD_BYTES])
    answer = asr("transcribe", "-", "--model", model_folder, "--decoder", "greedy", stdin=data)
    assert answer.returncode == 1 and "stdin: is no audio file; give --raw-rate" in answer.stderr
