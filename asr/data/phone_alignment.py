"""When each phone of a known text is spoken: forced alignment with PocketSphinx's Gaussian-mixture model.

A network that starts from nothing learns phones in a fraction of the time when it is first told, frame by frame, which
phone is spoken. The alignments come from a model that needs no training of ours; a low score marks a transcript that
does not match its audio. Frames are those of the front end: frame t covers samples [160 t, 160 t + 400) at 16 kHz.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asr.errors import RillError
from asr.models.frontend import FrontendConfig
from asr.words.lexicon import Lexicon
from asr.words.tokens import PHONES

if TYPE_CHECKING:
    from asr.words.letter_to_sound import Pronunciation

SAMPLE_RATE = FrontendConfig.sample_rate
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
HOP_SECONDS = HOP_SAMPLES / SAMPLE_RATE
SILENCE = "SIL"
_PHONE_IDS = {phone: index for index, phone in enumerate(PHONES)}
# Tried in turn: narrow beams settle nearly every utterance, wide ones save some hard ones at three times the cost.
_BEAMS = ({"beam": 1e-80, "wbeam": 1e-60, "pbeam": 1e-80}, {"beam": 1e-200, "wbeam": 1e-150, "pbeam": 1e-200})
_VARIANT = re.compile(r"\(\d+\)$")


def phone_id(phone: str) -> int:
    """Id of `phone` in `PHONES`; 0 for silence."""
    return _PHONE_IDS.get(phone, 0)


class AlignmentError(RillError):
    """Audio and text cannot be brought together."""


class AlignedWord(NamedTuple):
    """A word, its time in seconds and its log-likelihood score a frame (0 is perfect, -50 is another word)."""

    text: str
    start_seconds: float
    end_seconds: float
    score: float


class AlignedPhone(NamedTuple):
    """A phone of `PHONES`, or SILENCE, over the frames [start_frame, end_frame)."""

    phone: str
    start_frame: int
    end_frame: int


@dataclass(frozen=True)
class Alignment:
    """Words and phones of one utterance in order.

    The phones cover all `frames` front-end frames without a gap. `score` is the mean log-likelihood a speech frame
    relative to the best state of the model: clean matching speech -10 to -20, telephone and children -20 to -40, a text
    that was not spoken -50 or no alignment at all.
    """

    words: tuple[AlignedWord, ...]
    phones: tuple[AlignedPhone, ...]
    frames: int
    score: float

    def phone_ids(self) -> np.ndarray:
        """(F,) int8 ids of `PHONES`, 0 where it is silent."""
        ids = np.zeros(self.frames, np.int8)
        for phone, start, end in self.phones:
            ids[start:end] = phone_id(phone)
        return ids


class Aligner:
    """Aligns one utterance after the other. Pronunciations enter PocketSphinx as texts need them."""

    def __init__(self, pronounce: Callable[[str], tuple[Pronunciation, ...]]) -> None:
        self._pronounce = pronounce
        self._decoders: list[_WordDecoder | None] = [None] * len(_BEAMS)

    def align(self, samples: np.ndarray, text: str) -> Alignment:
        """Align `samples` (N,) float in [-1, 1] or int16, 16 kHz, with `text` in normal form.

        Raises:
            AlignmentError: no path through the text fits the audio; or the text is empty; or the audio is too short.
            DataError: the text is not in normal form.
        """
        words = text.split()
        if not words:
            raise AlignmentError("the text is empty")
        frames = max(0, (len(samples) - WINDOW_SAMPLES) // HOP_SAMPLES + 1)
        pronunciations = {word: self._pronounce(word) for word in words}
        shortest = sum(min(map(len, pronunciations[word])) for word in words)
        if frames < 3 * shortest:  # three states a phone, a frame each
            raise AlignmentError(f"{frames} frames of audio are too few for {shortest} phones")
        if samples.dtype != np.int16:
            samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
        for index, beams in enumerate(_BEAMS):
            decoder = self._decoders[index] = self._decoders[index] or _WordDecoder(beams)
            try:
                return decoder.align(samples, words, pronunciations, frames)
            except RuntimeError:  # PocketSphinx's decoder cannot be used further after it has failed
                self._decoders[index] = None
            except AlignmentError:
                pass
        raise AlignmentError("the text does not fit the audio")


def align(samples: np.ndarray, text: str, lexicon: Lexicon) -> Alignment:
    """Align one utterance; see `Aligner.align`, which is the better choice for many."""
    return Aligner(lexicon.pronounce).align(samples, text)


class _WordDecoder:
    """One PocketSphinx decoder, with the words it has been told."""

    def __init__(self, beams: Mapping[str, float]) -> None:
        from pocketsphinx import Decoder, get_model_path

        # Alignment needs the exact Viterbi path: with bestpath, sentence markers of zero length enter the word
        # sequence and the second pass, which has to give them a frame, fails on every fourth utterance.
        self._decoder = Decoder(
            hmm=get_model_path("en-us/en-us"), dict=os.devnull, lm=None, loglevel="FATAL", bestpath=False, **beams
        )
        self._words: set[str] = set()

    def align(
        self,
        samples: np.ndarray,
        words: list[str],
        pronunciations: Mapping[str, tuple[Pronunciation, ...]],
        frames: int,
    ) -> Alignment:
        """Raises AlignmentError when no path fits, RuntimeError when PocketSphinx breaks over it."""
        decoder = self._decoder
        decoder.reinit_feat()  # forget the last utterance: the result depends on this one alone
        for word in pronunciations.keys() - self._words:
            for number, phones in enumerate(pronunciations[word], start=1):
                decoder.add_word(word if number == 1 else f"{word}({number})", " ".join(phones), False)
            self._words.add(word)
        decoder.set_align_text(" ".join(words))
        self._decode(samples)
        found = [_VARIANT.sub("", segment.word) for segment in decoder.seg() or () if segment.word[0] not in "<[("]
        if found != words:
            raise AlignmentError("the text does not fit the audio")
        decoder.set_alignment()  # second pass: phones within the words just found
        self._decode(samples)
        return _collect(decoder.get_alignment(), words, frames)

    def _decode(self, samples: np.ndarray) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()


def _collect(entries: Iterable, words: list[str], frames: int) -> Alignment:
    """Read PocketSphinx's word and phone entries; frames beyond the front end's last one are cut."""
    aligned_words, phones = [], []
    cost, speech_frames, position = 0, 0, 0
    remaining = iter(words)
    for entry in entries:
        for item in entry:
            name = item.name if item.name in _PHONE_IDS else SILENCE
            start, end = min(item.start, frames), min(item.start + item.duration, frames)
            if name != SILENCE:
                cost += item.score
                speech_frames += item.duration
            if start < end and name == SILENCE and phones and phones[-1].phone == SILENCE:
                phones[-1] = phones[-1]._replace(end_frame=end)
            elif start < end:
                phones.append(AlignedPhone(name, start, end))
            position = end
        if entry.name[0] not in "<[(":
            start, end = entry.start * HOP_SECONDS, min(entry.start + entry.duration, frames) * HOP_SECONDS
            score = round(entry.score / max(1, entry.duration), 1)
            aligned_words.append(AlignedWord(next(remaining), round(start, 2), round(end, 2), score))
    if position < frames:
        phones.append(AlignedPhone(SILENCE, position, frames))
    return Alignment(tuple(aligned_words), tuple(phones), frames, round(cost / max(1, speech_frames), 2))
