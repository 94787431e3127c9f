"""What a training run begins with: states, phone statistics, earlier weights, the features' mean and deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from asr.acoustic.export import load_acoustic_model
from asr.acoustic.folder import STATES
from asr.acoustic.phone_states import Biphones
from asr.data.batches import Corpus
from asr.errors import DataError, UsageError
from asr.models.acoustic import AcousticModel
from asr.training import checkpoint
from asr.training.discriminative import Rivals
from asr.training.losses import Objective
from asr.words.tokens import PHONES, TokenTable

LEAST_MEL_DEVIATION = 0.5  # a mel that band-limited training data never moves must not be blown up when it does


def states_of(folder: Path, start_from: Path | None, corpus: Corpus) -> Biphones | None:
    """The table of states that a run learns: its own, else that of what it starts from, else one of its alignments.

    None where nothing is aligned. Raises DataError when a table is damaged.
    """
    if not any(True for _ in corpus.alignments()):
        return None
    phones = TokenTable(PHONES)
    for earlier in (folder, start_from):
        if earlier and (earlier / STATES).is_file():
            return Biphones.read(earlier / STATES, phones)
    return Biphones.estimate(corpus.alignments(), len(phones), corpus.config.stack)


def rivals_of(corpus: Corpus) -> Rivals:
    """Of the transcripts: each one once however often it was recorded, lest prompts drown speech.

    Raises UsageError when nothing is aligned.
    """
    if corpus.biphones is None:
        raise UsageError("a discriminative stage needs alignments: leave out --align-with none")
    said = {example.text: example for example in corpus.examples if example.text and example.aligned is not None}
    examples = said.values()
    return Rivals(corpus.biphones, (example.aligned for example in examples), (example.phones for example in examples))


def take_over(objective: Objective, folder: Path) -> None:
    """Start from the averaged weights of a run, or from those of a model folder.

    A state head that these have not begins anew, and the head for cross-entropy of a discriminative stage as a copy of
    the state head.
    """
    content = checkpoint.load(folder)
    if content is not None:
        prefix, given = "module.", content["averaged"]
    elif (folder / "config.json").is_file():
        prefix, given = "", {f"model.{name}": value for name, value in load_acoustic_model(folder).state_dict().items()}
    else:
        raise DataError(f"{folder} is neither a training run nor a model folder; there is nothing to start from")
    given = {
        name.removeprefix(prefix).replace("encoder.input.", "front.linear."): value  # as it was called once
        for name, value in given.items()
        if name.startswith(prefix)
    }
    if objective.rivals and "model.state_head.0.weight" not in given:
        raise UsageError(f"{folder} has not learnt states yet; a discriminative stage starts from a run that has")
    own = objective.state_dict()
    for name in own:
        if name.startswith("frame_head."):
            given.setdefault(name, given[name.replace("frame_head", "model.state_head")])
        elif name.startswith("model.state_"):
            given.setdefault(name, own[name])
    try:
        objective.load_state_dict({name: given[name] for name in own})
    except (KeyError, RuntimeError) as error:
        raise UsageError(
            f"{folder} holds a model of another shape; give the same front, encoder, size and look-ahead"
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
