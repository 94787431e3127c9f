"""`asr devices` and `asr models`: what there is to choose from."""

from __future__ import annotations


def devices() -> int:
    """List microphones: index, name, channels and the sample rate that each prefers; the default one is marked."""
    from asr.audio.microphone import input_devices
    from asr.cli.exits import complain

    found = input_devices()
    for device in found:
        mark = "\t(default)" if device.default else ""
        print(f"{device.index}\t{device.name}\t{device.channels} ch\t{device.sample_rate} Hz{mark}")
    return 0 if found else complain("no microphone was found; plug one in, and check that this user may use it")


def models() -> None:
    """List the shipped models: name, size of the files that a recogniser loads, folder."""
    from asr.acoustic.folder import DEFAULT_MODEL, shipped_models

    for name, folder in shipped_models().items():
        files = [folder / "model.onnx", *(folder / "lm").glob("*")]
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        print(f"{name}\t{megabytes:.1f} MB\t{folder}" + ("\t(default)" if name == DEFAULT_MODEL else ""))
