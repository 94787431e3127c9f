"""Which words of a partial result are committed: a rule on how long they have been the same.

The rule looks at the decoder's hypothesis at frames counted from the start of the stream, so that any chunking of the
audio commits the same words at the same frames; the final result keeps them. So the text of a file is the live text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asr.streaming.engine import Rates
from asr.streaming.results import WordSpan


@dataclass(frozen=True)
class StabilityRule:
    """When to commit a word of the utterance being spoken, with all words before it; lengths in seconds of audio.

    The hypothesis is looked at every ``look_seconds``. A word is committed once it and all before it have been the same
    for ``unchanged_seconds``, and it ended ``behind_seconds`` before the newest frame. Words that a decoder reports as
    certain are committed without delay. `NEVER` commits only those.
    """

    look_seconds: float = 0.3
    unchanged_seconds: float = 1.2
    behind_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.look_seconds < math.inf or self.unchanged_seconds < 0 or self.behind_seconds < 0:
            raise ValueError(f"need a positive look_seconds, the others at least 0; got {self}")


NEVER = StabilityRule(look_seconds=3_600.0, behind_seconds=math.inf)


class StabilityState(NamedTuple):
    """The committed words of an utterance, and the last look at the rest."""

    committed: tuple[WordSpan, ...] = ()
    texts: tuple[str, ...] = ()  # of the words that followed them
    since: tuple[int, ...] = ()  # frame of the first look that had each of these and all before it


class Stabilizer:
    """Applies a `StabilityRule` to the hypotheses of a decoder."""

    def __init__(self, rule: StabilityRule, rates: Rates) -> None:
        self.look_frames = max(1, rates.frames(rule.look_seconds))
        self._unchanged, self._behind = (
            rates.frames(seconds) if seconds < math.inf else math.inf
            for seconds in (rule.unchanged_seconds, rule.behind_seconds)
        )

    def start(self) -> StabilityState:
        return StabilityState()

    def rows_to_look(self, frame: int) -> int:
        """Frames from ``frame`` to the next look, at least 1."""
        return self.look_frames - frame % self.look_frames

    def look(self, state: StabilityState, guess: Sequence[WordSpan], frame: int, certain: int | None) -> StabilityState:
        """Commit what the rule allows.

        Args:
            state: of the utterance.
            guess: the decoder's words of the whole utterance.
            frame: frames decoded since the start of the stream.
            certain: how many leading words the decoder reports as certain; None if it cannot tell: only then does the
                rule apply.
        """
        words = self.kept(state, guess)[len(state.committed) :]
        texts = tuple(word.text for word in words)
        same = next(
            (k for k, pair in enumerate(zip(texts, state.texts, strict=False)) if pair[0] != pair[1]),
            min(len(texts), len(state.texts)),
        )
        since = state.since[:same] + (frame,) * (len(texts) - same)
        if certain is None:
            ready = (
                frame - first >= self._unchanged and frame - word.end_frame >= self._behind
                for word, first in zip(words, since, strict=True)
            )
            count = next((k for k, value in enumerate(ready) if not value), len(words))
        else:
            count = max(0, certain - len(state.committed))
        return StabilityState((*state.committed, *words[:count]), texts[count:], since[count:])

    @staticmethod
    def kept(state: StabilityState, guess: Sequence[WordSpan]) -> tuple[WordSpan, ...]:
        """The committed words, then those of the guess that follow them.

        Where the decoder has changed a committed word, the words that follow are those after it in time.
        """
        committed = state.committed
        if not committed:
            return tuple(guess)
        border = committed[-1].end_frame
        if all(word.text == kept.text for word, kept in zip(guess, committed, strict=False)):
            rest = guess[len(committed) :]
        else:
            rest = [word for word in guess if word.start_frame + word.end_frame >= 2 * border]
        return (*committed, *(_from(word, border) for word in rest))


def _from(word: WordSpan, border: int) -> WordSpan:
    """The word, cut to what lies after a border."""
    start = max(word.start_frame, border)
    return word._replace(start_frame=start, end_frame=max(word.end_frame, start + 1))
