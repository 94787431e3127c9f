"""How long `asr transcribe` takes from the shell, everything included: interpreter, imports, model, decoding.

    python benchmarks/cold_start.py [FILE] [--runs 11] [--json FILE] [--plot FILE]

Wall seconds and peak memory of fresh processes with what an earlier start has kept, with an empty cache, and with
greedy decoding; of commands that load no model, or do nothing with it; then the size of the shipped model's files. As
in an installed package the modules are compiled to bytecode and the beam search to machine code before.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import SAMPLES, parser, report

from asr.acoustic.folder import DEFAULT_MODEL, find_model


def run(words: list[str], cache: Path) -> tuple[float, float]:
    """Wall seconds and peak megabytes of the command `asr` in a process of its own."""
    command = [sys.executable, "-m", "asr", *words]
    environment = {**os.environ, "RILL_CACHE": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return wall, usage.ru_maxrss / 1024


def empty(fresh: Path, kept: Path) -> None:
    """Make an empty cache, but for the compiled beam search where the package came without."""
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for library in kept.glob("beam-*"):
        shutil.copy(library, fresh)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("file", nargs="?", type=Path, default=SAMPLES / "weather.wav")
    arguments.add_argument("--runs", type=int, default=11)
    options = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        kept, fresh = Path(place, "kept"), Path(place, "fresh")
        transcribe = ["transcribe", str(options.file)]
        starts = (
            ("lm, kept", kept, transcribe),
            ("lm, empty cache", fresh, transcribe),
            ("greedy", kept, [*transcribe, "--decoder=greedy"]),
            ("asr --version", kept, ["--version"]),
            ("asr --help", kept, ["--help"]),
            ("asr doctor --quick", kept, ["doctor", "--quick"]),
        )
        for name, cache, words in starts:
            walls, peaks = [], []
            for number in range(options.runs + 1):
                if cache is fresh:
                    empty(fresh, kept)
                wall, peak = run(words, cache)
                if number:  # the first run reads the files into the page cache, and keeps what it makes
                    walls.append(wall)
                    peaks.append(peak)
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
