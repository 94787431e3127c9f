"""From results to what is typed: committed words, and spoken commands such as "new line"."""

from __future__ import annotations

from collections.abc import Iterable

from asr.output.growing import GrowingText
from asr.streaming.results import Result

# What is said, and what it writes; what is written without a space before it.
COMMANDS = {
    "new line": "\n",
    "new paragraph": "\n\n",
    "full stop": ".",
    "period": ".",
    "comma": ",",
    "question mark": "?",
    "exclamation mark": "!",
    "colon": ":",
    "semicolon": ";",
}
LONGEST = max(len(name.split()) for name in COMMANDS)
_BEGINNINGS = {" ".join(name.split()[:count]) for name in COMMANDS for count in range(1, len(name.split()))}


class Dictation:
    """What to type, piece by piece: never more than is certain, so that nothing must be erased."""

    def __init__(self, commands: bool = False) -> None:
        """With ``commands`` the phrases of `COMMANDS` are written as what they name."""
        self._growing = GrowingText()
        self._commands = commands
        self._held: list[str] = []  # words that may be the beginning of a command
        self._fresh = True  # at the beginning of a line, where no space is written

    def add(self, results: Iterable[Result]) -> str:
        """What these results add to the text."""
        results = tuple(results)
        typed = "".join(map(self._word, self._growing.add(results).split()))
        if results and results[-1].final:
            typed += self._release()
        return typed

    def finish(self) -> str:
        """What was held back."""
        return self._release()

    def _word(self, word: str) -> str:
        if not self._commands:
            return self._spaced(word)
        self._held.append(word)
        typed = ""
        while self._held:
            said = [_plain(one) for one in self._held]
            if " ".join(said) in _BEGINNINGS:
                return typed
            size = next((n for n in range(min(LONGEST, len(said)), 0, -1) if " ".join(said[:n]) in COMMANDS), 0)
            if size:
                typed += self._mark(COMMANDS[" ".join(said[:size])])
                del self._held[:size]
            else:
                typed += self._spaced(self._held.pop(0))
        return typed

    def _release(self) -> str:
        typed = "".join(map(self._spaced, self._held))
        self._held.clear()
        return typed

    def _mark(self, mark: str) -> str:
        self._fresh = mark.endswith("\n")
        return mark

    def _spaced(self, word: str) -> str:
        space = "" if self._fresh else " "
        self._fresh = False
        return space + word


def _plain(word: str) -> str:
    return word.lower().strip(".,!?")
