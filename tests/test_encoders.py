"""Kinds of encoder: each streams, exports, trains and is chosen in the same way; the bidirectional one in blocks."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from chunking import chunk_sizes, chunks, run
from conftest import SAMPLES, make_talkative
from hypothesis import given, settings
from torch import nn

from asr.acoustic.export import load_acoustic_model, write_model_folder
from asr.acoustic.folder import ModelPackage
from asr.cli.main import main
from asr.errors import UsageError
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.recognizer import Recognizer
from asr.streaming.batcher import BatchedEngine, Batching
from asr.streaming.engine import Engine, OnnxEngine, TorchEngine
from asr.words.tokens import CHARACTERS, PHONES

TOLERANCE = 1e-4  # of fp32 log-probabilities
SIZES = {"characters": len(CHARACTERS), "phones": len(PHONES), "size": 16}
CONFIGS = {
    "rnn": AcousticConfig(**SIZES, encoder="rnn", look_ahead_frames=(2, 1, 0), phone_layer=2),
    "blstm": AcousticConfig(
        **SIZES, encoder="blstm", look_ahead_frames=(0, 0), phone_layer=2, block_frames=5, right_context_frames=2
    ),
}
CONFIGS |= {f"{name} stack": dataclasses.replace(config, front="stack") for name, config in CONFIGS.items()}
CONFIGS["lstm stack"] = AcousticConfig(**SIZES, front="stack", look_ahead_frames=(2, 1, 0), phone_layer=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each kind but lstm with convolutions, which the other tests are about; random weights."""
    found = {}
    for kind, config in CONFIGS.items():
        torch.manual_seed(0 if config.front == "stack" else 4)
        model = AcousticModel(config)
        make_talkative(model)
        found[kind] = tmp_path_factory.mktemp("encoders") / kind
        write_model_folder(model, found[kind], kind)
    return found


@pytest.fixture(scope="module")
def short(speech: np.ndarray) -> np.ndarray:
    return speech[:41_111]


def onnx_engine(folder: Path, full_context: bool = False, graph: str = "onnx") -> OnnxEngine:
    package = ModelPackage.open(folder)
    return OnnxEngine(package.graph(graph), package.rates, full_context=full_context)


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> dict[str, Engine]:
    """Both engines for both kinds, and for the bidirectional one with full context."""
    found: dict[str, Engine] = {}
    for kind, folder in folders.items():
        for full in (False, True) if kind == "blstm" else (False,):
            name = kind + (" full" if full else "")
            found[name] = onnx_engine(folder, full)
            found[f"{name} torch"] = TorchEngine(load_acoustic_model(folder), full_context=full)
    return found


@settings(max_examples=12)
@given(sizes=chunk_sizes)
def test_any_chunking_gives_the_rows_of_the_whole(engines, short, sizes):
    for name, engine in engines.items():
        whole, chunked = run(engine, [short]), run(engine, chunks(short, sizes))
        assert chunked.shape == whole.shape, name
        np.testing.assert_allclose(chunked, whole, atol=TOLERANCE, rtol=0, err_msg=name)


def test_engines_agree_and_full_context_is_something_else(engines, short):
    for name in ("rnn", "blstm", "blstm full", "rnn stack", "blstm stack", "lstm stack"):
        ours, theirs = run(engines[name], [short]), run(engines[f"{name} torch"], [short])
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, err_msg=name)
    assert np.abs(run(engines["blstm"], [short]) - run(engines["blstm full"], [short])).max() > 0.01


@pytest.mark.parametrize("samples", [0, 1, 719, 721, 1_201, 1_359, 1_361, 2_640, 9_600, 9_601])
def test_finish_flushes_the_incomplete_block(engines, short, samples):
    for name, engine in engines.items():
        rows = run(engine, chunks(short[:samples], [500] * 10))
        assert len(rows) == engine.rates.frames_covering(samples), name
        if not engine.full_context:  # the end of a stream sounds like silence that follows
            silent, _ = engine.step(engine.start(), np.append(short[:samples], np.zeros(16_000, np.float32)))
            np.testing.assert_allclose(rows, silent[: len(rows)], atol=TOLERANCE, err_msg=name)


def test_rows_of_a_block_come_when_its_right_context_has_been_heard(engines, short):
    engine, config = engines["blstm"], CONFIGS["blstm"]
    heard, state = 0, engine.start()
    for frames in range(1, 31):
        samples = config.window_samples + (frames - 1) * config.frame_samples
        rows, state = engine.step(state, short[heard:samples])
        heard = samples
        assert len(rows) == (max(0, min(5, frames - config.delay_frames)) if frames % 5 == 0 else 0)
    later = np.concatenate([short[:heard], 0.9 * np.ones(9_000, np.float32)])
    before, after = run(engine, [short[:heard]])[: 30 - config.delay_frames], run(engine, [later])
    np.testing.assert_allclose(after[: len(before)], before, atol=TOLERANCE)


