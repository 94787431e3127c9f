"""How commands end when their standard streams are closed, broken or full, and when they are told to stop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES

from asr.cli.app import COMMANDS

GREETING = SAMPLES / "greeting.wav"
ASR = f'"{sys.executable}" -m asr'


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in the folder of the clone; what it prints, too."""
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("command", "closed"),
    [
        ("", ">&-"),
        ("--help", ">&- 2>&- <&-"),
        ("models", ">/dev/full"),
        ("nonsense", "2>&-"),
        ("listen --device no", ">&- <&-"),
        ("transcribe -", "<&-"),
        ("transcribe no-such.wav", "2>/dev/full"),
    ],
)
def test_streams_that_are_closed_or_full_give_no_traceback(command: str, closed: str) -> None:
    run = shell(f"{ASR} {command} {closed}")
    assert "Traceback" not in run.stderr and "Exception ignored" not in run.stderr, run.stderr
    assert run.returncode in (0, 1, 2)


def test_the_help_of_every_command_needs_no_stream() -> None:
    code = (
        "import sys\n"
        "from asr.cli.main import main\n"
        f"for command in {list(COMMANDS)}:\n"
        "    sys.stdin = sys.stdout = sys.stderr = None\n"
        "    sys.argv = ['asr', command, '--help']\n"
        "    if main(): sys.exit(command)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_a_text_that_cannot_be_printed_is_an_error(model_folder: Path) -> None:
    run = shell(f"{ASR} transcribe --model {model_folder} {GREETING} >/dev/full")
    assert run.returncode == 1 and run.stderr == "asr: standard output: cannot be written: No space left on device\n"
    run = shell(f"{ASR} transcribe --model {model_folder} {GREETING} >&-")
    assert run.returncode == 2 and "stdout is closed" in run.stderr


def test_ctrl_c_while_the_program_loads_is_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == {name!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['asr', 'models']\n"
        "from asr.cli.main import main\n"
        "sys.exit(main())\n"
    )
    for name in ("typer", "asr.cli.app", "asr.acoustic.folder"):
        command = [sys.executable, "-c", code.format(name=name)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (run.returncode, run.stdout, run.stderr) == (130, "", ""), name


def test_wrong_commands_show_their_own_usage(asr) -> None:
    run = asr("transcribe")
    assert run.returncode == 2 and "Usage: asr transcribe [OPTIONS]" in run.stderr and run.stderr.count("\n") == 1
    assert "Usage: asr evaluate [OPTIONS]" in asr("evaluate").stderr
