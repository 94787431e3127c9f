"""How long `asr transcribe` takes from the shell, everything included: interpreter, imports, model, decoding.

    python benchmarks/cold_start.py [FILE] [--runs 11] [--json FILE] [--plot FILE]

Wall seconds and peak memory of fresh processes with the decoding graph kept from an earlier start, without keeping it,
and with greedy decoding; then the size of the shipped model's files.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import SAMPLES, parser, report

from asr.acoustic.folder import DEFAULT_MODEL, find_model


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall seconds and peak megabytes of a process."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return wall, usage.ru_maxrss / 1024


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("file", nargs="?", type=Path, default=SAMPLES / "weather.wav")
    arguments.add_argument("--runs", type=int, default=11)
    options = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        starts = (("lm, kept", folder, []), ("lm, made anew", "", []), ("greedy", "", ["--decoder=greedy"]))
        for name, kept, extra in starts:
            command = [sys.executable, "-m", "asr", "transcribe", str(options.file), *extra]
            environment = {**os.environ, "RILL_CACHE": kept}
            run(command, environment)  # the first run reads the files into the page cache, and keeps the graph
            walls, peaks = zip(*(run(command, environment) for _ in range(options.runs)), strict=True)
            rows.append(
                {
                    "start": name,
                    "median s": round(statistics.median(walls), 2),
                    "least s": round(min(walls), 2),
                    "most s": round(max(walls), 2),
                    "peak MB": round(max(peaks)),
                }
            )
    report(options, rows, "start", "median s")
    model = find_model(DEFAULT_MODEL)
    for path in sorted(
        path for path in model.rglob("*") if path.suffix in (".onnx", ".npz", ".packed", ".safetensors")
    ):
        print(f"{path.relative_to(model)}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
