"""Hotwords of single streams: recognisers built for lists of phrases, kept for the next stream that has the same list.

A list costs a decoding graph of its own, so the lists in use are few, and each is built in a thread that no stream
waits for but those that want it.
"""

from __future__ import annotations

import asyncio
import gc
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from asr.errors import DataError, RillError
from asr.lm.hotwords import read_hotwords
from asr.recognizer import Recognizer
from asr.server.failures import ClientError
from asr.server.places import Places

MOST_PHRASES = 100
MOST_WORDS = 5  # of a phrase
MOST_LETTERS = 100
MOST_KEPT = 2  # lists that no stream uses any more
ROOM_SECONDS = 2.0  # for another worker to let a list go that no stream uses: many times what it takes
BUILD_SECONDS = 300.0  # many times what it takes, unless the machine is hopelessly busy
_BETWEEN = re.compile(r"[,;\n\u3001]+")
_SENTENCE = re.compile(r"[.!?](\s|$)")


@dataclass(frozen=True)
class Phrases:
    """The phrases of a client that can be used, with their boosts, and the others with the reason."""

    used: tuple[tuple[str, float], ...] = ()
    unusable: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, given: Iterable[Any]) -> Phrases:
        """Check phrases, each ``phrase`` or ``phrase:boost``.

        Raises:
            ClientError: they are too many, or no text.
        """
        given = list(given)
        if len(given) > MOST_PHRASES:
            raise ClientError("bad_request", f"{len(given)} phrases; a stream may have {MOST_PHRASES}")
        used: dict[str, float] = {}
        unusable = []
        for phrase in given:
            if not isinstance(phrase, str):
                raise ClientError("bad_request", f"a phrase must be text, got {type(phrase).__name__}")
            try:
                words, boost = _checked(phrase)
            except RillError as error:
                unusable.append((phrase[:MOST_LETTERS], str(error)))
            else:
                used[words] = max(boost, used.get(words, 0.0))
        return cls(tuple(sorted(used.items())), tuple(unusable))

    @classmethod
    def of_prompt(cls, prompt: str) -> Phrases:
        """The phrases of a text such as OpenAI's ``prompt``: what stands between commas, unless it is a sentence."""
        pieces = [
            piece.strip(" .\t\r\"'") for piece in _BETWEEN.split(prompt) if not _SENTENCE.search(piece.strip(" ."))
        ]
        return cls.of([piece for piece in pieces if piece and len(piece.split()) <= MOST_WORDS][:MOST_PHRASES])

    def described(self) -> dict[str, Any]:
        """What a client is told of them."""
        unusable = [{"phrase": phrase, "reason": reason} for phrase, reason in self.unusable]
        return {"used": [phrase for phrase, _ in self.used], "unusable": unusable}

    def warning(self) -> str | None:
        """One line about those that cannot be used."""
        return "; ".join(f"not used: {phrase!r}: {reason}" for phrase, reason in self.unusable) or None


class HotwordRecognizers:
    """Makes and keeps recognisers for lists of phrases."""

    def __init__(self, recognizer: Recognizer, places: Places) -> None:
        """For as many lists at a time as there are places."""
        self._recognizer = recognizer
        self._places = places
        self._building = 0  # lists that are not in use yet
        self._asked = False  # by another worker to let lists go
        self._in_use: WeakValueDictionary[tuple[tuple[str, float], ...], Recognizer] = WeakValueDictionary()
        self._kept: OrderedDict[tuple[tuple[str, float], ...], Recognizer] = OrderedDict()
        self._under_way: dict[tuple[tuple[str, float], ...], asyncio.Task[Recognizer]] = {}
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="hotwords")

    async def checked(self, given: Iterable[Any]) -> Phrases:
        """As `Phrases.of`, in a thread: how to pronounce words that the dictionary lacks is slow to load."""
        return await asyncio.get_running_loop().run_in_executor(self._builder, Phrases.of, list(given))

    async def checked_prompt(self, prompt: str) -> Phrases:
        """As `Phrases.of_prompt`, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._builder, Phrases.of_prompt, prompt)

    async def recognizer(self, phrases: Phrases) -> Recognizer:
        """The recogniser for a list; the plain one for an empty list.

        Raises:
            ClientError: too many lists are in use, the decoder knows no hotwords, or it takes too long.
        """
        key = phrases.used
        if not key:
            return self._recognizer
        found = self._in_use.get(key)
        if found is None:
            task = self._under_way.get(key)
            if task is None:
                task = self._under_way[key] = asyncio.create_task(self._built(key))
                task.add_done_callback(lambda _: self._under_way.pop(key, None))
            try:
                found = await asyncio.wait_for(asyncio.shield(task), BUILD_SECONDS)
            except TimeoutError as error:
                raise ClientError("busy", f"the hotwords were not ready within {BUILD_SECONDS:g} s") from error
        self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found

    def share(self) -> None:
        """Tell other workers how many lists are held here, and let go what none of our streams uses if they want it."""
        asked, self._asked = self._asked, self._places.wanted
        if self._asked:
            self._kept.clear()
            if not asked:
                gc.collect()
        self._places.tell(self._held)

    def close(self) -> None:
        """Release the thread."""
        self._builder.shutdown(wait=False, cancel_futures=True)

    async def _built(self, key: tuple[tuple[str, float], ...]) -> Recognizer:
        build: Callable[[dict[str, float]], Recognizer] = self._recognizer.with_hotwords
        await self._make_room()
        self._building += 1
        try:
            made = await asyncio.get_running_loop().run_in_executor(self._builder, build, dict(key))
            self._in_use[key] = made
        except RillError as error:
            raise ClientError("bad_request", f"hotwords cannot be used: {error}") from error
        finally:
            self._building -= 1
            self._places.tell(self._held)
        return made

    @property
    def _held(self) -> int:
        return len(self._in_use) + self._building

    async def _make_room(self) -> None:
        """Let lists go that no stream uses, of other workers too; take a place.

        Raises:
            ClientError: streams use as many lists as there may be.
        """
        if self._room():
            return
        if self._places.shared:
            self._places.want(True)
            try:
                async with asyncio.timeout(ROOM_SECONDS):
                    while not self._places.another(self._held):
                        await asyncio.sleep(ROOM_SECONDS / 20)
                return
            except TimeoutError:
                pass
            finally:
                self._places.want(False)
        raise ClientError("busy", f"{self._places.most} lists of hotwords are in use; try again later, or without")

    def _room(self) -> bool:
        """Take a place, whichever list without a stream has to go for it."""
        while not (room := self._places.another(self._held)) and self._kept:
            self._kept.popitem(last=False)
        if not room:
            gc.collect()  # a stream that has just ended may be held by a circle of references
            room = self._places.another(self._held)
        return room


def _checked(phrase: str) -> tuple[str, float]:
    """A phrase in normal form and its boost; raises RillError for one that cannot be used."""
    if len(phrase) > MOST_LETTERS:
        raise DataError(f"it is longer than {MOST_LETTERS} letters")
    (hotword,) = read_hotwords([phrase])
    if len(hotword.words) > MOST_WORDS:
        raise DataError(f"it has more than {MOST_WORDS} words")
    _pronounceable(hotword.words)
    return " ".join(hotword.words), hotword.boost


def _pronounceable(words: Sequence[str]) -> None:
    from asr.words.lexicon import Lexicon

    lexicon = Lexicon.load()
    for word in words:
        lexicon.pronounce(word)
