"""How fast the shipped network trains here, what part of the matrix peak that is, and where the rest goes.

    python benchmarks/training_speed.py [--batch-seconds 160] [--threads 2] [--steps 5] [--json FILE] [--plot FILE]

Batches of utterances of 8 s, random frames, in bfloat16 and fp32: the network forward, the CTC loss, backward, the
optimiser. Reading and changing the recordings is left out (`asr train` does it in other processes).
"""

from __future__ import annotations

import os
import statistics
import time

import torch
from measuring import median_seconds, parser, report

from asr.acoustic.export import load_acoustic_model
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage

UTTERANCE_SECONDS = 8.0
PARTS = ("forward", "loss", "backward", "optimiser")


def matrix_peak(kind: torch.dtype) -> float:
    """Floating-point operations a second in products of large matrices."""
    one = torch.randn(2_048, 2_048).to(kind)
    return 2 * 2_048**3 / median_seconds(lambda: one @ one, runs=5)


def measure(kind: torch.dtype, batch_seconds: float, steps: int) -> dict[str, object]:
    package = ModelPackage.open(DEFAULT_MODEL)
    model = load_acoustic_model(package.folder).train()
    config, rates = model.config, package.rates
    frames, batch = rates.frames(UTTERANCE_SECONDS), max(1, round(batch_seconds / UTTERANCE_SECONDS))
    mels = torch.randn(batch, config.mel_frames(frames), config.frontend.mels) * 2 - 8
    targets, lengths = torch.randint(1, config.phones, (batch, 80)), torch.full((batch,), 80)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    taken: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(steps + 1):
        marks = [time.perf_counter()]
        with torch.autocast("cpu", kind, enabled=kind != torch.float32):
            log_probs, _ = model.step(mels, model.encoder.initial_state(batch))
        marks.append(time.perf_counter())
        phones = log_probs.phones.transpose(0, 1)
        loss = torch.nn.functional.ctc_loss(phones, targets, torch.full((batch,), frames), lengths)
        loss = loss + log_probs.characters.mean()
        marks.append(time.perf_counter())
        optimiser.zero_grad()
        loss.backward()
        marks.append(time.perf_counter())
        optimiser.step()
        marks.append(time.perf_counter())
        for part, begun, ended in zip(PARTS, marks, marks[1:], strict=False):
            taken[part].append(ended - begun)
    medians = {part: statistics.median(values[1:]) for part, values in taken.items()}  # the first is warm-up
    wall = sum(medians.values())
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)
    work = 3 * 2 * weights * frames * batch  # backward is two products for each of forward
    peak = matrix_peak(kind)
    return {
        "arithmetic": str(kind).removeprefix("torch."),
        "audio s/s": round(batch * UTTERANCE_SECONDS / wall, 1),
        "GFLOP/s": round(work / wall / 1e9, 1),
        "matrix peak": round(peak / 1e9, 1),
        "of the peak %": round(100 * work / wall / peak, 1),
        **{f"{part} %": round(100 * value / wall, 1) for part, value in medians.items()},
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--batch-seconds", type=float, default=160.0)
    arguments.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments.add_argument("--steps", type=int, default=5)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(kind, options.batch_seconds, options.steps) for kind in (torch.bfloat16, torch.float32)]
    report(options, rows, "arithmetic", "audio s/s")


if __name__ == "__main__":
    main()
