"""Training a punctuation model: one visible loop, resumable after any kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from asr.errors import DataError, UsageError
from asr.interrupt import deferred_interrupt
from asr.models.punctuation import PunctuationConfig, PunctuationNetwork, PunctuationState
from asr.training import checkpoint
from asr.training.optimiser import learning_rate
from asr.training.punctuation_rows import NO_LABEL, PunctuationText, RowBatches, Rows, habits, spoken, unspoken
from asr.words.tagger import MARKS, Tagger, write_tagger

NEEDED = ("config", "options", "words", "step", "seconds", "network", "optimiser", "places", "state")
SAVE_SECONDS = 60.0
SCHEDULE = 100_000  # points of the clock at which the learning rate is looked up


@dataclass(frozen=True)
class PunctuationOptions:
    """How a punctuation model is trained; all but the minutes stays the same when a run is resumed."""

    minutes: float = 30.0  # of training, over all starts; the learning rate follows the clock
    rows: int = 24  # of text read side by side
    steps: int = 32  # words of each row in a batch: how far back errors are propagated
    learning_rate: float = 4e-3  # the highest
    warm_up: float = 0.03  # part of the time
    shape_weight: float = 0.5  # of capitals in the loss
    clip: float = 1.0  # norm of the gradient
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("minutes", "rows", "steps", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name.replace('_', ' ')} must be above 0, got {getattr(self, name):g}")


class PunctuationProgress(NamedTuple):
    """How far training has come."""

    batch: int
    minutes: float  # of training so far
    loss: float  # nats a word, over the batches since the last report
    words_a_second: float
    scores: dict[str, float] | None  # F1 by mark, and of capitals, on held-out text, when it was just measured


def train_punctuation(
    text: PunctuationText,
    config: PunctuationConfig,
    options: PunctuationOptions,
    folder: Path,
    report: Callable[[PunctuationProgress], None] = lambda progress: None,
    report_every: int = 100,
    start_from: Tagger | None = None,
) -> tuple[PunctuationNetwork, bool]:
    """Train in a folder on the CPU, or go on there.

    Args:
        text: to learn from.
        config: of the network.
        options: of training.
        folder: of the checkpoint, kept up to date every minute.
        report: told every ``report_every`` batches.
        report_every: batches.
        start_from: a model whose weights the network begins with, as small or smaller.
    Returns:
        The network, and whether training is complete; False after Ctrl-C.
    Raises:
        UsageError: the folder has a run with other settings, or another text; or the model to begin with is larger.
        DataError: its checkpoint is damaged, or the loss is no number any more.
    """
    torch.manual_seed(options.seed)
    network = PunctuationNetwork(config)
    known = torch.from_numpy(habits(text))
    with torch.no_grad():  # words begin as what can be counted of them
        network.words.weight[:, : known.shape[1]] = known
    if start_from is not None:
        begin_with(network, text.words, start_from)
    optimisers = _optimisers(network)
    generator = np.random.default_rng(options.seed)
    streams = [spoken(text, stream, config.look_ahead, generator) for stream in text.streams]
    batches = RowBatches(streams, options.rows, options.steps, options.seed)
    state = network.initial_state(batches.rows)
    settings = {name: value for name, value in asdict(options).items() if name != "minutes"}
    description = {"config": config.to_dict(), "options": settings, "words": list(text.words)}
    step, spent = 0, 0.0
    found = checkpoint.load(folder, "cpu", NEEDED)
    if found is not None:
        checkpoint.check_same(found, description, folder)
        network.load_state_dict(found["network"])
        for optimiser, values in zip(optimisers, found["optimiser"], strict=True):
            optimiser.load_state_dict(values)
        batches.places = np.array(found["places"], np.int64)
        state, step, spent = PunctuationState(*found["state"]), found["step"], found["seconds"]
    begun = time.monotonic() - spent

    def save() -> None:
        content = {
            "network": network.state_dict(),
            "optimiser": [optimiser.state_dict() for optimiser in optimisers],
            "state": list(state),
        }
        progress = {"places": batches.places.tolist(), "step": step, "seconds": spent}
        checkpoint.save(folder, {**description, **content, **progress})

    total, counted, saved, since = 0.0, 0, spent, spent
    with deferred_interrupt() as interrupted:
        while spent < 60 * options.minutes:
            rows = Rows(*map(torch.from_numpy, batches.next()))
            rate = learning_rate(
                round(spent / (60 * options.minutes) * SCHEDULE), SCHEDULE, options.learning_rate, options.warm_up
            )
            for group in (group for optimiser in optimisers for group in optimiser.param_groups):
                group["lr"] = rate
            scores, state = network(rows.words, rows.suffixes, rows.pauses, state)
            state = PunctuationState(*(part.detach() for part in state))
            loss = _loss(scores, rows, options.shape_weight)
            if not math.isfinite(loss.item()):
                raise DataError(f"batch {step}: the loss is {loss.item()}; give a lower --learning-rate")
            network.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(optimisers[0].param_groups[0]["params"], options.clip)
            for optimiser in optimisers:
                optimiser.step()
            step, total, counted = step + 1, total + loss.item(), counted + 1
            spent = time.monotonic() - begun
            last = spent >= 60 * options.minutes or interrupted()
            if step % report_every == 0 or last:
                speed = counted * batches.rows * options.steps / max(1e-3, spent - since)
                measured = held_out_scores(network, text) if last or step % (10 * report_every) == 0 else None
                report(PunctuationProgress(step, spent / 60, total / counted, speed, measured))
                total, counted, since = 0.0, 0, spent
            if last or spent - saved > SAVE_SECONDS:
                save()
                saved = spent
            if interrupted():
                break
    return network.eval(), spent >= 60 * options.minutes


@torch.no_grad()
def begin_with(network: PunctuationNetwork, words: Sequence[str], tagger: Tagger) -> None:
    """Give a network the weights of a model; where its LSTM is wider, it says the same at first.

    Vectors of words that the model does not know stay as they are, and so do weights of new units; those from new units
    to the others are 0.

    Raises:
        UsageError: the model is larger, or built otherwise.
    """
    units = tagger.start().hidden.shape[1]
    for name, value in network.state_dict().items():
        given = torch.from_numpy(tagger.weights.get(name, np.zeros(0, np.float32)))
        grows = name.startswith("lstm") or name == "joint.weight"
        shapes = (value.shape[1:], given.shape[1:]) if name == "words.weight" else (value.shape, given.shape)
        fits = len(shapes[0]) == len(shapes[1]) and all(
            a >= b if grows else a == b for a, b in zip(*shapes, strict=True)
        )
        if not fits:
            raise UsageError(
                f"cannot start from {tagger.folder}: its {name} is {tuple(given.shape)}, the network's "
                f"{tuple(value.shape)}"
            )
        if name == "words.weight":
            known = [(number, tagger.ids[word]) for number, word in enumerate(words) if word in tagger.ids]
            here, there = map(list, zip(*known, strict=True))
            value[here] = given[there]
        elif name == "joint.weight":  # from the LSTM's units, then from vectors of words
            value[:, units : network.config.size] = 0
            value[:, :units], value[:, network.config.size :] = given[:, :units], given[:, units:]
        elif name.startswith("lstm"):  # four gates
            gates, theirs = (one.reshape(4, len(one) // 4, -1) for one in (value, given))
            gates[:, :units] = 0
            gates[:, :units, : theirs.shape[-1]] = theirs
        else:
            value.copy_(given)


def _optimisers(network: PunctuationNetwork) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Of the dense weights, and of the vectors of words and endings, of which a step moves those that it has read."""
    network.words.sparse = network.suffixes.sparse = True
    sparse = [network.words.weight, network.suffixes.weight]
    dense = [value for value in network.parameters() if not any(value is one for one in sparse)]
    return (
        torch.optim.AdamW(dense, betas=(0.9, 0.98), weight_decay=0.0, foreach=True),
        torch.optim.SparseAdam(sparse, betas=(0.9, 0.98)),
    )


