"""Who may import whom, and what a user's path must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES

LAYERS = ("models", "streaming", "asr")  # each may import itself and those before it
HEAVY = ("torch", "torchaudio", "lhotse", "ray")


def imported(path: Path) -> set[str]:
    """Top-level names of the packages a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which layer they reach for"
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_imports_one_above_it(layer):
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & above, f"{path.relative_to(ROOT)} imports {imported(path) & above}"


def modules_after(code: str) -> set[str]:
    """Modules loaded by a fresh interpreter after running the code."""
    code = f"{code}\nimport sys\nprint('MODULES', *sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.rsplit("MODULES", 1)[1].split())


def command(*arguments: str) -> str:
    return f"import sys; sys.argv = ['asr', *{arguments!r}]; from asr.cli.main import main; assert main() == 0"


def test_importing_asr_loads_nothing_else():
    assert not modules_after("import asr") & {*HEAVY, "numpy", "onnxruntime", "av", "typer"}


def test_help_loads_no_network():
    for arguments in (("--help",), ("transcribe", "--help"), ("train", "--help")):
        assert not modules_after(command(*arguments)) & {*HEAVY, "numpy", "onnxruntime", "av"}


def test_transcribing_loads_no_torch(model_folder):
    loaded = modules_after(command("transcribe", "--model", str(model_folder), str(SAMPLES / "greeting.wav")))
    assert "onnxruntime" in loaded
    assert not loaded & set(HEAVY)


def test_the_python_interface_loads_no_torch(model_folder):
    loaded = modules_after(
        "from asr import Recognizer\n"
        f"print(Recognizer.load({str(model_folder)!r}).transcribe({str(SAMPLES / 'greeting.wav')!r}))"
    )
    assert not loaded & set(HEAVY)
