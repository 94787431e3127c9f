"""The README: its code runs, its commands and options exist, its links lead somewhere."""

import re
from pathlib import Path

import numpy as np
import pytest
import typer

from asr.cli.app import COMMANDS, build_app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL))


def test_nothing_is_left_to_fill_in() -> None:
    assert "TODO" not in README


def test_commands_come_first_and_are_those_of_ci() -> None:
    install, check = [line for line in README.partition("\n## ")[0].splitlines() if line.startswith("python3 -m venv")]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for step in ("pip install .", "asr transcribe samples/greeting.wav"):
        assert step in install
    for step in ('pip install -e ".[dev]"', "pytest"):
        assert step in check
    for step in ("transcribe samples/greeting.wav", '-e ".[dev]"', "bin/pytest"):
        assert step in ci


def test_python_block_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    chunks = [np.zeros(4_800, np.float32)] * 10
    exec(compile(blocks("python"), "README.md", "exec"), {"chunks": chunks})
    assert (ROOT / "samples" / "greeting.txt").read_text(encoding="utf-8") in capsys.readouterr().out


def test_commands_and_options_exist() -> None:
    listed = re.findall(r"^\| `asr ([\w-]+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    commands = typer.main.get_command(build_app()).commands
    lines = blocks("sh").replace("\\\n", " ").splitlines()
    used = [line.split() for line in lines if line.startswith("asr ")]
    assert used
    for _, name, *arguments in used:
        command = commands[name]
        if isinstance(command, typer.core.TyperGroup):
            command = command.commands[arguments[0]]
        offered = {option for parameter in command.params for option in parameter.opts}
        unknown = {word for word in arguments if word.startswith("-") and word != "-"} - offered
        assert not unknown, f"asr {name}"


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert targets and not [target for target in targets if "://" not in target and not (ROOT / target).exists()]
