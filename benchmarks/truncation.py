"""Truncated back-propagation through time: its gradient of the weights against the full one.

    python benchmarks/truncation.py TABLE [--source librispeech] [--model NAME_OR_PATH] [--seconds 60] [--json FILE]

Long recordings are joined from a speaker's utterances. The CTC loss of each is back-propagated once whole, and once
for each segment length with the state passed but the gradient cut at every border. The output, and so the loss, is the
same; printed are the cosine between both gradients and the ratio of their norms, means over the recordings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accuracy import RATE, joined
from measuring import parser, report
from torch import Tensor
from torch.nn.functional import ctc_loss

from asr.acoustic.export import load_acoustic_model
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.data.manifest import Utterance, load_audio, read_manifest
from asr.models.acoustic import AcousticModel
from asr.training.tbptt import passed
from asr.words.lexicon import Lexicon
from asr.words.tokens import PHONES, TokenTable

LENGTHS = (0.24, 0.48, 0.96, 1.92, 3.84, 7.68, 15.36, 30.72)  # seconds


def gradient(model: AcousticModel, mels: Tensor, phones: Tensor, frames: int) -> Tensor:
    """Of the phone loss of one recording (1, F, M) with respect to all weights, cut every ``frames``: one vector."""
    config = model.config
    state, outputs = model.encoder.initial_state(1), []
    whole = config.frames_of_mels(mels.shape[1])
    for start in range(0, whole, frames):
        begin, length = start * config.stack, config.mel_frames(min(frames, whole - start))
        layers, state = model.encode(mels[:, begin : begin + length], state)
        state = passed(state, torch.ones(1, dtype=torch.bool))
        outputs.append(layers[config.phone_layer - 1])
    rows = torch.cat(outputs)[config.delay_frames :]  # (T, 1, H)
    log_probs = model.phone_head(rows).log_softmax(dim=-1)
    loss = ctc_loss(log_probs, phones[None], torch.tensor([len(rows)]), torch.tensor([len(phones)]), reduction="sum")
    weights = [weight for weight in model.encoder.parameters() if weight.ndim > 1]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat([part.flatten() for part in found if part is not None])


def recordings(pieces: list[tuple[Utterance, np.ndarray]], seconds: float) -> list[tuple[Utterance, np.ndarray]]:
    """Consecutive utterances of a speaker joined to recordings of about so many seconds."""
    found = []
    for speaker in sorted({utterance.speaker for utterance, _ in pieces}):
        held: list[tuple[Utterance, np.ndarray]] = []
        for utterance, samples in pieces:
            if utterance.speaker == speaker:
                held.append((utterance, samples))
                if sum(len(audio) for _, audio in held) >= seconds * RATE:
                    found += joined(held)
                    held = []
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("table", type=Path)
    arguments.add_argument("--source", default="librispeech")
    arguments.add_argument("--model", default=DEFAULT_MODEL)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--recordings", type=int, default=4)
    options = arguments.parse_args()
    utterances = [
        utterance for utterance in read_manifest(options.table).utterances if utterance.source == options.source
    ]
    pieces = [(utterance, load_audio(utterance, RATE)) for utterance in utterances]
    long = recordings(pieces, options.seconds)
    long = [long[k] for k in np.linspace(0, len(long) - 1, min(len(long), options.recordings)).round().astype(int)]
    model = load_acoustic_model(ModelPackage.open(options.model).folder)
    lexicon, table = Lexicon.load(), TokenTable(PHONES)
    rate = model.config.frontend.sample_rate / model.config.frame_samples
    measured: dict[float, list[tuple[float, float]]] = {seconds: [] for seconds in LENGTHS}
    for utterance, samples in long:
        phones = torch.tensor(table.encode([p for word in utterance.text.split() for p in lexicon.pronounce(word)[0]]))
        with torch.no_grad():
            mels = model.logmel(torch.from_numpy(samples)[None])
        full = gradient(model, mels, phones, mels.shape[1])
        for seconds, values in measured.items():
            cut = gradient(model, mels, phones, round(seconds * rate))
            cosine = torch.nn.functional.cosine_similarity(cut.double(), full.double(), dim=0)
            values.append((float(cosine), float(cut.norm() / full.norm())))
    rows = [
        {
            "segment s": seconds,
            "cosine": round(float(np.mean([cosine for cosine, _ in values])), 4),
            "norm ratio": round(float(np.mean([ratio for _, ratio in values])), 4),
        }
        for seconds, values in measured.items()
    ]
    report(options, rows, "segment s", "cosine")


if __name__ == "__main__":
    main()
