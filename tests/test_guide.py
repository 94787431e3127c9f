"""The docs: what they name is in the files they name, their links lead somewhere, their commands exist."""

import pkgutil
import re
from pathlib import Path

import pytest
import typer

from asr.cli.app import build_app

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NAMED = re.compile(r"^- \[[^]]+\]\(([^)]+)\), ((?:`[^`]+`(?:, | and )?)+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert not [target for target in targets if "://" not in target and not (DOCS / target).exists()]


def test_names_are_in_the_files_they_are_said_to_be_in() -> None:
    found = NAMED.findall((DOCS / "guide.md").read_text(encoding="utf-8"))
    assert len(found) >= 15
    for target, names in found:
        code = (DOCS / target).read_text(encoding="utf-8")
        for quoted in re.findall(r"`([^`]+)`", names):
            assert re.search(rf"(?:def|class) {quoted}\b|^{quoted} = ", code, re.MULTILINE), f"{quoted} in {target}"
    assert ".backward()" in (DOCS / "../asr/training/loop.py").read_text(encoding="utf-8")


def test_commands_and_options_exist() -> None:
    commands = typer.main.get_command(build_app()).commands
    used = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()
        for line in lines:
            if not line.startswith("asr "):
                continue
            used += 1
            _, name, *arguments = line.split(" #")[0].split()
            command = commands[name]
            if isinstance(command, typer.core.TyperGroup) and arguments:
                command = command.commands[arguments[0]]
            offered = {o for parameter in command.params for o in (*parameter.opts, *parameter.secondary_opts)}
            unknown = {word for word in arguments if re.match(r"--?[a-z]", word)} - offered
            assert not unknown, f"{page.name}: {line}"
    assert used > 40


def test_reference_is_of_what_there_is() -> None:
    names = [
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(names) > 10
    for name in names:
        assert pkgutil.resolve_name(name).__doc__, name
