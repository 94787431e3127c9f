"""How far back gradients reach: measured against the whole Jacobian, and drawn by the command."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
from conftest import SAMPLES

from asr.cli.main import main
from asr.evaluation.gradients import measure_gradients
from asr.models.acoustic import AcousticConfig, AcousticModel

CONFIG = AcousticConfig(5, 5, size=6, look_ahead_frames=(2, 1, 0), phone_layer=2)
SECONDS = 0.9


@pytest.fixture(scope="module")
def heard(speech: np.ndarray) -> tuple[AcousticModel, torch.Tensor]:
    """A small network, and the mels (F, M) of two seconds of speech."""
    torch.manual_seed(0)
    model = AcousticModel(CONFIG).eval()
    with torch.inference_mode():
        mels = model.logmel(torch.from_numpy(speech[:32_000])[None])[0]
    model.mel_mean.copy_(mels.mean(dim=0))
    model.mel_std.copy_(mels.std(dim=0))
    return model, mels.clone()


def test_random_projections_estimate_the_jacobian(heard) -> None:
    model, mels = heard
    frames, most = CONFIG.frames_of_mels(len(mels)), round(SECONDS / 0.03)
    overlap = 2  # acoustic frames whose mel frames the convolutions see beyond a frame's own
    ahead = CONFIG.delay_frames
    measured = measure_gradients(model, mels, SECONDS, moments=30)
    normal = ((mels[: (frames + overlap) * CONFIG.stack] - model.mel_mean) / model.mel_std).requires_grad_()

    def output(x: torch.Tensor) -> torch.Tensor:
        x = x * model.mel_std + model.mel_mean
        return model.encode(x[None, : CONFIG.mel_frames(frames)], model.encoder.initial_state(1))[0][-1][:, 0]  # (T, H)

    exact = []
    late = output(normal)
    for row in np.linspace(most + ahead, frames - 1, 30).round().astype(int).tolist():
        units = [torch.autograd.grad(late[row, k], normal, retain_graph=True)[0] for k in range(CONFIG.size)]
        by_frame = torch.stack(units).reshape(CONFIG.size, frames + overlap, -1).norm(dim=(0, 2))
        assert not by_frame[row + 1 + overlap :].any(), "the future beyond the look-ahead is not heard"
        exact.append(by_frame[row - ahead - most : row + 1 + overlap].flip(0).numpy())
    assert measured.norms.shape == np.shape(exact) == (30, overlap + ahead + 1 + most)
    assert measured.seconds[0] == pytest.approx(-0.15) and measured.seconds[-1] == pytest.approx(SECONDS)
    ratio = np.sqrt((measured.norms**2).mean(axis=0) / np.square(exact).mean(axis=0))
    assert 0.5 < ratio.min() and ratio.max() < 2 and ratio.mean() == pytest.approx(1, abs=0.1)


def test_what_truncation_loses_shrinks_with_its_length(heard) -> None:
    model, mels = heard
    curve = measure_gradients(model, mels, SECONDS, moments=4)
    lost = [curve.lost(seconds) for seconds in (-1.0, 0.0, 0.3, 0.6, SECONDS)]
    assert lost[0] == pytest.approx(1) and lost[-1] == 0.0
    assert lost == sorted(lost, reverse=True) and len(set(lost)) == len(lost)
    model = copy.deepcopy(model)
    with torch.no_grad():
        for layer in model.encoder.layers:  # a cell that forgets at once: nothing comes through the cell
            layer.lstm.bias_ih_l0[CONFIG.size : 2 * CONFIG.size] -= 30.0
    forgetful = measure_gradients(model, mels, SECONDS, moments=4)
    assert forgetful.lost(0.3) < 0.1 * curve.lost(0.3)
    assert forgetful.reach(1e-4) < curve.reach(1e-4)


def plot(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["asr", "plot", str(SAMPLES / "greeting.wav"), *map(str, arguments)])
    return main()


def test_the_command_draws_gradients(model_folder, tmp_path, monkeypatch, capsys) -> None:
    picture = tmp_path / "gradients.svg"
    assert plot(monkeypatch, "--gradients", "--model", model_folder, "--output", picture) == 0
    assert capsys.readouterr().out == f"{picture}\n"
    drawn = picture.read_text(encoding="utf-8")
    assert "<!-- random -->" in drawn and "<!--  1 s: " in drawn and "<!--  2 s: " not in drawn


def test_options_that_do_not_go_with_gradients_are_told(model_folder, monkeypatch, capsys) -> None:
    assert plot(monkeypatch, "--gradients", "--model", model_folder, "--decoder", "greedy") == 2
    assert plot(monkeypatch, "--gradients", "--model", model_folder, "--seconds", "0.001") == 1
    said = capsys.readouterr().err.splitlines()
    assert "leave one out" in said[0] and "distances of up to 0.001 s" in said[1] and len(said) == 2