def _loss(scores: torch.Tensor, rows: Rows, shape_weight: float) -> torch.Tensor:
    marks = scores[..., : len(MARKS)].flatten(0, 1), rows.marks.flatten()
    shapes = scores[..., len(MARKS) :].flatten(0, 1), rows.shapes.flatten()
    loss = functional.cross_entropy(*marks, ignore_index=NO_LABEL)
    return loss + shape_weight * functional.cross_entropy(*shapes, ignore_index=NO_LABEL)


@torch.no_grad()
def held_out_scores(network: PunctuationNetwork, text: PunctuationText) -> dict[str, float]:
    """F1 in per cent of each mark and of capitals inside sentences, on held-out text without pauses."""
    training = network.training
    network.eval()
    rows = unspoken(text, text.held_out, network.config.look_ahead)
    count, width = len(rows.words), min(32, len(rows.words) // 64 + 1)
    length = count // width
    folded = [torch.from_numpy(values[: width * length].reshape(width, length).T.astype(np.int64)) for values in rows]
    scores, _ = network(*folded[:3], network.initial_state(width))
    guessed = scores[..., : len(MARKS)].argmax(-1), scores[..., len(MARKS) :].argmax(-1)
    network.train(training)
    found = {
        mark: f1(guessed[0] == number, folded[3] == number, folded[3] != NO_LABEL)
        for number, mark in enumerate(MARKS)
        if mark
    }
    capitals = f1(guessed[1] > 0, folded[4] > 0, folded[4] != NO_LABEL)
    return {**found, "capitals": capitals}


def f1(guessed: torch.Tensor, true: torch.Tensor, counted: torch.Tensor) -> float:
    """Harmonic mean of precision and recall in per cent, 0 where nothing is right."""
    right = int((guessed & true & counted).sum())
    return 200 * right / max(1, int((guessed & counted).sum()) + int((true & counted).sum()))


def export_punctuation(network: PunctuationNetwork, text: PunctuationText, folder: Path, about: dict[str, Any]) -> None:
    """Write the folder that recognition loads without torch: words, weights in 8 bits, and `config.json`."""
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    parameters = sum(value.size for value in weights.values())
    sizes = {"size": network.config.size, "layers": network.config.layers, "parameters": parameters}
    write_tagger(folder, text.words, text.forms, text.names, network.config.look_ahead, weights, {**sizes, **about})
