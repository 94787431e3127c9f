"""The sound that the computer plays: PulseAudio's monitors, of a server of our own where one can be had."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace

import pytest

from asr.audio import desktop
from asr.audio.microphone import InputDevice
from asr.errors import AudioError, UsageError


@pytest.fixture
def pactl(tmp_path, monkeypatch):
    """A pactl that knows a headset and its monitor."""
    path = tmp_path / "pactl"
    path.write_text(
        "#!/bin/sh\ncase $1 in get-default-sink) echo headset;; list) "
        "printf '1\\theadset.monitor\\tmodule\\n2\\theadset.input\\tmodule\\n';; *) exit 1;; esac\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("PULSE_SOURCE", "")
    return path


def test_the_monitor_of_the_default_output_is_found(pactl, monkeypatch):
    pulse = InputDevice(7, "pulse", 2, 44_100, False)
    monkeypatch.setattr(desktop, "input_devices", lambda: [InputDevice(0, "hw:0", 1, 48_000, True), pulse])
    found = desktop.find_desktop()
    assert (found.index, found.name) == (7, "headset.monitor") and os.environ["PULSE_SOURCE"] == "headset.monitor"
    assert desktop.monitors() == ["headset.monitor"]
    monkeypatch.setattr(desktop, "input_devices", lambda: [])
    with pytest.raises(AudioError, match="libasound2-plugins"):
        desktop.find_desktop()
    pactl.write_text("#!/bin/sh\necho 'Connection refused' >&2\nexit 1\n")
    with pytest.raises(AudioError, match="does not answer: Connection refused"):
        desktop.find_desktop()
    assert desktop.monitors() == []


def test_what_is_missing_is_one_line(asr, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = asr("listen", "--source", "desktop")
    assert refused.returncode == 2 and "needs pactl" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert asr("listen", "--source", "radio").returncode == 2
    both = asr("listen", "--source", "desktop", "--device", "1")
    assert both.returncode == 2 and "--device" in both.stderr
    monkeypatch.setattr(desktop, "sys", SimpleNamespace(platform="darwin"))
    with pytest.raises(UsageError, match="BlackHole"):
        desktop.find_desktop()


def test_a_real_pulseaudio_has_a_monitor(monkeypatch, sounds):
    for name in ("XDG_RUNTIME_DIR", "PULSE_SERVER", "HOME"):
        monkeypatch.setenv(name, sounds.environment[name])
    monkeypatch.setenv("PULSE_SOURCE", "")
    assert "speakers.monitor" in desktop.monitors()
    monkeypatch.setattr(desktop, "input_devices", lambda: [InputDevice(7, "pulse", 2, 44_100, False)])
    assert desktop.find_desktop().name == "speakers.monitor"
