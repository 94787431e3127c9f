"""Weights of an ONNX graph in fp16: stored in the graph, or read from the safetensors file beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

FEWEST = 1024  # numbers in a tensor that is worth storing apart
GATES = (0, 3, 1, 2)  # where ONNX has the gates of torch's LSTM: input, output, forget, cell


def store_as_half(proto: onnx.ModelProto) -> None:
    """Replace large fp32 initialisers that fp16 holds exactly by fp16 ones and a cast, folded when a session opens."""
    for tensor, values in list(_large(proto)):
        half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):  # the Fourier basis and the filterbank keep their digits
            stored = numpy_helper.from_array(half, f"{tensor.name}.half")
            cast = helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT)
            _replace(proto, tensor, stored, [cast])


def refer_to_weights(proto: onnx.ModelProto, path: Path) -> None:
    """Replace large initialisers by references into a safetensors file of fp16 weights, with nodes that convert them.

    The exporter transposes matrices and reorders the gates of LSTMs; the graph repeats that, and onnxruntime folds it
    into constants when a session opens. Weights that are not in the file stay in the graph.

    Args:
        proto: the graph, to be saved in the folder of the file.
        path: of the file.
    """
    weights = load_file(path)
    places = _places(path)
    for tensor, values in list(_large(proto)):
        for name, weight in weights.items():
            if weight.size != values.size or weight.dtype != np.float16:
                continue
            steps = _way(weight.astype(np.float32), values)
            if steps is not None:
                stored = _external(name, weight, path.name, *places[name])
                _replace(proto, tensor, stored, _nodes(name, tensor, steps, values))
                break


def _large(proto: onnx.ModelProto) -> Iterator[tuple[TensorProto, np.ndarray]]:
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= FEWEST:
            yield tensor, values


def _way(weight: np.ndarray, values: np.ndarray) -> str | None:
    """How the exporter made ``values`` of a weight of as many numbers; None if it did not."""
    if np.array_equal(weight.ravel(), values.ravel()):
        return "as it is"
    if weight.ndim == 2 and np.array_equal(weight.T, values):
        return "transposed"
    if weight.ndim == 2 and len(weight) % len(GATES) == 0:
        gates = weight.reshape(len(GATES), -1)[list(GATES)]
        if np.array_equal(gates.ravel(), values.ravel()):
            return "gates"
    return None


def _nodes(name: str, tensor: TensorProto, way: str, values: np.ndarray) -> list[onnx.NodeProto]:
    """From the fp16 weight ``name`` to the initialiser."""
    wide = f"{tensor.name}.wide"
    if way == "transposed":
        nodes = [helper.make_node("Transpose", [wide], [tensor.name], perm=[1, 0])]
    else:
        nodes = [_constant(f"{tensor.name}.shape", values.shape)]
        source = wide
        if way == "gates":
            source = f"{tensor.name}.gates"
            nodes += [
                _constant(f"{tensor.name}.rows", (len(GATES), -1)),
                helper.make_node("Reshape", [wide, f"{tensor.name}.rows"], [f"{source}.torch"]),
                _constant(f"{tensor.name}.order", GATES),
                helper.make_node("Gather", [f"{source}.torch", f"{tensor.name}.order"], [source], axis=0),
            ]
        nodes.append(helper.make_node("Reshape", [source, f"{tensor.name}.shape"], [tensor.name]))
    return [helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT), *nodes]


def _constant(name: str, numbers: tuple[int, ...]) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.array(numbers, np.int64))
    return helper.make_node("Constant", [], [name], value=value)


def _external(name: str, weight: np.ndarray, file: str, offset: int, length: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=weight.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length in bytes of each tensor of a safetensors file."""
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(header))
    spans = {name: entry["data_offsets"] for name, entry in entries.items() if name != "__metadata__"}
    return {name: (8 + header + begin, end - begin) for name, (begin, end) in spans.items()}


def _replace(proto: onnx.ModelProto, tensor: TensorProto, stored: TensorProto, nodes: list[onnx.NodeProto]) -> None:
    graph = proto.graph
    graph.initializer.remove(tensor)
    graph.initializer.append(stored)
    for node in reversed(nodes):
        graph.node.insert(0, node)
