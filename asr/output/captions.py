"""Output of `asr listen`: captions on a terminal, lines for a pipe, events for a program."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from asr.output.dialogue import spoken_line
from asr.output.formats import committed_words, normalized_field, word_fields
from asr.streaming.results import Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

METER_WIDTH = 12
QUIETEST_DB = -60.0
LATE_SECONDS = 1.0  # of audio waiting from which the status line shows it


class Status(NamedTuple):
    """How live recognition goes."""

    heard_seconds: float
    level_db: float  # of the loudest sample of the last chunk, against full scale
    waiting_seconds: float  # recorded, not yet recognised
    delay_seconds: float  # from the first sound of the last chunk until it was recognised
    real_time_factor: float | None  # seconds of computing per second of audio; None if a server computes
    lost_seconds: float  # of audio that was never recognised, as the machine was too slow
    overflows: int  # times that the sound system lost audio


class Captions(Protocol):
    """Shows results as they arrive; a context manager."""

    def __enter__(self) -> Captions: ...

    def __exit__(self, *error: object) -> None: ...

    def show(self, results: tuple[Result, ...], status: Status, speaker: str = "") -> None:
        """Show new results and the status of a source; ``speaker`` says whose it is, where there are several."""


class LineCaptions:
    """A line of text on stdout for every final result, with its time and speaker where there are several sources."""

    def __enter__(self) -> LineCaptions:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, results: tuple[Result, ...], status: Status, speaker: str = "") -> None:
        for result in results:
            if result.final and result.text:
                print(spoken_line(speaker, result) if speaker else result.text, flush=True)


class EventCaptions(LineCaptions):
    """A JSON object on stdout for every result, partial or final."""

    def show(self, results: tuple[Result, ...], status: Status, speaker: str = "") -> None:
        for result in results:
            event = {
                "type": "final" if result.final else "partial",
                **({"speaker": speaker} if speaker else {}),
                "text": result.text,
                **normalized_field(result),
                "committed": committed_words(result),
                "words": word_fields(result),
                "heard": round(status.heard_seconds, 3),
                "waiting": round(status.waiting_seconds, 3),
                "delay": round(status.delay_seconds, 3),
                "lost": round(status.lost_seconds, 3),
                "overflows": status.overflows,
            }
            print(json.dumps(event), flush=True)


class TerminalCaptions:
    """Final lines that scroll up, the open one below them, and a status line that stays."""

    def __init__(self, console: Console | None = None) -> None:
        """Show captions on stdout, or on another console."""
        from rich.console import Console
        from rich.live import Live

        self._console = console or Console(file=sys.stdout, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._open: dict[str, Result | None] = {}  # each speaker's partial result on the screen
        self._statuses: dict[str, Status] = {}

    def __enter__(self) -> TerminalCaptions:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def show(self, results: tuple[Result, ...], status: Status, speaker: str = "") -> None:
        for result in results:
            self._open[speaker] = None if result.final else result
            if result.final and result.text:
                self._live.console.print(self.line(result, speaker))
        self._live.update(self.screen(status, speaker), refresh=True)

    def line(self, result: Result, speaker: str = "") -> Text:
        """A final result as it scrolls up."""
        from rich.text import Text

        return Text.assemble((f"{_clock(result.start_seconds)} ", "cyan"), _label(speaker), result.text)

    def screen(self, status: Status, speaker: str = "") -> Text:
        """The lines that are redrawn each time: the open utterance and the status, of each speaker."""
        from rich.text import Text

        self._statuses[speaker] = status
        lines = []
        for name in self._statuses:
            result = self._open.get(name)
            words = [word.text for word in result.words] if result else []
            committed = result.committed if result else 0
            bright, dim = " ".join(words[:committed]), " ".join(words[committed:])
            lines.append(Text.assemble(_label(name), (bright, "bold"), " " if bright and dim else "", (dim, "dim")))
        lines += [Text.assemble(_label(name), _status_line(one)) for name, one in self._statuses.items()]
        return Text("\n").join(lines)


def _label(speaker: str) -> tuple[str, str]:
    return (f"{speaker}: " if speaker else "", "magenta")


def _status_line(status: Status) -> Text:
    from rich.text import Text

    filled = round(METER_WIDTH * min(1.0, max(0.0, 1 - status.level_db / QUIETEST_DB)))
    meter = "█" * filled + "·" * (METER_WIDTH - filled)
    parts = [f"{meter} {status.level_db:4.0f} dB", _clock(status.heard_seconds), f"delay {status.delay_seconds:.2f} s"]
    if status.real_time_factor is not None:
        parts.append(f"real-time factor {status.real_time_factor:.2f}")
    line = Text("  ".join(parts), style="dim")
    if status.waiting_seconds > LATE_SECONDS:
        line.append(f"  {status.waiting_seconds:.1f} s behind", style="bold yellow")
    if status.overflows:
        line.append(f"  {status.overflows} overflows", style="bold red")
    if status.lost_seconds:
        line.append(f"  {status.lost_seconds:.1f} s lost: this machine is too slow", style="bold red")
    return line


def _clock(seconds: float) -> str:
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours}:{minutes:02d}:{int(seconds) % 60:02d}" if hours else f"{minutes:02d}:{int(seconds) % 60:02d}"
