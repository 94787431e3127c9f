"""Exported models: the ONNX graph computes what torch computes, and the folder can be rebuilt."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from asr.acoustic.export import load_acoustic_model, with_phone_scores, write_model_folder
from asr.acoustic.folder import ModelPackage
from asr.acoustic.phone_states import Biphones
from asr.decoding.acoustic_units import units_of
from asr.errors import ModelError
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.streaming.engine import OnnxEngine, TorchEngine
from asr.words.tokens import CHARACTERS, PHONES


def run(session, samples, state):
    names = [output.name for output in session.get_outputs()]
    inputs = {"samples": samples, "hidden": state[0], "cell": state[1], "context": state[2]}
    return dict(zip(names, session.run(None, inputs), strict=True))


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 7), (3, 20)])
def test_graph_equals_torch(model_folder, batch, frames):
    model = load_acoustic_model(model_folder)
    config = model.config
    session = onnxruntime.InferenceSession(str(model_folder / "model.onnx"))
    random = np.random.default_rng(0)
    samples = 0.1 * random.standard_normal((batch, config.window_samples + (frames - 1) * config.frame_samples))
    state = model.encoder.initial_state(batch)
    state = state._replace(hidden=torch.randn_like(state.hidden), context=torch.randn_like(state.context))
    with torch.inference_mode():
        log_probs, after = model.step(model.logmel(torch.from_numpy(samples).float()), state)
    carried = [state.hidden.numpy(), state.cell.numpy(), state.context.numpy().swapaxes(0, 1)]
    found = run(session, samples.astype(np.float32), carried)
    assert found["characters"].shape == (batch, frames, config.characters)
    np.testing.assert_allclose(found["characters"], log_probs.characters.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["phones"], log_probs.phones.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["next_hidden"], after.hidden.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["next_cell"], after.cell.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["next_context"].swapaxes(0, 1), after.context.numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def with_states(tmp_path_factory):
    """A model folder with a table of states, and what was exported."""
    torch.manual_seed(0)
    alignments = [np.repeat([0, 5, 9, 5, 0], 9)]
    biphones = Biphones.estimate(alignments, len(PHONES), 3, 1, 1)
    config = AcousticConfig(len(CHARACTERS), len(PHONES), 16, (1, 0), 1, states=len(biphones))
    model = with_phone_scores(AcousticModel(config).eval(), biphones, 0.5)
    folder = tmp_path_factory.mktemp("states")
    write_model_folder(model, folder, "states", biphones=biphones)
    return folder, model, biphones


def test_states_are_exported_as_torch_hears_them(with_states, speech):
    folder, model, biphones = with_states
    package = ModelPackage.open(folder)
    assert package.biphones.checksum == biphones.checksum and units_of(package).head == "states"
    samples = speech[:16_000]
    onnx_engine = OnnxEngine(package.graph("onnx"), package.rates, "states")
    engines = onnx_engine, TorchEngine(load_acoustic_model(folder), "states")
    rows = [engine.step(engine.start(), samples)[0] for engine in engines]
    np.testing.assert_allclose(*rows, atol=1e-3)  # of weights rounded to fp16
    phones = OnnxEngine(package.graph("onnx"), package.rates, "phones")
    heard, _ = phones.step(phones.start(), samples)
    alone = AcousticModel(replace(model.config, phone_share=0.0))
    alone.load_state_dict(load_acoustic_model(folder).state_dict())
    states, _ = (engine := TorchEngine(alone, "states")).step(engine.start(), samples)
    lasting = np.logaddexp(heard, heard[:, :1])
    lasting[:, 0] = heard[:, 0]
    both = states + 0.5 * lasting[:, biphones.phones]
    np.testing.assert_allclose(rows[0], both - np.logaddexp.reduce(both, axis=1, keepdims=True), atol=1e-3)


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_folder_without_its_states_is_refused(with_states, tmp_path, damage):
    folder = shutil.copytree(with_states[0], tmp_path / "model")
    if damage == "missing":
        (folder / "states.txt").unlink()
    else:
        (folder / "states.txt").write_text("0 <blank> - - 0\n")
    with pytest.raises(ModelError, match=f"states.txt (is missing|was {damage})"):
        ModelPackage.open(folder)
    with pytest.raises(ModelError, match="states, their table 0"):
        write_model_folder(with_states[1], tmp_path / "other", "other")


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
def test_graph_passes_the_checker_and_describes_itself(model_folder, file):
    proto = onnx.load(str(model_folder / file))
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == ["samples", "hidden", "cell", "context"]
    outputs = [value.name for value in proto.graph.output]
    assert outputs == ["characters", "phones", "next_hidden", "next_cell", "next_context"]
    described = {entry.key: entry.value for entry in proto.metadata_props}
    config = json.loads((model_folder / "config.json").read_text())
    for key in ("sample_rate", "frame_samples", "window_samples", "delay_frames"):
        assert int(described[key]) == config[key]
    assert described["characters"].split()[1] == "|"


def test_the_int8_graph_is_small_and_close(shipped_recognizer, speech):
    package = ModelPackage.open("rill-en-small")
    whole, small = (OnnxEngine(package.graph(engine), package.rates, "phones") for engine in ("onnx", "int8"))
    ours, theirs = (np.exp(engine.step(engine.start(), speech)[0]) for engine in (whole, small))
    # Total variation: the part of the probability that lies on other phones.
    assert 0.5 * np.abs(ours - theirs).sum(axis=1).mean() < 0.05
    assert np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)) > 0.95
    assert package.graph("int8").stat().st_size < 0.6 * (package.folder / "model.safetensors").stat().st_size
    described = [
        {entry.key: entry.value for entry in onnx.load(str(package.graph(engine))).metadata_props}
        for engine in ("onnx", "int8")
    ]
    assert described[0].items() <= described[1].items()


@pytest.mark.parametrize("change", [{}, {"front": "stack"}, {"encoder": "rnn"}])
def test_large_weights_are_stored_once_as_half(tmp_path, speech, change):
    torch.manual_seed(0)
    model = AcousticModel(AcousticConfig(29, 40, size=128, **change))
    write_model_folder(model, tmp_path, "sized")
    proto = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    outside = [tensor for tensor in proto.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    held = sum(int(np.prod(tensor.dims)) for tensor in outside)
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert held > 0.95 * weights
    assert {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"} == {
        "model.safetensors"
    }
    fourier_and_filterbank = model.logmel.fourier.numel() + model.logmel.filterbank.numel()
    size = (tmp_path / "model.onnx").stat().st_size
    assert size < 4 * fourier_and_filterbank + 4 * (weights - held) + 100_000
    package = ModelPackage.open(tmp_path)
    ours = OnnxEngine(package.graph("onnx"), package.rates, "phones")
    theirs = TorchEngine(load_acoustic_model(tmp_path), "phones")
    ours, theirs = (engine.step(engine.start(), speech)[0] for engine in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_tokens_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ModelError, match="has 12 characters"):
        write_model_folder(AcousticModel(AcousticConfig(12, 40, size=8)), tmp_path, "odd")
    assert not (tmp_path / "config.json").exists()


def test_weights_of_another_shape_are_refused(model_folder, tmp_path):
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["acoustic"]["size"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot rebuild"):
        load_acoustic_model(tmp_path)
