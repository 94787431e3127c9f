"""What an acoustic model says to known speech, cut into words and phones, from which any text can be put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric

from asr.corpus import Corpus
from asr.ctc_alignment import token_spans
from asr.errors import DataError
from asr.lexicon import Lexicon
from asr.mel_augment import MelAugment
from asr.tokens import PHONES, TokenTable
from models.acoustic import AcousticModel

SILENCE_FRAMES = 2  # before the first and after the last phone that count as theirs
WHOLE_WORD = 0.75  # probability that a known word is taken as it was once said, not put together of phones
ENOUGH = 3  # times a word must have been said for that
OTHER_SOUND = 0.3  # probability that a word of several pronunciations is not spoken in the first
BATCH_SECONDS = 160.0

Unit = tuple[int, int]  # rows [start, end) of the bank


class Utterance(NamedTuple):
    """Rows of one utterance in the bank, and what was said."""

    start: int
    end: int
    text: str


class PhoneBank:
    """Rows of phone log-probabilities of a training corpus, for a speller to learn from.

    Sentences that nobody said are put together of pieces that were (concatenative synthesis, with log-probabilities in
    the place of sound): the errors in them are the acoustic model's own.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._phones = TokenTable(PHONES)
        self._parts: list[np.ndarray] = []
        self._spans: list[np.ndarray] = []
        self.rows = np.zeros((0, len(PHONES)), np.float16)
        self.utterances: list[Utterance] = []
        self._words: dict[str, list[Unit]] = defaultdict(list)
        self._contexts: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
        self._openings: list[Unit] = []
        self._endings: list[Unit] = []

    @classmethod
    def of(
        cls,
        model: AcousticModel,
        corpus: Corpus,
        lexicon: Lexicon,
        fabric: Fabric,
        passes: int = 1,
        strength: float = 0.5,
        shares: Sequence[tuple[str, float]] = (),
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> PhoneBank:
        """Let a model hear a corpus.

        Args:
            model: in evaluation mode.
            corpus: its training data: what it has not learnt from would do as well, but there is little of it.
            lexicon: that wrote the phones of the corpus.
            fabric: where, and how precisely, the model computes.
            passes: how often everything is heard, each time changed in another way.
            strength: of these changes.
            shares: of a source, the part of its utterances that is heard in a pass.
            seed: of the changes.
            progress: called with (batches heard, all batches).
        Raises:
            DataError: nothing was said that could be aligned.
        """
        bank = cls(lexicon)
        changes, noises = MelAugment().scaled(strength), corpus.noises()
        plans = [corpus.plan(seed, number, BATCH_SECONDS, dict(shares)) for number in range(passes)]
        batches = [members for plan in plans for members in plan]
        for number, members in enumerate(batches):
            random = np.random.default_rng((seed, number))
            torch.manual_seed(number)
            batch = corpus.collate(members, random)
            mels = changes(batch.mels, batch.frames * model.config.stack, model.config.frontend, noises, random)
            mels = fabric.to_device(mels)
            with torch.inference_mode(), fabric.autocast():
                log_probs, _ = model.step(mels, model.encoder.initial_state(len(mels)))
            heard = log_probs.phones[:, model.config.delay_frames :].float().cpu().numpy()  # (B, T, V)
            for row, (example, _) in enumerate(members):
                bank.add(heard[row, : int(batch.frames[row])], corpus.examples[example].text)
            if progress:
                progress(number + 1, len(batches))
        bank.close()
        return bank

    def add(self, log_probs: np.ndarray, text: str) -> None:
        """Add rows (T, V) of an utterance; what cannot be aligned is left out."""
        phones = np.array([phone for sound in self._sounds(text.split()) for phone in sound], dtype=np.int64)
        spans = token_spans(log_probs, phones)
        if spans is not None:
            self._parts.append(log_probs.astype(np.float16))
            self._spans.append(spans)
            self._index(text, len(log_probs), spans)

    def _index(self, text: str, frames: int, spans: np.ndarray) -> None:
        """Note where the units of an utterance lie."""
        begun = self.utterances[-1].end if self.utterances else 0
        ended = begun + frames
        self.utterances.append(Utterance(begun, ended, text))
        words = text.split()
        if not words:
            return
        sounds = self._sounds(words)
        cuts = np.empty(len(spans) + 1, dtype=np.int64)  # halfway between one phone and the next
        cuts[1:-1] = (spans[:-1, 1] + spans[1:, 0] + 1) // 2
        cuts[0] = max(0, spans[0, 0] - SILENCE_FRAMES)
        cuts[-1] = min(frames, spans[-1, 1] + SILENCE_FRAMES)
        cuts += begun
        borders = cuts.tolist()
        self._openings.append((begun, borders[0]))
        self._endings.append((borders[-1], ended))
        place = 0
        for word, sound in zip(words, sounds, strict=True):
            self._words[word].append((borders[place], borders[place + len(sound)]))
            for number, contexts in enumerate(_contexts(sound)):
                unit = (borders[place + number], borders[place + number + 1])
                for context in contexts:
                    self._contexts[context].append(unit)
            place += len(sound)

    def close(self) -> None:
        """Make the bank ready for use after the last `add`; raises DataError if nothing was added."""
        if not self._words:
            raise DataError("nothing was said that could be aligned with its text; a speller cannot learn from it")
        self.rows = np.concatenate(self._parts)
        self._parts = []

    def save(self, path: Path) -> None:
        """Write the bank to a file, for `read`."""
        frames = np.array([utterance.end - utterance.start for utterance in self.utterances])
        texts = np.array("\n".join(utterance.text for utterance in self.utterances))
        np.savez(path, rows=self.rows, frames=frames, texts=texts, spans=np.concatenate(self._spans))

    @classmethod
    def read(cls, path: Path, lexicon: Lexicon) -> PhoneBank:
        """Read what `save` wrote; raises DataError if the file is none or was written with another lexicon."""
        bank = cls(lexicon)
        try:
            with np.load(path) as content:
                bank.rows, spans = content["rows"], content["spans"]
                texts, frames = str(content["texts"]).split("\n"), content["frames"].tolist()
            place = 0
            for text, count in zip(texts, frames, strict=True):
                phones = sum(map(len, bank._sounds(text.split())))
                bank._spans.append(spans[place : place + phones])
                bank._index(text, count, bank._spans[-1])
                place += phones
            if place != len(spans) or bank.utterances[-1].end != len(bank.rows):
                raise ValueError("its words have other phones now")
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(f"{path} cannot be used ({error}); remove it to have it made anew") from error
        return bank

    def heard(self, random: np.random.Generator) -> tuple[np.ndarray, str]:
        """Rows (T, V) of one of the utterances, and its text."""
        start, end, text = self.utterances[random.integers(len(self.utterances))]
        return self.rows[start:end], text

    def spoken(self, text: str, random: np.random.Generator) -> np.ndarray:
        """Rows (T, V) of a text in normal form, put together by chance of what was said.

        Raises:
            DataError: a word that cannot be pronounced.
        """
        units = [_any(self._openings, random)]
        for word in text.split():
            said = self._words.get(word, ())
            if len(said) >= ENOUGH and random.random() < WHOLE_WORD:
                units.append(_any(said, random))
                continue
            sounds = self._lexicon.pronounce(word)
            other = len(sounds) > 1 and random.random() < OTHER_SOUND
            sound = self._phones.encode(sounds[random.integers(1, len(sounds)) if other else 0])
            for contexts in _contexts(sound):
                known = next((context for context in contexts if context in self._contexts), None)
                if known is not None:  # else a phone that nobody ever said
                    units.append(_any(self._contexts[known], random))
        units.append(_any(self._endings, random))
        return np.concatenate([self.rows[start:end] for start, end in units])

    def _sounds(self, words: Sequence[str]) -> list[list[int]]:
        return [self._phones.encode(self._lexicon.pronounce(word)[0]) for word in words]


def _contexts(sound: Sequence[int]) -> list[tuple[tuple[int, ...], ...]]:
    """Of each phone of a word: the phone between its neighbours, before the next one, and alone."""
    padded = (0, *sound, 0)
    return [
        ((before, phone, after), (phone, after), (phone,))
        for before, phone, after in zip(padded, padded[1:], padded[2:], strict=False)
    ]


def _any(units: Sequence[Unit], random: np.random.Generator) -> Unit:
    return units[random.integers(len(units))]
