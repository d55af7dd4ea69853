"""Training of small classifiers: the loop behind the zoo's own networks, seeded and fast on two CPU cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..registry import LimenError
from .device import resolve_device
from .network import logits_of
from .pictures import normalise, to_device
from .precision import has_bfloat16_units, memory_format, reduced
from .random import Draws

OnStep = Callable[[int, int, float], None]


def initialised(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a module whose initial weights depend on the seed alone; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train_classifier(
    module: nn.Module,
    pictures: np.ndarray,
    labels: np.ndarray,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    seed: int = 0,
    shift: int = 2,
    flip: bool = False,
    deletion: int = 0,
    device: str = "auto",
    on_step: OnStep | None = None,
) -> nn.Module:
    """Train a classifier in place with AdamW on a one-cycle schedule, and return it on the CPU in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        Initialised by the caller; maps float32 (N, 3, H, W) to logits (N, K).
    pictures : uint8 (N, H, W, 3)
    labels : int (N,)
    mean, std
        Normalisation per channel, for pictures in [0, 1].
    learning_rate : float
        Peak of the cycle.
    seed : int
        Decides order, augmentation and dropout; the caller's random state is left alone.
    shift : int
        Pictures are moved by up to so many pixels each way, edges repeated.
    flip : bool
        Half of the pictures are mirrored left to right.
    deletion : int
        Half of the pictures lose one random cell of a grid with so many cells a side, set to the normalised 0; 0 = none.
    on_step : callable or None
        Called after each step with (steps done, all steps, loss), for a progress bar.

    Raises
    ------
    LimenError
        If pictures and labels disagree, or the loss stops being finite.
    """
    _check_data(pictures, labels)
    where = resolve_device(device)
    _place(module.train().requires_grad_(True), where)
    images, answers = _on_device(pictures, labels, where)
    steps = epochs * -(-len(images) // batch_size)
    optimizer = torch.optim.AdamW(_groups(module), lr=learning_rate)
    # With fewer than five steps the rise of the cycle would last none, which the scheduler divides by.
    cycle = max(steps, 5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=cycle, pct_start=0.25)
    draws = Draws(seed, "training", device=where)
    devices = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for step, index in enumerate(_order(len(images), batch_size, epochs, draws), start=1):
            batch = normalise(augmented(images[index], draws, shift=shift, flip=flip), mean, std)
            if deletion:
                batch = batch * kept_cells(batch, deletion, draws, share=0.5)
            loss = _loss(module, batch, answers[index], where)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if on_step is not None:
                on_step(step, steps, float(loss.detach()))
    if not all(bool(torch.isfinite(value).all()) for value in module.parameters()):
        raise LimenError(
            f"training of {type(module).__name__}: the weights are no longer finite at a learning rate of "
            f"{learning_rate}; allowed is a smaller one."
        )
    return module.eval().requires_grad_(False).to("cpu")


def accuracy(
    module: nn.Module,
    pictures: np.ndarray,
    labels: np.ndarray,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch_size: int = 256,
    deletion: int = 0,
    device: str = "auto",
) -> float:
    """Return the share of pictures uint8 (N, H, W, 3) whose largest logit is their label's.

    With `deletion` each picture loses one cell of a grid with so many cells a side, drawn with a fixed seed and set to
    the normalised 0.
    """
    _check_data(pictures, labels)
    where = resolve_device(device)
    training = module.training
    _place(module.eval(), where)
    images, answers = _on_device(pictures, labels, where)
    right, draws = 0, Draws(0, "deletion", device=where)
    with torch.no_grad():
        for batch, answer in zip(images.split(batch_size), answers.split(batch_size), strict=True):
            inputs = normalise(batch, mean, std)
            if deletion:
                inputs = inputs * kept_cells(inputs, deletion, draws)
            inputs = inputs.contiguous(memory_format=memory_format(module))
            logits = logits_of(module(inputs), type(module).__name__)
            right += int((logits.argmax(dim=1) == answer).sum())
    module.train(training)
    return right / len(images)


def augmented(images: Tensor, draws: Draws, *, shift: int, flip: bool) -> Tensor:
    """Move pictures uint8 (B, 3, H, W) by up to `shift` pixels each way, and mirror half of them."""
    count, _, height, width = images.shape
    if flip:
        mirrored = draws.bernoulli(0.5, count).bool().reshape(-1, 1, 1, 1)
        images = torch.where(mirrored, images.flip(3), images)
    if shift < 1:
        return images
    down, right = (draws.integers(2 * shift + 1, count) - shift for _ in range(2))
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    source_rows = (rows - down[:, None]).clamp_(0, height - 1)
    source_columns = (columns - right[:, None]).clamp_(0, width - 1)
    index = torch.arange(count, device=images.device)[:, None, None]
    # An index on both sides of a slice puts the indexed axes first.
    moved = images.permute(0, 2, 3, 1)[index, source_rows[:, :, None], source_columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def kept_cells(images: Tensor, side: int, draws: Draws, *, share: float = 1.0) -> Tensor:
    """Return (B, 1, H, W): 0 in one random cell of a side x side grid in a share of the images, else 1."""
    count, _, height, width = images.shape
    cell = draws.integers(side * side, count).reshape(-1, 1, 1)
    hit = draws.bernoulli(share, count).bool().reshape(-1, 1, 1)
    rows = torch.arange(height, device=images.device).reshape(-1, 1) * side // height
    columns = torch.arange(width, device=images.device) * side // width
    return (~(hit & (rows * side + columns == cell))).to(images.dtype).unsqueeze(1)


def _loss(module: nn.Module, batch: Tensor, answers: Tensor, device: torch.device) -> Tensor:
    inputs = batch.contiguous(memory_format=memory_format(module))
    if has_bfloat16_units(device):
        with reduced(device, "bf16"):
            logits = logits_of(module(inputs), type(module).__name__)
    else:
        logits = logits_of(module(inputs), type(module).__name__)
    return functional.cross_entropy(logits.float(), answers, label_smoothing=0.05)


def _order(count: int, batch_size: int, epochs: int, draws: Draws) -> Iterator[Tensor]:
    for _ in range(epochs):
        yield from draws.permutation(count).split(batch_size)


def _groups(module: nn.Module) -> list[dict[str, object]]:
    """Decay the weights of layers, not biases and scales."""
    decayed = [value for value in module.parameters() if value.ndim > 1]
    plain = [value for value in module.parameters() if value.ndim <= 1]
    return [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]


def _place(module: nn.Module, device: torch.device) -> None:
    cast(Any, module.to(device)).to(memory_format=memory_format(module))


def _on_device(pictures: np.ndarray, labels: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    answers = torch.as_tensor(np.asarray(labels, dtype=np.int64)).to(device)
    return to_device(pictures, device, "training data"), answers


def _check_data(pictures: np.ndarray, labels: np.ndarray) -> None:
    if len(pictures) != len(labels):
        raise LimenError(
            f"training data: given {len(pictures)} pictures and {len(labels)} labels, allowed is one label a picture."
        )
