"""The sound that the computer plays, as a source: monitors of PulseAudio, which PipeWire has too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace

from asr.audio.microphone import InputDevice, input_devices
from asr.errors import AudioError, UsageError

SOURCES = ("microphone", "desktop")
VARIABLE = "PULSE_SOURCE"  # by which PulseAudio's library is told what to record
PATIENCE_SECONDS = 10.0
ELSEWHERE = {
    "win32": "on Windows choose a loopback device with --device, such as 'Stereo Mix' or that of a virtual cable",
    "darwin": "on macOS choose the device of a virtual cable, such as BlackHole, with --device",
}


def monitors() -> list[str]:
    """Names of the sources that hear what is played; none where there is no PulseAudio or PipeWire."""
    if shutil.which("pactl") is None:
        return []
    try:
        rows = _pactl("list", "short", "sources").splitlines()
    except AudioError:
        return []
    names = [row.split("\t")[1] for row in rows if row.count("\t") > 1]
    return [name for name in names if name.endswith(".monitor")]


def find_desktop() -> InputDevice:
    """The device that hears what the default output plays.

    It sets ``PULSE_SOURCE`` of this process, since PortAudio shows all of PulseAudio as one device.

    Raises:
        UsageError: this system has no such source that is known here.
        AudioError: PulseAudio does not answer, or PortAudio cannot reach it.
    """
    if sys.platform in ELSEWHERE:
        raise UsageError(f"--source desktop is for PulseAudio and PipeWire; {ELSEWHERE[sys.platform]}")
    if shutil.which("pactl") is None:
        raise UsageError("--source desktop needs pactl: apt install pulseaudio-utils (Debian, Ubuntu)")
    monitor = f"{_pactl('get-default-sink').strip()}.monitor"
    if monitor not in monitors():
        raise AudioError(f"PulseAudio has no source {monitor}, which would hear what is played")
    os.environ[VARIABLE] = monitor
    pulse = next((device for device in input_devices() if device.name.split(":")[0] == "pulse"), None)
    if pulse is None:
        raise AudioError("PortAudio does not reach PulseAudio: apt install libasound2-plugins (Debian, Ubuntu)")
    return replace(pulse, name=monitor)


def _pactl(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["pactl", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            timeout=PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AudioError(f"PulseAudio does not answer: {error}") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise AudioError(f"PulseAudio does not answer: {reason[-1] if reason else f'status {done.returncode}'}")
    return done.stdout
