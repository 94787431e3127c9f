"""What the speed benchmarks share: speech to work on, pinned cores, repetition, and reports as JSON, table and plot."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from asr.audio.files import AudioFile

SAMPLES = Path(__file__).parent.parent / "samples"
RATE = 16_000
Row = dict[str, object]


def speech(seconds: float | None = None) -> np.ndarray:
    """The recordings in ``samples`` one after another, (N,) at 16 kHz, repeated to a length when one is given."""
    parts = []
    for path in sorted(SAMPLES.glob("*.wav")):
        with AudioFile(path, RATE) as audio:
            parts += [*audio, np.zeros(RATE, np.float32)]
    whole = np.concatenate(parts)
    return whole if seconds is None else np.resize(whole, round(seconds * RATE))


def pin(cores: int) -> None:
    """Keep this process, and threads it starts from now on, on the first of its cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(ALLOWED)[:cores]))


ALLOWED = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def machine() -> Row:
    """What the figures were taken on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(ALLOWED),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "load_before": None if load is None else round(load, 2),
    }


def median_seconds(call: Callable[[], object], runs: int, warm_up: int = 1) -> float:
    """Median wall seconds of a call."""
    for _ in range(warm_up):
        call()
    walls = []
    for _ in range(runs):
        begun = time.perf_counter()
        call()
        walls.append(time.perf_counter() - begun)
    return statistics.median(walls)


def resident_mb() -> dict[str, float]:
    """Memory of this process in MB: its own, and what it shares with files."""
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    own, files = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return {"own_mb": round(own, 1), "files_mb": round(files, 1)}


def parser(description: str) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=description.splitlines()[0])
    found.add_argument("--json", type=Path, help="write the figures here")
    found.add_argument("--plot", type=Path, help="draw them here (needs matplotlib)")
    return found


def table(rows: list[Row]) -> None:
    """Print rows of the same columns as Markdown."""
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    print(flush=True)


def report(options: argparse.Namespace, rows: list[Row], x: str, y: str, by: str | None = None) -> None:
    """Print the machine and a table; write JSON and a plot of ``y`` over ``x``, a line for each ``by``, if asked to."""
    about = machine()
    print("\n" + ", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    table(rows)
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        from matplotlib.figure import Figure

        axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).subplots()
        for name in dict.fromkeys(str(row[by]) if by else y for row in rows):
            own = [row for row in rows if not by or str(row[by]) == name]
            if all(isinstance(row[x], int | float) for row in own):
                axes.plot([row[x] for row in own], [row[y] for row in own], "o-", label=name)
            else:
                axes.barh([str(row[x]) for row in own], [row[y] for row in own], label=name)
        if all(isinstance(row[x], int | float) for row in rows):
            axes.set_xscale("log")
        axes.set_xlabel(x if axes.lines else y)
        axes.set_ylabel(y if axes.lines else "")
        axes.legend()
        figure.savefig(options.plot)
