"""How well a network recognises a set while it is being trained."""

from __future__ import annotations

import torch
from jiwer import cer, wer

from asr.data.augment import Augmenter
from asr.data.build_audio import FULL_SCALE
from asr.data.training_set import StoredSet
from asr.decoding.greedy import GreedyDecoder
from asr.training.losses import Objective
from asr.training.processes import Team
from asr.words.tokens import CHARACTERS


@torch.inference_mode()
def error_rates(
    objective: Objective, data: StoredSet, batch_seconds: float, augmenter: Augmenter, team: Team
) -> tuple[float, float, float]:
    """Greedy word, character and phone error rates, whole utterances, pooled.

    Args:
        objective: in evaluation mode.
        data: what it is measured on.
        batch_seconds: audio in a batch.
        augmenter: for its front end; nothing is changed.
        team: tells the device.
    """
    decoder = GreedyDecoder(CHARACTERS)
    texts, guesses, phones, phone_guesses = [], [], [], []
    for members, batch in data.one_by_one(objective.model.config, batch_seconds):
        batch = batch.to(team.there)
        mels = augmenter.log_mels(batch.samples.float() / FULL_SCALE)
        with team.autocast():
            log_probs = objective(mels, batch).log_probs
        for row, number in enumerate(members):
            frames = int(batch.frames[row])
            rows = log_probs.characters[row, :frames].float().cpu().numpy()
            words, _ = decoder.finish(decoder.advance(decoder.start(), rows))
            texts.append(data.examples[number].text)
            guesses.append(" ".join(word.text for word in words))
            best = log_probs.phones[row, :frames].argmax(dim=-1).unique_consecutive().cpu().numpy()
            phones.append(" ".join(map(str, data.examples[number].phones)))
            phone_guesses.append(" ".join(map(str, best[best != 0])))
    return wer(texts, guesses), cer(texts, guesses), wer(phones, phone_guesses)
