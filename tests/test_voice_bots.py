"""The programs of docs/connect.md, with the libraries that voice bots are built on."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import ROOT, SAMPLES
from serving import PATIENCE_SECONDS, Server, serving

PAGE = (ROOT / "docs" / "connect.md").read_text(encoding="utf-8")
DEEPGRAM = 'DeepgramSTTService(api_key="the server\'s, or anything", base_url="ws://127.0.0.1:8000")'


@pytest.fixture(scope="module")
def server(shipped_recognizer) -> Iterator[Server]:
    with serving("--engine", "onnx") as server:
        yield server
        assert not [event for event in server.log if event["level"] == "error"]


def program(heading: str) -> str:
    """The program beneath a heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return code


def printed(code: str, server: Server) -> str:
    """What a program prints, with a server in the place of the page's."""
    code = code.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=PATIENCE_SECONDS
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def needs(module: str, package: str) -> None:
    if importlib.util.find_spec(module.split(".")[0]) is None or importlib.util.find_spec(module) is None:
        pytest.skip(f"{package} is not installed, and too large to be part of the dev extra")


@pytest.fixture(scope="module")
def sentence(readable_recognizer) -> str:
    return readable_recognizer.transcribe(SAMPLES / "greeting.wav").text


def test_pipecat_by_deepgrams_interface(server, readable_recognizer, sentence):
    needs("pipecat.services.deepgram", "pipecat-ai[deepgram]")
    assert DEEPGRAM in program("Voice bots: Pipecat")
    assert printed(program("Voice bots: Pipecat"), server) == sentence
    with_words = DEEPGRAM[:-1] + ", settings=DeepgramSTTService.Settings(keyterm=['Novotny']))"
    assert printed(program("Voice bots: Pipecat").replace(DEEPGRAM, with_words), server) == sentence


def test_pipecat_by_openais_interface(server, sentence):
    needs("pipecat.services.openai", "pipecat-ai[openai]")
    (other,) = re.findall(r"`(OpenAIRealtimeSTTService\(.*?\))`", PAGE, re.DOTALL)
    code = program("Voice bots: Pipecat").replace(DEEPGRAM, other.replace("...", "'anything'"))
    code = code.replace("deepgram.stt import DeepgramSTTService", "openai.stt import OpenAIRealtimeSTTService")
    assert printed(code, server) == sentence


@pytest.mark.parametrize("how", ["live", "recordings"])
def test_livekit_agents(server, sentence, how):
    needs("livekit.plugins.openai", "livekit-plugins-openai")
    code = program("Voice bots: LiveKit Agents")
    if how == "recordings":
        stream = code[
            code.index("        async with recogniser.stream()") : code.index("        await recogniser.aclose")
        ]
        once = "        print((await recogniser.recognize(speech)).alternatives[0].text)\n"
        code = code.replace(", use_realtime=True", "").replace(stream, once)
    assert printed(code, server) == sentence
