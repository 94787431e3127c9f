"""Several audio tracks: which one is recognised."""

from __future__ import annotations

import io

import av
import pytest
from sounds import Track, heard, loudest_hz, saved, write

from asr.errors import AudioError

HERTZ = (300.0, 600.0, 900.0)
MARKED = int(av.__version__.split(".")[0]) >= 15  # PyAV 14 can neither mark nor tell the default track


def film(*tags: str, default: int = 0, format: str = "matroska") -> bytes:
    """Tracks that are told by their tones, in these languages."""
    tracks = [
        Track("aac", language=tag, hertz=hertz, default=number == default)
        for number, (tag, hertz) in enumerate(zip(tags, HERTZ, strict=False))
    ]
    return write(tracks, format, video_seconds=1.0)


def chosen(data: bytes, track: str | int | None = None) -> int:
    """The number of the track that is heard, from 1."""
    samples, audio = heard(io.BytesIO(data), track=track)
    hertz = loudest_hz(samples)
    number = min(range(3), key=lambda number: abs(HERTZ[number] - hertz)) + 1
    assert f"took audio track {number} " in f"{audio.note} "
    return number


@pytest.mark.parametrize(
    ("tags", "default", "number"),
    [
        (("fra", "eng"), 0, 2),
        (("eng", "fra"), 1, 1),
        (("eng", "fra", "eng"), 2, 3),
        (("fra", "deu"), 1, 2),
        (("fra", "deu"), 0, 1),
        (("", ""), 1, 2),
        (("fra", "en-GB"), 0, 2),
        (("spa", "en"), 0, 2),
    ],
)
@pytest.mark.skipif(not MARKED, reason="PyAV 14 cannot mark the default track")
def test_the_models_language_comes_first_then_the_default_track(tags, default, number):
    assert chosen(film(*tags, default=default)) == number


@pytest.mark.parametrize(("track", "number"), [(2, 2), ("1", 1), ("fra", 1), ("FRA", 1), ("en", 2), ("eng", 2)])
@pytest.mark.parametrize("format", ["matroska", "mp4", "mpegts"])
def test_a_track_may_be_chosen(track, number, format):
    assert chosen(film("fra", "eng", format=format), track) == number


@pytest.mark.parametrize("track", [0, 3, "3", "de", "nonsense"])
def test_a_track_that_is_not_there_is_told_with_those_that_are(track):
    with pytest.raises(AudioError, match=rf"has no audio track {track}; it has 1 \(fra\), 2 \(eng\)"):
        heard(io.BytesIO(film("fra", "eng")), track=track)


def test_of_one_track_there_is_nothing_to_tell():
    _, audio = heard(io.BytesIO(film("fra")))
    assert audio.note is None


def test_the_command_says_which_one_it_took(asr, model_folder, tmp_path):
    path = saved(tmp_path, "film.mkv", film("fra", "eng"))
    options = ("transcribe", path, "--model", model_folder, "--decoder", "greedy")
    answer = asr(*options)
    assert answer.returncode == 0
    assert answer.stderr == f"asr: {path}: took audio track 2 (eng) of 2; others with --track\n"
    answer = asr(*options, "--track", "fra")
    assert answer.stderr == f"asr: {path}: took audio track 1 (fra) of 2; others with --track\n"
    answer = asr(*options, "--track", "3")
    assert answer.returncode == 1 and "has no audio track 3; it has 1 (fra), 2 (eng)" in answer.stderr
