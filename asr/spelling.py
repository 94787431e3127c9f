"""Decoding with a speller: rows of phones become rows of characters, which are read greedily."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.ctc import BLANK, GreedyDecoder, GreedyState
from asr.tokens import TokenTable
from streaming.results import WordSpan


class SpellingState(NamedTuple):
    hidden: np.ndarray  # (L, 1, H)
    cell: np.ndarray  # (L, 1, H)
    waiting: np.ndarray  # (W, V) rows heard, too few for a step of the speller
    owed: int  # rows the speller has yet to hear before what it writes means something
    characters: GreedyState


class SpellingDecoder:
    """Hears phones and writes words letter by letter, without a list of words.

    What it writes is late by the speller's delay; `finish` waits for nothing, it lets the speller hear silence.
    Every utterance begins with a speller that remembers nothing. Any split of the rows gives the same words.
    """

    silent_tokens = frozenset((BLANK,))
    border_tokens: frozenset[int] = frozenset()

    def __init__(self, graph: Path, characters: TokenTable) -> None:
        """Load the ``speller.onnx`` of a model folder.

        Raises:
            ValueError: it cannot be loaded or is none.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
            numbers = self._session.get_modelmeta().custom_metadata_map
            self._delay, self._stack = int(numbers["delay_frames"]), int(numbers["stack"])
            phones, hidden = (value.shape for value in self._session.get_inputs()[:2])
        except Exception as error:  # onnxruntime raises a family of classes with nothing but Exception in common
            raise ValueError(f"{graph}: no speller can be loaded from it ({str(error).splitlines()[0]})") from error
        self._reader = GreedyDecoder(characters.symbols)
        self._symbols = len(characters.symbols)
        self._zeros = np.zeros((hidden[0], 1, hidden[2]), np.float32)
        self._silence = np.full((1, phones[2]), -np.inf, np.float32)
        self._silence[:, BLANK] = 0.0

    def start(self) -> SpellingState:
        return self._fresh(self._reader.start())

    def advance(self, state: SpellingState, log_probs: np.ndarray) -> SpellingState:
        """Hear rows (T, V), T >= 0, of natural-log probabilities of phones."""
        waiting = np.concatenate([state.waiting, log_probs])
        rows = len(waiting) - len(waiting) % self._stack
        if rows == 0:
            return state._replace(waiting=waiting)
        characters, hidden, cell = self._spelt(state, waiting[:rows])
        early = min(state.owed, rows)
        written = self._reader.advance(state.characters, characters[early:])
        return SpellingState(hidden, cell, waiting[rows:].copy(), state.owed - early, written)

    def best(self, state: SpellingState) -> tuple[WordSpan, ...]:
        """The words of the utterance as far as they are written."""
        return self._reader.best(state.characters)

    def certain(self, state: SpellingState) -> int:
        """Words that have ended."""
        return self._reader.certain(state.characters)

    def ending_cost(self, state: SpellingState) -> float:
        """Infinite: letters do not tell whether a sentence ends."""
        return self._reader.ending_cost(state.characters)

    def finish(self, state: SpellingState) -> tuple[tuple[WordSpan, ...], SpellingState]:
        """Close the utterance: its words, and the state of the next one."""
        surplus = -(len(state.waiting) + self._delay) % self._stack
        rows = np.concatenate([state.waiting, np.repeat(self._silence, self._delay + surplus, axis=0)])
        characters, _, _ = self._spelt(state, rows)
        written = self._reader.advance(state.characters, characters[state.owed : len(rows) - surplus])
        words, written = self._reader.finish(written)
        return words, self._fresh(written)

    def _spelt(self, state: SpellingState, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of characters for rows of phones, and the speller's memory after them."""
        if len(rows) == 0:
            return np.zeros((0, self._symbols), np.float32), state.hidden, state.cell
        characters, hidden, cell = self._session.run(
            ["characters", "next_hidden", "next_cell"],
            {"phones": rows[None], "hidden": state.hidden, "cell": state.cell},
        )
        return characters[0], hidden, cell

    def _fresh(self, characters: GreedyState) -> SpellingState:
        return SpellingState(self._zeros, self._zeros, self._silence[:0], self._delay, characters)
