"""Writing a trained model as a folder that the recogniser loads: ONNX graph, weights, tokens, configuration."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import helper
from safetensors.torch import load_file, save
from torch import Tensor, nn

from asr.acoustic.folder import FILES, STATES, format_of
from asr.acoustic.onnx_weights import refer_to_weights, store_as_half
from asr.acoustic.phone_states import Biphones
from asr.errors import ModelError
from asr.files import write_description
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.models.encoder import EncoderState
from asr.words.tokens import CHARACTERS, PHONES, TokenTable

OPSET = 17


class _StreamingGraph(nn.Module):
    """One chunk with the state as plain inputs and outputs, batch first, as other programming languages call it."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.memory = ["hidden", "context"] if config.encoder == "rnn" else ["hidden", "cell", "context"]
        self.in_blocks = config.encoder == "blstm"
        self.heads = ["characters", "phones", *(["states"] if config.states else [])]

    def forward(self, samples: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.memory, inputs, strict=False))
        given["context"] = given["context"].transpose(0, 1)
        given.setdefault("cell", given["hidden"][:0])
        block_frames = inputs[-1] if self.in_blocks else None
        log_probs, state = self.model.step(self.model.logmel(samples), EncoderState(**given), block_frames)
        memory = state._replace(context=state.context.transpose(0, 1))
        return *(getattr(log_probs, head) for head in self.heads), *(getattr(memory, name) for name in self.memory)


def export_onnx(model: AcousticModel, path: Path, weights: Path) -> None:
    """Write the streaming graph: fp32 arithmetic; its large weights stay in the safetensors file beside it.

    They are ONNX external data, read from there and cast to fp32 when a session opens, so that a model folder holds
    them once.

    Inputs: ``samples`` (B, N) float32, N = window_samples + (T - 1) * frame_samples with T >= 1; ``hidden`` and
    ``cell`` (L, B, H); ``context`` (B, C, H), all zeros at the start. Outputs: ``characters``, ``phones`` and, where
    the model has them, ``states``, log-probabilities (B, T, V); ``next_hidden``, ``next_cell``, ``next_context``. Row t
    describes the frame ``delay_frames`` earlier, the first ``delay_frames`` rows of a stream mean nothing. The caller
    drops the first ``T * frame_samples`` samples of its buffer after the call. An rnn has no ``cell``. A blstm has half
    the units in ``hidden`` and ``cell``, and one more input, ``block_frames`` () int64, of which T is a multiple.

    Args:
        model: to write.
        path: of the graph.
        weights: the safetensors file, in the same folder, that holds the model's weights as fp16.
    """
    _trace(model, path)
    proto = onnx.load(str(path))
    refer_to_weights(proto, weights)
    _save(proto, path, model.config)


def export_int8(model: AcousticModel, path: Path) -> None:
    """Write the streaming graph with the weights of LSTMs and linear layers in 8 bits.

    Activations are scaled by the largest of each call (dynamic quantisation), so its log-probabilities depend a little
    on how the audio is cut into chunks. Inputs and outputs are those of `export_onnx`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        traced = Path(folder) / "fp32.onnx"
        _trace(model, traced)
        nodes = onnx.load(str(traced)).graph.node
        # The mel filterbank spans seven orders of magnitude; 8 bits would lose the quiet ones.
        features = [node.name for node in nodes if node.op_type == "MatMul" and "logmel" in node.name]
        logging.getLogger().addFilter(_is_not_advice)
        try:
            quantize_dynamic(
                traced,
                path,
                op_types_to_quantize=["LSTM", "MatMul"],
                weight_type=QuantType.QUInt8,
                nodes_to_exclude=features,
            )
        finally:
            logging.getLogger().removeFilter(_is_not_advice)
    proto = onnx.load(str(path))
    if model.config.encoder == "rnn":  # of which onnxruntime has no 8-bit form
        store_as_half(proto)
    _save(proto, path, model.config)


def _is_not_advice(record: logging.LogRecord) -> bool:
    """False for onnxruntime's advice to pre-process a graph, which ours do not need."""
    return "pre-processing before quantization" not in record.getMessage()


