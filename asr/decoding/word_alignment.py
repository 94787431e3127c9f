"""Forced alignment: when each word of a known text is spoken."""

from __future__ import annotations

import numpy as np

from asr.acoustic.folder import ModelPackage
from asr.acoustic.forced_alignment import Alignment, PronunciationGraph, align_batch, ctc_scores, ctc_states
from asr.acoustic.phone_states import SILENCE
from asr.decoding.acoustic_units import units_of
from asr.errors import DataError
from asr.streaming.results import Word, WordSpan
from asr.words.lexicon import Lexicon
from asr.words.text import normalise


class WordAligner:
    """Finds the likeliest way to say a text in a recording; without torch.

    With a model that has hidden Markov states a word lasts from its first to its last frame; with one that has only
    CTC (Graves et al. 2006), from its first peak to its last.
    """

    def __init__(self, package: ModelPackage, lexicon: Lexicon) -> None:
        """Join a model and a lexicon of pronunciations; raises ModelError when the model's graph cannot be loaded."""
        self._units = units_of(package)
        self._engine = package.engine("onnx", self._units.head)
        self._by_ctc = package.biphones is None
        self._biphones = package.biphones or ctc_states(len(package.phones))
        self._phones = package.phones
        self._lexicon = lexicon

    def align(self, samples: np.ndarray, text: str) -> tuple[Word, ...]:
        """Find the words of a text.

        Args:
            samples: (N,) float32 in [-1, 1] at the model's rate.
            text: what is said, in any case and punctuation.
        Returns:
            Each word of the text in normal form with its times and its confidence.
        Raises:
            DataError: no words, words that cannot be pronounced, or more of them than the recording has room for.
        """
        words = normalise(text).split()
        if not words:
            raise DataError("there are no words to align")
        sounds = ([tuple(self._phones.encode(sound)) for sound in self._lexicon.pronounce(word)] for word in words)
        graph = PronunciationGraph.of(list(sounds))
        first, state = self._engine.step(self._engine.start(), samples)
        last, _ = self._engine.finish(state)
        log_probs = np.concatenate([first, last])
        scores = ctc_scores(log_probs) if self._by_ctc else log_probs
        (alignment,) = align_batch(scores[None], [len(scores)], [graph], self._biphones)
        if alignment is None:
            raise DataError(f"the recording is too short for its {len(words)} words")
        rates = self._engine.rates
        heard = len(samples) / rates.sample_rate
        return tuple(Word.of(span, rates, heard) for span in self._spans(words, alignment, log_probs))

    def _spans(self, words: list[str], alignment: Alignment, log_probs: np.ndarray) -> list[WordSpan]:
        """The words with their frames and confidences, from log-probabilities of the units (T, V)."""
        phones = self._units.by_phone(log_probs)  # (T, P)
        lengths = alignment.ends - alignment.starts
        aligned = phones[np.arange(len(phones)), np.repeat(alignment.phones, lengths)]
        peaks = np.maximum.reduceat(aligned, alignment.starts)
        ends = alignment.ends
        if self._by_ctc:  # the blanks after the last peak of a phone are not part of it
            spoken = (aligned >= phones[:, SILENCE]) | np.isin(np.arange(len(phones)), alignment.starts)
            ends = np.maximum.reduceat(np.where(spoken, np.arange(len(phones)) + 1, 0), alignment.starts)
        runs = alignment.word_runs()
        return [
            WordSpan(word, int(alignment.starts[first]), int(ends[last - 1]), float(confidence))
            for word, (first, last), confidence in zip(
                words, runs, self._units.confidences(peaks, alignment.phones, runs), strict=True
            )
        ]
