"""Files put together by programs that know no better: joined, padded, or of a size that was a guess."""

from __future__ import annotations

import io
import struct

import pytest
from conftest import wav_bytes
from sounds import RATE, Track, heard, saved, tone, write

from asr.audio.files import AudioFile
from asr.audio.ogg import OggLinks, is_chain


def ogg(codec: str, rate: int, layout: str = "mono", hertz: float = 440.0, seconds: float = 2.0) -> bytes:
    return write([Track(codec, rate, seconds, hertz, layout)], "ogg")


LINKS = {
    "opus, two channels": (ogg("libopus", 48_000), ogg("libopus", 48_000, "stereo")),
    "flac, another rate": (ogg("flac", 16_000), ogg("flac", 48_000, "stereo")),
    "flac, a lower rate": (ogg("flac", 44_100, "stereo"), ogg("flac", 8_000)),
    "another codec": (ogg("flac", 44_100, "stereo"), ogg("libopus", 48_000), ogg("flac", 8_000)),
}


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("opened", [io.BytesIO, Unseekable], ids=["file", "pipe"])
def test_every_link_of_a_chain_is_heard(kind, opened):
    links = LINKS[kind]
    samples, audio = heard(opened(b"".join(links)))
    assert len(samples) / RATE == pytest.approx(2 * len(links), rel=0.03)
    assert audio.damage is None
    for number, link in enumerate(links):
        alone, _ = heard(io.BytesIO(link))
        middle = samples[int((2 * number + 0.5) * RATE) :][:RATE]
        assert abs(middle).max() == pytest.approx(abs(alone[RATE // 2 :][:RATE]).max(), rel=0.1)


def test_one_stream_is_no_chain():
    link = LINKS["opus, two channels"][0]
    assert not is_chain(io.BytesIO(link)) and is_chain(io.BytesIO(link * 2))


@pytest.mark.parametrize("size", [1, 7, 4_000, 1 << 20])
def test_links_are_taken_apart_byte_by_byte(size):
    links = LINKS["another codec"]
    file = io.BytesIO(b"".join(links))
    chain = OggLinks(lambda count: file.read(min(count, size)))
    found = []
    while True:
        found.append(b"".join(iter(lambda: chain.read(size), b"")))
        if not chain.next():
            break
    assert found == list(links)


def test_damage_between_pages_ends_nothing():
    one, other = LINKS["flac, another rate"]
    half = one.index(b"OggS", len(one) // 2)
    samples, _ = heard(io.BytesIO(one[:half] + bytes(range(256)) * 40 + one[half:] + other))
    assert len(samples) / RATE == pytest.approx(4.0, rel=0.2)


MP3 = [write([Track("libmp3lame", rate, hertz=hertz)], "mp3") for rate, hertz in ((16_000, 300), (44_100, 900))]
TAG = b"TAG" + b"title".ljust(125, b"\0")
COVER = b"ID3\3\0\0" + bytes([0, 2, 0, 0]) + b"APIC" + bytes((number * 7) % 256 for number in range(32_764))


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        ((MP3[0], MP3[0]), 4),
        ((MP3[0], MP3[1]), 4),
        ((MP3[1], MP3[0], MP3[1]), 6),
        ((MP3[0], TAG, MP3[0], TAG), 4),
        ((MP3[0], COVER, MP3[1]), 4),
        ((MP3[0], bytes(20_000)), 2),
        ((MP3[1], bytes(2_000_000)), 2),
        ((MP3[0], bytes(20_000), MP3[0]), 4),
    ],
)
def test_joined_and_padded_mp3s_are_whole(parts, seconds):
    samples, audio = heard(io.BytesIO(b"".join(parts)))
    assert len(samples) / RATE == pytest.approx(seconds, abs=0.25)
    assert audio.damage is None


@pytest.mark.parametrize("codec", ["aac", "ac3", "flac"])
def test_other_streams_may_be_joined_and_padded_too(codec):
    data = write([Track(codec, 48_000)], "adts" if codec == "aac" else codec)
    for whole, seconds in ((data + data, 4), (data + bytes(20_000), 2)):
        samples, audio = heard(io.BytesIO(whole))
        assert len(samples) / RATE == pytest.approx(seconds, abs=0.15)
        assert audio.damage is None


def sized(riff: int | None, data: int | None, seconds: float = 3.0) -> bytes:
    """A WAV file that states these sizes; None for the right one."""
    wav = bytearray(wav_bytes(tone(seconds=seconds)))
    for at, size in ((4, riff), (40, data)):
        if size is not None:
            wav[at : at + 4] = struct.pack("<I", size)
    return bytes(wav)


GUESSES = (0, 2_000_000_000, 1_000_000_000, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)


@pytest.mark.parametrize("data", (*GUESSES, None))
@pytest.mark.parametrize("riff", (*GUESSES, None))
def test_a_size_that_was_a_guess_is_unknown(tmp_path, riff, data):
    for source in (saved(tmp_path, "a.wav", sized(riff, data)), io.BytesIO(sized(riff, data))):
        samples, audio = heard(source)
        assert len(samples) == 3 * RATE
        assert audio.damage is None


def test_a_size_that_was_none_is_missed(tmp_path):
    wav = sized(None, None, seconds=8.0)
    for source in (saved(tmp_path, "a.wav", wav[: len(wav) // 2]), io.BytesIO(wav[: len(wav) // 2])):
        _, audio = heard(source)
        assert "truncated: it should last 8.0 s and ends at 4.0 s" in audio.damage


@pytest.mark.parametrize(("packets", "damaged"), [(1, False), (12, True)])
def test_less_than_a_tenth_of_a_second_is_no_damage(packets, damaged):
    """Frames of 24 ms, of which some are overwritten."""
    data = bytearray(write([Track("flac", 48_000, 4.0)], "matroska"))
    at = 0
    for number in range(20 + packets):
        at = data.index(b"\xff\xf8", at + 1)
        if number >= 20:
            data[at : at + 40] = bytes(40)
    with AudioFile(io.BytesIO(bytes(data)), RATE) as audio:
        assert sum(len(block) for block in audio) / RATE == pytest.approx(4.0, abs=0.15)
    assert (audio.damage is not None) == damaged
