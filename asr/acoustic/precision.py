"""In which precision matrix products pay."""

from __future__ import annotations

import torch

from asr.errors import UsageError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def supports_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 pays: arithmetic in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def short_float(precision: str, device: torch.device) -> torch.dtype | None:
    """The type for matrix products, None for float32; raises UsageError for a precision there is not.

    On CUDA float16, which the persistent kernels of cuDNN's LSTM need; on a CPU bfloat16 where it is in hardware.
    """
    if precision == "auto":
        precision = "float16" if device.type == "cuda" else "bfloat16" if supports_bfloat16(device) else "float32"
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; give auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]
