"""Training an LSTM language model: one visible loop, resumable after any kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.acoustic.precision import supports_bfloat16
from asr.errors import DataError, UsageError
from asr.interrupt import deferred_interrupt
from asr.lm.lstm import write_lstm_language_model
from asr.models.language import ENDS, LanguageConfig, LanguageModelNetwork, LanguageState
from asr.training import checkpoint
from asr.training.language_text import EncodedText, TextBatches
from asr.training.optimiser import learning_rate, parameter_groups
from asr.training.processes import open_device

NEEDED = ("config", "options", "words", "step", "network", "optimiser", "batches", "state")
SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class LanguageTrainingOptions:
    """How an LSTM language model is trained; all of it belongs to a run and stays the same when it is resumed."""

    million_words: float = 30.0  # to see, those seen more than once included
    rows: int = 128  # of text read side by side
    steps: int = 24  # words of each row in a batch: how far back errors are propagated
    learning_rate: float = 3e-3  # the highest
    warm_up: float = 0.02  # part of all batches
    weight_decay: float = 0.01
    clip: float = 1.0  # norm of the gradient
    forget: float = 0.03  # probability, for each row and batch, to begin anew at another sentence
    shares: tuple[float, ...] = ()  # of each text; by their lengths when not given
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.million_words, self.rows, self.steps, self.learning_rate, self.clip) <= 0:
            raise UsageError(f"words, rows, steps, learning rate and clip must be above 0; got {self}")
        if not 0 <= self.forget <= 1 or (self.shares and min(self.shares) <= 0):
            raise UsageError(f"forget must be a probability and shares above 0; got {self}")

    @property
    def batches(self) -> int:
        return max(1, round(self.million_words * 1e6 / (self.rows * self.steps)))


class LanguageModelProgress(NamedTuple):
    """How far training has come."""

    batch: int
    batches: int
    loss: float  # nats a word, over the batches since the last report
    words_a_second: float
    perplexity: float | None  # of held-out text, when it was just measured


def train_language_model(
    text: EncodedText,
    config: LanguageConfig,
    options: LanguageTrainingOptions,
    folder: Path,
    report: Callable[[LanguageModelProgress], None] = lambda progress: None,
    device: str = "cpu",
    precision: str = "auto",
    report_every: int = 100,
    weights: Mapping[str, np.ndarray] | None = None,
) -> tuple[LanguageModelNetwork, bool]:
    """Train in a folder, or go on there.

    Args:
        text: to learn from.
        config: of the network.
        options: of training.
        folder: of the checkpoint, kept up to date every minute.
        report: told every ``report_every`` batches.
        device: for Fabric.
        precision: auto, which is bfloat16 where the device is fast at it, or float32.
        report_every: batches.
        weights: by name, to begin with, of a network of the same shape for the same words.
    Returns:
        The network, and whether training is complete; False after Ctrl-C.
    Raises:
        UsageError: the folder has a run with other settings, or another text.
        DataError: its checkpoint is damaged, or the loss is no number any more.
    """
    if options.shares and len(options.shares) != len(text.streams):
        raise UsageError(f"{len(text.streams)} texts need as many shares, got {len(options.shares)}")
    fabric = open_device(device)
    short = precision == "auto" and supports_bfloat16(fabric.device)
    torch.manual_seed(options.seed)
    network = LanguageModelNetwork(config)
    if weights is not None:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    optimiser = torch.optim.AdamW(parameter_groups(network, options.weight_decay), betas=(0.9, 0.98), foreach=True)
    shares = options.shares or [len(stream) for stream in text.streams]
    batches = TextBatches(text.streams, shares, options.rows, options.steps, options.forget, options.seed)
    network.to(fabric.device)
    state = network.initial_state(batches.rows)
    description = {"config": config.to_dict(), "options": _plain(asdict(options)), "words": list(text.words)}
    found = checkpoint.load(folder, fabric.device, NEEDED)
    step = 0
    if found is not None:
        checkpoint.check_same(found, description, folder)
        network.load_state_dict(found["network"])
        optimiser.load_state_dict(found["optimiser"])
        batches.restore(found["batches"])
        state, step = LanguageState(*found["state"]), found["step"]

    def save() -> None:
        content = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "batches": batches.state()}
        checkpoint.save(folder, {**description, **content, "state": list(state), "step": step})

    total, counted, saved, begun = 0.0, 0, time.monotonic(), time.monotonic()
    source = iter(batches)
    with deferred_interrupt() as interrupted:
        while step < options.batches:
            words, following, kept = (torch.from_numpy(part).to(fabric.device) for part in next(source))
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, options.batches, options.learning_rate, options.warm_up)
            state = LanguageState(*(part.detach().float() * kept[:, None] for part in state))
            with torch.autocast(fabric.device.type, torch.bfloat16, enabled=short):
                log_probs, state = network.log_probs(words.long(), following.long(), state)
            loss = -log_probs.mean()
            if not math.isfinite(loss.item()):
                raise DataError(f"batch {step}: the loss is {loss.item()}; give a lower --learning-rate")
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
            optimiser.step()
            step, total, counted = step + 1, total + loss.item(), counted + 1
            last = step == options.batches
            if step % report_every == 0 or last:
                speed = counted * words.numel() / (time.monotonic() - begun)
                measured = perplexity(network, text.held_out) if last or step % (10 * report_every) == 0 else None
                report(LanguageModelProgress(step, options.batches, total / counted, speed, measured))
                total, counted, begun = 0.0, 0, time.monotonic()
            if last or interrupted() or time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
            if interrupted():
                break
    return network.eval(), step >= options.batches


@torch.no_grad()
def perplexity(network: LanguageModelNetwork, ids: np.ndarray) -> float:
    """Of a text of ids (N,), read from its start to its end, ends of sentences included."""
    training = network.training
    network.eval()
    device = network.output.weight.device
    state = network.initial_state(1)
    read = torch.from_numpy(np.concatenate([[ENDS], ids])).long().to(device)[:, None]
    total = 0.0
    for start in range(0, len(ids), 1_000):
        part = read[start : start + 1_001]
        found, state = network.log_probs(part[:-1], part[1:], state)
        total -= float(found.sum())
    network.train(training)
    return math.exp(total / max(1, len(ids)))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def trained_parameters(network: LanguageModelNetwork) -> int:
    """How many numbers the network has."""
    return sum(map(Tensor.numel, network.parameters()))


def export_language_model(
    network: LanguageModelNetwork, text: EncodedText, folder: Path, options: LanguageTrainingOptions
) -> None:
    """Write the folder that recognition loads without torch: words, weights, matrices in 8 bits, and `config.json`."""
    weights = {name: value.detach().float().cpu().numpy() for name, value in network.state_dict().items()}
    about = {
        "size": network.config.size,
        "layers": network.config.layers,
        "parameters": trained_parameters(network),
        "million_words_seen": options.million_words,
    }
    write_lstm_language_model(folder, text.words, network.config.bands, weights, about)
