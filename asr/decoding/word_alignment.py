"""Forced alignment: when each word of a known text is spoken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr.acoustic.folder import ModelPackage
from asr.decoding.acoustic_units import SearchOptions, units_of
from asr.decoding.beam import GraphDecoder
from asr.errors import DataError
from asr.graph.graph import Graph
from asr.lm.folder import DecodingWeights, LanguageModel
from asr.streaming.results import Word
from asr.words.lexicon import Lexicon
from asr.words.text import normalise

ALL_PATHS = SearchOptions(beam=1e4, most_active=10_000_000, certain_blank=1.0)


class Aligner:
    """Viterbi alignment: the likeliest way to say a text in a recording.

    With a model that has hidden Markov states a word lasts from its first to its last frame; with one that has only
    CTC (Graves et al. 2006), from its first peak to its last.
    """

    def __init__(self, package: ModelPackage, lexicon: Lexicon) -> None:
        """Join a model and a lexicon of pronunciations; raises ModelError when the model's graph cannot be loaded."""
        self._units = units_of(package)
        self._engine = package.engine("onnx", self._units.head)
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
        first, state = self._engine.step(self._engine.start(), samples)
        last, _ = self._engine.finish(state)
        decoder = GraphDecoder(self._one_sentence(words), ALL_PATHS, units=self._units)
        spans, _ = decoder.finish(decoder.advance(decoder.start(), np.concatenate([first, last])))
        if [span.text for span in spans] != words:
            raise DataError(f"the recording is too short for its {len(words)} words")
        rates = self._engine.rates
        heard = len(samples) / rates.sample_rate
        return tuple(Word.of(span, rates, heard) for span in spans)

    def _one_sentence(self, words: Sequence[str]) -> LanguageModel:
        """A language model that knows nothing but this sentence."""
        sounds = [tuple(tuple(self._phones.encode(sound)) for sound in self._lexicon.pronounce(word)) for word in words]
        arcs: list[tuple[int, int, int, int]] = []  # source, phone, word, target
        state = len(words)  # 0 to len(words) stand between the words; those within words come after
        for place, choices in enumerate(sounds):
            for sound in choices:
                source = place
                for number, phone in enumerate(sound):
                    ends = number == len(sound) - 1
                    state += not ends
                    target = place + 1 if ends else state
                    arcs.append((source, phone, place + 1 if number == 0 else 0, target))
                    source = target
        arcs.sort()
        source, phone, word, target = np.array(arcs, dtype=np.int32).T
        finals = np.full(state + 1, np.inf, dtype=np.float32)
        finals[len(words)] = 0.0
        counts = np.bincount(source, minlength=state + 1)
        starts = np.arange(state + 1) <= len(words)
        graph = Graph(0, counts, finals, phone, word, np.zeros(len(arcs), np.float32), target, starts)
        return LanguageModel(Path(), ("", *words), ((), *sounds), graph, DecodingWeights(1.0, 0.0, 0.0, 0.0, 0.0))
