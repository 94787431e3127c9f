"""Whether `asr listen` keeps up, loses nothing and does not grow, with a virtual microphone that plays recordings.

    python benchmarks/live.py [--seconds 600] [--audio FILE...] [--engine onnx] [--json FILE]

Needs PulseAudio, PortAudio and ALSA's plugin for PulseAudio (apt install pulseaudio pulseaudio-utils libportaudio2
libasound2-plugins). Starts a sound server of its own, plays the recordings (the samples by default) into it again and
again with pauses, and runs `asr listen --format jsonl --save-audio` on it. Prints audio lost, the longest
wait and delay, memory after a fifth of the time and at the end, the share of a core used, and whether the live text is
that of the saved audio as a file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from asr import Recognizer

SAMPLES = Path(__file__).parent.parent / "samples"
PAUSE_SECONDS = 1.5


def sound_server(folder: Path) -> dict[str, str]:
    """Start one whose default microphone hears what is played; the environment in which programs find it."""
    environment = {
        **os.environ,
        "XDG_RUNTIME_DIR": str(folder),
        "HOME": str(folder),
        "PULSE_SERVER": f"unix:{folder}/pulse/native",
    }
    for command in (
        ("pulseaudio", "-D", "--exit-idle-time=-1"),
        ("pactl", "load-module", "module-null-sink", "sink_name=virtmic", "rate=48000"),
        ("pactl", "set-default-source", "virtmic.monitor"),
    ):
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30)
    return environment


def memory_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1_024


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(environment: dict[str, str], audio: list[Path], seconds: float, engine: str, saved: Path) -> dict:
    command = [
        sys.executable,
        "-m",
        "asr",
        "listen",
        "--format",
        "jsonl",
        "--engine",
        engine,
        "--seconds",
        str(seconds),
        "--save-audio",
        str(saved),
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if "listening" not in (first := process.stderr.readline()):
        raise SystemExit(first + process.stderr.read())
    over = threading.Event()

    def play() -> None:
        while not over.is_set():
            for path in audio:
                subprocess.run(["paplay", "-d", "virtmic", str(path)], env=environment, check=True)
                if over.wait(PAUSE_SECONDS):
                    return

    player = threading.Thread(target=play, daemon=True)
    player.start()
    begun = time.monotonic()
    memory: list[tuple[float, float]] = []
    events = []

    def read() -> None:
        events.extend(json.loads(line) for line in process.stdout)

    reader = threading.Thread(target=read)
    reader.start()
    spent = 0.0
    while process.poll() is None:
        try:
            memory.append((time.monotonic() - begun, memory_mb(process.pid)))
            spent = cpu_seconds(process.pid)
        except (OSError, StopIteration):  # it has just ended
            break
        time.sleep(min(2.0, seconds / 20))
    over.set()
    reader.join()
    error = process.stderr.read()
    process.wait()
    text = " ".join(event["text"] for event in events if event["type"] == "final" and event["text"])
    early = [value for when, value in memory if when >= seconds / 5][0]
    return {
        "seconds": seconds,
        "engine": engine,
        "exit_status": process.returncode,
        "complaints": error.strip(),
        "events": len(events),
        "words": len(text.split()),
        "lost_seconds": events[-1]["lost"],
        "overflows": events[-1]["overflows"],
        "most_waiting_s": max(event["waiting"] for event in events),
        "longest_delay_s": max(event["delay"] for event in events),
        "memory_mb_at_a_fifth": round(early, 1),
        "memory_mb_at_the_end": round(memory[-1][1], 1),
        "cores_used": round(spent / memory[-1][0], 3),
        "same_text_as_the_file": text == Recognizer.load(engine=engine).transcribe(saved).text,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--audio", type=Path, nargs="+", default=sorted(SAMPLES.glob("*.wav")))
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        environment = sound_server(Path(name))
        try:
            report = measure(environment, options.audio, options.seconds, options.engine, Path(name) / "heard.wav")
        finally:
            subprocess.run(["pulseaudio", "--kill"], env=environment, capture_output=True)
    print("\n".join(f"{key}: {value}" for key, value in report.items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
