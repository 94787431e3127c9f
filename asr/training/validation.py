"""How well a network reads a corpus while it is being trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jiwer import cer, wer
from torch import Tensor

from asr.data.batches import Corpus
from asr.decoding.greedy import GreedyDecoder
from asr.training.losses import Objective
from asr.words.tokens import CHARACTERS


def error_rates(
    objective: Objective, corpus: Corpus, batch_seconds: float, move: Callable[[Tensor], Tensor]
) -> tuple[float, float, float]:
    """Greedy word, character and phone error rates, whole utterances, pooled.

    Args:
        objective: whose model is measured; it is put into evaluation mode.
        corpus: what it is measured on.
        batch_seconds: audio in a batch.
        move: puts a tensor on the device.
    """
    decoder = GreedyDecoder(CHARACTERS)
    texts, guesses, phones, phone_guesses = [], [], [], []
    objective.eval()
    with torch.inference_mode():
        for members in corpus.plan(0, 0, batch_seconds):
            batch = corpus.collate(members).to(move)
            log_probs = objective(batch.mels, batch).log_probs
            for row, (number, _) in enumerate(members):
                frames = int(batch.frames[row])
                rows = log_probs.characters[row, :frames].float().cpu().numpy()
                words, _ = decoder.finish(decoder.advance(decoder.start(), rows))
                texts.append(corpus.examples[number].text)
                guesses.append(" ".join(word.text for word in words))
                best = log_probs.phones[row, :frames].argmax(dim=-1).unique_consecutive().cpu().numpy()
                phones.append(" ".join(map(str, corpus.examples[number].phones)))
                phone_guesses.append(" ".join(map(str, best[best != 0])))
    return wer(texts, guesses), cer(texts, guesses), wer(phones, phone_guesses)
