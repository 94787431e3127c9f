"""Results for readers: marks and capitals by a punctuation model, numbers, dates and titles as they are written.

Words come as they are recognised, in results of a stream one after the other, and what has been committed stays as it
was written. All that is remembered is in a state that is passed in and returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from asr.streaming.results import Result, Word
from asr.words.abbreviations import ARTICLES, TITLES, is_letter
from asr.words.numbers import ORDINAL_ONES, TENS
from asr.words.tagger import ENDINGS, Tag, Tagger, TaggerState
from asr.words.written_forms import STREETS, settled, written_forms

ALWAYS_CAPITAL = frozenset(("i", "i'm", "i'll", "i've", "i'd"))
OF_NAMES = frozenset(
    ("street", "avenue", "road", "boulevard", "square")
)  # seldom after a name without being part of it
NEEDS_NEXT = frozenset((*TITLES, "doctor"))  # written by whether a name follows


class ReadableState(NamedTuple):
    """Where a stream is; `ReadableText.start` makes the first."""

    tagger: TaggerState  # after the words that have been read
    tags: tuple[Tag, ...]  # of the first words of the utterance being spoken
    read: int  # words of it that have been read, all of them committed
    ended: float | None  # seconds, end of the last word that was read; None at the start of a stream
    sentence_open: bool  # whether the next utterance goes on with a sentence


class ReadableText:
    """Writes the results of streams for readers, by one punctuation model."""

    def __init__(self, tagger: Tagger) -> None:
        self._tagger = tagger

    def start(self) -> ReadableState:
        """The state before any result."""
        return ReadableState(self._tagger.start(), (), 0, None, False)

    def write(self, result: Result, state: ReadableState, last: bool = False) -> tuple[Result, ReadableState]:
        """Write a result for readers.

        Args:
            result: the next one of a stream, in normal form.
            state: of the stream.
            last: whether the stream ends with it: then its sentence ends, too.
        Returns:
            A result whose words are written and have what was spoken in them; of a partial one as many are committed as
            later words cannot change. And the next state.
        """
        words = result.words
        state = self._read(words[: len(words) if result.final else result.committed], state)
        after = state
        if not result.final:
            after = self._read(words, state)
        rest, tagger = self._tagger.finish(after.tagger)
        tags = [*after.tags, *rest]
        if result.final and last and tags and tags[-1].mark not in ENDINGS:
            tags[-1] = tags[-1]._replace(mark=".")
        written = self._written(words, tags, state.sentence_open)
        text = " ".join(word.text for word in written)
        if result.final:
            open_after = tags[-1].mark not in ENDINGS if tags else state.sentence_open
            state = ReadableState(tagger, (), 0, state.ended, open_after)
        fixed = self._fixed(words[: result.committed], len(state.tags))
        committed, spoken = 0, 0
        while committed < len(written) and spoken + len(written[committed].spoken) <= fixed:
            spoken += len(written[committed].spoken)
            committed += 1
        return Result(text, written, result.start_seconds, result.end_seconds, result.final, committed), state

    def _read(self, words: Sequence[Word], state: ReadableState) -> ReadableState:
        """Read the words of an utterance from its start that have not been read yet."""
        new = words[state.read :]
        if not new:
            return state
        ends = [state.ended, *(word.end_seconds for word in new)]
        pauses = [
            None if end is None else max(0.0, word.start_seconds - end)
            for word, end in zip(new, ends[:-1], strict=True)
        ]
        tags, tagger = self._tagger.read([word.text for word in new], pauses, state.tagger)
        return state._replace(tagger=tagger, tags=(*state.tags, *tags), read=len(words), ended=ends[-1])

    def _written(self, words: Sequence[Word], tags: Sequence[Tag], sentence_open: bool) -> tuple[Word, ...]:
        texts = [word.text for word in words]
        cased = self._cased(texts, tags)
        forms = {form.start: form for form in written_forms(texts, lambda k: cased[k] != texts[k])}
        found: list[Word] = []
        place = 0
        while place < len(words):
            form = forms.get(place)
            end = place + 1 if form is None else form.end
            text = cased[place] if form is None else form.text
            title = form is not None and texts[place] in NEEDS_NEXT
            if title or (not sentence_open and text.islower()):  # iPhone stays
                text = text[:1].upper() + text[1:]
            mark = tags[end - 1].mark
            sentence_open = mark not in ENDINGS
            found.append(Word.written(text if text.endswith(".") and mark == "." else text + mark, words[place:end]))
            place = end
        return tuple(found)

    def _cased(self, words: Sequence[str], tags: Sequence[Tag]) -> list[str]:
        """The words with capitals, but for those that begin a sentence."""
        cased = self._tagger.cased(words, tags)
        for place, word in enumerate(words):
            if word in ALWAYS_CAPITAL:
                cased[place] = "I" + word[1:]
            elif word in STREETS and place:
                before = cased[place - 1]
                article = words[place - 2] if place > 1 else ""
                if words[place - 1] in ORDINAL_ONES and article not in TENS:  # the second street, but on Second Street
                    if word in OF_NAMES:
                        named = article not in ARTICLES
                        cased[place - 1 : place + 1] = [
                            one.capitalize() if named else one for one in words[place - 1 : place + 1]
                        ]
                    elif before.islower():
                        cased[place] = word
                elif word in OF_NAMES and article not in ("a", "an"):  # Oxford Street, but a Roman road
                    if before[0].isupper() and not before.endswith("'s") and not tags[place - 1].mark:
                        cased[place] = word.capitalize()
        return cased

    @staticmethod
    def _fixed(committed: Sequence[Word], tagged: int) -> int:
        """How many leading words no later word can change: they have their tags, and are in no open form."""
        texts = [word.text for word in committed]
        fixed = min(tagged, settled(texts))
        while fixed and (
            is_letter(texts[fixed - 1])
            or texts[fixed - 1] in NEEDS_NEXT
            or (
                fixed > 1 and texts[fixed - 2] in NEEDS_NEXT
            )  # of mister and missus brown the first waits for the second
        ):
            fixed -= 1
        return fixed
