"""What a training run begins with: phone statistics, earlier weights, the features' mean and deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from asr import checkpoint
from asr.corpus import Corpus
from asr.errors import DataError, UsageError
from asr.export import load_acoustic_model
from asr.objective import Objective
from asr.phone_ngram import phone_trigrams
from models.acoustic import AcousticModel

LEAST_MEL_DEVIATION = 0.5  # a mel that band-limited training data never moves must not be blown up when it does


def trigrams_of(corpus: Corpus) -> torch.Tensor:
    """Of the transcripts: each phone sequence once however often it was recorded, lest prompts drown speech."""
    sequences = {example.text: example.phones for example in corpus.examples}
    return torch.from_numpy(phone_trigrams(sequences.values(), corpus.config.phones))


def take_over(objective: Objective, folder: Path) -> None:
    """Start from the averaged weights of a run, or from those of a model folder, which has no frame head."""
    content = checkpoint.load(folder)
    try:
        if content is not None:
            averaged = content["averaged"]
            objective.load_state_dict({
                name.removeprefix("module."): value for name, value in averaged.items() if name.startswith("module.")
            })  # fmt: skip
        elif (folder / "config.json").is_file():
            objective.model.load_state_dict(load_acoustic_model(folder).state_dict())
        else:
            raise DataError(f"{folder} is neither a training run nor a model folder; there is nothing to start from")
    except RuntimeError as error:
        raise UsageError(
            f"{folder} holds a model of another shape; give the same encoder, size and look-ahead"
        ) from error


def set_normalisation(model: AcousticModel, corpus: Corpus) -> None:
    """Global mean and deviation of each mel, the stores weighted by their audio."""
    weights = np.array([store.frames(0).sum() for store in corpus.stores], dtype=np.float64)
    weights /= weights.sum()
    means = np.stack([store.mean for store in corpus.stores])  # (S, M)
    squares = np.stack([store.std**2 + store.mean**2 for store in corpus.stores])
    mean = weights @ means
    deviation = np.sqrt(np.maximum(weights @ squares - mean**2, LEAST_MEL_DEVIATION**2))
    model.mel_mean.copy_(torch.from_numpy(mean))
    model.mel_std.copy_(torch.from_numpy(deviation))
