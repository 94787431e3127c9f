"""The microphone, by PortAudio."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.errors import AudioError, UsageError
from asr.streaming.sources import Resampler

BLOCK_SECONDS = 0.02  # that PortAudio hands over at once
BUFFER_SECONDS = 30.0  # held for a recogniser that is late; what comes on top is lost, and counted
SILENT_SECONDS = 5.0  # of waiting without a block: the device is gone
WAIT_SECONDS = 0.1  # at most, before a reader is asked whether it still wants more
CLOSE_SECONDS = 2.0  # that a sound system may take to let go of a device


@dataclass(frozen=True)
class InputDevice:
    """A device that can record."""

    index: int
    name: str
    channels: int
    sample_rate: int  # that it prefers, in Hz
    default: bool


def input_devices() -> list[InputDevice]:
    """All devices that can record; raises AudioError when PortAudio is missing."""
    sounddevice = _portaudio()
    try:
        chosen = sounddevice.query_devices(kind="input")["index"]
    except (sounddevice.PortAudioError, ValueError):
        chosen = None
    return [
        InputDevice(
            device["index"],
            device["name"],
            device["max_input_channels"],
            round(device["default_samplerate"]),
            device["index"] == chosen,
        )
        for device in sounddevice.query_devices()
        if device["max_input_channels"] > 0
    ]


def find_device(choice: str | None) -> InputDevice:
    """The device of an index, or whose name contains ``choice``, or the default one.

    Raises:
        AudioError: there is no microphone.
        UsageError: no device fits, or several do.
    """
    devices = input_devices()
    if not devices:
        raise AudioError("no microphone was found; plug one in, and see that this user may use it")
    if choice is None:
        return next((device for device in devices if device.default), devices[0])
    if choice.isdecimal():
        fitting = [device for device in devices if device.index == int(choice)]
    else:
        fitting = [device for device in devices if choice.casefold() in device.name.casefold()]
        exact = [device for device in fitting if device.name.casefold() == choice.casefold()]
        fitting = exact or fitting
    if len(fitting) == 1:
        return fitting[0]
    names = "; ".join(f"{device.index} {device.name}" for device in fitting or devices)
    raise UsageError(f"device {choice!r} is {'more than one' if fitting else 'none'} of these: {names}")


class Microphone:
    """An open microphone, a context manager. PortAudio's thread only copies blocks into a bounded queue."""

    def __init__(self, device: InputDevice, sample_rate: int) -> None:
        """Open a device; its audio comes at ``sample_rate`` Hz, mono, whatever the device itself can do.

        Raises:
            AudioError: it cannot be opened: it is in use, gone, or not permitted.
        """
        self.device = device
        self.lost_samples = 0  # at the device's rate: the queue was full
        self.overflows = 0  # times that PortAudio itself lost audio before it was handed over
        self._blocks: queue.Queue[np.ndarray] = queue.Queue(round(BUFFER_SECONDS / BLOCK_SECONDS))
        self._silent_waits = 0  # in a row
        self._stuck = False
        self._stream = self._open(sample_rate)
        self._resampler = Resampler(self.device_rate, sample_rate)

    def __enter__(self) -> Microphone:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go(self._stream.close)

    @property
    def device_rate(self) -> int:
        """Samples a second that the device records."""
        return round(self._stream.samplerate)

    @property
    def waiting_seconds(self) -> float:
        """Audio that has been recorded and not yet read."""
        return self._blocks.qsize() * BLOCK_SECONDS

    @property
    def lost_seconds(self) -> float:
        """Audio that came while the queue was full."""
        return self.lost_samples / self.device_rate

    def read(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> np.ndarray:
        """Wait for this much audio; with it comes all that has gathered, so that a late reader catches up.

        Args:
            seconds: of audio to wait for.
            enough: ends the waiting once it is true, even if the device gives nothing.
        Returns:
            Samples (N,) float32 at the rate asked for.
        Raises:
            AudioError: the device has stopped giving audio, and all that it gave has been read.
        """
        blocks: list[np.ndarray] = []
        while (len(blocks) * BLOCK_SECONDS < seconds and not enough()) or not self._blocks.empty():
            try:
                blocks.append(self._blocks.get(timeout=WAIT_SECONDS))
                self._silent_waits = 0
            except queue.Empty:
                # Waits are counted, not time: when this process did not run for long, its device need not be gone.
                self._silent_waits += 1
                if self._silent_waits * WAIT_SECONDS < SILENT_SECONDS:
                    continue
                if blocks:
                    break
                raise AudioError(
                    f"microphone {self.device.name!r} gives no more audio; it may have been unplugged or taken over"
                ) from None
        return self._resampled(blocks)

    def close(self) -> np.ndarray:
        """Stop recording; what had been recorded and not read, and the resampler's rest."""
        self._let_go(self._stream.stop)
        rest = [self._blocks.get_nowait() for _ in range(self._blocks.qsize())]
        return np.concatenate([self._resampled(rest), self._resampler.flush()])

    def _resampled(self, blocks: list[np.ndarray]) -> np.ndarray:
        """Blocks (frames, channels) of the device -> samples (N,) of the rate asked for."""
        if not blocks:
            return np.zeros(0, np.float32)
        return self._resampler.push(np.concatenate(blocks).mean(axis=1))

    def _open(self, sample_rate: int) -> Any:
        sounddevice = _portaudio()
        reason: Exception | None = None
        channels = min(2, self.device.channels)
        for rate in dict.fromkeys((sample_rate, self.device.sample_rate)):
            try:
                stream = sounddevice.InputStream(
                    samplerate=rate,
                    device=self.device.index,
                    channels=channels,
                    dtype="float32",
                    blocksize=round(rate * BLOCK_SECONDS),
                    callback=self._keep,
                )
                stream.start()
                return stream
            except sounddevice.PortAudioError as error:
                reason = error
        raise AudioError(
            f"microphone {self.device.name!r} cannot be opened ({str(reason).splitlines()[0]}); "
            "close what else uses it, or choose another of 'asr devices' with --device"
        )

    def _let_go(self, act: Callable[[], None]) -> None:
        """Call into PortAudio, which never returns while the sound system beneath it is stuck."""
        if self._stuck:
            return
        acting = threading.Thread(target=act, daemon=True)
        acting.start()
        acting.join(CLOSE_SECONDS)
        self._stuck = acting.is_alive()
        if self._stuck:  # what sounddevice does at the end of the process would never end either
            atexit.unregister(_portaudio()._exit_handler)

    def _keep(self, block: np.ndarray, frames: int, time: Any, status: Any) -> None:
        """Called by PortAudio's thread."""
        self.overflows += bool(status.input_overflow)
        try:
            self._blocks.put_nowait(block.copy())
        except queue.Full:
            self.lost_samples += frames


def _portaudio() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise AudioError(
            "PortAudio, which reads microphones, is not installed: apt install libportaudio2 (Debian, Ubuntu)"
        ) from error
    return sounddevice
