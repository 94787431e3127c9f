"""Times: what a container's time stamps say of its audio is where the audio lies."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from conftest import SAMPLES
from sounds import RATE, Track, heard, sounding, write

from asr.audio.clock import DRIFT_SECONDS, LONGEST_SECONDS, MOST_SECONDS, Clock
from asr.audio.files import AudioFile

FORMATS = {"mp4": "aac", "mov": "aac", "matroska": "libopus", "webm": "libopus", "mpegts": "aac", "nut": "flac"}


@pytest.mark.parametrize("format", ["mp4", "mov", "matroska", "mpegts", "nut"])
def test_audio_that_starts_after_the_picture_is_heard_when_it_is_played(format):
    data = write([Track(FORMATS[format], starts=4.0)], format, video_seconds=8.0)
    samples, audio = heard(io.BytesIO(data))
    assert sounding(samples) == [(pytest.approx(4.0, abs=0.08), pytest.approx(6.0, abs=0.08))]
    assert audio.damage is None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("video_seconds", [0.0, 8.0])
def test_silence_stands_for_what_a_lost_connection_did_not_send(format, video_seconds):
    if format == "webm" and video_seconds:
        pytest.skip("WebM takes no MPEG-4 video")
    data = write([Track(FORMATS[format], jump=(0.99, 5.0))], format, video_seconds)
    samples, audio = heard(io.BytesIO(data))
    (first, gap), (on, last) = sounding(samples)
    assert (first, gap, on, last) == pytest.approx((0.0, 1.0, 6.0, 7.0), abs=0.1)
    assert audio.damage is None


@pytest.mark.parametrize("format", ["mp4", "matroska", "webm"])
def test_a_track_that_starts_late_is_no_truncated_one(format):
    samples, audio = heard(io.BytesIO(write([Track(FORMATS[format], starts=4.0)], format)))
    assert audio.damage is None
    assert sounding(samples)[0][0] == pytest.approx(4.0, abs=0.1), "the time that a player shows"
    assert len(samples) / RATE == pytest.approx(audio.seconds, abs=0.1)


@pytest.mark.parametrize("format", ["mpegts", "nut"])
def test_a_stream_recorded_from_the_middle_begins_at_0(format):
    samples, audio = heard(io.BytesIO(write([Track(FORMATS[format], starts=5_000.0)], format)))
    assert sounding(samples) == [(pytest.approx(0.0, abs=0.08), pytest.approx(2.0, abs=0.08))]
    assert audio.damage is None


@pytest.mark.parametrize("jump", [-0.9, 100_000.0])
def test_a_clock_that_was_set_anew_is_no_gap(jump):
    """matroska stamps may run back, as those of two recordings do that were joined."""
    samples, _ = heard(io.BytesIO(write([Track("libopus", jump=(0.99, jump))], "matroska")))
    assert len(samples) / RATE == pytest.approx(2.0, abs=0.1)


def test_half_of_a_file_with_a_gap_is_truncated():
    data = write([Track("libopus", seconds=8.0, jump=(0.99, 5.0))], "matroska")
    with AudioFile(io.BytesIO(data[: len(data) * 2 // 3]), RATE) as audio:
        for _ in audio:
            pass
    assert "truncated: it should last 13.0 s and ends at 10." in audio.damage


def test_words_get_the_times_of_the_container(shipped_recognizer, tmp_path):
    with AudioFile(SAMPLES / "greeting.wav", RATE) as audio:
        samples = np.concatenate(list(audio))
    whole = shipped_recognizer.transcribe(samples)
    frame = av.AudioFrame.from_ndarray((samples * 32_767).astype("<i2")[None], format="s16", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 4 * RATE
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        track = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        container.mux([*track.encode(frame), *track.encode(None)])
    late = shipped_recognizer.transcribe(path)
    pairs = [(one, other) for one, other in zip(late.words, whole.words, strict=False) if one.text == other.text]
    assert len(pairs) >= 5, "but for the last word, perhaps: silence before it is heard too"
    shifts = [one.start_seconds - other.start_seconds for one, other in pairs]
    np.testing.assert_allclose(shifts, 4.0, atol=0.1)


def test_the_clock_keeps_to_the_stamps_in_bounds():
    clock = Clock()
    clock.begin(0.0)
    assert [clock.gap(stamp, 1.0) for stamp in (0.0, 1.0, 2.05, 3.1)] == [0, 0, 0, 0], "the grain of a clock"
    assert clock.gap(6.1, 1.0) == pytest.approx(2.1)
    assert clock.gap(None, 1.0) == 0 and clock.seconds == pytest.approx(8.1)
    assert clock.gap(8.1 + LONGEST_SECONDS + 1, 1.0) == 0, "too long for a gap"
    assert clock.gap(8.1 + LONGEST_SECONDS + 4, 1.0) == pytest.approx(2.0), "it goes on from there"
    assert clock.gap(float("nan"), 1.0) == 0
    assert clock.gap(-100.0, 1.0) == 0
    assert clock.gap(-96.0, 1.0) == pytest.approx(3.0)


def test_the_clock_makes_up_for_drift():
    clock = Clock()
    clock.begin(None)
    gaps = [clock.gap(10 + 1.01 * second, 1.0) for second in range(100)]
    assert max(gaps) == pytest.approx(DRIFT_SECONDS, abs=0.011) and sum(gaps) == pytest.approx(0.99, abs=DRIFT_SECONDS)


def test_silence_has_an_end():
    clock = Clock()
    clock.begin(0.0)
    gaps = [clock.gap(number * (LONGEST_SECONDS - 1), 1.0) for number in range(100)]
    assert MOST_SECONDS - LONGEST_SECONDS <= sum(gaps) <= MOST_SECONDS
