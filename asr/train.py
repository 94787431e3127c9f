"""Training an acoustic model: one visible loop, resumable at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jiwer import cer, wer
from torch.optim.swa_utils import AveragedModel

from asr import checkpoint
from asr.corpus import Corpus
from asr.ctc import GreedyDecoder
from asr.device import open_device
from asr.errors import DataError, UsageError
from asr.export import load_acoustic_model
from asr.interrupt import deferred_interrupt
from asr.learning_curve import LearningCurve
from asr.mel_augment import MelAugment
from asr.objective import Objective, loss_weights
from asr.optimiser import learning_rate, moving_average, parameter_groups
from asr.phone_ngram import phone_trigrams
from asr.segment_walk import SegmentWalk
from asr.segments import SegmentOptions, plan_segments
from asr.specaugment import SpecAugment
from asr.tokens import CHARACTERS
from models.acoustic import AcousticConfig, AcousticModel
from models.encoder import EncoderState

LEAST_MEL_DEVIATION = 0.5  # a mel that band-limited training data never moves must not be blown up when it does


@dataclass(frozen=True)
class TrainOptions:
    """What shapes the learning curve; saved in the checkpoint and checked on resume."""

    epochs: int = 30
    batch_seconds: float = 80.0  # audio in a batch, padding and both views included
    learning_rate: float = 1e-3  # the highest
    warm_up: float = 0.05  # of all steps
    weight_decay: float = 0.01
    clip_norm: float = 2.0
    ema_decay: float = 0.999
    seed: int = 0
    masks: SpecAugment = SpecAugment().scaled(0.5)
    changes: MelAugment = MelAugment()
    shares: tuple[tuple[str, float], ...] = ()  # of a source, the part of its utterances heard in an epoch; else all
    discriminative: bool = False  # CTC-CRF on phones: a later stage, started from a model trained without it
    views: int = 2  # of each utterance in a batch, differently augmented; 2 makes their outputs agree
    segments: SegmentOptions | None = None  # of long recordings, walked over with carried state; None: utterances

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_seconds <= 0 or self.learning_rate <= 0:
            raise UsageError(
                f"epochs, batch seconds and learning rate must be positive; "
                f"got {self.epochs}, {self.batch_seconds}, {self.learning_rate}"
            )
        if any(not 0 < share <= 1 for _, share in self.shares):
            raise UsageError(f"the share of a source must be above 0 and at most 1, got {dict(self.shares)}")
        if self.views not in (1, 2):
            raise UsageError(f"views of an utterance must be 1 or 2, got {self.views}")


@dataclass(frozen=True)
class Progress:
    """Where a run stands; ``report`` callbacks receive one after every step."""

    step: int
    steps: int
    epoch: int
    loss: float
    audio_hours: float


class Trainer:
    """Trains one model on a corpus in a run folder, where it leaves checkpoints and the learning curve."""

    def __init__(
        self,
        folder: Path,
        corpus: Corpus,
        dev: Corpus | None,
        config: AcousticConfig,
        options: TrainOptions,
        device: str = "auto",
        precision: str = "auto",
        start_from: Path | None = None,
    ) -> None:
        """Prepare a run, or take up the one that ``folder`` holds.

        Args:
            folder: of the run.
            corpus: what is learnt from.
            dev: what is measured on after every epoch, or None.
            config: of the model.
            options: of the training.
            device: auto, cpu, cuda or mps.
            precision: auto, or one of Fabric's.
            start_from: folder of another run or of a model, whose weights a new run begins with.
        Raises:
            DataError: nothing to learn from, or a checkpoint that is damaged or missing.
            UsageError: the folder holds a run with other settings, or ``start_from`` a model of another shape.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not corpus.examples:
            raise DataError("no utterance is left to learn from; see the reasons above")
        self.folder, self.corpus, self.dev, self.options = folder, corpus, dev, options
        self.fabric = open_device(device, precision)
        torch.manual_seed(options.seed)
        trigrams = _phone_trigrams(corpus) if options.discriminative else None
        self.objective = Objective(AcousticModel(config), options.views, trigrams)
        _set_normalisation(self.objective.model, corpus)
        if start_from:
            _take_over(self.objective, start_from)
        self.objective.to(self.fabric.device)
        self.averaged = AveragedModel(self.objective, multi_avg_fn=moving_average(options.ema_decay))
        groups = parameter_groups(self.objective, options.weight_decay)
        optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
        self.network, self.optimiser = self.fabric.setup(self.objective, optimiser)
        self.step = 0
        self.audio_seconds = 0.0
        self.minutes = 0.0
        self.recent = _Averages()
        # Epochs differ by a batch or two, so the schedule counts on the first one's length.
        self.steps_an_epoch = len(self._plan(0))
        self.noises = corpus.noises()
        self.walk = SegmentWalk(corpus, options.segments, options.views, options.seed, self._change) if (
            options.segments) else None  # fmt: skip
        self.steps = self.steps_an_epoch * options.epochs
        self._resume()
        self.curve = LearningCurve(folder, self.step)

    @property
    def model(self) -> AcousticModel:
        """The averaged model: what is evaluated and shipped."""
        return self.averaged.module.model

    def fit(self, report: Callable[[Progress], None] | None = None, checkpoint_seconds: float = 180.0) -> None:
        """Train to the last epoch, saving at least every ``checkpoint_seconds``.

        Ctrl-C takes effect after the step under way, and saves. A loss that is not a number ends the run with
        DataError, the last checkpoint being from before it.
        """
        saved = begun = time.monotonic()
        earlier_minutes = self.minutes
        with deferred_interrupt() as interrupted:
            for epoch in range(self.step // self.steps_an_epoch, self.options.epochs):
                plan = self._plan(epoch)
                plan = [plan[k % len(plan)] for k in range(self.steps_an_epoch)]
                for members in plan[self.step % self.steps_an_epoch :]:
                    self.recent.add(self._learn(members))
                    self.minutes = earlier_minutes + (time.monotonic() - begun) / 60
                    if self.step % 50 == 0:
                        self.curve.add(**self._where(epoch), **self.recent.take())
                    if report:
                        report(Progress(self.step, self.steps, epoch, self.recent.last, self.audio_seconds / 3600))
                    if interrupted():
                        self._save()
                        raise KeyboardInterrupt
                    if time.monotonic() - saved > checkpoint_seconds:
                        self._save()
                        saved = time.monotonic()
                self._end_epoch(epoch)
                self._save()
                saved = time.monotonic()

    def error_rates(self, corpus: Corpus) -> tuple[float, float, float]:
        """Greedy word, character and phone error rates of the averaged model, whole utterances, pooled."""
        decoder = GreedyDecoder(CHARACTERS)
        texts, guesses, phones, phone_guesses = [], [], [], []
        self.averaged.eval()
        with torch.inference_mode():
            for members in corpus.plan(0, 0, self.options.batch_seconds):
                batch = corpus.collate(members).to(self.fabric.to_device)
                log_probs = self.averaged.module(batch.mels, batch).log_probs
                for row, (number, _) in enumerate(members):
                    frames = int(batch.frames[row])
                    rows = log_probs.characters[row, :frames].float().cpu().numpy()
                    words, _ = decoder.finish(decoder.advance(decoder.start(), rows))
                    texts.append(corpus.examples[number].text)
                    guesses.append(" ".join(word.text for word in words))
                    best = log_probs.phones[row, :frames].argmax(dim=-1).unique_consecutive().cpu().numpy()
                    phones.append(" ".join(map(str, corpus.examples[number].phones)))
                    phone_guesses.append(" ".join(map(str, best[best != 0])))
        self.averaged.train()
        return wer(texts, guesses), cer(texts, guesses), wer(phones, phone_guesses)

    def _plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        options = self.options
        if options.segments:
            seconds = options.batch_seconds / options.views
            return plan_segments(self.corpus, options.segments, options.seed, epoch, seconds, dict(options.shares))
        return self.corpus.plan(options.seed, epoch, options.batch_seconds / options.views, dict(options.shares))

    def _learn(self, members: Sequence[tuple[int, int]]) -> dict[str, float]:
        """One optimiser step. All its randomness comes from the seed and the step, so a resumed run repeats itself."""
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)
        random = np.random.default_rng((self.options.seed, self.step))
        model = self.objective.model
        if self.walk:
            batch, state = self.walk.begin(members, self.step, random, self.fabric.to_device)
            mels, heard = batch.mels, batch.frames * model.config.stack
        else:
            batch, state = self.corpus.collate(members, random).repeated(self.options.views), None
            batch = batch.to(self.fabric.to_device)
            heard = batch.frames * model.config.stack
            mels = self._change(batch.mels, heard, random)
        mels = self.options.masks(mels, heard, model.mel_mean, random)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        _, losses, state = self.network(mels, batch, state)
        weights = asdict(loss_weights(self.step / self.steps, self.options.discriminative))
        total = sum(weights[task] * loss for task, loss in losses.items())
        value = float(total.detach())
        if not math.isfinite(value):
            raise DataError(
                f"the loss became {value} at step {self.step}; lower the learning rate "
                f"({self.options.learning_rate}) and start again"
            )
        self.optimiser.zero_grad()
        self.fabric.backward(total)
        self.fabric.clip_gradients(self.network, self.optimiser, max_norm=self.options.clip_norm)
        self.optimiser.step()
        self.averaged.update_parameters(self.objective)
        if self.walk:
            self.walk.end(state)
        self.step += 1
        self.audio_seconds += float(batch.frames.sum()) * self._frame_seconds
        return {"loss": value, **{task: float(loss.detach()) for task, loss in losses.items()}}

    def _change(self, mels: torch.Tensor, frames: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        return self.options.changes(mels, frames, self.objective.model.config.frontend, self.noises, random)

    def _learning_rate(self) -> float:
        return learning_rate(self.step, self.steps, self.options.learning_rate, self.options.warm_up)

    @property
    def _frame_seconds(self) -> float:
        config = self.objective.model.config
        return config.frame_samples / config.frontend.sample_rate

    def _where(self, epoch: int) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": epoch + 1,
            "audio_hours": self.audio_seconds / 3600,
            "minutes": self.minutes,
            "learning_rate": self._learning_rate(),
        }

    def _end_epoch(self, epoch: int) -> None:
        if self.dev:
            word, character, phone = self.error_rates(self.dev)
            errors = {"dev_wer": word, "dev_cer": character, "dev_per": phone}
            self.curve.add(**self._where(epoch), **self.recent.take(), **errors)
        self.curve.draw()

    def _save(self) -> None:
        checkpoint.save(self.folder, {
            "config": self.objective.model.config.to_dict(),
            "options": asdict(self.options),
            "objective": self.objective.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "audio_seconds": self.audio_seconds,
            "minutes": self.minutes,
            "recent": self.recent.rows,
            "state": tuple(self.walk.state) if self.walk and self.walk.state else None,
        })

    def _resume(self) -> None:
        content = checkpoint.load(self.folder, self.fabric.device)
        if content is None:
            return
        before, now = content["options"], asdict(self.options)
        config, wanted = AcousticConfig.from_dict(content["config"]).to_dict(), self.objective.model.config.to_dict()
        differing = [key for key in now if before.get(key) != now[key]]
        differing += [key for key in wanted if config[key] != wanted[key]]
        if differing:
            raise UsageError(
                f"{self.folder} holds a run with other settings ({', '.join(differing)}); "
                "give the same ones to resume it, or another folder to start anew"
            )
        self.objective.load_state_dict(content["objective"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step = content["step"]
        self.audio_seconds = content["audio_seconds"]
        self.minutes = content["minutes"]
        self.recent.rows = content["recent"]
        if self.walk and content["state"]:
            self.walk.state = EncoderState(*content["state"])


class _Averages:
    """Means of the losses since they were last taken."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.last = math.nan

    def add(self, losses: dict[str, float]) -> None:
        self.rows.append(losses)
        self.last = losses["loss"]

    def take(self) -> dict[str, float]:
        rows, self.rows = self.rows, []
        return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} if rows else {}


def _phone_trigrams(corpus: Corpus) -> torch.Tensor:
    """Of the transcripts: each phone sequence once however often it was recorded, lest prompts drown speech."""
    sequences = {example.text: example.phones for example in corpus.examples}
    return torch.from_numpy(phone_trigrams(sequences.values(), corpus.config.phones))


def _take_over(objective: Objective, folder: Path) -> None:
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


def _set_normalisation(model: AcousticModel, corpus: Corpus) -> None:
    """Global mean and deviation of each mel, the stores weighted by their audio."""
    weights = np.array([store.frames(0).sum() for store in corpus.stores], dtype=np.float64)
    weights /= weights.sum()
    means = np.stack([store.mean for store in corpus.stores])  # (S, M)
    squares = np.stack([store.std**2 + store.mean**2 for store in corpus.stores])
    mean = weights @ means
    deviation = np.sqrt(np.maximum(weights @ squares - mean**2, LEAST_MEL_DEVIATION**2))
    model.mel_mean.copy_(torch.from_numpy(mean))
    model.mel_std.copy_(torch.from_numpy(deviation))
