"""Where training computes, and how precisely."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from asr.errors import UsageError


def supports_bfloat16(device: torch.device) -> bool:
    """Whether mixed precision pays: bfloat16 arithmetic in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def open_device(device: str, precision: str, patience_minutes: float = 30.0) -> Fabric:
    """Fabric on one device, or on one for each of the processes that torchrun started.

    Args:
        device: auto, cpu, cuda or mps.
        precision: one of Fabric's, or auto: bfloat16 where the device is fast at it.
        patience_minutes: how long a process waits for the others before it gives up.
    Raises:
        UsageError: no such device or precision here.
    """
    try:
        if precision == "auto":
            fast = supports_bfloat16(Fabric(accelerator=device, devices=1).device)
            precision = "bf16-mixed" if fast else "32-true"
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if processes == 1:
            return Fabric(accelerator=device, devices=1, precision=precision)
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        fabric = Fabric(
            accelerator=device,
            devices=here,
            num_nodes=processes // here,
            precision=precision,
            strategy=DDPStrategy(timeout=timedelta(minutes=patience_minutes)),
        )
        fabric.launch()
        return fabric
    except (ValueError, RuntimeError) as error:  # RuntimeError: a device that this machine lacks
        raise UsageError(f"device {device!r} with precision {precision!r}: {str(error).splitlines()[0]}") from error
