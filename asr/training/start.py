"""What a training run begins with: the table of states, earlier weights, the mean and deviation of the mels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asr.acoustic.export import load_acoustic_model
from asr.acoustic.folder import STATES
from asr.acoustic.forced_alignment import Alignment
from asr.acoustic.phone_states import Biphones
from asr.data.training_set import TrainingSet
from asr.errors import DataError, UsageError
from asr.files import write_whole
from asr.lm.folder import copy_language_model
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.training import checkpoint
from asr.training.losses import Objective
from asr.training.options import DERIVED
from asr.words.tokens import PHONES, TokenTable

LANGUAGE_MODEL = "lm"  # in a model folder, and in a run that began with one
ORIGIN = "origin.json"  # of a run
LEAST_MEL_DEVIATION = 0.5  # a mel that band-limited training data never moves must not be blown up when it does


def states_of(folder: Path, start_from: Path | None, data: TrainingSet) -> Biphones | None:
    """The table of states that a run learns: its own, else that of what it starts from, else one of its alignments.

    None where nothing is aligned. Raises DataError when a table is damaged.
    """
    if not any(True for _ in data.alignments()):
        return None
    phones = TokenTable(PHONES)
    for earlier in (folder, start_from):
        if earlier and (earlier / STATES).is_file():
            return Biphones.read(earlier / STATES, phones)
    return Biphones.estimate(map(frame_phones, data.alignments()), len(phones), stack=1)


@dataclass(frozen=True)
class Origin:
    """What a run keeps of the model it begins with, beside weights: what only decoding needs."""

    name: str  # as it was given
    phone_share: float | None  # how much its CTC phones count beside the states; None where that is not known

    @classmethod
    def of(cls, run: Path) -> Origin | None:
        """What a run began with, if it began with anything; raises DataError when that is not legible."""
        try:
            return cls(**json.loads((run / ORIGIN).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{run / ORIGIN} cannot be read ({error}); remove it to export without") from error


def keep_origin(run: Path, start_from: Path) -> None:
    """Copy the language model of a model, or of an earlier run, into a run, and note what the run began with.

    Raises:
        ModelError: that language model is incomplete or altered.
    """
    earlier = Origin.of(start_from)
    share = earlier.phone_share if earlier else None
    description = start_from / "config.json"
    if description.is_file():
        share = json.loads(description.read_text(encoding="utf-8"))["acoustic"].get("phone_share")
    if (start_from / LANGUAGE_MODEL).is_dir() and not (run / LANGUAGE_MODEL).is_dir():
        copy_language_model(start_from / LANGUAGE_MODEL, run / LANGUAGE_MODEL)
    content = json.dumps(asdict(Origin(str(start_from), share)), indent=2) + "\n"
    write_whole(run / ORIGIN, lambda file: file.write(content.encode()))


def shape_of(start_from: Path) -> dict[str, Any]:
    """The settings of the network that a run or a model folder holds; empty where there is none."""
    content = checkpoint.load(start_from)
    if content is None:
        try:
            content = json.loads((start_from / "config.json").read_text(encoding="utf-8"))
            config = AcousticConfig.from_dict(content["acoustic"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}
    else:
        config = AcousticConfig.from_dict(content["config"])
    return {name: value for name, value in asdict(config).items() if name not in DERIVED}


def frame_phones(alignment: Alignment) -> np.ndarray:
    """The phone of each acoustic frame (T,)."""
    return np.repeat(alignment.phones, np.diff(alignment.ends, prepend=0))


def take_over(objective: Objective, folder: Path, needs_states: bool = False) -> None:
    """Start from the averaged weights of a run, or from those of a model folder.

    A state head that these have not begins anew, and the head for cross-entropy beside MMI as a copy of the state head.

    Args:
        objective: that takes the weights.
        folder: of a run or a model.
        needs_states: whether weights without states are of no use.
    Raises:
        DataError: there is neither.
        UsageError: the model is of another shape, or has no states.
    """
    content = checkpoint.load(folder)
    if content is not None:
        given = content["averaged"]
    elif (folder / "config.json").is_file():
        given = {f"model.{name}": value for name, value in load_acoustic_model(folder).state_dict().items()}
    else:
        raise DataError(f"{folder} is neither a training run nor a model folder; there is nothing to start from")
    if needs_states and "model.state_head.0.weight" not in given:
        raise UsageError(
            f"{folder} has not learnt states yet; with mmi_from 0, training starts from what has, or give another"
        )
    own = objective.state_dict()
    for name in own:
        if name.startswith("frame_head."):
            like = name.replace("frame_head", "model.state_head")
            given.setdefault(name, given.get(like, own[like]))
        elif name.startswith("model.state_"):
            given.setdefault(name, own[name])
    try:
        objective.load_state_dict({name: given[name] for name in own})
    except (KeyError, RuntimeError) as error:
        raise UsageError(
            f"{folder} holds a model of another shape; give the same front, encoder, size and look-ahead"
        ) from error


def set_normalisation(model: AcousticModel, data: TrainingSet) -> None:
    """Global mean and deviation of each mel."""
    mean, deviation = data.normalisation(model.config)
    model.mel_mean.copy_(torch.from_numpy(mean))
    model.mel_std.copy_(torch.from_numpy(np.maximum(deviation, LEAST_MEL_DEVIATION)))
