"""Which rooms may import which, and what a user's path must not load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache

import pytest
from conftest import ROOT, SAMPLES

from asr.acoustic.native_engine import fast_kernel

# From low to high. A module may import its own room and those on lower floors, nowhere in it anything else.
FLOORS = (
    ("models",),
    ("streaming",),
    ("errors",),
    ("files", "interrupt", "memory"),
    ("native",),
    ("words", "audio", "output"),
    ("acoustic",),
    ("graph", "data"),
    ("lm", "importing"),
    ("decoding", "store"),
    ("recognizer_options", "remote"),
    ("resuming", "transcript"),
    ("recognizer", "client"),
    ("evaluation", "server"),
    ("training",),
    ("tuning",),
    ("cli",),
)
DOORS = ("asr", "asr.__main__")  # what people come in by; nothing inside imports them
HEAVY = ("torch", "torchaudio", "lhotse", "ray")


@cache
def imports() -> dict[str, set[str]]:
    """Of each module of Rill, by its name as it is installed, the modules of Rill that it imports anywhere in it."""
    trees = {}
    for folder in ("asr", "models", "streaming"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(("asr",) * (folder != "asr") + parts).removesuffix(".__init__")
            trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return {name: imported(tree, name) & trees.keys() for name, tree in trees.items()}


def imported(tree: ast.AST, name: str) -> set[str]:
    """Names of the modules that a file imports; of ``from a import b`` both a.b and, where that is none, a."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide which room they reach for"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
            names.add(node.module)
    return names - {"asr"}


def room(module: str) -> str:
    return module.split(".")[1]


def floor(module: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS) if room(module) in rooms), -1)


def test_every_module_has_a_floor():
    assert len(imports()) > 100
    assert [name for name in imports() if name not in DOORS and floor(name) < 0] == []


def test_no_import_points_upwards():
    arrows = {
        (name, other)
        for name, others in imports().items()
        for other in others
        if name not in DOORS and room(other) != room(name) and floor(other) >= floor(name)
    }
    assert arrows == set()


def test_no_circles():
    reached = {name: reachable(name) for name in imports()}
    inside = {name for name in reached if name in reached[name]}
    circles = {frozenset(other for other in reached[name] if name in reached[other]) for name in inside}
    assert circles == set()


def reachable(name: str) -> set[str]:
    """All modules that a module imports, and those that these import, and so on."""
    found: set[str] = set()
    new = imports()[name]
    while new:
        found |= new
        new = set().union(*(imports()[other] for other in new)) - found
    return found


@pytest.mark.parametrize("folder", ["asr", "models", "streaming", "tests", "benchmarks", "docs"])
def test_models_and_streaming_go_by_their_installed_names(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        tops = {other.split(".")[0] for other in imported(ast.parse(path.read_text(encoding="utf-8")), str(path))}
        assert not tops & {"models", "streaming"}, f"{path.relative_to(ROOT)}: these are asr.models and asr.streaming"


@pytest.mark.parametrize("path", [str(ROOT), f".{os.pathsep}{ROOT}"])
def test_a_project_may_have_models_and_streaming_of_its_own(path, tmp_path):
    (tmp_path / "models.py").write_text("OWN = True")
    (tmp_path / "streaming").mkdir()
    (tmp_path / "streaming/__init__.py").write_text("OWN = True")
    (tmp_path / "script.py").write_text(
        "import models, streaming\n"
        "from asr import Recognizer\n"
        "import asr.models, asr.streaming.runner\n"
        "assert models.OWN and streaming.OWN and Recognizer.__module__ == 'asr.recognizer'\n"
    )
    for arguments in (["script.py"], ["-m", "asr", "--version"]):
        environment = {**os.environ, "PYTHONPATH": path}
        subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environment, check=True)


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


def test_a_command_loads_no_other():
    loaded = {name for name in modules_after(command("transcribe", "--help")) if name.startswith("asr.cli.")}
    assert "asr.cli.transcribe" in loaded and not loaded & {"asr.cli.listen", "asr.cli.lm", "asr.cli.train"}
    assert "asr.cli.train" in modules_after(command("--help"))


def test_transcribing_loads_no_torch(model_folder):
    loaded = modules_after(command("transcribe", "--model", str(model_folder), str(SAMPLES / "greeting.wav")))
    assert ("onnxruntime" in loaded) == (fast_kernel() == 0)
    assert not loaded & set(HEAVY)


def test_the_python_interface_loads_no_torch(model_folder):
    loaded = modules_after(
        "from asr import Recognizer\n"
        f"print(Recognizer.load({str(model_folder)!r}).transcribe({str(SAMPLES / 'greeting.wav')!r}))"
    )
    assert not loaded & set(HEAVY)
