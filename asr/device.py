"""Where training computes, and how precisely."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric

from asr.errors import UsageError


def supports_bfloat16(device: torch.device) -> bool:
    """Whether mixed precision pays: bfloat16 arithmetic in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def open_device(device: str, precision: str) -> Fabric:
    """Fabric on one device; with precision "auto", bfloat16 where the device is fast at it."""
    try:
        if precision == "auto":
            fast = supports_bfloat16(Fabric(accelerator=device, devices=1).device)
            precision = "bf16-mixed" if fast else "32-true"
        return Fabric(accelerator=device, devices=1, precision=precision)
    except (ValueError, RuntimeError) as error:  # RuntimeError: a device that this machine lacks
        raise UsageError(f"device {device!r} with precision {precision!r}: {str(error).splitlines()[0]}") from error
