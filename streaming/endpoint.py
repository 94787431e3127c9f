"""When an utterance is over: rules counted in frames, so that any chunking of the audio ends it at the same frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from streaming.engine import Rates


@dataclass(frozen=True)
class EndpointRule:
    """When to make a result final; all lengths in seconds of audio.

    An utterance starts with its first token. It ends after ``silence_seconds`` without a token; once it is
    ``long_seconds`` long, at the next border between words or pause of ``pause_seconds``; and at ``longest_seconds``
    wherever that falls. So results arrive, and memory stays bounded, however long someone speaks.
    """

    silence_seconds: float = 1.0
    long_seconds: float = 20.0
    pause_seconds: float = 0.2
    longest_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.pause_seconds <= self.silence_seconds:
            raise ValueError(
                f"need 0 < pause_seconds ({self.pause_seconds}) <= silence_seconds ({self.silence_seconds})"
            )
        if not 0 < self.long_seconds <= self.longest_seconds:
            raise ValueError(f"need 0 < long_seconds ({self.long_seconds}) <= longest_seconds ({self.longest_seconds})")


class EndpointState(NamedTuple):
    frames: int = 0  # since the utterance's first token; 0 while nothing has been said
    silent_frames: int = 0  # since the last token


class Endpointer:
    """Applies an `EndpointRule` to the most probable token of each frame."""

    def __init__(self, rule: EndpointRule, rates: Rates, silent: Iterable[int], borders: Iterable[int] = ()) -> None:
        """Count a rule's lengths in frames.

        Args:
            rule: when to end an utterance.
            rates: of the engine whose frames are counted.
            silent: ids of tokens that no one speaks: the blank, and the word border where there is one.
            borders: ids of tokens that stand between words.
        """
        self._silent = frozenset(silent)
        self._borders = frozenset(borders)
        self._silence, self._long, self._pause, self._longest = (
            max(1, rates.frames(seconds))
            for seconds in (rule.silence_seconds, rule.long_seconds, rule.pause_seconds, rule.longest_seconds)
        )

    def start(self) -> EndpointState:
        return EndpointState()

    def advance(self, state: EndpointState, tokens: Iterable[int]) -> tuple[int | None, EndpointState]:
        """Look for the first endpoint among the most probable tokens of the next frames.

        Returns:
            How many of the frames belong to the utterance that ended, with the state of the next utterance; or None
            when all of them belong to the utterance still open, with its state.
        """
        frames, silent_frames = state
        for row, token in enumerate(tokens):
            silent = token in self._silent
            silent_frames = silent_frames + 1 if silent else 0
            if frames == 0 and silent:
                continue
            frames += 1
            pause = token in self._borders or silent_frames >= self._pause
            if silent_frames >= self._silence or frames >= self._longest or (frames >= self._long and pause):
                return row + 1, EndpointState()
        return None, EndpointState(frames, silent_frames)
