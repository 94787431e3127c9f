"""Typing text into the window that has the focus, by the programs that window systems have for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from asr.errors import OutputError, UsageError

PATIENCE_SECONDS = 20.0  # that a program may take
TEXT = "{}"  # its place in a command
# Of each way: what must be set (any one of the variables; none: always fits), the commands for text and for a new line.
WAYS: dict[str, tuple[tuple[str, ...], list[str], list[str]]] = {
    "wtype": (("WAYLAND_DISPLAY",), ["wtype", "--", TEXT], ["wtype", "-k", "Return"]),
    "xdotool": (
        ("DISPLAY",),
        ["xdotool", "type", "--clearmodifiers", "--delay", "2", "--", TEXT],
        ["xdotool", "key", "--clearmodifiers", "Return"],
    ),
    "ydotool": ((), ["ydotool", "type", "--", TEXT], ["ydotool", "key", "28:1", "28:0"]),
}
# What only succeeds where the window system can be reached, and lets programs type.
PROBES = {"wtype": ["wtype", "-s", "1"], "xdotool": ["xdotool", "getdisplaygeometry"]}
# Programs that take the text on stdin.
CLIPBOARDS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "wl-copy": (("WAYLAND_DISPLAY",), ["wl-copy"]),
    "xclip": (("DISPLAY",), ["xclip", "-selection", "clipboard"]),
    "xsel": (("DISPLAY",), ["xsel", "--clipboard", "--input"]),
    "pbcopy": ((), ["pbcopy"]),
    "clip.exe": ((), ["clip.exe"]),
}


@dataclass(frozen=True)
class Keyboard:
    """Types into the focused window."""

    name: str

    def check(self) -> None:
        """Raise UsageError when the window system cannot be reached, or does not let programs type."""
        if self.name not in PROBES:
            return
        try:
            _run(PROBES[self.name])
        except OutputError as error:
            (variable,) = WAYS[self.name][0]
            raise UsageError(f"{error}, with {variable} as it is: {os.environ.get(variable, '')}") from error

    def write(self, text: str) -> None:
        """Type text; raises OutputError when the program fails."""
        _, typing, returning = WAYS[self.name]
        for part in re.split(r"(\n)", text):
            if part == "\n":
                _run(returning)
            elif part:
                _run([part if one == TEXT else one for one in typing])


class Clipboard:
    """Keeps all that was said in the clipboard, to be pasted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._text = ""

    def check(self) -> None:
        """Every clipboard will do."""

    def write(self, text: str) -> None:
        """Append text; raises OutputError when the program fails."""
        self._text += text
        _run(CLIPBOARDS[self.name][1], self._text)


def find_keyboard(wish: str = "auto", environment: Mapping[str, str] | None = None) -> Keyboard | Clipboard:
    """The way to type that is wished for, or the first that is there.

    Args:
        wish: auto, wtype, xdotool, ydotool or clipboard.
        environment: variables; the process's own by default.
    Raises:
        UsageError: there is no such way, or it is not there.
    """
    environment = os.environ if environment is None else environment
    if wish not in ("auto", *WAYS, "clipboard"):
        raise UsageError(f"unknown --type-with {wish!r}; give auto, {', '.join(WAYS)} or clipboard")

    def there(name: str, variables: tuple[str, ...]) -> bool:
        fits = not variables or any(environment.get(one) for one in variables)
        return fits and shutil.which(name, path=environment.get("PATH")) is not None

    for name, (variables, *_) in WAYS.items():
        if wish in ("auto", name) and there(name, variables):
            return Keyboard(name)
    if wish in ("auto", "clipboard"):
        for name, (variables, _) in CLIPBOARDS.items():
            if there(name, variables):
                return Clipboard(name)
    if wish in WAYS:
        needs = " or ".join(WAYS[wish][0])
        raise UsageError(
            f"{wish} is not installed" + (f", or {needs} is not set: no such window system" if needs else "")
        )
    system = {"win32": "on Windows clip.exe", "darwin": "on macOS pbcopy"}.get(
        sys.platform, "install wtype (Wayland), xdotool (X11), ydotool, or wl-copy or xclip for the clipboard"
    )
    raise UsageError(f"no way to type was found, with WAYLAND_DISPLAY and DISPLAY as they are: {system}")


def _run(command: list[str], stdin: str | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if stdin is not None else subprocess.PIPE,  # clipboards go on in the background
            encoding="utf-8",
            timeout=PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OutputError(f"{command[0]} cannot type: {error}") from error
    if done.returncode:
        reason = (done.stderr or "").strip().splitlines()
        raise OutputError(f"{command[0]} cannot type: {reason[-1] if reason else f'it ended with {done.returncode}'}")
