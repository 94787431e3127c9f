"""Where it ends: the network and the search on one core against what the machine can do.

    python benchmarks/limits.py [--seconds 30] [--json FILE] [--plot FILE]

Chunks of 160 ms. "network" rows run the same weights from samples to log-probabilities, nothing else; "system" rows go
on to words and partial results. The limit of one stream is how fast this core can read the
weights once a chunk; of 64 streams together, how fast it multiplies matrices. Needs the extra `train`; what is
missing is left out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measuring import RATE, median_seconds, parser, pin, report, speech

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.streaming.engine import OnnxEngine
from asr.streaming.framed import FramedEngine

CHUNK = 2_560
BATCH = 64


def compute_seconds(step: Callable[[np.ndarray], object], audio: np.ndarray, chunk: int = CHUNK) -> float:
    """Wall seconds of computing for a second of audio."""
    step(audio[:chunk])
    begun = time.perf_counter()
    for start in range(0, len(audio), chunk):
        step(audio[start : start + chunk])
    return (time.perf_counter() - begun) * RATE / len(audio)


def stepped(engine) -> Callable[[np.ndarray], object]:
    state = engine.start()

    def step(chunk: np.ndarray) -> None:
        nonlocal state
        _, state = engine.step(state, chunk)

    return step


def torch_rows(audio: np.ndarray, package: ModelPackage) -> dict[str, float]:
    try:
        import torch

        from asr.acoustic.export import load_acoustic_model
        from asr.streaming.engine import TorchEngine
    except ImportError:
        return {}
    torch.set_num_threads(1)
    engine = TorchEngine(load_acoustic_model(package.folder), "phones")
    found = {"network: torch nn.LSTM as it comes": compute_seconds(stepped(engine), audio)}
    with torch.backends.mkldnn.flags(enabled=False):
        found["network: torch, oneDNN off"] = compute_seconds(stepped(engine), audio)
    return found


def batch_seconds(engine: FramedEngine, frames: int = 5) -> float:
    """Seconds for a frame of one stream when 64 go together."""
    rates = engine.rates
    heard = np.zeros((frames - 1) * rates.frame_samples + rates.window_samples, np.float32)
    states = [engine.accept(engine.start(), heard)] * BATCH
    return median_seconds(lambda: engine.advance(states, frames), runs=15) / BATCH / frames


def limits(package: ModelPackage) -> dict[str, dict[str, float]]:
    """Of each kind of arithmetic: weights, and seconds a frame at the measured bandwidth and matrix peak."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    found = {}
    for name, bytes_each in (("onnx", 4), ("int8", 1)):
        graph = onnx.load(str(package.graph(name))).graph
        arrays = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
        kinds = (np.int8, np.uint8) if name == "int8" else (np.float16,)
        weights = sum(array.size for array in arrays if array.ndim >= 2 and array.dtype in kinds)
        buffer = random.random(weights * bytes_each // 4, np.float32)
        reading = median_seconds(lambda b=buffer: b.max(), runs=101)
        size, kind = 1_024, "MatMulInteger" if name == "int8" else "MatMul"
        types = (TensorProto.UINT8, TensorProto.INT32) if name == "int8" else (TensorProto.FLOAT,) * 2
        values = random.integers(-100, 100, (size, size)).astype(np.int8 if name == "int8" else np.float32)
        proto = helper.make_model(
            helper.make_graph(
                [helper.make_node(kind, ["a", "b"], ["c"])],
                "product",
                [helper.make_tensor_value_info("a", types[0], [size, size])],
                [helper.make_tensor_value_info("c", types[1], [size, size])],
                [numpy_helper.from_array(values, "b")],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(proto, str(path := Path(folder) / "product.onnx"))
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        left = np.full((size, size), 3, np.uint8 if name == "int8" else np.float32)
        product = median_seconds(lambda s=session, a=left: s.run(None, {"a": a}), runs=31)
        found[name] = {
            "weights": weights,
            "one": reading,
            "many": product * weights / size**3,
            "gigabytes": buffer.nbytes / reading / 1e9,
            "peak": 2 * size**3 / product / 1e9,
        }
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=30.0)
    options = arguments.parse_args()
    pin(1)
    audio, package = speech(options.seconds), ModelPackage.open(DEFAULT_MODEL)
    engines: dict[str, FramedEngine] = {
        f"onnxruntime {name}": OnnxEngine(package.graph(name), package.rates, "phones") for name in ("onnx", "int8")
    }
    engines["kernels int8"] = package.engine("int8", "phones")
    found = {f"network: {name}": compute_seconds(stepped(one), audio) for name, one in engines.items()}
    for name, engine in engines.items():
        found[f"network: {name}, {BATCH} streams together, each"] = batch_seconds(engine) / package.rates.seconds(1)
    found |= torch_rows(audio, package)
    for name in ("onnx", "int8"):
        for decoder in ("greedy", "lm"):
            recognizer = Recognizer.load(engine=name, decoder=decoder)
            found[f"system: {name}, {decoder}"] = compute_seconds(stepped(recognizer), audio)
    try:
        bounds = limits(package)
    except ImportError:
        bounds = {}
    for name, bound in bounds.items():
        found[f"limit: {name}, one stream, {bound['gigabytes']:.0f} GB/s"] = bound["one"] * RATE / CHUNK
        found[f"limit: {name}, many, {bound['peak']:.0f} GFLOP/s"] = bound["many"] / package.rates.seconds(1)
    rows = [
        {"what": name, "ms per s of audio": round(1_000 * seconds, 2), "times real time": round(1 / seconds, 1)}
        for name, seconds in found.items()
    ]
    report(options, rows, "what", "times real time")
    for name, engine in ((name, engine) for name in bounds for engine in engines if engine.endswith(name)):
        bound = bounds[name]
        one = bound["one"] * RATE / CHUNK / found[f"network: {engine}"]
        many = bound["many"] / package.rates.seconds(1) / found[f"network: {engine}, {BATCH} streams together, each"]
        print(f"{engine}: {bound['weights'] / 1e6:.1f} M weights; {one:.0%} of the limit alone, {many:.0%} in a batch")


if __name__ == "__main__":
    main()
