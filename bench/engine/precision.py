"""Which number format forwards run in: what the hardware has, and the audit that must allow it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

Precision = Literal["fp32", "bf16", "auto"]
ENOUGH = 0.99
"""Least Spearman correlation between the scores in bfloat16 and in float32."""


def has_bfloat16_units(device: torch.device) -> bool:
    """Tell whether the hardware multiplies matrices in bfloat16 (CUDA from compute capability 8, CPUs with AMX or AVX-512)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as stream:
                flags = stream.read()
                return "amx_bf16" in flags or "avx512_bf16" in flags
        except OSError:
            return False
    return False


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Run convolutions in true float32 by repeatable algorithms; puts the settings back."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@contextmanager
def bfloat16(device: torch.device) -> Iterator[None]:
    """Run matrix products in bfloat16, the rest in float32."""
    with torch.autocast(device.type, dtype=torch.bfloat16):
        yield


@contextmanager
def float32_head(head: nn.Linear | None) -> Iterator[None]:
    """Run the classifier's last layer in float32: bfloat16 logits come in steps of 1/256 of their size."""
    if head is None:
        yield
        return

    def forward(features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return nn.functional.linear(features.float(), head.weight, head.bias)

    head.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del head.forward


def memory_format(module: nn.Module) -> torch.memory_format:
    """Return channels-last for a network with 2-D convolutions, else the plain format.

    A narrow strided 1 x 1 convolution asks for the plain format too: on a CPU with several threads its channels-last
    backward corrupts memory when the batch is odd (seen with torch 2.13 below 16 input channels).
    """
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    unsafe = any(part.in_channels < 16 and max(part.kernel_size) == 1 and max(part.stride) > 1 for part in convolutions)
    return torch.channels_last if convolutions and not unsafe else torch.contiguous_format


def compare(reference: Tensor, candidate: Tensor) -> dict[str, Any]:
    """Compare scores (N, K) in two precisions: rank correlation, largest difference, share of equal decisions."""
    first, second = (scores.double().cpu().numpy() for scores in (reference, candidate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        correlation = (
            float(stats.spearmanr(first.ravel(), second.ravel()).statistic) if first.size > 1 else float("nan")
        )
    return {
        "spearman": None if np.isnan(correlation) else correlation,
        "largest_difference": float(np.abs(first - second).max()),
        "same_decision": float((first.argmax(1) == second.argmax(1)).mean()),
        "compared": len(first),
    }
