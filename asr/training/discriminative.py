"""Of a discriminative stage: everything else that may be said, in hidden Markov states and in CTC's phones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from asr.acoustic.phone_states import Biphones
from asr.data.batches import Batch
from asr.models.acoustic import LogProbs
from asr.training.ctc_crf import log_denominator
from asr.training.mmi import LatticeFreeMmi
from asr.training.phone_trigrams import phone_trigrams


class Rivals(nn.Module):
    """What transcripts compete with."""

    def __init__(self, biphones: Biphones, alignments: Iterable[np.ndarray], sequences: Iterable[np.ndarray]) -> None:
        """Estimate how likely anything is to be said.

        Args:
            biphones: the states.
            alignments: of utterances, the phone of each mel frame (F,).
            sequences: of utterances, the phones (N,).
        """
        super().__init__()
        self.states = LatticeFreeMmi(biphones, alignments)
        trigrams = torch.from_numpy(phone_trigrams(sequences, len(biphones.first)))
        self.register_buffer("trigrams", trigrams, persistent=False)

    def forward(self, log_probs: LogProbs, batch: Batch) -> dict[str, Tensor]:
        """Nats of a batch by task: how much likelier all states together are than what was said; all phones together.

        The second lacks what was said, which is the CTC loss of phones.
        """
        heard = self.states(log_probs.states, batch.frames, batch.first, batch.rest, batch.chain_lengths)
        everything = log_denominator(log_probs.phones, batch.frames, self.trigrams)
        return {"rivals": heard.sum(), "phone_rivals": everything.sum()}