def test_full_context_is_an_ordinary_bidirectional_lstm(folders, short):
    model = load_acoustic_model(folders["blstm"])
    layer, frames = model.encoder.layers[0], 23
    ordinary = nn.LSTM(16, 8, bidirectional=True)
    for suffix, own in (("l0", layer.lstm), ("l0_reverse", layer.backward_lstm)):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(ordinary, f"{name}_{suffix}", getattr(own, f"{name}_l0"))
    x = torch.randn(frames, 3, 16, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(1, 3, 8)
    with torch.inference_mode():
        right = torch.zeros(layer.right_context_frames, 3, 16)
        y, _ = layer(x, nothing, nothing, right, frames)
        late = torch.cat([right, x])
        ours, _ = ordinary(layer.norm(late))
        past, _ = ordinary(layer.norm(late[:frames]))
    expected = late[:frames] + torch.cat([past[..., :8], ours[:frames, :, 8:]], dim=-1)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)


def test_long_recordings_with_full_context_are_heard_in_long_blocks(folders, short, monkeypatch):
    whole = run(onnx_engine(folders["blstm"], full_context=True), [short])
    monkeypatch.setattr("asr.streaming.rates.FULL_CONTEXT_SECONDS", 0.9)
    model = load_acoustic_model(folders["blstm"])
    for engine in (onnx_engine(folders["blstm"], True), TorchEngine(model, full_context=True)):
        rows = run(engine, chunks(short, [7_000] * 4))
        assert rows.shape == whole.shape and np.abs(rows - whole).max() > 1e-3
        np.testing.assert_allclose(rows, run(engine, [short]), atol=TOLERANCE)


def test_streams_in_a_batch_get_the_rows_of_each_alone(folders, short):
    alone = onnx_engine(folders["blstm"])
    together = BatchedEngine(alone, Batching(wait_ms=0))
    states = [together.start() for _ in range(3)]
    advanced = [alone.accept(state.inner, short[: 9_000 + 2_400 * k]) for k, state in enumerate(states)]
    rows, after = alone.advance(advanced, 15)
    for k, (row, state) in enumerate(zip(rows, after, strict=True)):
        np.testing.assert_allclose(row, alone.step(alone.start(), short[:9_000])[0], atol=TOLERANCE)
        assert [part.shape[axis] for part, axis in zip(state.memory, (1, 1, 0), strict=True)] == [1, 1, 1], k
    np.testing.assert_allclose(run(together, chunks(short, [3_000] * 9)), run(alone, [short]), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("rnn stack", ["samples", "hidden", "context"]),
        ("blstm stack", ["samples", "hidden", "cell", "context", "block_frames"]),
        ("rnn", ["samples", "hidden", "context"]),
        ("blstm", ["samples", "hidden", "cell", "context", "block_frames"]),
    ],
)
def test_graphs_say_what_they_take(folders, short, kind, inputs):
    for file in ("model.onnx", "model.int8.onnx"):
        proto = onnx.load(str(folders[kind] / file))
        onnx.checker.check_model(proto, full_check=True)
        assert [value.name for value in proto.graph.input] == inputs
        described = {entry.key: entry.value for entry in proto.metadata_props}
        assert (described["encoder"], int(described["block_frames"])) == (kind.split()[0], CONFIGS[kind].block_frames)
    if CONFIGS[kind].front == "conv":
        return  # random convolutions into few units are no measure of 8 bits; the shipped model is one, in test_export
    ours, theirs = (np.exp(run(onnx_engine(folders[kind], graph=graph), [short])) for graph in ("onnx", "int8"))
    assert 0 < 0.5 * np.abs(ours - theirs).sum(axis=1).mean() < 0.05  # total variation


def test_folders_of_earlier_versions_are_understood(model_folder, folders):
    formats = {model_folder: 4, folders["rnn"]: 4, folders["rnn stack"]: 2, folders["lstm stack"]: 1}
    for folder, number in formats.items():
        assert json.loads((folder / "config.json").read_text())["format"] == number
    description = json.loads((folders["lstm stack"] / "config.json").read_text())
    old = {
        name: value
        for name, value in description["acoustic"].items()
        if name not in ("encoder", "block_frames", "right_context_frames", "full_context", "front")
    }
    assert AcousticConfig.from_dict(old) == AcousticConfig.from_dict(description["acoustic"]) == CONFIGS["lstm stack"]
    assert (ModelPackage.open("rill-en-small").encoder, ModelPackage.open(folders["rnn"]).encoder) == ("lstm", "rnn")


def test_words_have_the_same_times_in_any_chunks(folders, short):
    for kind in CONFIGS:
        recognizer = Recognizer.load(folders[kind], engine="onnx")
        whole = recognizer.transcribe(short)
        live = [
            word
            for result in recognizer.stream([short[:20_000], short[20_000:]])
            if result.final
            for word in result.words
        ]
        assert len(whole.words) > 1
        assert [(w.text, w.start_seconds) for w in live] == [(w.text, w.start_seconds) for w in whole.words]
        assert 0 <= whole.words[0].start_seconds < whole.words[-1].end_seconds <= len(short) / 16_000 + 0.05


