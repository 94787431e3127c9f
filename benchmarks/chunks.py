"""One stream on one core: computing per second of audio by length of chunk, and how it is divided.

    python benchmarks/chunks.py [--seconds 60] [--engine int8 onnx] [--json FILE] [--plot FILE]

Streams the sample recordings. Milliseconds of computing per second of audio for features, network, decoder and the
rest, and quantiles of the time one chunk takes. Features are timed in the part of the graph that makes them,
which needs onnx (without it, and where the network runs in C, they count as network).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import RATE, median_seconds, parser, pin, report, speech

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.streaming.engine import OnnxEngine

CHUNKS_MS = (40, 80, 160, 320, 0)  # 0: the whole recording at once


class Timed:
    """Passes calls on, and adds up how long they take."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.seconds = inner, 0.0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any) -> Any:
            begun = time.perf_counter()
            try:
                return value(*arguments)
            finally:
                self.seconds += time.perf_counter() - begun

        return call


def feature_seconds(graph: Path, samples: int) -> float:
    """Seconds that log-mel features of so many samples take, alone."""
    try:
        import onnx
    except ImportError:
        return 0.0
    import onnxruntime

    last = next(node for node in onnx.load(str(graph)).graph.node if node.op_type == "Log").output[0]
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "features.onnx"
        onnx.utils.extract_model(str(graph), str(part), ["samples"], [last], check_model=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(part), options, providers=["CPUExecutionProvider"])
    audio = np.zeros((1, samples), np.float32)
    return median_seconds(lambda: session.run(None, {"samples": audio}), runs=21)


def measure(recognizer: Recognizer, graph: Path, audio: np.ndarray, chunk_ms: int) -> dict[str, float]:
    chunk = chunk_ms * RATE // 1_000 or len(audio)
    runner = recognizer._runner
    plain = runner._engine, runner._decoder
    runner._engine, runner._decoder = network, decoder = Timed(plain[0]), Timed(plain[1])
    try:
        state, walls = recognizer.start(), []
        recognizer.step(state, audio[:RATE])  # warm-up
        network.seconds = decoder.seconds = 0.0
        for start in range(0, len(audio), chunk):
            begun = time.perf_counter()
            _, state = recognizer.step(state, audio[start : start + chunk])
            walls.append(time.perf_counter() - begun)
    finally:
        runner._engine, runner._decoder = plain
    seconds = len(audio) / RATE
    rates = ModelPackage.open(DEFAULT_MODEL).rates
    block = min(chunk, 10 * RATE)
    frames = max(1, block // rates.frame_samples)
    heard = (frames - 1) * rates.frame_samples + rates.window_samples
    features = 0.0
    if isinstance(plain[0], OnnxEngine):
        features = feature_seconds(graph, heard) * (seconds * RATE / rates.frame_samples) / frames
    per_second = {
        "features": features,
        "network": network.seconds - features,
        "decoder": decoder.seconds,
        "rest": sum(walls) - network.seconds - decoder.seconds,
        "all": sum(walls),
    }
    quantiles = zip(("p50", "p95", "p99"), np.percentile(walls, (50, 95, 99)), strict=True)
    return {
        **{f"{name} ms/s": round(1_000 * value / seconds, 2) for name, value in per_second.items()},
        "times real time": round(seconds / sum(walls), 1),
        **{f"{name} ms": round(1_000 * float(value), 2) for name, value in quantiles},
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--engine", nargs="+", default=["int8", "onnx"])
    options = arguments.parse_args()
    pin(1)
    audio, package, rows = speech(options.seconds), ModelPackage.open(DEFAULT_MODEL), []
    for engine in options.engine:
        for decoder in ("greedy", "lm"):
            recognizer = Recognizer.load(engine=engine, decoder=decoder)
            for chunk_ms in CHUNKS_MS:
                figures = measure(recognizer, package.graph(engine), audio, chunk_ms)
                rows.append({"engine": f"{engine} {decoder}", "chunk ms": chunk_ms or "whole", **figures})
    report(options, rows, "chunk ms", "times real time", by="engine")


if __name__ == "__main__":
    main()
