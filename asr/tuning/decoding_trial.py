"""What a search over decoding tries: weights and a beam, valued by the word error rate on posteriors kept in a file."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jiwer
import numpy as np

from asr.acoustic.folder import ModelPackage
from asr.data.manifest import load_audio, read_manifest
from asr.decoding.acoustic_units import units_of
from asr.decoding.beam import GraphDecoder
from asr.errors import UsageError
from asr.files import write_whole
from asr.lm.folder import LanguageModel
from asr.tuning.study import Attempt, Settings

FILE = "posteriors.npz"
SEARCH = ("beam",)  # of the settings, those of `SearchOptions`; the others are of `DecodingWeights`


@dataclass(frozen=True)
class DecodingTrial:
    """Decodes the same log-probabilities with other weights in each trial: the network runs once."""

    folder: Path  # of the study
    model: str
    dev: Path
    lm: Path | None = None
    engine: str = "int8"
    every: int = 1  # take every N-th utterance

    def __call__(self) -> DecodingTrial:
        """Make ready a process."""
        self._language_model, self._posteriors  # noqa: B018 - read before the clock of a trial runs
        return self

    def value(self, attempt: Attempt, settings: Settings) -> float:
        """The word error rate of whole utterances; the seconds of computing per second of audio are noted.

        Raises:
            TrialPruned: others were better by then.
        """
        weights = {name: value for name, value in settings.items() if name not in SEARCH}
        search = {name: value for name, value in settings.items() if name in SEARCH}
        model = dataclasses.replace(
            self._language_model, weights=dataclasses.replace(self._language_model.weights, **weights)
        )
        units = units_of(self._package)
        decoder = GraphDecoder(model, dataclasses.replace(units.search, **search), units=units)
        posteriors, texts, frame_seconds = self._posteriors
        found: list[str] = []
        begun = time.perf_counter()
        for number, rows in enumerate(posteriors, start=1):
            attempt.look_after()
            words, _ = decoder.finish(decoder.advance(decoder.start(), rows.astype(np.float32)))
            found.append(" ".join(word.text for word in words))
            attempt.tell(number / len(posteriors), jiwer.wer(texts[:number], found))
        spent = time.perf_counter() - begun
        attempt.note(real_time_factor=spent / (sum(map(len, posteriors)) * frame_seconds))
        return jiwer.wer(texts, found)

    def usual(self) -> Settings:
        """What the model decodes with as it is: the first trial."""
        return dataclasses.asdict(self._language_model.weights) | {"beam": units_of(self._package).search.beam}

    @cached_property
    def _package(self) -> ModelPackage:
        return ModelPackage.open(self.model)

    @cached_property
    def _language_model(self) -> LanguageModel:
        folder = self.lm or self._package.language_model
        if folder is None:
            raise UsageError(f"model {self.model} has no language model; give --lm a folder that 'asr lm build' made")
        model = LanguageModel.open(folder, self._package.phones, units_of(self._package).weights)
        # A graph without a checksum is not kept: each trial expands it with other weights, to 150 MB.
        return dataclasses.replace(model, graph=model.graph.unpacked())

    @cached_property
    def _posteriors(self) -> tuple[list[np.ndarray], list[str], float]:
        """Log-probabilities (T, V) of units and the text of every utterance; and the seconds of a frame."""
        utterances = read_manifest(self.dev).utterances[:: self.every]
        graph = self._package.graph(self.engine)
        identity = hashlib.sha256(graph.read_bytes() + self.dev.read_bytes() + str(self.every).encode()).hexdigest()
        path = self.folder / FILE
        texts, frame_seconds = [one.text for one in utterances], self._package.rates.seconds(1)
        if path.is_file():
            with np.load(path) as held:
                if str(held["identity"]) == identity:
                    return np.split(held["rows"], np.cumsum(held["lengths"])[:-1]), texts, frame_seconds
        engine = self._package.engine(self.engine, units_of(self._package).head)
        posteriors = []
        for utterance in utterances:
            first, state = engine.step(engine.start(), load_audio(utterance, self._package.rates.sample_rate))
            posteriors.append(np.concatenate([first, engine.finish(state)[0]]).astype(np.float16))
        rows, lengths = np.concatenate(posteriors), np.array([len(one) for one in posteriors])
        write_whole(path, lambda file: np.savez(file, identity=identity, rows=rows, lengths=lengths))
        return posteriors, texts, frame_seconds
