"""What augmentation does to a signal, and that it is the same every time."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.data.augment_audio import GAIN_DB, NOISE_SNR_DB, Augmenter, Perturbation
from asr.errors import AudioError, DataError

RATE = 16_000
RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data" / "augment"
needs_recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the augmentation data folder is not here")


def decaying_response(rt60_seconds: float, seed: int) -> np.ndarray:
    """A direct path, 2 ms in, then noise that falls by 60 dB in `rt60_seconds`."""
    time = np.arange(round(rt60_seconds * RATE)) / RATE
    tail = np.random.default_rng(seed).normal(0, 0.05, time.size) * 10 ** (-3 * time / rt60_seconds)
    response = np.concatenate([np.zeros(32), tail])
    response[32] = -0.9  # a microphone of inverted polarity
    return response.astype(np.float32)


@pytest.fixture(scope="session")
def augmenter(tmp_path_factory) -> Augmenter:
    folder = tmp_path_factory.mktemp("augment")
    (folder / "noise").mkdir()
    (folder / "rooms").mkdir()
    random = np.random.default_rng(0)
    soundfile.write(folder / "noise" / "hiss.wav", random.normal(0, 0.1, 5 * RATE), RATE)
    soundfile.write(folder / "noise" / "short.flac", random.normal(0, 0.01, RATE // 3), RATE)
    soundfile.write(folder / "noise" / "hum.wav", 0.2 * np.sin(np.arange(8_000) * 2 * np.pi * 50 / 8_000), 8_000)
    soundfile.write(folder / "rooms" / "office.flac", decaying_response(0.4, 1), RATE)
    soundfile.write(folder / "rooms" / "church.flac", decaying_response(1.6, 2), RATE)
    return Augmenter(folder / "noise", folder / "rooms", seed=7)


@pytest.fixture(scope="session")
def voice() -> np.ndarray:
    """Three seconds of something with the spectrum and the pauses of speech."""
    random = np.random.default_rng(3)
    time = np.arange(3 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 60))
    wave = buzz * (np.sin(2 * np.pi * 2 * time) > -0.3) + random.normal(0, 0.3, time.size)
    return (0.05 * wave).astype(np.float32)


def power_db(samples: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


def lag_samples(later: np.ndarray, earlier: np.ndarray) -> int:
    """By how much `later` comes after `earlier`, from the peak of their cross-correlation."""
    size = 2 * max(later.size, earlier.size)
    correlation = np.fft.irfft(np.fft.rfft(later, size) * np.conj(np.fft.rfft(earlier, size)), size)
    peak = int(np.abs(correlation).argmax())
    return peak if peak < size // 2 else peak - size


def band_db(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(samples.size))) ** 2
    hertz = np.fft.rfftfreq(samples.size, 1 / RATE)
    return 10 * np.log10(power[(hertz >= low_hz) & (hertz < high_hz)].mean())


def test_variant_zero_is_the_recording_itself(augmenter, voice):
    samples, speed = augmenter.variant(voice, "any", 0)
    assert speed == 1.0 and np.array_equal(samples, voice)


def test_same_seed_id_and_variant_give_the_same_samples(augmenter, voice):
    for variant in range(1, 7):
        once, speed = augmenter.variant(voice, "speaker-1", variant)
        again, _ = augmenter.variant(voice, "speaker-1", variant)
        assert np.array_equal(once, again) and once.dtype == np.float32
        assert speed == (0.9, 1.1, 1.0)[(variant - 1) % 3]
    draws = {(name, variant): augmenter.draw(name, variant) for name in ("a", "b") for variant in range(1, 7)}
    assert len({draw.gain_db for draw in draws.values()}) == len(draws)
    assert Augmenter(seed=8).draw("a", 1).gain_db != draws["a", 1].gain_db


def test_identity_follows_seed_and_recordings(augmenter):
    assert Augmenter(seed=1).identity == Augmenter(seed=1).identity
    assert len({Augmenter(seed=1).identity, Augmenter(seed=2).identity, augmenter.identity}) == 3


def test_how_often_each_thing_happens(augmenter):
    draws = [augmenter.draw(f"utterance-{number}", 3) for number in range(3000)]
    in_room = [draw for draw in draws if draw.room is not None]
    assert np.mean([draw.noise is not None for draw in draws]) == pytest.approx(0.5, abs=0.04)
    assert len(in_room) / len(draws) == pytest.approx(0.3, abs=0.04)
    assert np.mean([draw.telephone for draw in draws]) == pytest.approx(0.15, abs=0.03)
    church, office = 0, 1  # in order of name
    assert np.mean([draw.room == office for draw in in_room]) > 0.85 and any(draw.room == church for draw in in_room)
    for values, (low, high) in (
        ([draw.snr_db for draw in draws], NOISE_SNR_DB),
        ([draw.gain_db for draw in draws], GAIN_DB),
    ):
        assert low <= min(values) < low + 0.5 and high - 0.5 < max(values) <= high


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, 40_000), variant=st.integers(1, 6), name=st.text(max_size=5))
def test_length_is_that_of_the_speed_whatever_else_happens(augmenter, length, variant, name):
    samples = np.random.default_rng(length).normal(0, 0.1, length).astype(np.float32)
    perturbed, speed = augmenter.variant(samples, name, variant)
    assert abs(perturbed.size - length / speed) <= 1
    assert np.isfinite(perturbed).all()


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_moves_events_and_pitch(augmenter, speed):
    click = np.zeros(2 * RATE, np.float32)
    click[24_000] = 0.5
    assert abs(int(np.abs(augmenter.apply(click, Perturbation(speed=speed))).argmax()) - 24_000 / speed) <= 1
    tone = 0.1 * np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE).astype(np.float32)
    faster = augmenter.apply(tone, Perturbation(speed=speed))
    assert abs(np.abs(np.fft.rfft(faster)).argmax() * RATE / faster.size - 500 * speed) < 1
    assert power_db(faster) == pytest.approx(power_db(tone), abs=0.2)


@pytest.mark.parametrize("noise", [0, 1, 2])
@pytest.mark.parametrize("snr_db", [5.0, 12.5, 20.0])
def test_noise_is_as_loud_as_asked(augmenter, voice, noise, snr_db):
    noisy = augmenter.apply(voice, Perturbation(noise=noise, noise_start=0.7, snr_db=snr_db))
    added = noisy - voice
    assert power_db(voice) - power_db(added) == pytest.approx(snr_db, abs=0.5)
    thirds = [power_db(third) for third in np.split(added, 3)]
    assert max(thirds) - min(thirds) < 1  # to the end, also where the recording of the noise is shorter


def test_room_keeps_the_direct_path_and_the_energy(augmenter, voice):
    click = np.zeros(RATE, np.float32)
    click[5000] = 0.1
    for room in (0, 1):
        heard = augmenter.apply(click, Perturbation(room=room))
        assert np.abs(heard).argmax() == 5000 and heard[5000] > 0
        assert np.abs(heard[5001:9000]).max() > 0.01 * heard[5000]  # there is a room
        assert power_db(heard) == pytest.approx(power_db(click), abs=0.1)
        assert lag_samples(augmenter.apply(voice, Perturbation(room=room)), voice) == 0


def test_telephone_takes_the_high_band_and_nothing_else(augmenter):
    white = np.random.default_rng(5).normal(0, 0.1, 3 * RATE + 1).astype(np.float32)
    phoned = augmenter.apply(white, Perturbation(telephone=True))
    assert phoned.size == white.size and lag_samples(phoned, white) == 0
    assert band_db(phoned, 4_100, 8_000) < band_db(white, 4_100, 8_000) - 50
    assert band_db(phoned, 100, 3_400) == pytest.approx(band_db(white, 100, 3_400), abs=0.2)


def test_gain_is_exact_until_full_scale(augmenter, voice):
    assert np.allclose(augmenter.apply(voice, Perturbation(gain_db=-10.0)), voice * 10**-0.5, atol=1e-6)
    loud = voice / np.abs(voice).max() * 0.9
    louder = augmenter.apply(loud, Perturbation(gain_db=10.0))
    assert np.abs(louder).max() == pytest.approx(1.0, abs=1e-5)
    assert np.allclose(louder, loud / 0.9, atol=1e-5)  # turned up less, not clipped


def test_silence_stays_finite(augmenter):
    everything = Perturbation(speed=0.9, room=0, noise=0, snr_db=5, telephone=True, gain_db=3)
    assert np.isfinite(augmenter.apply(np.zeros(RATE, np.float32), everything)).all()


def test_recordings_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Augmenter(noise=tmp_path / "none.tar")
    with pytest.raises(DataError, match="holds no recordings"):
        Augmenter(rooms=tmp_path)
    (tmp_path / "room.wav").write_text("not audio")
    with pytest.raises(AudioError, match="room.wav"):
        Augmenter(rooms=tmp_path)


@needs_recordings
def test_measured_rooms_keep_the_direct_path():
    rooms = Augmenter(rooms=RECORDINGS / "rir.tar")
    click = np.zeros(4000, np.float32)
    click[2000] = 0.1
    peaks = np.array([np.abs(rooms.apply(click, Perturbation(room=room))).argmax() for room in range(0, 233, 4)])
    assert np.abs(peaks - 2000).max() <= 1  # one, where the two strongest samples of a response differ by rounding only


@needs_recordings
def test_measured_noise_is_as_loud_as_asked(voice):
    noises = Augmenter(noise=RECORDINGS / "noise.tar")
    for noise in range(0, 423, 40):
        added = noises.apply(voice, Perturbation(noise=noise, snr_db=10.0)) - voice
        assert power_db(voice) - power_db(added) == pytest.approx(10.0, abs=0.5)
