"""`asr mcp`: speech recognition as tools of the Model Context Protocol, over stdin and stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.cli.options import RecognitionOptions, TextOptions, grouped

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from asr.recognizer import Recognizer

INSTRUCTIONS = (
    "Speech recognition on this machine, for English. Nothing leaves it. Words can be wrong: names above all."
)
MOST_SECONDS = 300.0  # of listening
CHUNK_SECONDS = 0.1


@grouped
def mcp(
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder whose recordings may be read, with all below it; may be repeated. (default: this one)"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", "-d", help="Microphone; see asr devices.")] = None,
    *,
    recognition: RecognitionOptions,
    text: TextOptions,
) -> None:
    """Serve assistants that speak the Model Context Protocol (MCP), which start this command themselves.

    The tools are transcribe_file and listen_until_silence.
    """
    from asr.errors import UsageError, how_to_install
    from asr.recognizer import Recognizer

    try:
        import mcp.server.mcpserver  # noqa: F401
    except ImportError as error:
        raise UsageError(f"asr mcp needs mcp 2; {how_to_install('mcp')}") from error
    folders = [path.resolve() for path in folder or [Path()]]
    for path in folders:
        if not path.is_dir():
            raise UsageError(f"--folder {path}: there is no such folder")
    recognizer = Recognizer.open(recognition.recognizer(readable=text.readable))
    tools(recognizer, folders, device).run("stdio")


def tools(recognizer: Recognizer, folders: list[Path], device: str | None) -> MCPServer[Any]:
    """The tools as a server.

    Args:
        recognizer: of files and of the microphone.
        folders: absolute, that files may be read from.
        device: the microphone, as `asr.audio.microphone.find_device` takes it.
    """
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    import asr
    from asr.errors import RillError

    server: MCPServer[Any] = MCPServer(
        "rill", title="Rill", instructions=INSTRUCTIONS, version=str(asr.__version__), log_level="WARNING"
    )

    @server.tool()
    def transcribe_file(path: str, word_times: bool = False) -> dict[str, Any]:
        """Transcribe the speech of an audio or video file on this machine.

        Args:
            path: of the file.
            word_times: whether the start and end of each word, in seconds, and its confidence are wanted too.
        """
        try:
            return _file(recognizer, folders, path, word_times)
        except RillError as error:
            raise ToolError(str(error)) from error

    @server.tool()
    def listen_until_silence(most_seconds: float = 60.0) -> dict[str, Any]:
        """Listen to the microphone until the speaker has finished a sentence and pauses; give what was said.

        Args:
            most_seconds: to wait and to listen altogether, at most 300.
        """
        try:
            return _listened(recognizer, device, min(max(most_seconds, 1.0), MOST_SECONDS))
        except RillError as error:
            raise ToolError(str(error)) from error

    return server


def _file(recognizer: Recognizer, folders: list[Path], path: str, word_times: bool) -> dict[str, Any]:
    from asr.errors import AudioError, DamagedAudioError
    from asr.output.formats import word_fields

    file = Path(path).expanduser()
    found = (file if file.is_absolute() else folders[0] / file).resolve()  # links are followed before the check
    if not any(found.is_relative_to(folder) for folder in folders):
        raise AudioError(f"{path} is not in a folder that may be read; 'asr mcp --folder' names them")
    warning = None
    try:
        result = recognizer.transcribe(found)
    except DamagedAudioError as error:
        result, warning = error.result, str(error)
    content: dict[str, Any] = {"text": result.text, "seconds": round(result.end_seconds, 2)}
    if word_times:
        content["words"] = word_fields(result)
    return content | ({"warning": warning} if warning else {})


def _listened(recognizer: Recognizer, device: str | None, most_seconds: float) -> dict[str, Any]:
    from asr.audio.microphone import Microphone, find_device

    state = recognizer.start()
    said: list[Any] = []
    with Microphone(find_device(device), recognizer.sample_rate) as microphone:
        while not said and state.samples < most_seconds * recognizer.sample_rate:
            results, state = recognizer.step(state, microphone.read(CHUNK_SECONDS))
            said = [result.text for result in results if result.final and result.words]
        ended = bool(said)
        if not ended:
            results, state = recognizer.finish(state)
            said = [result.text for result in results if result.final and result.words]
    return {"text": " ".join(said), "seconds": round(state.samples / recognizer.sample_rate, 2), "complete": ended}
