"""The network in C: the same bits however audio is cut and whoever is beside it, and nearly the rows of fp32."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from chunking import chunk_sizes, chunks, run
from hypothesis import given, settings
from safetensors.numpy import load_file

from asr.acoustic import folder as folders
from asr.acoustic.folder import ModelPackage
from asr.acoustic.native_engine import NativeEngine, can_run, fast_kernel
from asr.acoustic.stored_weights import stored_weights
from asr.errors import ModelError
from asr.streaming.engine import EngineError, OnnxEngine

KERNELS = sorted({0, fast_kernel()})


def native(folder: Path, kernel: int, head: str = "phones") -> NativeEngine:
    package = ModelPackage.open(folder)
    return NativeEngine(package.folder / "model.safetensors", package.acoustic, package.rates, head, kernel)


def moved(ours: np.ndarray, theirs: np.ndarray) -> float:
    """How much probability moves to other tokens, on average."""
    return float(0.5 * np.abs(np.exp(ours) - np.exp(theirs)).sum(axis=1).mean())


@pytest.fixture(scope="module", params=KERNELS)
def engine(request: pytest.FixtureRequest, model_folder: Path) -> NativeEngine:
    return native(model_folder, request.param)


@pytest.fixture(scope="module")
def whole(engine: NativeEngine, speech: np.ndarray) -> np.ndarray:
    return run(engine, [speech])


@settings(max_examples=25)
@given(sizes=chunk_sizes)
def test_any_chunking_gives_the_same_bits(engine, speech, whole, sizes):
    np.testing.assert_array_equal(run(engine, chunks(speech, sizes)), whole)


@pytest.mark.parametrize("streams", [2, 3, 64, 70])
def test_streams_together_give_the_bits_of_each_alone(engine, speech, streams):
    states = [engine.accept(engine.start(), speech[200 * k : 200 * k + 20_000]) for k in range(streams)]
    for frames in (1, 7, 30):
        alone = [engine.advance([state], frames) for state in states]
        rows, states = engine.advance(states, frames)
        for (own,), (state,) in alone:
            np.testing.assert_array_equal(rows.pop(0), own)
            after = states[len(states) - len(rows) - 1]
            np.testing.assert_array_equal(after.memory[0], state.memory[0])


@pytest.mark.parametrize("head", ["phones", "characters"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_are_nearly_those_of_fp32(model_folder, speech, head, kernel):
    package = ModelPackage.open(model_folder)
    exact = run(OnnxEngine(package.graph("onnx"), package.rates, head), [speech])
    rows = run(native(model_folder, kernel, head), [speech])
    assert rows.shape == exact.shape and rows.dtype == np.float32
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1.0, atol=1e-4)
    assert moved(rows, exact) < 0.05


def test_the_shipped_network_has_nearly_the_rows_of_fp32(shipped_recognizer, speech):
    package = ModelPackage.open("rill-en-small")
    exact = run(OnnxEngine(package.graph("onnx"), package.rates, "states"), [speech])
    assert moved(run(native(package.folder, fast_kernel(), "states"), [speech]), exact) < 0.03


def test_silence_and_the_loudest_audio_give_numbers(engine):
    for audio in (np.zeros(9_000, np.float32), np.tile(np.float32([1, -1]), 4_500)):
        assert np.isfinite(run(engine, [audio])).all()


def test_too_few_samples_are_refused(engine):
    with pytest.raises(ValueError, match="2 frames need 1840 samples"):
        engine.advance([engine.accept(engine.start(), np.zeros(1_400, np.float32))], 2)


def test_int8_takes_it_where_it_is_fast(model_folder, monkeypatch):
    package = ModelPackage.open(model_folder)
    monkeypatch.setattr(folders, "fast_kernel", lambda: 0)
    assert isinstance(package.engine("int8", "phones"), OnnxEngine)
    monkeypatch.setattr(folders, "fast_kernel", lambda: KERNELS[-1] or 1)
    assert isinstance(package.engine("onnx", "phones"), OnnxEngine)
    if fast_kernel():
        assert isinstance(package.engine("int8", "phones"), NativeEngine)


@pytest.mark.parametrize(
    "other",
    [
        {"encoder": "blstm"},
        {"front": "stack"},
        {"phone_share": 0.5},
        {"size": 40},
        {"look_ahead_frames": [9]},
        {"look_ahead_frames": [0] * 17},
    ],
)
def test_other_networks_are_for_onnxruntime(model_folder, other):
    acoustic = ModelPackage.open(model_folder).acoustic
    assert can_run(acoustic)
    assert not can_run(acoustic | other)


def test_a_head_that_there_is_not_is_refused(model_folder):
    with pytest.raises(EngineError, match="no output named 'states'; it has characters, phones"):
        native(model_folder, 0, "states")


def test_an_altered_file_is_found_whoever_reads_it(model_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(model_folder, tmp_path / "altered")
    package = ModelPackage.open(folder)
    for kernel, name in ((0, "model.int8.onnx"), (1, "model.safetensors")):
        monkeypatch.setattr(folders, "fast_kernel", lambda kernel=kernel: kernel)
        package.verify_weights("int8")
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ModelError, match=f"{name} was altered"):
            package.verify_weights("int8")
        (folder / name).write_bytes(whole)


def test_weights_of_another_network_are_refused(model_folder, tmp_path):
    package = ModelPackage.open(model_folder)
    content = (package.folder / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    del header["front.two.bias"]
    other = json.dumps(header).encode().ljust(size)
    (tmp_path / "other").write_bytes(len(other).to_bytes(8, "little") + other + content[8 + size :])
    (tmp_path / "none").write_bytes(b"nothing")
    for name in ("other", "none", "missing"):
        with pytest.raises(EngineError, match="not the weights of this network"):
            NativeEngine(tmp_path / name, package.acoustic, package.rates, "phones", 0)


def test_stored_weights_are_those_that_were_saved(model_folder):
    ours, theirs = (read(model_folder / "model.safetensors") for read in (stored_weights, load_file))
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)
