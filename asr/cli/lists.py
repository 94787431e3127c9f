"""`asr devices`: the microphones that there are."""

from __future__ import annotations


def devices() -> int:
    """List microphones: index, name, channels and the sample rate that each prefers; the default one is marked."""
    from asr.audio.desktop import monitors
    from asr.audio.microphone import input_devices
    from asr.cli.exits import complain

    found = input_devices()
    for device in found:
        mark = "\t(default)" if device.default else ""
        print(f"{device.index}\t{device.name}\t{device.channels} ch\t{device.sample_rate} Hz{mark}")
    for name in monitors():
        print(f"-\t{name}\twhat the computer plays: asr listen --source desktop")
    return 0 if found else complain("no microphone was found; plug one in, and check that this user may use it")
