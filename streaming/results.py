"""Results of recognition: words with their times, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asr.streaming.engine import Rates


class WordSpan(NamedTuple):
    """A word as a decoder reports it, in acoustic frames counted from the start of the stream."""

    text: str
    start_frame: int
    end_frame: int  # one past the last frame
    confidence: float  # 0 to 1


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it lies in the stream."""

    text: str
    start_seconds: float
    end_seconds: float
    confidence: float  # 0 to 1
    spoken: tuple[Word, ...] = ()  # where `text` is written for readers: the words of it in normal form, one or more

    @property
    def normalized(self) -> str:
        """The word in normal form, for one number perhaps several words: ``two hundred`` for 200."""
        return " ".join(word.text for word in self.spoken) if self.spoken else self.text

    def shifted(self, seconds: float) -> Word:
        """The same word so much later."""
        return replace(
            self,
            start_seconds=self.start_seconds + seconds,
            end_seconds=self.end_seconds + seconds,
            spoken=tuple(word.shifted(seconds) for word in self.spoken),
        )

    @classmethod
    def written(cls, text: str, spoken: Sequence[Word]) -> Word:
        """Words in normal form as one word for readers, with the times of all and the mean of their confidences."""
        confidence = sum(word.confidence for word in spoken) / len(spoken)
        return cls(text, spoken[0].start_seconds, spoken[-1].end_seconds, confidence, tuple(spoken))

    @classmethod
    def of(cls, span: WordSpan, rates: Rates, stream_seconds: float) -> Word:
        """Where a span lies in a stream of this length; the last frame may reach into the padding at its end."""
        start, end = (min(rates.seconds(frame), stream_seconds) for frame in (span.start_frame, span.end_frame))
        return cls(span.text, start, end, span.confidence)


@dataclass(frozen=True, slots=True)
class Result:
    """The text recognised between two moments of a stream.

    A partial result (``final`` is False) is the current hypothesis of the utterance being spoken. The next result
    replaces it, but its first ``committed`` words stay, also in the final one. A final result never changes: the text
    of a stream is its final results joined by spaces.
    """

    text: str
    words: tuple[Word, ...]
    start_seconds: float
    end_seconds: float
    final: bool
    committed: int = 0  # how many of the leading words will never be revoked; all of them in a final result

    def __post_init__(self) -> None:
        if self.final:
            object.__setattr__(self, "committed", len(self.words))

    @property
    def normalized(self) -> str:
        """The text in normal form: lower case without marks, numbers as words."""
        return " ".join(word.normalized for word in self.words)

    @property
    def spoken(self) -> tuple[Word, ...]:
        """The words in normal form, each with its own times."""
        return tuple(one for word in self.words for one in (word.spoken or (word,)))

    @classmethod
    def of(cls, words: Iterable[Word], final: bool, committed: int = 0) -> Result:
        """A result from its first word to its last; without words it is empty and starts at 0."""
        words = tuple(words)
        start, end = (words[0].start_seconds, words[-1].end_seconds) if words else (0.0, 0.0)
        return cls(" ".join(word.text for word in words), words, start, end, final, committed)


class Alternative(NamedTuple):
    """One of several hypotheses of an utterance."""

    text: str
    probability: float  # relative to the alternatives returned with it: they sum to 1


def joined(results: Iterable[Result], seconds: float) -> Result:
    """The final results of a whole recording as one result from 0 to ``seconds``; partial ones are left out."""
    words = tuple(word for result in results if result.final for word in result.words)
    return Result(" ".join(word.text for word in words), words, 0.0, seconds, final=True)
