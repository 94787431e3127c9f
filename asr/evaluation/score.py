"""Error rates on transcribed recordings, by jiwer, pooled over words, in total and by source."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jiwer

from asr.data.manifest import Utterance, load_audio
from asr.recognizer import Recognizer
from asr.words.text import normalise

TOTAL = "all"


@dataclass(frozen=True)
class Hypothesis:
    """One recognised utterance; both texts are in normal form."""

    id: str
    source: str
    reference: str
    text: str
    seconds: float  # of audio
    compute_seconds: float  # that recognising it took


@dataclass(frozen=True)
class Score:
    """Errors pooled over the utterances of one source, or of all."""

    source: str
    utterances: int
    words: int
    word_error_rate: float
    substitutions: int
    deletions: int
    insertions: int
    character_error_rate: float
    real_time_factor: float  # seconds of computing per second of audio


def recognise(utterances: Iterable[Utterance], recognizer: Recognizer, chunk_ms: int) -> Iterator[Hypothesis]:
    """Stream every utterance through the recogniser in chunks of ``chunk_ms``.

    Raises:
        AudioError: the audio of an utterance cannot be read; the message names it.
    """
    for utterance in utterances:
        samples = load_audio(utterance, recognizer.sample_rate)
        begun = time.perf_counter()
        result = recognizer.transcribe(samples, recognizer.sample_rate, chunk_ms=chunk_ms)
        spent = time.perf_counter() - begun
        seconds = len(samples) / recognizer.sample_rate
        yield Hypothesis(utterance.id, utterance.source, utterance.text, normalise(result.text), seconds, spent)


def score(hypotheses: Sequence[Hypothesis]) -> list[Score]:
    """Scores by source, sources in alphabetical order, then of all together."""
    sources = sorted({hypothesis.source for hypothesis in hypotheses})
    groups = [(name, [h for h in hypotheses if h.source == name]) for name in sources]
    return [_score(name, members) for name, members in [*groups, (TOTAL, list(hypotheses))]]


def _score(source: str, hypotheses: Sequence[Hypothesis]) -> Score:
    references = [hypothesis.reference for hypothesis in hypotheses]
    texts = [hypothesis.text for hypothesis in hypotheses]
    words = jiwer.process_words(references, texts)
    return Score(
        source=source,
        utterances=len(hypotheses),
        words=words.hits + words.substitutions + words.deletions,
        word_error_rate=words.wer,
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        character_error_rate=jiwer.process_characters(references, texts).cer,
        real_time_factor=sum(h.compute_seconds for h in hypotheses) / sum(h.seconds for h in hypotheses),
    )
