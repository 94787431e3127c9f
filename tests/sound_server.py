"""A PulseAudio of our own, whose microphone hears what a test plays."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SAMPLES
from serving import PATIENCE_SECONDS, wait_for

PROGRAMS = ("pulseaudio", "pactl", "paplay")
MICROPHONE, SPEAKERS = "virtmic", "speakers"  # what is played into the first is heard by the default microphone


@dataclass(frozen=True)
class SoundServer:
    """A running PulseAudio, and the environment in which programs find it."""

    environment: dict[str, str]

    @property
    def pid(self) -> int:
        return int((Path(self.environment["XDG_RUNTIME_DIR"]) / "pulse" / "pid").read_text())

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        return done.stdout

    def play(self, name: str, sink: str = MICROPHONE) -> None:
        """Play a sample to its end."""
        self.run("paplay", "-d", sink, str(SAMPLES / name))

    def wait_for_listeners(self, count: int = 1) -> None:
        """Until so many programs record."""
        wait_for(lambda: len(self.run("pactl", "list", "short", "source-outputs").splitlines()) >= count)


@contextmanager
def sound_server(folder: Path) -> Iterator[SoundServer]:
    """Start one, with its files in a folder; the test is skipped where it cannot be."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no virtual microphone without {', '.join(missing)}")
    try:
        import sounddevice  # noqa: F401
    except OSError:
        pytest.skip("no microphone without PortAudio (libportaudio2)")
    places = {"XDG_RUNTIME_DIR": str(folder), "PULSE_SERVER": f"unix:{folder}/pulse/native", "HOME": str(folder)}
    server = SoundServer({**os.environ, **places})
    try:
        server.run("pulseaudio", "-D", "--exit-idle-time=-1")
        for sink in (MICROPHONE, SPEAKERS):
            server.run("pactl", "load-module", "module-null-sink", f"sink_name={sink}", "rate=48000")
        server.run("pactl", "set-default-source", f"{MICROPHONE}.monitor")
        server.run("pactl", "set-default-sink", SPEAKERS)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"PulseAudio does not start here: {error.stderr[:200]}")
    yield server
    subprocess.run(["pulseaudio", "--kill"], env=server.environment, capture_output=True)
