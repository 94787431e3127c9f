"""Adding a trained speller to a model folder."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from asr.export import OPSET, store_weights_as_half
from asr.files import write_description
from asr.package import SPELLER
from models.speller import Speller, SpellerState


class _StreamingGraph(nn.Module):
    """Some rows with the state as plain inputs and outputs."""

    def __init__(self, speller: Speller) -> None:
        super().__init__()
        self.speller = speller

    def forward(self, phones: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_probs, state = self.speller(phones, SpellerState(hidden, cell))
        return log_probs, state.hidden, state.cell


def export_speller(speller: Speller, path: Path) -> None:
    """Write the graph: fp32 arithmetic, large weights stored as fp16.

    Inputs: ``phones`` (B, T, V) log-probabilities, T a multiple of ``stack``; ``hidden`` and ``cell`` (L, B, H), zeros
    at the start of an utterance. Outputs: ``characters`` (B, T, C) log-probabilities, ``next_hidden``, ``next_cell``.
    Row t speaks of row t - ``delay_frames``; the first ``delay_frames`` rows of an utterance mean nothing. The metadata
    has both numbers.
    """
    speller = _rounded_to_half(speller).cpu().eval()
    config = speller.config
    state = speller.initial_state(2)  # not 1, so that nothing is folded into a constant of batch one
    rows = torch.zeros(2, 3 * config.stack, config.phones)
    names = {"phones": (0, 1), "hidden": (1,), "cell": (1,), "characters": (0, 1), "next_hidden": (1,),
             "next_cell": (1,)}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's age, and LSTMs whose batch must not vary; tests vary it
        torch.onnx.export(
            _StreamingGraph(speller), (rows, state.hidden, state.cell), str(path),
            input_names=list(names)[:3], output_names=list(names)[3:],
            dynamic_axes={name: {axis: f"axis{axis}" for axis in axes} for name, axes in names.items()},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    proto = onnx.load(str(path))
    store_weights_as_half(proto)
    helper.set_model_props(proto, {"delay_frames": str(config.delay_frames), "stack": str(config.stack)})
    onnx.checker.check_model(proto)
    onnx.save(proto, str(path))


def add_speller(speller: Speller, folder: Path) -> None:
    """Put a speller into a model folder, in the place of the one it may have."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / SPELLER
        export_speller(speller, made)
        (folder / SPELLER).write_bytes(made.read_bytes())
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    files = [*(name for name in content.pop("files") if name != SPELLER), SPELLER]
    write_description(folder, {**content, "speller": speller.config.to_dict()}, files)


def _rounded_to_half(speller: Speller) -> Speller:
    copy = Speller(speller.config)
    copy.load_state_dict({key: value.detach().cpu().half().float() for key, value in speller.state_dict().items()})
    return copy
