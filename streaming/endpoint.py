"""When an utterance is over: rules counted in frames, so that any chunking of the audio ends it at the same frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from asr.streaming.engine import Rates


@dataclass(frozen=True)
class EndpointRule:
    """When to make a result final; all lengths in seconds of audio.

    An utterance starts with its first token. It ends after ``silence_seconds`` without a token, or already after
    ``complete_seconds`` if a sentence may well end there: at a cost of at most ``complete_cost`` nats in the language
    model (Povey et al. 2011, Kaldi's endpointing). Once it is ``long_seconds`` long, it ends at the next border between
    words or pause of ``pause_seconds``; and at ``longest_seconds`` in any case. So results arrive, and memory stays
    bounded, in speech without pauses. In silence decoding restarts every ``lead_seconds``.

    With ``reset`` the state of the network is reset, too, when an utterance ends, and the audio after it is run again.
    """

    silence_seconds: float = 1.0
    complete_seconds: float = 0.6
    complete_cost: float = 4.0
    lead_seconds: float = 10.0
    long_seconds: float = 20.0
    pause_seconds: float = 0.2
    longest_seconds: float = 30.0
    reset: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.pause_seconds <= self.silence_seconds:
            raise ValueError(
                f"need 0 < pause_seconds ({self.pause_seconds:g}) <= silence_seconds ({self.silence_seconds:g})"
            )
        if not 0 < self.long_seconds <= self.longest_seconds:
            raise ValueError(
                f"need 0 < long_seconds ({self.long_seconds:g}) <= longest_seconds ({self.longest_seconds:g})"
            )
        if not (self.complete_seconds > 0 and self.lead_seconds > 0):
            raise ValueError(
                f"need positive complete_seconds ({self.complete_seconds:g}) and lead_seconds ({self.lead_seconds:g})"
            )


NO_ENDPOINTS = EndpointRule(
    silence_seconds=math.inf,
    complete_seconds=math.inf,
    lead_seconds=math.inf,
    long_seconds=math.inf,
    longest_seconds=math.inf,
    reset=False,
)


class EndpointState(NamedTuple):
    frames: int = 0  # since the utterance's first token; 0 before it
    silent_frames: int = 0  # since the last token, or since the last utterance


class Endpoint(NamedTuple):
    """A place where an utterance ends, or may end."""

    rows: int  # of the frames looked at, how many belong to the utterance
    if_complete: bool  # it ends only if a sentence may well end there


class Endpointer:
    """Applies an `EndpointRule` to the most probable token of each frame."""

    def __init__(self, rule: EndpointRule, rates: Rates, silent: Iterable[int], borders: Iterable[int] = ()) -> None:
        """Count a rule's lengths in frames.

        Args:
            rule: when to end an utterance.
            rates: of the engine whose frames are counted.
            silent: ids of tokens without sound: the blank or silence, and the word border where there is one.
            borders: ids of tokens between words.
        """
        self._silent = frozenset(silent)
        self._borders = frozenset(borders)
        self._silence, self._complete, self._lead, self._long, self._pause, self._longest = (
            max(1, rates.frames(seconds)) if seconds < math.inf else math.inf
            for seconds in (
                rule.silence_seconds,
                rule.complete_seconds,
                rule.lead_seconds,
                rule.long_seconds,
                rule.pause_seconds,
                rule.longest_seconds,
            )
        )

    def start(self) -> EndpointState:
        return EndpointState()

    def advance(self, state: EndpointState, tokens: Iterable[int]) -> tuple[Endpoint | None, EndpointState]:
        """Look for the first endpoint among the most probable tokens of the next frames.

        Returns:
            The endpoint, with the state to go on from if the sentence turns out not to be complete; or None when all
            frames belong to the open utterance. After an endpoint go on from `start`.
        """
        frames, silent_frames = state
        for row, token in enumerate(tokens):
            silent = token in self._silent
            silent_frames = silent_frames + 1 if silent else 0
            if frames == 0 and silent:
                if silent_frames >= self._lead:
                    return Endpoint(row + 1, False), EndpointState(frames, silent_frames)
                continue
            frames += 1
            pause = token in self._borders or silent_frames >= self._pause
            over = silent_frames >= self._silence or frames >= self._longest or (frames >= self._long and pause)
            if over or silent_frames == self._complete:
                return Endpoint(row + 1, not over), EndpointState(frames, silent_frames)
        return None, EndpointState(frames, silent_frames)
