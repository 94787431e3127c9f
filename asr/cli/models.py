"""`asr models`: list the models that came with Rill."""

from __future__ import annotations


def models() -> None:
    """List the shipped models: name, size of what a recogniser loads, folder."""
    from asr.acoustic.folder import DEFAULT_MODEL, shipped_models

    for name, folder in shipped_models().items():
        files = [folder / "model.onnx", *(folder / "lm").glob("*")]
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        print(f"{name}\t{megabytes:.1f} MB\t{folder}" + ("\t(default)" if name == DEFAULT_MODEL else ""))
