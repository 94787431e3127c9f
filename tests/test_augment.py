"""What augmentation does to a batch: each operation against plain code for one row, and the same every time."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.data.augment import (
    Augmenter,
    Changes,
    SpecAugment,
    band_limited,
    fast_size,
    in_room,
    read_recordings,
    shape_room,
    with_noise,
)
from asr.errors import AudioError, DataError
from asr.models.frontend import FrontendConfig

CONFIG = FrontendConfig()
RATE = CONFIG.sample_rate
RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data" / "augment"
needs_recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the augmentation data folder is not here")
NOTHING = Changes().scaled(0)


def decaying_response(rt60_seconds: float, seed: int) -> np.ndarray:
    """A direct path, 2 ms in, then noise that falls by 60 dB in `rt60_seconds`: int16."""
    time = np.arange(round(rt60_seconds * RATE)) / RATE
    tail = np.random.default_rng(seed).normal(0, 0.05, time.size) * 10 ** (-3 * time / rt60_seconds)
    response = np.concatenate([np.zeros(32), tail])
    response[32] = -0.9  # a microphone of inverted polarity
    return np.rint(response * 32_767).astype(np.int16)


@pytest.fixture(scope="module")
def noises() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    hum = 0.2 * np.sin(np.arange(RATE) * 2 * np.pi * 50 / RATE)
    return [
        np.rint(32_767 * one).astype(np.int16)
        for one in (random.normal(0, 0.1, 5 * RATE), random.normal(0, 0.01, RATE // 3), hum)
    ]


@pytest.fixture(scope="module")
def rooms() -> list[np.ndarray]:
    return [decaying_response(1.6, 2), decaying_response(0.4, 1)]  # a church, an office


@pytest.fixture(scope="module")
def voices() -> torch.Tensor:
    """Three seconds of something with the spectrum and the pauses of speech, (2, N)."""
    random = np.random.default_rng(3)
    time = np.arange(3 * RATE) / RATE
    rows = []
    for pitch in (120, 200):
        buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 60))
        rows.append(buzz * (np.sin(2 * np.pi * 2 * time) > -0.3) + random.normal(0, 0.3, time.size))
    return torch.from_numpy(0.05 * np.stack(rows)).float()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def power_db(samples: np.ndarray | torch.Tensor) -> float:
    return 10 * np.log10(np.mean(np.square(np.asarray(samples, np.float64))))


def band_db(samples: torch.Tensor, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(samples.numpy() * np.hanning(len(samples)))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return 10 * np.log10(power[(hertz >= low_hz) & (hertz < high_hz)].mean())


def test_strength_nought_changes_nothing(voices, noises, rooms):
    augmenter = Augmenter(NOTHING, CONFIG, noises=noises, rooms=rooms)
    waves = augmenter.waves(voices.clone(), torch.tensor([3 * RATE] * 2), generator())
    assert torch.equal(waves, voices)
    mels = augmenter.log_mels(voices)
    assert torch.equal(augmenter.mels(mels, generator()), mels)


def test_the_generator_decides(voices, noises, rooms):
    augmenter = Augmenter(Changes(room=1, noise=1, telephone=1, low_pass=1), CONFIG, noises=noises, rooms=rooms)
    spoken = torch.tensor([3 * RATE] * 2)
    one, same, other = (augmenter.waves(voices.clone(), spoken, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.isfinite(one).all() and one.shape == voices.shape
    mels = augmenter.log_mels(one)
    assert torch.equal(augmenter.mels(mels, generator(1)), augmenter.mels(mels, generator(1)))
    assert not torch.equal(augmenter.mels(mels, generator(1)), augmenter.mels(mels, generator(2)))


def test_how_often_each_thing_happens(noises, rooms):
    def share(changes: Changes) -> float:
        augmenter = Augmenter(changes, CONFIG, noises=noises, rooms=rooms)
        clicks = torch.zeros(2_000, 64)
        clicks[:, 20] = 0.1
        found = augmenter.waves(clicks.clone(), torch.full((2_000,), 64), generator())
        return float((found - clicks).abs().amax(dim=1).gt(1e-4).float().mean())

    quiet = {"least_gain_db": 0.0, "most_gain_db": 0.0, "room": 0.0, "noise": 0.0, "telephone": 0.0, "low_pass": 0.0}
    for name in ("room", "noise", "telephone", "low_pass"):
        usual = getattr(Changes(), name)
        assert share(Changes(**quiet | {name: usual})) == pytest.approx(usual, abs=0.04), name


def test_a_row_in_a_room_is_its_convolution_with_the_response(voices, rooms):
    responses = torch.from_numpy(np.stack([shape_room(room, RATE)[0] for room in rooms]))
    heard = in_room(voices, responses)
    for row in range(2):
        plain = np.convolve(voices[row].double().numpy(), responses[row].double().numpy())[: voices.shape[1]]
        plain *= np.sqrt(np.mean(voices[row].double().numpy() ** 2) / np.mean(plain**2))
        np.testing.assert_allclose(heard[row].numpy(), plain, atol=2e-5)


def test_a_room_keeps_the_direct_path_and_the_energy(rooms):
    click = torch.zeros(2, RATE)
    click[:, 5_000] = 0.1
    heard = in_room(click, torch.from_numpy(np.stack([shape_room(room, RATE)[0] for room in rooms])))
    for row in heard:
        assert row.abs().argmax() == 5_000 and row[5_000] > 0
        assert row[5_001:9_000].abs().max() > 0.01 * row[5_000]  # there is a room
        assert power_db(row) == pytest.approx(power_db(click[0]), abs=0.1)


def test_living_rooms_are_likelier_than_churches(rooms):
    church, office = (shape_room(room, RATE)[1] for room in rooms)
    assert office > 3 * church


@pytest.mark.parametrize("snr_db", [0.0, 12.5, 25.0])
def test_noise_is_as_loud_as_asked(voices, noises, snr_db):
    noise = torch.from_numpy(noises[0][: voices.shape[1]].astype(np.float32)).expand(2, -1) / 32_768
    padded = torch.cat([voices, torch.zeros(2, RATE)], dim=1)  # a pause does not make speech quieter
    noise = torch.cat([noise, noise[:, :RATE]], dim=1)
    added = with_noise(padded, noise, torch.full((2,), snr_db), torch.full((2,), voices.shape[1])) - padded
    for row in range(2):
        assert power_db(voices[row]) - power_db(added[row]) == pytest.approx(snr_db, abs=0.5)


def test_a_short_noise_is_repeated_to_the_end(noises):
    changes = Changes(noise=1.0, room=0, telephone=0, low_pass=0, least_gain_db=0, most_gain_db=0)
    augmenter = Augmenter(changes, CONFIG, noises=noises[1:2])
    silent = torch.zeros(1, 2 * RATE)
    silent[0, 0] = 0.5
    added = augmenter.waves(silent.clone(), torch.tensor([2 * RATE]), generator())[0, 1:]
    thirds = [power_db(third) for third in added[: len(added) // 3 * 3].split(len(added) // 3)]
    assert max(thirds) - min(thirds) < 1


def test_a_band_limit_takes_what_is_outside_and_moves_nothing(voices):
    white = torch.randn(2, 3 * RATE + 1, generator=generator()) * 0.1
    limited = band_limited(white, torch.tensor([300.0, -100.0]), torch.tensor([3_400.0, 6_000.0]), RATE)
    assert limited.shape == white.shape
    for row, (low, high) in enumerate(((300, 3_400), (0, 6_000))):
        assert band_db(limited[row], high + 600, 8_000) < band_db(white[row], high + 600, 8_000) - 50
        assert band_db(limited[row], low + 200, high - 400) == pytest.approx(
            band_db(white[row], low + 200, high - 400), abs=0.2
        )
        spectrum = np.fft.rfft(white[row].double().numpy(), fast_size(white.shape[1]))
        hertz = np.fft.rfftfreq(fast_size(white.shape[1]), 1 / RATE)
        kept = 1 / (1 + np.exp(-(hertz - (300 if row == 0 else -100)) / 20)) / (1 + np.exp((hertz - high) / 40))
        plain = np.fft.irfft(spectrum * kept, fast_size(white.shape[1]))[: white.shape[1]]
        np.testing.assert_allclose(limited[row].numpy(), plain, atol=1e-5)


def test_gain_is_exact_until_full_scale_and_then_clips(voices):
    changes = Changes(room=0, noise=0, telephone=0, low_pass=0, least_gain_db=20.0, most_gain_db=20.0)
    louder = Augmenter(changes, CONFIG).waves(voices.clone(), torch.tensor([3 * RATE] * 2), generator())
    torch.testing.assert_close(louder, (10 * voices).clamp(-1, 1))
    assert (louder.abs() == 1).any()


def test_silence_stays_finite(noises, rooms):
    augmenter = Augmenter(Changes(room=1, noise=1, telephone=1, low_pass=1), CONFIG, noises=noises, rooms=rooms)
    waves = augmenter.waves(torch.zeros(3, RATE), torch.tensor([RATE, 0, RATE]), generator())
    assert torch.isfinite(waves).all()
    assert torch.isfinite(augmenter.mels(augmenter.log_mels(waves), generator())).all()


def test_fast_sizes_are_just_large_enough():
    for length in (1, 2, 3, 17, 1_000, 115_600, 140_001):
        size = fast_size(length)
        assert length <= size < 2 * length or size == length == 1
        odd = size // (size & -size)
        assert odd in (1, 3, 5, 9, 15)
    assert math.log2(fast_size(4_096)) == 12


def test_recordings_that_cannot_be_used(tmp_path):
    assert read_recordings(None) == []
    with pytest.raises(DataError, match="cannot be read"):
        read_recordings(tmp_path / "none.tar")
    with pytest.raises(DataError, match="holds no recordings"):
        read_recordings(tmp_path)
    soundfile.write(tmp_path / "hiss.wav", np.full(800, 0.25), 8_000)
    (hiss,) = read_recordings(tmp_path)
    assert hiss.dtype == np.int16 and abs(len(hiss) - 1_600) < 50 and abs(np.median(hiss) - 8_192) < 100
    (tmp_path / "room.wav").write_text("not audio")
    with pytest.raises(AudioError, match="room.wav"):
        read_recordings(tmp_path)


@needs_recordings
def test_measured_rooms_keep_the_direct_path():
    rooms = np.stack([shape_room(room, RATE)[0] for room in read_recordings(RECORDINGS / "rir.tar")[::8]])
    click = torch.zeros(len(rooms), 4_000)
    click[:, 2_000] = 0.1
    peaks = in_room(click, torch.from_numpy(rooms)).abs().argmax(dim=1)
    assert (peaks - 2_000).abs().max() == 0


FILL = torch.arange(80.0) - 500


@pytest.mark.parametrize("seed", range(40))
def test_masks_stay_within_their_limits(seed):
    masks = SpecAugment()
    lengths = np.random.default_rng(seed).integers(1, 600, 4).tolist()
    mels = torch.ones(len(lengths), max(lengths), 80)
    masked = masks(mels, torch.tensor(lengths), FILL, generator(seed))
    hidden = masked != 1
    assert torch.equal(masked[hidden], FILL.expand_as(masked)[hidden])
    for row, length in enumerate(lengths):
        mel_mask = masks.mel_mask(len(lengths), 80, generator(seed))[row]
        assert mel_mask.sum() <= masks.mel_masks * masks.mel_width
        assert hidden[row, :length, mel_mask].all()
        whole_frames = hidden[row, :length].all(dim=1)
        assert whole_frames.sum() <= masks.time_fraction * length
        assert torch.equal(hidden[row, :length], mel_mask | whole_frames[:, None])
        assert not hidden[row, length:, ~mel_mask].any()


def test_masks_are_as_many_and_as_wide_as_asked():
    masks = SpecAugment(time_fraction=1.0)
    hidden = masks.time_mask(torch.full((2_000,), 1_000), 1_000, generator()).float()
    count = ((hidden[:, 1:] > hidden[:, :-1]).sum(dim=1) + (hidden[:, 0] > 0)).float()
    assert 8 < count.mean() <= 12  # twelve a row, of which some touch or have no width
    assert hidden.mean() == pytest.approx(12 * 11 / 1_000, rel=0.15)
    bands = masks.mel_mask(5_000, 80, generator()).float().mean(dim=0)
    assert bands[30:50].mean() == pytest.approx(2 * 11 / 70, rel=0.2)


def test_the_same_generator_masks_the_same():
    mels, frames = torch.randn(3, 200, 80), torch.tensor([200, 150, 20])
    one, two = (SpecAugment()(mels, frames, FILL, generator(5)) for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(one, mels)


def test_strength_nought_masks_nothing():
    mels = torch.randn(2, 300, 80)
    assert torch.equal(SpecAugment().scaled(0)(mels, torch.tensor([300, 300]), FILL, generator()), mels)
