"""The networks themselves: features, state, look-ahead."""

import dataclasses

import numpy as np
import pytest
import torch
from chunking import chunk_sizes, chunks
from hypothesis import given

from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.models.front import FRONTS
from asr.models.frontend import FrontendConfig, LogMel

TINY = AcousticConfig(characters=29, phones=40, size=24, look_ahead_frames=(2, 0, 1, 0), phone_layer=3)


@pytest.fixture(scope="module", params=FRONTS)
def model(request):
    torch.manual_seed(0)
    model = AcousticModel(dataclasses.replace(TINY, front=request.param)).eval()
    model.mel_mean.fill_(-9.0)
    model.mel_std.fill_(4.0)
    return model


def test_log_mel_is_the_mel_weighted_power_spectrum(speech):
    config = FrontendConfig()
    mels = LogMel(config)(torch.from_numpy(speech)[None])[0].numpy()
    assert mels.shape == (1 + (len(speech) - 400) // 160, 80)
    window = np.hanning(2 * 400 + 1)[1::2]  # samples of a Hann window half a step off its ends
    for frame in (0, 57, len(mels) - 1):
        cut = speech[160 * frame : 160 * frame + 400].astype(np.float64) * window / np.sqrt(np.sum(window**2))
        power = np.abs(np.fft.rfft(cut, 512)) ** 2
        expected = np.log(power @ LogMel(config).filterbank.double().numpy() + config.floor)
        np.testing.assert_allclose(mels[frame], expected, atol=2e-3)


def test_a_tone_lights_the_mel_at_its_pitch():
    config = FrontendConfig()
    centres = 700 * np.expm1(np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(7600 / 700), 82)[1:-1] / 1127)
    for hertz in (300.0, 1000.0, 4000.0):
        tone = np.sin(2 * np.pi * hertz * np.arange(4000) / 16_000).astype(np.float32)
        brightest = LogMel(config)(torch.from_numpy(tone)[None])[0].mean(0).argmax()
        assert abs(centres[brightest] - hertz) <= 0.06 * hertz


@given(sizes=chunk_sizes)
def test_any_chunking_gives_the_same_log_probabilities(model, speech, sizes):
    with torch.inference_mode():
        whole, _ = model(torch.from_numpy(speech[:48_000])[None])
        parts, state = [], None
        for chunk in chunks(speech[:48_000], sizes):
            log_probs, state = model(torch.from_numpy(chunk)[None], state)
            parts.append(log_probs)
    for head in ("characters", "phones"):
        chunked = torch.cat([getattr(part, head) for part in parts], dim=1)
        torch.testing.assert_close(chunked, getattr(whole, head), atol=1e-4, rtol=0)


def test_rows_come_as_late_as_the_config_says(model, speech):
    samples = torch.from_numpy(speech[:32_000])[None]
    window = {"stack": 720, "conv": 1_360}[model.config.front]
    counts = (0, window - 1, window + 480 * 3, window + 480 * 3 - 1, 32_000)
    rows = [model(samples[:, :n])[0].characters.shape[1] for n in counts]
    assert TINY.delay_frames == 3
    assert rows == [0, 0, 1, 0, (32_000 - window) // 480 + 1 - 3]


def test_a_frame_sees_its_window_and_nothing_else(model, speech):
    config = dataclasses.replace(model.config, look_ahead_frames=(0,), phone_layer=1)
    model = AcousticModel(config).eval()
    samples = torch.from_numpy(speech[: config.window_samples + 2 * config.frame_samples])[None]
    samples = samples + 0.01 * torch.randn_like(samples)  # in digital silence no gradient would be seen
    samples.requires_grad_()
    with torch.enable_grad():
        front = model.front(model.logmel(samples))  # (3, 1, H)
        weights = torch.linspace(-1, 1, config.size)  # the front's norm makes the sum of all squares always the same
        (gradient,) = torch.autograd.grad((weights * front[1, 0]).sum(), samples)
    seen = torch.nonzero(gradient[0])[:, 0]
    start = config.frame_samples
    assert front.shape[0] == config.frames(samples.shape[1]) == 3
    assert start <= seen.min() <= start + 160 and seen.max() < start + config.window_samples <= seen.max() + 160


def test_weights_saved_before_there_was_a_choice_of_fronts_are_understood():
    model = AcousticModel(dataclasses.replace(TINY, front="stack"))
    old = {name.replace("front.linear", "encoder.input"): weight + 1 for name, weight in model.state_dict().items()}
    assert "encoder.input.weight" in old
    model.load_state_dict(old)
    torch.testing.assert_close(model.front.linear.weight, old["encoder.input.weight"])
    known = {name: value for name, value in TINY.to_dict().items() if name != "front"}
    assert AcousticConfig.from_dict(known).front == "stack"


def test_more_audio_never_changes_what_was_said(model, speech):
    samples = torch.from_numpy(speech[:48_000])[None]
    noise = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(1))
    before, _ = model(samples)
    after, _ = model(torch.cat([samples, noise], dim=1))
    torch.testing.assert_close(after.characters[:, : before.characters.shape[1]], before.characters, atol=1e-5, rtol=0)


def test_streams_of_a_batch_do_not_meet(model, speech):
    one, two = torch.from_numpy(speech[:16_000])[None], torch.from_numpy(speech[16_000:32_000])[None]
    both, _ = model(torch.cat([one, two]))
    for row, alone in enumerate((one, two)):
        torch.testing.assert_close(both.phones[row], model(alone)[0].phones[0], atol=1e-5, rtol=0)


def test_a_config_survives_its_dictionary():
    assert AcousticConfig.from_dict(TINY.to_dict()) == TINY


@pytest.mark.parametrize(
    "change",
    [
        {"look_ahead_frames": ()},
        {"look_ahead_frames": (1, -1)},
        {"look_ahead_frames": (0, 0, 0, 2)},
        {"phone_layer": 9},
        {"size": 0},
        {"stack": 0},
        {"dropout": 1.0},
        {"front": "fft"},
    ],
)
def test_impossible_configs_are_refused(change):
    with pytest.raises(ValueError):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize("change", [{"hop_samples": 0}, {"window_samples": 1024}, {"high_hz": 9_000.0}])
def test_impossible_front_ends_are_refused(change):
    with pytest.raises(ValueError):
        dataclasses.replace(FrontendConfig(), **change)