def _trace(model: AcousticModel, path: Path) -> None:
    """Write the streaming graph in fp32, of weights rounded to fp16."""
    config = model.config
    model = _rounded_to_half(model).eval()
    graph = _StreamingGraph(model)
    batch = 2  # not 1, so that nothing is folded into a constant of batch one
    frames = 4 * config.block_frames
    state = model.encoder.initial_state(batch)
    state = state._replace(context=state.context.transpose(0, 1))._asdict()
    inputs = {
        "samples": torch.zeros(batch, config.window_samples + (frames - 1) * config.frame_samples),
        **{name: state[name] for name in graph.memory},
    }
    if graph.in_blocks:
        inputs["block_frames"] = torch.tensor(config.block_frames)
    batch_axes = {name: {0 if name == "context" else 1: "batch"} for name in graph.memory}
    rows = {0: "batch", 1: "frames"}
    with warnings.catch_warnings():
        # About the exporter's age, and about LSTMs without initial states; ours are inputs, and tests vary the batch.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=[*graph.heads, *(f"next_{name}" for name in graph.memory)],
            dynamic_axes={
                "samples": {0: "batch", 1: "samples"},
                **batch_axes,
                **dict.fromkeys(graph.heads, rows),
                **{f"next_{name}": axes for name, axes in batch_axes.items()},
            },
            opset_version=OPSET,
            dynamo=False,
        )


def _save(proto: onnx.ModelProto, path: Path, config: AcousticConfig) -> None:
    helper.set_model_props(
        proto,
        {
            "sample_rate": str(config.frontend.sample_rate),
            "frame_samples": str(config.frame_samples),
            "window_samples": str(config.window_samples),
            "delay_frames": str(config.delay_frames),
            "encoder": config.encoder,
            "block_frames": str(config.block_frames),
            "characters": " ".join(CHARACTERS),
            "phones": " ".join(PHONES),
        },
    )
    onnx.save(proto, str(path))
    onnx.checker.check_model(str(path))


def write_model_folder(
    model: AcousticModel, folder: Path, name: str, card: str | None = None, biphones: Biphones | None = None
) -> None:
    """Write a complete model folder; `config.json` with the checksums is written last.

    Args:
        model: to write.
        folder: to write into.
        name: of the model.
        card: text of its model card.
        biphones: the table of its states, if it has states.
    Raises:
        ModelError: the model's heads do not fit Rill's token tables or the states.
    """
    config = model.config
    if (config.characters, config.phones) != (len(CHARACTERS), len(PHONES)):
        raise ModelError(
            f"the model has {config.characters} characters and {config.phones} phones, "
            f"the token tables have {len(CHARACTERS)} and {len(PHONES)}: train it with this version of Rill"
        )
    if config.states != (len(biphones) if biphones else 0):
        raise ModelError(f"the model has {config.states} states, their table {len(biphones) if biphones else 0}")
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().half().contiguous() for key, value in model.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights))  # save_file would deny others the right to read
    export_onnx(model, folder / "model.onnx", folder / "model.safetensors")
    export_int8(model, folder / "model.int8.onnx")
    TokenTable(CHARACTERS).write(folder / "characters.txt")
    TokenTable(PHONES).write(folder / "phones.txt")
    files = FILES
    if biphones:
        biphones.write(folder / STATES, TokenTable(PHONES))
        files = (*FILES, STATES)
    if card is not None:
        (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    description = {
        "format": format_of(config),
        "name": name,
        "language": "en",
        "sample_rate": config.frontend.sample_rate,
        "frame_samples": config.frame_samples,
        "window_samples": config.window_samples,
        "delay_frames": config.delay_frames,
        "encoder": config.encoder,
        "block_frames": config.block_frames,
        "acoustic": config.to_dict(),
    }
    write_description(folder, description, files)


def with_phone_scores(model: AcousticModel, biphones: Biphones, share: float) -> AcousticModel:
    """A copy of a trained model whose state scores are interpolated with its phone head's, of weight ``share``.

    The heads were trained by different criteria and make different errors; together they can be better than alone.
    """
    other = AcousticModel(replace(model.config, phone_share=share))
    other.load_state_dict(model.state_dict())
    other.state_phones.copy_(torch.from_numpy(biphones.phones))
    return other.eval()


def load_acoustic_model(folder: Path) -> AcousticModel:
    """Rebuild the torch model of a model folder, in evaluation mode.

    Raises:
        ModelError: the weights do not fit the configuration, or either cannot be read.
    """
    try:
        description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = AcousticModel(AcousticConfig.from_dict(description["acoustic"]))
        weights = load_file(folder / "model.safetensors")
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{folder}: cannot rebuild the model ({reason}); fetch or export it again") from error
    return model.eval()


def _rounded_to_half(model: AcousticModel) -> AcousticModel:
    """A copy with weights rounded to fp16, as the files hold them: all engines compute with the same numbers."""
    copy = AcousticModel(model.config)
    copy.load_state_dict({key: value.detach().cpu().half().float() for key, value in model.state_dict().items()})
    return copy
