"""`asr mcp`, by the client of MCP's own SDK, which starts the command as assistants do."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, SAMPLES

from asr.words.text import normalise

mcp = pytest.importorskip("mcp.client", reason="mcp is not installed: pip install '.[mcp]'")
from mcp import Client, StdioServerParameters  # noqa: E402


def test_an_assistant_transcribes_a_file(shipped_recognizer, tmp_path):
    shutil.copy(SAMPLES / "greeting.wav", tmp_path / "talk.wav")
    (tmp_path / "notes.wav").write_text("no audio")
    (tmp_path / "link.wav").symlink_to(SAMPLES / "weather.wav")
    expected = shipped_recognizer.with_readable().transcribe(SAMPLES / "greeting.wav")
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "asr", "mcp", "--folder", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    async def converse() -> None:
        async with Client(command) as client:
            listed = await client.list_tools()
            assert {tool.name for tool in listed.tools} == {"transcribe_file", "listen_until_silence"}
            told = await client.call_tool("transcribe_file", {"path": "talk.wav", "word_times": True})
            assert not told.is_error and told.structured_content["text"] == expected.text
            assert [word["word"] for word in told.structured_content["words"]] == expected.normalized.split()
            for path, reason in (
                ("notes.wav", "notes.wav"),
                ("nothere.wav", "nothere.wav"),
                (str(SAMPLES / "weather.wav"), "may be read"),
                ("../../etc/passwd", "may be read"),
                ("link.wav", "may be read"),
            ):
                refused = await client.call_tool("transcribe_file", {"path": path})
                assert refused.is_error and reason in refused.content[0].text

    asyncio.run(asyncio.wait_for(converse(), 400))


def test_an_assistant_listens_until_the_speaker_pauses(shipped_recognizer, sounds):
    greeting = set((SAMPLES / "greeting.txt").read_text().split())
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "asr", "mcp"], env={**sounds.environment, "PYTHONPATH": str(ROOT)}
    )

    async def converse() -> None:
        async with Client(command) as client:
            listening = asyncio.create_task(client.call_tool("listen_until_silence", {"most_seconds": 300}))
            await asyncio.to_thread(sounds.wait_for_listeners)
            await asyncio.to_thread(sounds.play, "greeting.wav")
            heard = (await listening).structured_content
            assert heard["complete"] and set(normalise(heard["text"]).split()) & greeting
            assert heard["seconds"] < 300
            nothing = await client.call_tool("listen_until_silence", {"most_seconds": 1})
            assert nothing.structured_content["text"] == "" and not nothing.structured_content["complete"]

    asyncio.run(asyncio.wait_for(converse(), 400))


def test_wrong_folders_and_a_missing_library_are_one_line(asr, tmp_path):
    refused = asr("mcp", "--folder", tmp_path / "nowhere")
    assert refused.returncode == 2 and "no such folder" in refused.stderr
    code = (
        "import sys; sys.modules['mcp'] = None; sys.argv = ['asr', 'mcp']; "
        "from asr.cli.main import main; sys.exit(main())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "needs mcp 2; in a clone of Rill: pip install '.[mcp]'" in run.stderr
