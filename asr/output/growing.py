"""Text that only grows, for what cannot take a word back: protocols, and windows that are typed into."""

from __future__ import annotations

from collections.abc import Iterable

from asr.streaming.results import Result


class GrowingText:
    """The committed words of a stream, piece by piece, for protocols that cannot revoke a word.

    The pieces joined are the final text.
    """

    def __init__(self) -> None:
        self.text = ""
        self._open = 0  # words of the utterance being spoken that have been sent

    def add(self, results: Iterable[Result]) -> str:
        """What these results add to the text, with the space that belongs before it."""
        pieces = []
        for result in results:
            pieces += [word.text for word in result.words[self._open : result.committed]]
            self._open = 0 if result.final else max(self._open, result.committed)
        piece = " ".join(pieces)
        if piece and self.text:
            piece = " " + piece
        self.text += piece
        return piece
