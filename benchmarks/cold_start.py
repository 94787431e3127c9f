"""How long `asr transcribe` takes from the shell, everything included: interpreter, imports, model, decoding.

    python benchmarks/cold_start.py [FILE] [--runs N]

Prints minimum, median and maximum wall seconds and the peak memory of the largest run.
"""

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SAMPLE = Path(__file__).parent.parent / "samples" / "weather.wav"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    command = [sys.executable, "-m", "asr", "transcribe", str(options.file)]
    subprocess.run(command, check=True, capture_output=True)  # the first run reads the files into the page cache
    walls = []
    for _ in range(options.runs):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        walls.append(time.perf_counter() - begun)
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.file.name}, {options.runs} runs")
    print(f"wall seconds: min {min(walls):.2f}, median {statistics.median(walls):.2f}, max {max(walls):.2f}")
    print(f"peak memory: {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
