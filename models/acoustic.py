"""The acoustic model: samples in, log-probabilities out, state carried by the caller."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from asr.models.encoder import ENCODERS, Encoder, EncoderState
from asr.models.front import FRONTS, front
from asr.models.frontend import FrontendConfig, LogMel

LEAST_PROBABILITY = 1e-30  # keeps logarithms finite


@dataclass(frozen=True)
class AcousticConfig:
    """Everything needed to rebuild the network before its weights are loaded."""

    characters: int  # size of the character head, blank included
    phones: int  # size of the phone head, blank included
    size: int = 512  # units of every layer
    look_ahead_frames: tuple[int, ...] = (2, 2, 2, 2, 0)  # of each layer, in acoustic frames
    phone_layer: int = 4  # the phone head reads the output of this layer, counted from 1
    stack: int = 3  # mel frames in one acoustic frame
    dropout: float = 0.15
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: str = "lstm"  # or rnn, or blstm
    block_frames: int = 1  # of a blstm: the backward LSTMs restart after so many frames
    right_context_frames: int = 0  # of a blstm: how far beyond a block they start, in each layer
    full_context: float = 0.0  # of a blstm: share of the training batches in which they start at the end of the audio
    states: int = 0  # size of the head for hidden Markov states of phones, silence included; 0: no such head
    phone_share: float = 0.0  # weight of the phone head in the state scores; not in training
    front: str = "conv"  # or stack: how mel frames become acoustic frames

    def __post_init__(self) -> None:
        layers = len(self.look_ahead_frames)
        if self.encoder not in ENCODERS:
            raise ValueError(f"unknown encoder {self.encoder!r}; give {', '.join(ENCODERS)}")
        if self.front not in FRONTS:
            raise ValueError(f"unknown front {self.front!r}; give {', '.join(FRONTS)}")
        if layers < 1 or self.size < 1 or self.stack < 1:
            raise ValueError(f"need at least one layer, unit and frame; got {layers}, {self.size}, {self.stack}")
        if min(self.look_ahead_frames) < 0:
            raise ValueError(f"look-ahead cannot be negative: {self.look_ahead_frames}")
        if not 1 <= self.phone_layer <= layers:
            raise ValueError(f"phone_layer must be 1 to {layers}, got {self.phone_layer}")
        if any(self.look_ahead_frames[self.phone_layer :]):
            raise ValueError(
                f"layers above phone_layer {self.phone_layer} must not look ahead, so that both heads predict the "
                f"same frame; got {self.look_ahead_frames}"
            )
        if self.states < 0 or self.phone_share < 0:
            raise ValueError(f"states and phone_share cannot be negative: {self.states}, {self.phone_share}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        self._check_blocks(layers)

    def _check_blocks(self, layers: int) -> None:
        if self.encoder != "blstm":
            if (self.block_frames, self.right_context_frames, self.full_context) != (1, 0, 0):
                raise ValueError(
                    f"blocks, right context and full context are for encoder blstm; {self.encoder} has look-ahead only"
                )
            return
        if any(self.look_ahead_frames):
            raise ValueError(
                f"a blstm needs no look-ahead beside its backward LSTMs: give 0 for each layer; "
                f"got {self.look_ahead_frames}"
            )
        if self.block_frames < 1:
            raise ValueError(f"a block must not be shorter than one frame, got {self.block_frames}")
        if self.right_context_frames < 0 or not 0 <= self.full_context <= 1:
            raise ValueError(
                f"right context must be from 0 frames, and full context a share from 0 to 1; "
                f"got {self.right_context_frames}, {self.full_context}"
            )
        if self.size % 2:
            raise ValueError(f"a blstm needs an even number of units, half of them in each direction; got {self.size}")
        if self.phone_layer != layers:
            raise ValueError(
                f"both heads of a blstm must read its last layer, so that they predict the same frame; got "
                f"phone_layer {self.phone_layer} of {layers} layers"
            )

    @property
    def frame_samples(self) -> int:
        """Samples from one acoustic frame to the next."""
        return self.stack * self.frontend.hop_samples

    @property
    def window_samples(self) -> int:
        """Samples that one acoustic frame covers."""
        return (self.mel_frames(1) - 1) * self.frontend.hop_samples + self.frontend.window_samples

    @property
    def overlap_mel_frames(self) -> int:
        """Mel frames that an acoustic frame shares with the next ones."""
        return FRONTS[self.front]

    def mel_frames(self, frames: int) -> int:
        """Mel frames covered by so many consecutive acoustic frames, at least one."""
        return frames * self.stack + self.overlap_mel_frames

    def frames_of_mels(self, mel_frames: int) -> int:
        """Acoustic frames that lie wholly inside so many mel frames."""
        return max(0, mel_frames - self.overlap_mel_frames) // self.stack

    @property
    def delay_frames(self) -> int:
        """Look-ahead of the network in acoustic frames; it waits for whole blocks, too."""
        return sum(self.late_frames)

    @property
    def late_frames(self) -> tuple[int, ...]:
        """Delay of each layer's output in acoustic frames."""
        if self.encoder == "blstm":
            return (self.right_context_frames,) * len(self.look_ahead_frames)
        return self.look_ahead_frames

    def whole_blocks(self, frames: int) -> int:
        """This many frames, rounded up to what the encoder can run."""
        return -(-frames // self.block_frames) * self.block_frames

    def frames(self, samples: int) -> int:
        """Acoustic frames that lie wholly inside this many samples."""
        return max(0, (samples - self.window_samples) // self.frame_samples + 1)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AcousticConfig:
        """Rebuild from ``to_dict``, also of versions without a choice of encoders and fronts.

        Raises TypeError on unknown or missing names, ValueError on impossible values.
        """
        values = {"front": "stack", **values}
        frontend = FrontendConfig(**values.pop("frontend"))
        look_ahead = tuple(values.pop("look_ahead_frames"))
        return cls(frontend=frontend, look_ahead_frames=look_ahead, **values)


class LogProbs(NamedTuple):
    """Natural-log probabilities; id 0 is the CTC blank of characters and phones, and the state of silence."""

    characters: Tensor  # (B, T, characters)
    phones: Tensor  # (B, T, phones)
    states: Tensor  # (B, T, states); of a model without them (B, T, 0)


class AcousticState(NamedTuple):
    """What a stream (or a batch of streams of equal chunks) carries from chunk to chunk."""

    samples: Tensor  # (B, R) audio not yet consumed: the overlap with the next frame's window, an incomplete block
    encoder: EncoderState
    frames: int  # acoustic frames consumed since the start; the first delay_frames rows of output are warm-up


class AcousticModel(nn.Module):
    """Log-mel features, recurrent layers, two CTC heads (Graves et al. 2006) and, by default, one of HMM states.

    Any chunking of the audio gives the same log-probabilities: nothing is centred, padded or normalised over a chunk.
    """

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        self.config = config
        self.logmel = LogMel(config.frontend)
        mels = config.frontend.mels
        self.register_buffer("mel_mean", torch.zeros(mels))
        self.register_buffer("mel_std", torch.ones(mels))
        self.front = front(config.front, mels, config.stack, config.size)
        self.encoder = Encoder(
            config.encoder, config.size, config.late_frames, config.block_frames, config.full_context, config.dropout
        )
        self.phone_head = nn.Sequential(nn.LayerNorm(config.size), nn.Linear(config.size, config.phones))
        self.character_head = nn.Sequential(nn.LayerNorm(config.size), nn.Linear(config.size, config.characters))
        if config.states:
            self.state_head = nn.Sequential(nn.LayerNorm(config.size), nn.Linear(config.size, config.states))
            self.register_buffer("state_phones", torch.zeros(config.states, dtype=torch.long))
        self.register_load_state_dict_pre_hook(_rename_of_old)

    def initial_state(self, batch: int) -> AcousticState:
        """The state before any audio."""
        return AcousticState(self.mel_mean.new_zeros(batch, 0), self.encoder.initial_state(batch), 0)

    def forward(
        self, samples: Tensor, state: AcousticState | None = None, block_frames: int | None = None
    ) -> tuple[LogProbs, AcousticState]:
        """Consume one chunk.

        Args:
            samples: (B, N) float32 in [-1, 1] at the front end's rate; any N, 0 included.
            state: what the previous chunk returned; None at the start of a stream.
            block_frames: of a blstm, instead of the config's: as many as the recording has give it full context.
        Returns:
            LogProbs of T frames (T may be 0) and the next state. Row k of a stream describes the samples
            ``[k * frame_samples, k * frame_samples + window_samples)`` and is returned once ``delay_frames`` more
            frames have been read and the last of these completes a block.
        """
        state = state or self.initial_state(samples.shape[0])
        samples = torch.cat([state.samples, samples], dim=1)  # (B, R + N)
        block = block_frames or self.config.block_frames
        frames = self.config.frames(samples.shape[1]) // block * block
        if frames == 0:
            return self._no_rows(samples.shape[0]), state._replace(samples=samples)
        consumed = frames * self.config.frame_samples
        read = samples[:, : consumed - self.config.frame_samples + self.config.window_samples]
        log_probs, encoder = self.step(self.logmel(read), state.encoder, block)
        warm_up = min(frames, max(0, self.config.delay_frames - state.frames))
        log_probs = LogProbs(*(head[:, warm_up:] for head in log_probs))
        return log_probs, AcousticState(samples[:, consumed:], encoder, state.frames + frames)

    def step(
        self, mels: Tensor, state: EncoderState, block_frames: int | Tensor | None = None
    ) -> tuple[LogProbs, EncoderState]:
        """Log-mel frames (B, F, M) -> LogProbs of T rows, late by ``delay_frames``: training and export use it.

        F is ``config.mel_frames(T)``. Unlike ``forward`` it returns the warm-up rows, carries no samples, and takes
        whole blocks only.
        """
        outputs, state = self.encode(mels, state, block_frames)
        return self.heads(outputs), state

    def encode(
        self, mels: Tensor, state: EncoderState, block_frames: int | Tensor | None = None
    ) -> tuple[list[Tensor], EncoderState]:
        """Log-mel frames (B, F, M) -> the output of every layer, each (T, B, H), and the next state."""
        return self.encoder(self.front((mels - self.mel_mean) / self.mel_std), state, block_frames)

    def heads(self, outputs: list[Tensor]) -> LogProbs:
        """Layer outputs (T, B, H) -> LogProbs (B, T, V)."""
        phones = self.phone_head(outputs[self.config.phone_layer - 1])  # (T, B, V)
        states = self.state_head(outputs[-1]) if self.config.states else phones[..., :0]
        scores = self.character_head(outputs[-1]), phones, states
        log_probs = LogProbs(*(head.float().log_softmax(dim=-1).transpose(0, 1) for head in scores))
        if self.config.states and self.config.phone_share:
            states = log_probs.states + self.config.phone_share * self._state_scores(log_probs.phones)
            log_probs = log_probs._replace(states=states.log_softmax(dim=-1))
        return log_probs

    def _state_scores(self, phones: Tensor) -> Tensor:
        """Scores of states (B, T, states) from the CTC phones (B, T, phones).

        During a phone its head predicts that phone or blank; during silence, blank.
        """
        probabilities = phones.exp()
        blank = probabilities[..., :1]
        during = torch.cat([blank, probabilities[..., 1:] + blank], dim=-1) + LEAST_PROBABILITY
        return during.log().index_select(-1, self.state_phones)

    def _no_rows(self, batch: int) -> LogProbs:
        empty = self.mel_mean.new_zeros
        sizes = self.config.characters, self.config.phones, self.config.states
        return LogProbs(*(empty(batch, 0, size) for size in sizes))


def _rename_of_old(model: AcousticModel, weights: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Rename weights of versions without a choice of fronts: the projection of stacked frames was in the encoder."""
    for part in ("weight", "bias"):
        if f"{prefix}encoder.input.{part}" in weights:
            weights[f"{prefix}front.linear.{part}"] = weights.pop(f"{prefix}encoder.input.{part}")
