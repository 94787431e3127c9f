"""What training on 1,000 and on 100,000 hours takes: arithmetic from the network's shapes and what was measured here.

    python benchmarks/training_plan.py [--cpu-gflops 455] [--cpu-peak 920] [--gpu-use 0.1] [--json FILE]

Measured: the CPU's figures (`benchmarks/training_speed.py`) and the bytes of an hour. Assumed: the part of a GPU's peak
that is used; no GPU was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

from measuring import parser, report, table

from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.words.tokens import CHARACTERS, PHONES

H100_PEAK = 989e12  # bf16, dense, SXM: NVIDIA's data sheet, half of the figure it gives with sparsity
VIEWS = 2
# Bytes of an hour: Opus of the training data in its tars, FLAC as `asr shar` wrote the dev set, features by format.
OPUS, FLAC = 9.0e6, 55.6e6


@dataclass(frozen=True)
class Case:
    """A corpus, a network and a machine to be planned for."""

    hours: float
    size: int
    layers: int
    epochs: int
    gpus: int


CASES = (Case(1_000, 384, 5, 30, 1), Case(1_000, 640, 6, 30, 1), Case(100_000, 1_024, 8, 3, 64))


def weights_and_work(case: Case) -> tuple[float, float]:
    """Weights in matrices, and floating-point operations to train on a second of audio heard once."""
    ahead = (2,) * (case.layers - 1) + (0,)
    config = AcousticConfig(len(CHARACTERS), len(PHONES), case.size, ahead, phone_layer=case.layers - 1)
    weights = sum(parameter.numel() for parameter in AcousticModel(config).parameters() if parameter.ndim > 1)
    frames = config.frontend.sample_rate / config.frame_samples
    return weights, 3 * 2 * weights * frames  # backward is two products for each of forward


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--cpu-gflops", type=float, default=455.1, help="measured")
    arguments.add_argument("--cpu-peak", type=float, default=920.3, help="GFLOP/s of large products, measured")
    arguments.add_argument("--gpu-use", type=float, default=0.1, help="assumed part of the peak")
    arguments.add_argument("--worker-speed", type=float, default=250.0, help="audio s/s of one, measured")
    arguments.add_argument("--cores", type=int, default=16, help="assumed, that feed a GPU")
    options = arguments.parse_args()
    shipped, work = weights_and_work(CASES[0])
    print(
        f"The default network, {shipped / 1e6:.2f} M weights: {work / 1e9:.3f} GFLOP a second of audio; with the "
        f"{options.cpu_gflops} GFLOP/s measured ({100 * options.cpu_gflops / options.cpu_peak:.0f} % of the peak) "
        f"{options.cpu_gflops * 1e9 / work:.0f} s of audio a second"
    )
    rows = []
    for case in CASES:
        weights, work = weights_and_work(case)
        heard = case.hours * 3600 * case.epochs * VIEWS  # seconds
        speed = H100_PEAK * options.gpu_use / work  # audio seconds a second
        fed = VIEWS * options.worker_speed * options.cores
        gpu_hours, fed_hours = heard / speed / 3600, heard / min(speed, fed) / 3600
        rows.append(
            {
                "hours": f"{case.hours:,.0f}",
                "network": f"{case.layers} x {case.size}",
                "M weights": round(weights / 1e6, 1),
                "epochs": case.epochs,
                "GFLOP/audio s": round(work / 1e9, 2),
                "EFLOP": round(heard * work / 1e18, 1),
                "days here": f"{heard * work / (options.cpu_gflops * 1e9) / 86400:,.0f}",
                "GPU-hours": round(gpu_hours),
                "cores to feed a GPU": round(speed / VIEWS / options.worker_speed),
                f"GPU-hours with {options.cores} cores": round(fed_hours),
                "GPUs": case.gpus,
                "days": round(fed_hours / case.gpus / 24, 2),
            }
        )
    config = AcousticConfig(len(CHARACTERS), len(PHONES))
    rate = config.frontend.sample_rate / config.frontend.hop_samples
    features = 3600 * rate * config.frontend.mels * 2
    table(
        [
            {
                "hours": f"{hours:,}",
                "Opus": f"{hours * OPUS / 1e9:,.0f} GB",
                "FLAC": f"{hours * FLAC / 1e9:,.0f} GB",
                "features, a variant": f"{hours * features / 1e9:,.0f} GB",
            }
            for hours in (1_000, 100_000)
        ]
    )
    report(options, rows, "hours", "GPU-hours")


if __name__ == "__main__":
    main()