def test_full_context_is_refused_where_it_cannot_be(folders, model_folder):
    for model, more, reason in (
        (model_folder, {}, "has encoder lstm"),
        (folders["rnn"], {"engine": "torch"}, "has encoder rnn"),
        (folders["blstm"], {"batching": Batching()}, "run alone"),
    ):
        with pytest.raises(UsageError, match=reason):
            Recognizer.load(model, full_context=True, **more)
    with pytest.raises(UsageError, match="results come at the end only"):
        Recognizer.load(folders["blstm"], full_context=True).stream([])


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("blstm", {"encoder": "gru"}, "unknown encoder 'gru'; give rnn, lstm, blstm"),
        ("blstm", {"block_frames": 0}, "shorter than one frame"),
        ("blstm", {"look_ahead_frames": (1, 0)}, "needs no look-ahead beside its backward LSTMs"),
        ("blstm", {"right_context_frames": -1}, "from 0 frames"),
        ("blstm", {"full_context": 1.5}, "share from 0 to 1"),
        ("blstm", {"size": 15}, "even number of units"),
        ("blstm", {"phone_layer": 1}, "must read its last layer"),
        ("rnn", {"block_frames": 4}, "are for encoder blstm"),
        ("rnn", {"full_context": 0.5}, "rnn has look-ahead only"),
    ],
)
def test_impossible_configs_are_refused(kind, change, reason):
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(CONFIGS[kind], **change)


def asr(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["asr", *map(str, arguments)])
    return main()


@pytest.mark.parametrize(
    "arguments",
    [
        "--set model.encoder=blstm --set model.look_ahead_frames=[2,0]",
        "--set model.encoder=blstm --set model.block_frames=0",
        "--set model.encoder=gru",
        "--set model.full_context=1.0",
        "--set model.look_ahead_frames=[]",
    ],
)
def test_impossible_models_are_one_line(monkeypatch, tmp_path, capsys, arguments):
    table = tmp_path / "table.tsv"
    table.write_text("id\tpath\ttext\n")
    assert asr(monkeypatch, "train", table, "--run", tmp_path / "run", *arguments.split()) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("asr: impossible model: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_weight_of_the_encoder_learns(kind):
    config = dataclasses.replace(CONFIGS[kind], full_context=0.5 if kind.startswith("blstm") else 0.0)
    model = AcousticModel(config).train()
    mels = torch.randn(2, config.mel_frames(30), 80, generator=torch.Generator().manual_seed(0))
    for seed in range(4):  # of a blstm some batches are heard in blocks, others whole
        torch.manual_seed(seed)
        outputs, _ = model.encode(mels, model.encoder.initial_state(2))
        outputs[-1].square().sum().backward()
    for name, weight in (*model.front.named_parameters(), *model.encoder.named_parameters()):
        if "look_ahead" not in name:
            assert weight.grad is not None and torch.isfinite(weight.grad).all() and weight.grad.any(), name
    sevens = AcousticModel(dataclasses.replace(CONFIGS["blstm"], block_frames=7))
    with pytest.raises(ValueError, match="whole blocks of 7 frames"):
        sevens.encode(torch.zeros(2, sevens.config.mel_frames(30), 80), sevens.encoder.initial_state(2))


def test_the_same_commands_train_export_and_evaluate(monkeypatch, tmp_path, capsys):
    recordings = sorted(SAMPLES.glob("*.wav"))[:2]
    rows = [f"{wav.stem}\t{wav}\t{wav.with_suffix('.txt').read_text().strip()}" for wav in recordings]
    table, run_folder = tmp_path / "table.tsv", tmp_path / "run"
    table.write_text("\n".join(["id\tpath\ttext", *rows]) + "\n", encoding="utf-8")
    settings = {
        "model.encoder": "blstm",
        "model.size": 16,
        "model.look_ahead_frames": "[0,0]",
        "model.block_frames": 7,
        "model.right_context_frames": 3,
        "training.speeds": "[1.0]",
        "rows.batch_seconds": 9,
        "machine.precision": "float32",
    }
    chosen = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    fixed = ("--epochs", 2, "--threads", 1, "--align-with", "none", "--workers", 1)
    command = ("train", table, "--run", run_folder, *fixed, *chosen)
    assert asr(monkeypatch, *command) == 0, capsys.readouterr().err
    assert asr(monkeypatch, "export", run_folder, "--output", tmp_path / "model") == 0
    assert asr(monkeypatch, "evaluate", table, "--model", tmp_path / "model", "--full-context") == 0
    printed = capsys.readouterr().out
    assert "full context" in printed and "all" in printed
    assert asr(monkeypatch, "transcribe", recordings[0], "--full-context") == 2
    assert "has encoder lstm" in capsys.readouterr().err
