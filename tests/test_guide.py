"""The guides: what they name is in the files they name, their links lead somewhere, their commands exist."""

import re
from pathlib import Path

import pytest
import typer

from asr.cli.main import build_app

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = ("guide.md", "tuning.md", "digits.md")
NAMED = re.compile(r"^- \[[^]]+\]\(([^)]+)\), ((?:`[^`]+`(?:, | and )?)+)", re.MULTILINE)


@pytest.mark.parametrize("name", GUIDES)
def test_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (DOCS / name).read_text(encoding="utf-8"))
    assert targets and not [target for target in targets if "://" not in target and not (DOCS / target).exists()]


def test_names_are_in_the_files_they_are_said_to_be_in() -> None:
    found = NAMED.findall((DOCS / "guide.md").read_text(encoding="utf-8"))
    assert len(found) >= 15
    for target, names in found:
        code = (DOCS / target).read_text(encoding="utf-8")
        for quoted in re.findall(r"`([^`]+)`", names):
            assert re.search(rf"(?:def|class) {quoted}\b|^{quoted} = ", code, re.MULTILINE), f"{quoted} in {target}"
    assert "self.fabric.backward(" in (DOCS / "../asr/training/loop.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GUIDES[1:])
def test_commands_and_options_exist(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()
    commands = typer.main.get_command(build_app()).commands
    used = [line.split("#")[0].split() for line in lines if line.startswith("asr ")]
    assert used
    for _, command, *arguments in used:
        offered = {option for parameter in commands[command].params for option in parameter.opts}
        offered |= {option for parameter in commands[command].params for option in parameter.secondary_opts}
        assert not {word for word in arguments if re.match(r"--?\w", word)} - offered, f"asr {command}"
