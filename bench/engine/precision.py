"""Which number format forwards run in: what the hardware has, and the audit that must allow it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

Precision = Literal["fp32", "bf16", "auto"]
"""What training may run in: float16 would need its losses scaled."""

Number = Literal["fp32", "bf16", "fp16"]
ForwardPrecision = Literal["fp32", "bf16", "fp16", "auto"]
"""What forwards without gradients may run in."""

ENOUGH = 0.99
"""Least correlation between scores in two formats, or from two ways of running."""

AUDITED = 8
"""Images at most on which the two formats are compared."""

_CELLS = 64
_HIDDEN = 16
_ROUNDING = 1e-5
"""Share of the largest logit below which float32 itself tells no effect."""


def has_bfloat16_units(device: torch.device) -> bool:
    """Tell whether the hardware multiplies matrices in bfloat16 (CUDA from compute capability 8, CPUs with AMX or AVX-512)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has("amx_bf16", "avx512_bf16")


def fast_formats(device: torch.device) -> tuple[Number, ...]:
    """Return the short formats that the hardware multiplies, the fastest first, and the more precise first of equals.

    float16 has eight times the precision of bfloat16, and a range that ends at 65504.
    """
    bfloat16_too: tuple[Number, ...] = ("bf16",) if has_bfloat16_units(device) else ()
    if device.type == "cuda":
        return ("fp16", *bfloat16_too) if torch.cuda.get_device_capability(device) >= (7, 0) else ()
    if device.type != "cpu":
        return ()
    if _cpu_has("amx_fp16"):
        return "fp16", *bfloat16_too
    return (*bfloat16_too, "fp16") if _cpu_has("avx512_fp16") else bfloat16_too


def _cpu_has(*flags: str) -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            text = stream.read()
    except OSError:
        return False
    return any(flag in text for flag in flags)


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Run convolutions in true float32 by repeatable algorithms; puts the settings back."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@contextmanager
def reduced(device: torch.device, number: Number) -> Iterator[None]:
    """Run matrix products in a short format, the rest in float32."""
    with torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[number]):
        yield


def last_parts(module: nn.Module) -> list[nn.Module]:
    """Return the parts that stay in float32 beside bfloat16: the linear layer defined last, and averages over all places.

    As a rule they are the classifier's head and what feeds it. Rounded there, logits in bfloat16 would come in steps of
    1/256 of their size, and an image whose logit hardly moves would lose the order of its cells.
    """
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    averages = nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d
    return [*linear[-1:], *(part for part in module.modules() if isinstance(part, averages))]


@contextmanager
def float32_parts(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Run some parts of a network in float32, whatever the rest runs in."""
    before = [vars(part).get("forward") for part in parts]
    for part in parts:
        part.forward = _in_float32(part)
    try:
        yield
    finally:
        for part, own in zip(parts, before, strict=True):
            del part.forward
            if own is not None:
                part.forward = own


def _in_float32(part: nn.Module) -> Callable[[Tensor], Tensor]:
    own = part.forward

    def forward(values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return cast(Tensor, own(values.float()))

    return forward


def memory_format(module: nn.Module) -> torch.memory_format:
    """Return channels-last for a network with 2-D convolutions, else the plain format.

    A narrow strided 1 x 1 convolution asks for the plain format too: on a CPU with several threads its channels-last
    backward corrupts memory when the batch is odd (seen with torch 2.13 below 16 input channels).
    """
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    unsafe = any(part.in_channels < 16 and max(part.kernel_size) == 1 and max(part.stride) > 1 for part in convolutions)
    return torch.channels_last if convolutions and not unsafe else torch.contiguous_format


def with_cells_hidden(images: Tensor) -> Tensor:
    """Return each image (N, C, *places) or row (N, features) whole and with one cell set to 0: (N, 1 + M, ...).

    The cells are those of a grid of 64 (8 x 8, or 4 x 4 x 4), or fewer where there are not as many places; 16 of them
    are drawn, the same ones for all images.
    """
    places = images.shape[2:] or images.shape[1:]
    grid = [min(size, round(_CELLS ** (1 / len(places)))) for size in places]
    chosen = torch.randperm(math.prod(grid), generator=torch.Generator().manual_seed(0))[:_HIDDEN]
    copies = images[:, None].repeat(1, 1 + len(chosen), *[1] * (images.ndim - 1))
    for index, cell in enumerate(np.stack(np.unravel_index(chosen.numpy(), grid), axis=1), start=1):
        hidden = copies[:, index]
        for axis, (at, size, of) in enumerate(zip(cell.tolist(), places, grid, strict=True), start=-len(grid)):
            start = at * size // of
            hidden = hidden.narrow(axis, start, (at + 1) * size // of - start)
        hidden.zero_()
    return copies


def compare_effects(reference: Tensor, candidate: Tensor) -> dict[str, Any]:
    """Compare how scores (N, 1 + M, K) of N whole images and M copies of each move, in two precisions.

    Returns
    -------
    dict
        `pearson`: correlation of the predicted class's scores over an image's copies, of the image where it is least;
        None where no score moves. `moving`: images whose scores move. `same_decision`: share of all copies with the same
        largest score. `largest_difference`, `compared`: over all scores, and how many copies.
    """
    first, second = (scores.double().cpu().numpy() for scores in (reference, candidate))
    image = np.arange(len(first))
    before, after = (scores[image, :, first[:, 0].argmax(1)] for scores in (first, second))
    moves = before.std(axis=1) > _ROUNDING * np.abs(first).max(axis=(1, 2))
    found = [_pearson(*pair) for pair in zip(before[moves], after[moves], strict=True)]
    return {
        "pearson": min(found) if found else None,
        "moving": len(found),
        "largest_difference": float(np.abs(first - second).max()),
        "same_decision": float((first.argmax(2) == second.argmax(2)).mean()),
        "compared": int(first[..., 0].size),
    }


def _pearson(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left, right)[0, 1]) if right.std() > 0 else 0.0


def compare_ranks(reference: Tensor, candidate: Tensor) -> float | None:
    """Return the Spearman correlation of scores (N, K) from two ways of running; None where there is nothing to rank."""
    first, second = (scores.double().cpu().numpy().ravel() for scores in (reference, candidate))
    if first.size < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        correlation = float(stats.spearmanr(first, second).statistic)
    return None if np.isnan(correlation) else correlation
