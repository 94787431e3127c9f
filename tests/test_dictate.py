"""Dictation: what is typed never has to be erased; and the real thing, in a text field under Xvfb."""

from __future__ import annotations

import os
import queue
import shutil
import stat
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SAMPLES
from serving import wait_for

from asr.audio.files import AudioFile
from asr.cli import switch
from asr.cli.dictate import Session
from asr.cli.switch import Switch, send
from asr.errors import OutputError, UsageError
from asr.output.dictation import Dictation
from asr.output.keyboard import Clipboard, Keyboard, find_keyboard
from asr.streaming.results import Result, Word


def result(text: str, committed: int | None = None) -> Result:
    words = tuple(Word(word, float(at), at + 0.5, 0.9) for at, word in enumerate(text.split()))
    return Result.of(words, committed is None, len(words) if committed is None else committed)


def test_committed_words_are_typed_once():
    dictation = Dictation()
    typed = [
        dictation.add([result("good mourning", 1)]),
        dictation.add([result("good morning all", 2)]),
        dictation.add([result("good morning all")]),
        dictation.add([result("now", 0)]),
        dictation.add([result("now then")]),
    ]
    assert typed == ["good", " morning", " all", "", " now then"]


@pytest.mark.parametrize(
    ("spoken", "typed"),
    [
        ("dear all comma new line thank you full stop", "dear all,\nthank you."),
        ("a new paragraph a new idea", "a\n\na new idea"),
        ("full of new things question mark", "full of new things?"),
        ("the full", "the full"),
        ("new new line", "new\n"),
    ],
)
def test_spoken_commands_are_obeyed_however_the_words_arrive(spoken, typed):
    for pieces in (1, 2, len(spoken.split())):
        dictation, got = Dictation(commands=True), ""
        words = spoken.split()
        for count in range(pieces, len(words), pieces):
            got += dictation.add([result(" ".join(words[: count + 1]), count)])
            assert typed.startswith(got)
        got += dictation.add([result(spoken)]) + dictation.finish()
        assert got == typed
    plain = Dictation()
    assert plain.add([result(spoken)]) == spoken


