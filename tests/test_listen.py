"""Listening: real PortAudio, with a virtual PulseAudio microphone that plays a sample where one can be had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLES
from serving import PATIENCE_SECONDS
from sound_server import SoundServer

from asr.audio.files import AudioFile
from asr.audio.recording import SoundFile
from asr.cli.live import LocalStream, Session, listen_to
from asr.cli.main import main
from asr.cli.options import EndpointOptions
from asr.errors import AudioError
from asr.output.captions import EventCaptions, LineCaptions, Status, TerminalCaptions
from asr.recognizer import Recognizer
from asr.streaming.endpoint import EndpointRule
from asr.streaming.results import Result, Word
from asr.words.text import normalise

STATUS = Status(3.0, -20.0, 0.1, 0.25, 0.02, 0.0, 0)
GREETING = (SAMPLES / "greeting.txt").read_text()


def result(text: str, final: bool, committed: int = 0) -> Result:
    words = (Word(word, float(k), k + 0.5, 0.9) for k, word in enumerate(text.split()))
    return Result.of(words, final, committed)


class Listening:
    """`asr listen` in a process of its own, with the virtual microphone."""

    def __init__(self, sounds: SoundServer, *options: str) -> None:
        self.sounds = sounds
        command = [sys.executable, "-m", "asr", "listen", "--format", "jsonl", *options]
        self.process = subprocess.Popen(
            command, env=sounds.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events: list[dict[str, Any]] = []
        watch = threading.Timer(PATIENCE_SECONDS, self.process.kill)  # nothing below waits for ever
        watch.daemon = True
        watch.start()
        first = self.process.stderr.readline()
        if "listening" not in first:
            self.process.kill()
            if "no microphone" in first:
                pytest.skip("PortAudio finds no microphone: ALSA's PulseAudio plugin is not there (libasound2-plugins)")
            raise AssertionError(first + self.process.stderr.read())

    def hear(self, name: str) -> None:
        """Play a sample, and wait until some words of it are there."""
        self.sounds.play(name)
        while len(self.events[-1]["words"] if self.events else ()) < 3:
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            self.events.append(json.loads(line))

    def end(self) -> str:
        """Ctrl-C; the text of all."""
        self.process.send_signal(signal.SIGINT)
        self.events.extend(map(json.loads, self.process.stdout))
        error = self.process.stderr.read()
        assert self.process.wait() == 0 and "Traceback" not in error, error
        assert self.events[-1]["type"] == "final"
        return " ".join(event["text"] for event in self.events if event["type"] == "final" and event["text"])


@pytest.mark.usefixtures("shipped_recognizer")
def test_what_is_played_is_written_down_to_the_last_words(sounds: SoundServer, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    listening = Listening(sounds, "--save-audio", str(heard))
    listening.hear("greeting.wav")
    text = listening.end()
    assert text == Recognizer.load(readable=True).transcribe(heard).text, "the same audio as a file gives the same text"
    assert set(normalise(text).split()) & set(GREETING.split()), "a busy machine may lose some of what is played"
    assert any(event["type"] == "partial" for event in listening.events)
    assert all(event["lost"] == 0 for event in listening.events)


@pytest.mark.usefixtures("shipped_recognizer")
def test_ctrl_c_while_the_sound_system_is_stuck_ends_with_the_last_words(sounds: SoundServer) -> None:
    listening = Listening(sounds)
    listening.hear("greeting.wav")
    os.kill(sounds.pid, signal.SIGSTOP)
    try:
        text = listening.end()
    finally:
        os.kill(sounds.pid, signal.SIGCONT)
    assert set(normalise(text).split()) & set(GREETING.split())


def test_listening_for_so_many_seconds_hears_no_more(shipped_recognizer: Recognizer) -> None:
    def read(seconds: float, enough: Callable[[], bool]) -> np.ndarray:
        return np.zeros(round(seconds * 16_000), np.float32)

    microphone = SimpleNamespace(
        read=read, close=lambda: read(5.0, bool), waiting_seconds=0.0, lost_seconds=0.0, overflows=0
    )
    heard: list[float] = []
    captions = SimpleNamespace(show=lambda results, status, speaker: heard.append(status.heard_seconds))
    listen_to([Session(LocalStream(shipped_recognizer), microphone, captions, None)], 0.1, 0.45)
    assert heard[-1] == pytest.approx(0.5)


def test_an_unplugged_microphone_costs_no_words(
    shipped_recognizer: Recognizer, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    class Unplugged(SimpleNamespace):
        def read(self, seconds: float, enough: Callable[[], bool]) -> np.ndarray:
            if self.read_already:
                raise AudioError("it was unplugged")
            self.read_already = True
            return samples

    with AudioFile(SAMPLES / "greeting.wav", shipped_recognizer.sample_rate) as file:
        samples = np.concatenate(list(file))
    microphone = Unplugged(read_already=False, waiting_seconds=0.0, lost_seconds=0.0, overflows=0)
    with SoundFile(tmp_path / "heard.wav", 16_000) as sound, pytest.raises(AudioError, match="unplugged"):
        listen_to([Session(LocalStream(shipped_recognizer), microphone, LineCaptions(), sound)], 0.1, None)
    assert capsys.readouterr().out.split() == shipped_recognizer.transcribe(samples).text.split()


@pytest.mark.usefixtures("shipped_recognizer")
def test_the_microphone_and_the_desktop_are_two_speakers(sounds: SoundServer) -> None:
    listening = Listening(sounds, "--source", "both", "--speakers", "me,them")
    sounds.wait_for_listeners(2)
    listening.hear("greeting.wav")
    sounds.play("request.wav", "speakers")
    while "them" not in {event["speaker"] for event in listening.events if len(event["words"]) > 2}:
        listening.events.append(json.loads(listening.process.stdout.readline()))
    listening.end()
    said = {
        name: {word for event in listening.events if event["speaker"] == name for word in event["normalized"].split()}
        for name in ("me", "them")
    }
    request = set((SAMPLES / "request.txt").read_text().split())
    assert said["me"] & set(GREETING.split()) - request and said["them"] & request - set(GREETING.split())
    first = {name: next(e for e in listening.events if e["speaker"] == name and e["words"]) for name in said}
    assert first["me"]["words"][0]["start"] < first["them"]["words"][0]["start"]


def test_two_sources_are_lines_with_speakers(shipped_recognizer: Recognizer, capsys: pytest.CaptureFixture) -> None:
    class Played(SimpleNamespace):
        def read(self, seconds: float, enough: Callable[[], bool]) -> np.ndarray:
            at, self.at = self.at, self.at + round(seconds * 16_000)
            return self.samples[at : self.at]

    sessions, captions = [], LineCaptions()
    for name, speaker in (("request", "me"), ("greeting", "them")):
        with AudioFile(SAMPLES / f"{name}.wav", 16_000) as file:
            samples = np.concatenate([*file, np.zeros(10 * 16_000, np.float32)])
        microphone = Played(samples=samples, at=0, waiting_seconds=0.0, lost_seconds=0.0, overflows=0)
        microphone.close = lambda: np.zeros(0, np.float32)
        sessions.append(Session(LocalStream(shipped_recognizer), microphone, captions, None, speaker))
    sessions[1].skip(1.5)  # it was opened later
    listen_to(sessions, 0.1, 8.0)
    request, greeting = (shipped_recognizer.transcribe(SAMPLES / f"{name}.wav") for name in ("request", "greeting"))
    lines = dict(line[1:].split("] ", 1)[::-1] for line in capsys.readouterr().out.splitlines())
    assert set(lines) == {f"me: {request.text}", f"them: {greeting.text}"}
    later = float(lines[f"them: {greeting.text}"].split(":")[1]) - greeting.start_seconds
    assert later == pytest.approx(1.5, abs=0.3)


def test_devices_are_listed_and_found_by_name(sounds: SoundServer) -> None:
    command = [sys.executable, "-m", "asr"]
    listed = subprocess.run([*command, "devices"], env=sounds.environment, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(listed.stderr)
    assert "(default)" in listed.stdout and " Hz" in listed.stdout
    asked = subprocess.run(
        [*command, "listen", "--device", "no such thing"], env=sounds.environment, capture_output=True, text=True
    )
    assert asked.returncode == 2 and "is none of these" in asked.stderr and len(asked.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--format", "xml"], "unknown format"),
        (["--seconds", "0"], "must be positive"),
        (["--seconds", "soon"], "is not a valid"),
        (["--save-audio", "sound.mp3"], ".wav or .flac"),
        (["--chunk-ms", "many"], "is not a valid"),
        (["--end-silence", "0"], "--end-silence must be a positive"),
        (["--end-sentence", "-1"], "--end-sentence must be a positive"),
        (["--lead-silence", "inf"], "--lead-silence must be a positive"),
        (["--longest", "nan"], "--longest must be a positive"),
        (["--end-silence", "2", "--server", "http://127.0.0.1:9"], "cannot be chosen with --server"),
        (["--speakers", "me,them"], "is for --source both"),
        (["--source", "both", "--speakers", "me"], "two different names"),
        (["--source", "both", "--save-audio", "x.wav"], "for one source"),
        (["--device", "no such thing"], ""),  # what is said depends on the machine; that it is one line does not
    ],
)
def test_wrong_options_are_one_line(
    options: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["asr", "listen", *options])
    assert main() in (1, 2)
    error = capsys.readouterr().err
    assert complaint in error and len(error.splitlines()) == 1


def test_lines_are_finals_only(capsys: pytest.CaptureFixture) -> None:
    with LineCaptions() as captions:
        captions.show((result("one two", False), result("one two three", True), result("", True)), STATUS)
    assert capsys.readouterr().out == "one two three\n"


def test_events_tell_everything(capsys: pytest.CaptureFixture) -> None:
    with EventCaptions() as captions:
        captions.show((result("one two", False), result("one two three", True)), STATUS)
    partial, final = map(json.loads, capsys.readouterr().out.splitlines())
    assert (partial["type"], final["type"]) == ("partial", "final")
    assert [word["word"] for word in final["words"]] == ["one", "two", "three"]
    assert (partial["committed"], final["committed"]) == (0, 3)
    assert final["heard"] == 3.0 and final["lost"] == 0.0


def test_the_terminal_shows_finals_with_times_and_how_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    with TerminalCaptions() as captions:
        captions.show((result("good mourning", False, committed=1),), STATUS)
        captions.show((result("good morning", True),), STATUS._replace(lost_seconds=1.5))
    shown = screen.getvalue()
    assert "00:00" in shown and "good morning" in shown and "-20 dB" in shown and "1.5 s lost" in shown
    assert np.char.find(shown, "\x1b[1mgood\x1b[0m") >= 0, "what is committed is bright"


def test_options_make_an_endpoint_rule() -> None:
    assert EndpointOptions().rule() == EndpointRule()
    rule = EndpointOptions(0.1, 0.05, 3.0, 5.0, False).rule()
    assert (rule.silence_seconds, rule.complete_seconds, rule.lead_seconds, rule.longest_seconds) == (0.1, 0.05, 3, 5)
    assert (rule.pause_seconds, rule.long_seconds, rule.reset) == (0.1, 5.0, False)


def test_the_terminal_shows_a_line_for_each_speaker() -> None:
    captions = TerminalCaptions()
    captions.show((result("good mourning", False, committed=1),), STATUS, "me")
    captions.show((result("hello", False),), STATUS._replace(level_db=-40.0), "them")
    shown = captions.screen(STATUS, "me").plain.splitlines()
    assert [line.split(" ")[0] for line in shown] == ["me:", "them:", "me:", "them:"]
    assert shown[0] == "me: good mourning" and shown[1] == "them: hello" and "-40 dB" in shown[3]
    assert captions.line(result("hello", True), "them").plain == "00:00 them: hello"


def test_the_status_line_hides_nothing(capsys: pytest.CaptureFixture) -> None:
    captions = TerminalCaptions()
    assert "behind" not in captions.screen(STATUS).plain
    troubled = captions.screen(STATUS._replace(waiting_seconds=4.2, overflows=2, lost_seconds=1.5)).plain
    assert "4.2 s behind" in troubled and "2 overflows" in troubled and "1.5 s lost" in troubled
    assert "delay 0.25 s" in troubled and "real-time factor 0.02" in troubled
