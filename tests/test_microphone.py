"""Choosing and reading a microphone, with a PortAudio of our own: what real ones do only when something is wrong."""

from __future__ import annotations

import builtins
import queue
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from asr.audio import microphone as module
from asr.audio.microphone import BLOCK_SECONDS, BUFFER_SECONDS, Microphone, find_device, input_devices
from asr.errors import AudioError, UsageError

FINE = SimpleNamespace(input_overflow=False)
OVERFLOWN = SimpleNamespace(input_overflow=True)


class PortAudio:
    """Stands for the module sounddevice."""

    class PortAudioError(Exception):
        pass

    def __init__(self, names: tuple[str, ...], rates: tuple[int, ...] = (16_000, 48_000)) -> None:
        self.names, self.rates = names, rates

    def query_devices(self, kind: str | None = None):
        devices = [
            {
                "index": index,
                "name": name,
                "max_input_channels": 0 if "speaker" in name else 2,
                "default_samplerate": 48_000.0,
            }
            for index, name in enumerate(self.names)
        ]
        if kind is None:
            return devices
        inputs = [device for device in devices if device["max_input_channels"]]
        if not inputs:
            raise self.PortAudioError("no default input")
        return inputs[-1]

    def InputStream(self, samplerate, callback, **_):  # noqa: N802 (its name there)
        if samplerate not in self.rates:
            raise self.PortAudioError(f"Invalid sample rate\nand more of {samplerate}")
        self.callback = callback
        return SimpleNamespace(samplerate=samplerate, start=lambda: None, stop=lambda: None, close=lambda: None)


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch):
    def install(*arguments) -> PortAudio:
        fake = PortAudio(*arguments)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return install


def blocks(rate: int, count: int, left: float, right: float) -> list[np.ndarray]:
    return [np.tile(np.float32([left, right]), (round(rate * BLOCK_SECONDS), 1)) for _ in range(count)]


def test_a_missing_portaudio_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AudioError, match="apt install libportaudio2"):
        input_devices()


def test_devices_are_found_by_index_name_and_default(portaudio) -> None:
    portaudio(("Built-in mic", "loudspeaker", "USB mic", "USB mic 2"))
    assert [device.index for device in input_devices()] == [0, 2, 3]
    assert find_device(None).index == 3, "the default of the system"
    assert find_device("0").index == find_device("built").index == 0
    assert find_device("usb mic").index == 2, "the whole name goes before a part of it"
    for choice, said in (
        ("usb", "more than one of these: 2 USB mic; 3 USB mic 2"),
        ("1", "none of these"),
        ("radio", "none of these: 0 Built-in mic; 2"),
    ):
        with pytest.raises(UsageError, match=said):
            find_device(choice)


def test_no_microphone_at_all_is_told(portaudio) -> None:
    portaudio(("loudspeaker",))
    with pytest.raises(AudioError, match="no microphone was found; plug one in"):
        find_device(None)


def test_a_busy_microphone_is_told_in_one_line(portaudio) -> None:
    portaudio(("mic",), ())
    with pytest.raises(AudioError, match=r"'mic' cannot be opened \(Invalid sample rate\); close what else uses it"):
        Microphone(find_device(None), 16_000)


def test_a_device_that_refuses_the_rate_is_resampled_and_mixed_down(portaudio) -> None:
    fake = portaudio(("mic",), (48_000,))
    with Microphone(find_device(None), 16_000) as mic:
        assert mic.device_rate == 48_000
        for block in blocks(48_000, 50, 0.2, 0.6):
            fake.callback(block, len(block), None, FINE)
        samples = np.concatenate([mic.read(0.5), mic.close()])
    assert len(samples) == pytest.approx(16_000, abs=2)
    assert samples[2_000:-2_000] == pytest.approx(0.4, abs=1e-3)


def test_what_is_lost_is_counted_and_the_rest_is_caught_up_with(portaudio) -> None:
    fake = portaudio(("mic",))
    with Microphone(find_device(None), 16_000) as mic:
        for block in blocks(16_000, round((BUFFER_SECONDS + 1) / BLOCK_SECONDS), 0.1, 0.1):
            fake.callback(block, len(block), None, FINE)
        fake.callback(block, len(block), None, OVERFLOWN)
        assert mic.waiting_seconds == pytest.approx(BUFFER_SECONDS)
        assert mic.lost_seconds == pytest.approx(1.0 + BLOCK_SECONDS) and mic.overflows == 1
        assert len(mic.read(0.1)) == pytest.approx(BUFFER_SECONDS * 16_000), "all that has gathered comes at once"
        assert mic.waiting_seconds == 0


def test_an_unplugged_microphone_is_told(portaudio, monkeypatch: pytest.MonkeyPatch) -> None:
    portaudio(("mic",))
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.01)
    with Microphone(find_device(None), 16_000) as mic, pytest.raises(AudioError, match="may have been unplugged"):
        mic.read(0.1)


def test_what_an_unplugged_microphone_gave_is_read_first(portaudio, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = portaudio(("mic",))
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.01)
    with Microphone(find_device(None), 16_000) as mic:
        for block in blocks(16_000, 2, 0.1, 0.1):
            fake.callback(block, len(block), None, FINE)
        assert len(mic.read(0.1)) == 2 * BLOCK_SECONDS * 16_000
        with pytest.raises(AudioError, match="may have been unplugged"):
            mic.read(0.1)


def test_a_microphone_that_gives_nothing_does_not_hold_back_who_has_enough(portaudio) -> None:
    fake = portaudio(("mic",))
    with Microphone(find_device(None), 16_000) as mic:
        block = blocks(16_000, 1, 0.1, 0.1)[0]
        fake.callback(block, len(block), None, FINE)
        asked = iter([False, False, True])
        assert len(mic.read(60.0, lambda: next(asked))) == len(block)
        assert len(mic.read(60.0, lambda: True)) == 0
        assert len(mic.close()) == 0


def test_a_busy_machine_is_no_unplugged_microphone(portaudio, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = portaudio(("mic",))
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
    with Microphone(find_device(None), 16_000) as mic:
        block = blocks(16_000, 1, 0.1, 0.1)[0]
        real, waits = mic._blocks.get, []

        def get(timeout: float) -> np.ndarray:
            waits.append(timeout)
            if len(waits) == 1:  # the process is held up
                time.sleep(2 * module.SILENT_SECONDS)
                raise queue.Empty
            fake.callback(block, len(block), None, FINE)
            return real(timeout=timeout)

        monkeypatch.setattr(mic._blocks, "get", get)
        assert len(mic.read(BLOCK_SECONDS)) == len(block), "one wait for nothing, however long it took, is not the end"