@pytest.fixture
def programs(tmp_path):
    """A folder of programs that write down how they are called; and what PATH is with it."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def add(name: str, status: int = 0) -> None:
        path = folder / name
        path.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n[ -t 0 ] || cat >>{folder}/stdin\nexit {status}\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return SimpleNamespace(folder=folder, add=add, environment={"PATH": f"{folder}:/bin:/usr/bin"})


def test_the_way_to_type_is_found(programs, monkeypatch):
    alone = {"PATH": str(programs.folder)}
    with pytest.raises(UsageError, match="no way to type was found"):
        find_keyboard(environment=alone)
    for name in ("xclip", "xdotool", "wtype"):
        programs.add(name)
    with pytest.raises(UsageError, match="no way to type"):
        find_keyboard(environment=alone)  # no window system
    assert find_keyboard(environment={**alone, "DISPLAY": ":0"}).name == "xdotool"
    assert find_keyboard(environment={**alone, "DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}).name == "wtype"
    assert isinstance(find_keyboard("clipboard", {**alone, "DISPLAY": ":0"}), Clipboard)
    with pytest.raises(UsageError, match="WAYLAND_DISPLAY is not set"):
        find_keyboard("wtype", {**alone, "DISPLAY": ":0"})
    with pytest.raises(UsageError, match="unknown --type-with"):
        find_keyboard("telepathy", alone)


def test_programs_get_the_text(programs, monkeypatch):
    for name in ("xdotool", "xclip"):
        programs.add(name)
    programs.add("ydotool", status=3)
    monkeypatch.setenv("PATH", programs.environment["PATH"])
    Keyboard("xdotool").write("-a 'b'\n")
    calls = (programs.folder / "calls").read_text().splitlines()
    assert calls == ["xdotool type --clearmodifiers --delay 2 -- -a 'b'", "xdotool key --clearmodifiers Return"]
    board = Clipboard("xclip")
    board.write("one")
    board.write(" two")
    assert (programs.folder / "stdin").read_text() == "oneone two"
    with pytest.raises(OutputError, match="ydotool cannot type"):
        Keyboard("ydotool").write("x")


def test_a_window_system_that_is_not_there_is_said_before_one_speaks(asr, programs, monkeypatch):
    programs.add("xdotool")
    monkeypatch.setenv("PATH", programs.environment["PATH"])
    monkeypatch.setenv("DISPLAY", ":77")
    Keyboard("xdotool").check()
    programs.add("xdotool", status=1)
    refused = asr("dictate", "--type-with", "xdotool")
    assert refused.returncode == 2 and "with DISPLAY as it is: :77" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    Keyboard("ydotool").check()  # whose daemon is asked when it types


@pytest.fixture
def own_switch(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.usefixtures("own_switch")
def test_one_dictation_at_a_time_takes_orders(asr):
    assert asr("dictate", "--order", "toggle").stderr.startswith("asr: no asr dictate is running")
    assert asr("dictate", "--order", "dance").returncode == 2
    obeyed = []
    with Switch(obeyed.append):
        assert stat.S_IMODE(switch.switch_path().stat().st_mode) == 0o600
        with pytest.raises(UsageError, match="another asr dictate is running"):
            Switch(obeyed.append)
        assert asr("dictate", "--order", "toggle").returncode == 0
        send("stop")
        send("nonsense")
    assert obeyed == ["toggle", "stop"]
    switch.switch_path().touch()  # as one that was killed leaves it
    with Switch(obeyed.append):
        send("start")
    assert obeyed[-1] == "start"


class SampleMicrophone:
    """Gives out a sample at once, then silence."""

    def __init__(self, device: object, sample_rate: int) -> None:
        with AudioFile(SAMPLES / "greeting.wav", sample_rate) as file:
            self._rest = np.concatenate([*file, np.zeros(2 * sample_rate, np.float32)])
        self._rate = sample_rate

    def __enter__(self) -> SampleMicrophone:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, seconds: float, enough: object) -> np.ndarray:
        count = round(seconds * self._rate)
        chunk, self._rest = self._rest[:count], self._rest[count:]
        return chunk if len(chunk) else np.zeros(count, np.float32)

    def close(self) -> np.ndarray:
        return self._rest


def dictated(recognizer, keyboard, monkeypatch, orders, **options) -> None:
    monkeypatch.setattr("asr.audio.microphone.Microphone", SampleMicrophone)
    asked: queue.Queue[str] = queue.Queue()
    for order in orders:
        asked.put(order)
    Session(recognizer, SimpleNamespace(name="sample"), keyboard, False, 0.1).run(asked, **options)


@pytest.mark.parametrize(("active", "orders"), [(True, ["quit"]), (False, ["stop", "start", "quit"])])
def test_what_is_said_is_typed_whatever_ends_it(recognizer, monkeypatch, active, orders):
    typed = []
    keyboard = SimpleNamespace(write=typed.append)
    dictated(recognizer, keyboard, monkeypatch, orders, active=active)
    expected = Dictation().add([recognizer.transcribe(SAMPLES / "greeting.wav")])
    assert "".join(typed) == expected != ""


XVFB = [name for name in ("Xvfb", "xdotool", "xterm") if shutil.which(name) is None]


@pytest.mark.skipif(bool(XVFB), reason=f"not here: {', '.join(XVFB)}")
def test_words_arrive_in_a_text_field_under_x(shipped_recognizer, monkeypatch, tmp_path):
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24"], pass_fds=[write])
    try:
        os.close(write)
        with os.fdopen(read) as numbers:
            display = f":{numbers.readline().strip()}"
        for name in ("WAYLAND_DISPLAY", "XAUTHORITY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DISPLAY", display)
        field = tmp_path / "field.txt"
        ready = tmp_path / "ready"
        shell = f"stty -echo -icanon; touch {ready}; cat >{field}"
        terminal = subprocess.Popen(["xterm", "-e", "sh", "-c", shell], stderr=subprocess.DEVNULL)
        wait_for(ready.exists)
        found = subprocess.run(
            ["xdotool", "search", "--sync", "--class", "xterm"], capture_output=True, text=True, check=True
        )
        subprocess.run(["xdotool", "windowfocus", found.stdout.split()[-1]], check=True)
        keyboard = find_keyboard()
        assert keyboard.name == "xdotool"
        dictated(shipped_recognizer, keyboard, monkeypatch, ["quit"], active=True)
        keyboard.write("\nsecond line, with 'quotes'")
        expected = f"{shipped_recognizer.transcribe(SAMPLES / 'greeting.wav').text}\nsecond line, with 'quotes'"
        wait_for(lambda: field.exists() and len(field.read_text()) >= len(expected))
        assert field.read_text().replace("\r", "\n") == expected
        terminal.kill()
        terminal.wait()
    finally:
        server.kill()
        server.wait()


def test_the_command_says_what_is_missing(asr, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    refused = asr("dictate", "--type-with", "xdotool")
    assert refused.returncode == 2 and "xdotool" in refused.stderr and len(refused.stderr.splitlines()) == 1
