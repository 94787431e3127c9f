"""Latency-controlled BLSTM: the forward LSTM reads the whole past, the backward one a block and a little beyond it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.models.recurrent import SequenceDropout, remembering_lstm


class BidirectionalLayer(nn.Module):
    """Layer norm, an LSTM in each direction, dropout, residual.

    The forward LSTM carries its state over the whole stream. The backward LSTM restarts for each block of frames,
    ``right_context_frames`` beyond its end: the latency-controlled BLSTM of Zhang et al. 2016, "Highway long short-term
    memory RNNs for distant speech recognition". Unlike theirs every layer has blocks of its own, later than those of
    the layer below by the right context, whose frames are therefore final: the forward LSTMs run no frame twice. Blocks
    are counted from the first frame of the stream, so that chunks don't matter. With a block as long as the recording
    it is an ordinary bidirectional LSTM of the same weights.
    """

    def __init__(self, size: int, right_context_frames: int, dropout: float) -> None:
        super().__init__()
        self.right_context_frames = right_context_frames
        self.norm = nn.LayerNorm(size)
        self.lstm = remembering_lstm(size, size // 2)
        self.backward_lstm = remembering_lstm(size, size // 2)
        self.dropout = SequenceDropout(dropout)

    def forward(
        self, x: Tensor, hidden: Tensor, cell: Tensor, context: Tensor, block_frames: int | Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Run whole blocks.

        Args:
            x: (T, B, H), T a multiple of ``block_frames``.
            hidden: (1, B, H / 2) of the forward LSTM; ``cell`` likewise.
            context: (C, B, H) the last C = ``right_context_frames`` frames of earlier input.
            block_frames: of one block.
        Returns:
            Output (T, B, H) for frames ``-C .. T - C``, and the next hidden, cell and context.
        """
        late = torch.cat([context, x])  # (C + T, B, H)
        steps, batch, size = x.shape
        normal = self.norm(late)
        past, (hidden, cell) = self.lstm(normal[:steps], (hidden, cell))  # (T, B, H / 2)
        # All blocks at once, side by side in the batch: row k of each is k frames before the end of its right context.
        starts = torch.arange(0, steps, block_frames, device=x.device)  # (K,)
        backwards = torch.arange(block_frames + self.right_context_frames, device=x.device).flip(0)
        blocks = normal[backwards[:, None] + starts]  # (block + C, K, B, H)
        start = x.new_zeros(1, blocks.shape[1] * batch, size // 2)
        future, _ = self.backward_lstm(blocks.flatten(1, 2), (start, start))  # (block + C, K B, H / 2)
        future = future[self.right_context_frames :].flip(0)  # (block, K B, H / 2)
        future = future.unflatten(1, (-1, batch)).transpose(0, 1).flatten(0, 1)  # (T, B, H / 2)
        y = torch.cat([past, future], dim=-1)
        return late[:steps] + self.dropout(y), (hidden, cell, late[steps:])
