"""What a speller learns from, a batch at a time: speech that was heard, and sentences put together of its pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.ctc import BLANK
from asr.errors import DataError
from asr.phone_bank import PhoneBank
from asr.tokens import CHARACTERS, PHONES, WORD_BORDER, TokenTable
from models.speller import LEAST_LOG_PROB, SpellerConfig

HEARD = 0.3  # part of the sentences that are speech as it was heard
LONGEST_WORDS = 26  # of a written sentence; of a longer one some words in a row are taken
LONGEST_FRAMES = 800
POOL = 16  # batches drawn together, so that sentences in one are about equally long
READ_BYTES = 16_384  # of a text at a random place, in which a line is looked for


class SpellingBatch(NamedTuple):
    """Padded sentences; T rows of targets are followed by the speller's delay in silence."""

    phones: Tensor  # (B, T + delay, V) float32, rounded up to whole steps of the speller
    frames: Tensor  # (B,) rows of each sentence
    characters: Tensor  # (all characters,) ids, sentence after sentence
    lengths: Tensor  # (B,) characters of each


class Sentences:
    """Random lines of text files in normal form, each file as likely as the others; only what is read is in memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Take files of one sentence a line; raises DataError if one is empty."""
        self._paths = tuple(paths)
        self._sizes = [path.stat().st_size for path in paths]
        for path, size in zip(self._paths, self._sizes, strict=True):
            if size == 0:
                raise DataError(f"{path} has no sentences")

    def draw(self, random: np.random.Generator) -> str:
        """A line, or some of its words if it has many; "" where chance found an empty one."""
        number = random.integers(len(self._paths))
        place = int(random.integers(max(1, self._sizes[number] - READ_BYTES + 1)))
        with self._paths[number].open("rb") as file:
            file.seek(place)
            lines = file.read(READ_BYTES).decode(errors="ignore").split("\n")
        lines = lines[place > 0 : -1] or [" ".join(lines).partition(" ")[2]]  # the first and the last may be torn
        words = lines[random.integers(len(lines))].split()
        if len(words) > LONGEST_WORDS:
            count = int(random.integers(LONGEST_WORDS // 3, LONGEST_WORDS + 1))
            first = int(random.integers(len(words) - count + 1))
            words = words[first : first + count]
        return " ".join(words)


class SpellingData:
    """Batches without end; the same numbers give the same batches."""

    def __init__(
        self, bank: PhoneBank, sentences: Sentences | None, batch_frames: int, config: SpellerConfig, seed: int
    ) -> None:
        """Join a bank and texts; without texts only what was heard is learnt from."""
        self._bank = bank
        self._sentences = sentences
        self._batch_frames = batch_frames
        self._config = config
        self._seed = seed
        self._characters = TokenTable(CHARACTERS)
        self._pool: tuple[int, list[SpellingBatch]] = (-1, [])

    def batch(self, step: int) -> SpellingBatch:
        """The batch of a step."""
        number = step // POOL
        if self._pool[0] != number:
            self._pool = (number, self._drawn(number))
        return self._pool[1][step % POOL]

    def _drawn(self, number: int) -> list[SpellingBatch]:
        random = np.random.default_rng((self._seed, number))
        items: list[tuple[np.ndarray, list[int]]] = []
        frames = 0
        while frames < POOL * self._batch_frames:
            rows, text = self._sentence(random)
            characters = self._characters.encode(text.replace(" ", WORD_BORDER))
            repeats = sum(one == other for one, other in zip(characters, characters[1:], strict=False))
            if len(characters) + repeats <= len(rows) <= LONGEST_FRAMES:
                items.append((rows, characters))
                frames += len(rows)
        items.sort(key=lambda item: len(item[0]))
        ends = np.cumsum([len(rows) for rows, _ in items])
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, POOL) / POOL)
        groups = np.split(np.arange(len(items)), cuts)
        batches = [self._padded([items[k] for k in group]) for group in groups if len(group)]
        return [batches[k % len(batches)] for k in random.permutation(POOL)]

    def _sentence(self, random: np.random.Generator) -> tuple[np.ndarray, str]:
        if self._sentences is None or random.random() < HEARD:
            return self._bank.heard(random)
        while True:
            text = self._sentences.draw(random)
            try:
                if text:
                    return self._bank.spoken(text, random), text
            except DataError:  # a word that cannot be pronounced
                continue

    def _padded(self, items: Sequence[tuple[np.ndarray, list[int]]]) -> SpellingBatch:
        longest = max(len(rows) for rows, _ in items)
        stack = self._config.stack
        heard = -(-(longest + self._config.delay_frames) // stack) * stack
        phones = np.full((len(items), heard, len(PHONES)), LEAST_LOG_PROB, np.float32)
        phones[:, :, BLANK] = 0.0
        for place, (rows, _) in enumerate(items):
            phones[place, : len(rows)] = rows
        return SpellingBatch(
            torch.from_numpy(phones),
            torch.tensor([len(rows) for rows, _ in items]),
            torch.tensor([one for _, characters in items for one in characters]),
            torch.tensor([len(characters) for _, characters in items]),
        )
