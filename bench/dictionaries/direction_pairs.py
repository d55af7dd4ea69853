"""Encoding-decoding direction pairs: detectors found without labels, and what each detected concept adds to the layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.minimise import Decay, Schedule
from ..registry import LimenError, dictionary, unknown
from ..spaces.dictionary import Dictionary, check_k, fit_rows, fitted_on
from ._directions import positive_signals
from ._pair_task import PARAMETERS, STAGES, Head, Stages, Task

REFERENCE: Mapping[str, Stages] = {
    "sparsity": (2.6, 0.85, 0.85),
    "sparsity_bound": (0.0, 2.6, 2.6),
    "binary": (2.8, 2.8, 2.8),
    "margin": (0.6, 0.6, 0.6),
    "inactive": (5.0, 15.0, 15.0),
    "uncertainty": (0.25, 0.25, 0.25),
    "too_active": (0.0, 15.0, 15.0),
    "orthogonality": (0.0, 0.0, 1.0),
}
"""Weights of the losses in the three stages, as published."""
WEIGHTS: Mapping[str, Stages] = {**REFERENCE, "margin": (0.05, 0.05, 0.0), "uncertainty": (4.0, 4.0, 0.25)}
"""The default. A wide margin tilts a filter: `a - c (b + ...)` parts exclusive concepts a, b more widely than `a` alone
does, so its signal holds a share -c of the others; margins that may shrink leave the boundary, and so the filter, exact."""
_FILTERS_TOGETHER = 96
_WHERE = "dictionary 'direction_pairs'"


@dictionary(
    version=2,
    citation="arXiv:2509.23926",
    cost="starts x epochs[0] + epochs[1] + epochs[2] passes, each one head forward + backward where a head is given",
    presets={
        "eddp": {
            "starts": 1,
            "epochs": (800, 2000, 2000),
            "learning_rates": (1e-3, 1e-4, 5e-4),
            "batch": 4096,
            "decay": ("plateau", "plateau", "plateau"),
            "weights": REFERENCE,
        }
    },
)
def direction_pairs(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    head: Head | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    starts: int | None = None,
    epochs: tuple[int, int, int] = (40, 20, 120),
    learning_rates: Stages = (2e-2, 5e-3, 1e-2),
    decay: tuple[Decay, Decay, Decay] = ("plateau", "plateau", "cosine"),
    batch: int = 1024,
    weights: dict[str, Stages] | None = None,
    least_active: Stages = (0.9, 0.9, 0.2),
    most_active: Stages = (12.0, 12.0, 70.0),
) -> Dictionary:
    """Find detectors without labels, and estimate what each detected concept adds to the activations.

    Three stages of gradient descent: orthonormal filters on standardised activations, from several random starts of which
    the one with the smallest loss goes on; free unit filters; then filters jointly with their signal vectors, re-estimated
    at every step as the regression of the activations on a filter's answer over its positives. Where a head is given, it
    must be undecided about activations that were moved to where every detector is.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W)
        At most one concept a row, token or place is what the losses look for.
    k : int
        Number of detectors. Above d they cannot be orthonormal, and the moves are least-squares ones.
    head : callable or None
        Differentiable: activations in the shape that was given to logits (N, K), two classes or more. Without it the two
        losses that listen to it are left out, and provenance says so.
    starts : int or None
        Sets of detectors in the first stage; None takes as many as hold 96 filters together, at least one.
    epochs, learning_rates : one a stage
        Short and fast by default, for layers of tens of features; 'eddp' has the published ones.
    decay : one a stage
        'plateau' halves a rate when the loss has not fallen for a tenth of the epochs, ten at least; 'cosine' lowers it to
        0. The joint loss of a batch is so noisy that plateaus come by chance: rates then fall too early, or never.
    batch : int
        Positions a step.
    weights : name of a loss -> weight in each stage
        Replaces the default of the losses it names.
    least_active : in each stage, the activity wanted of each detector, in shares of 1 / k
    most_active : in each stage, the activity allowed, in multiples of the least one; at most half-way from there to always

    Returns
    -------
    Dictionary
        Unit atoms are the signals (encoding); filters, bias and threshold are the detectors (decoding): the sigmoid of
        filters and bias is the published detection, and a code is 0 where that is below one half, else how much of the atom lies
        above the boundary. The mean is what codes leave of the average activation. A detector with fewer than two positives
        is a dead atom.

    Raises
    ------
    LimenError
        If an option is out of range, a loss is unknown, or the head does not take the activations.

    References
    ----------
    arXiv:2509.23926
    """
    rows = fit_rows(activations, "direction_pairs", draws)
    check_k(k, None, "direction_pairs")
    options = {
        "k": k,
        "starts": starts,
        "epochs": list(epochs),
        "learning_rates": list(learning_rates),
        "decay": list(decay),
        "batch": batch,
        "weights": {name: list(stages) for name, stages in _weights(weights).items()},
        "least_active": list(least_active),
        "most_active": list(most_active),
    }
    _check(starts, epochs, learning_rates, batch, (least_active, most_active))
    facts = fitted_on(rows, draws, **options)
    listener, maps = _as_head(head, activations), _images(activations, rows, head)
    if listener is not None:
        _try(listener, maps)
    task = Task(
        maps=maps,
        head=listener,
        k=k,
        batch=batch,
        weights=_weights(weights),
        least=tuple(share / k for share in least_active),
        most=tuple(_most(times, share / k) for times, share in zip(most_active, least_active, strict=True)),
        draws=draws.spawn(facts["data"], repr(sorted(options.items()))),
    )
    count = max(1, _FILTERS_TOGETHER // k) if starts is None else starts
    told = _told(progress, epochs)
    trained, ends = None, []
    for stage, name in enumerate(STAGES):
        begin = task.start(count) if trained is None else task.carried(trained, stage)
        schedule = Schedule(
            epochs=epochs[stage],
            batch=max(1, batch // task.maps.shape[1]),
            learning_rate=learning_rates[stage],
            patience=max(10, epochs[stage] // 10),
            decay=decay[stage],
        )
        kept = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{name}")
        ended = task.minimise(stage, begin, schedule, kept, told(stage))
        trained = task.best(stage, ended.parameters) if stage == 0 else ended.parameters
        ends.append(ended.losses[-1] if ended.losses else float("nan"))
    assert trained is not None
    return _assembled(task, rows, trained, {**facts, "starts": count, "losses": ends})


def _assembled(task: Task, rows: Tensor, trained: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Dictionary:
    """Estimate the signals on all rows, and put detectors and signals into the units of the activations."""
    middle, scale = task.middle, task.scale(2)
    filters, thresholds, log_margins = (trained[name][0] for name in PARAMETERS)
    unit = filters / filters.norm(dim=1, keepdim=True)
    excess = ((rows - middle) / scale) @ unit.T - thresholds
    signals = positive_signals(rows, excess, excess > 0)
    lengths = signals.norm(dim=1)
    alive = lengths > 0
    atoms = torch.where(alive[:, None], signals / lengths.where(alive, 1)[:, None], 0.0)
    margins = log_margins.exp()
    # The offset is what the codes leave of the mean activation, so that decoding has no bias.
    offset = (rows - (excess.relu() * lengths) @ atoms).mean(dim=0)
    reading = unit / scale / margins[:, None]
    bias = reading @ (offset - middle) - thresholds / margins
    return Dictionary(
        name="direction_pairs",
        atoms=atoms,
        mean=offset,
        encoder="threshold",
        signed=False,
        parameters={
            "filters": reading,
            "bias": bias,
            "gain": lengths * margins,
            "threshold": torch.zeros_like(bias),
        },
        provenance={**facts, "uncertainty": "of the given head" if task.head else "left out: no head was given"},
    )


def _most(times: float, least: float) -> float:
    """Return the upper bound of the activity: so many times the lower one, at most half-way from there to always."""
    return min(times * least, (1 + least) / 2)


def _images(activations: Tensor | Activations, rows: Tensor, head: Head | None) -> Tensor:
    """Return (n, T, d) image by image where a head listens, else (n, 1, d) row by row."""
    if head is None:
        return rows[:, None]
    positions = activations.positions if isinstance(activations, Activations) else len(rows) // len(activations)
    if len(rows) != len(activations) * (1 if isinstance(activations, Activations) else positions):
        raise LimenError(
            f"{_WHERE}, head: given a stream of {len(activations)} rows of which {len(rows)} fit in memory, allowed are "
            "whole images; give fewer activations or no head."
        )
    return rows.reshape(-1, positions, rows.shape[1])


def _as_head(head: Head | None, activations: Tensor | Activations) -> Head | None:
    """Return the head as a function of positions (n, T, d), after it was tried on two images."""
    if head is None:
        return None
    shape: tuple[int, ...] = ()
    if not isinstance(activations, Activations):
        shape = tuple(activations.shape[1:])
    elif activations.grid is not None:
        shape = (activations.shape[1], *activations.grid)
    elif activations.positions == 1:
        shape = (activations.shape[1],)

    def whole(maps: Tensor) -> Tensor:
        if len(shape) == 3:
            maps = maps.mT
        return head(maps.reshape(len(maps), *shape) if shape else maps)

    return whole


def _try(head: Head, maps: Tensor) -> None:
    where = f"{_WHERE}, head on activations {tuple(maps[:2].shape)} (images, positions, features)"
    allowed = "allowed are logits (images, 2 classes or more)"
    try:
        logits = head(maps[:2])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise LimenError(f"{where}: it failed ({reason}); {allowed}.") from None
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(maps[:2]) or logits.shape[1] < 2:
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise LimenError(f"{where}: it returned {given}, {allowed}.")


def _weights(given: Mapping[str, Stages] | None) -> dict[str, Stages]:
    for name in given or {}:
        if name not in WEIGHTS:
            raise unknown(f"{_WHERE}, option 'weights'", name, WEIGHTS)
    return {**WEIGHTS, **(given or {})}


def _check(
    starts: int | None, epochs: Sequence[int], learning_rates: Stages, batch: int, active: tuple[Stages, Stages]
) -> None:
    numbers = {
        "starts": ((starts or 1) if starts is None else starts, 1),
        "batch": (batch, 1),
        "epochs": (min(epochs), 0),
    }
    for option, (given, least) in numbers.items():
        if given < least:
            raise LimenError(f"{_WHERE}, option '{option}': given {given}, allowed is {least} or more.")
    if min(learning_rates) <= 0:
        raise LimenError(f"{_WHERE}, option 'learning_rates': given {min(learning_rates)}, allowed is above 0.")
    if not 0 < min(active[0]) <= max(active[0]) < 1:
        raise LimenError(f"{_WHERE}, option 'least_active': given {active[0]}, allowed is above 0 and below 1.")
    if min(active[1]) < 1:
        raise LimenError(f"{_WHERE}, option 'most_active': given {active[1]}, allowed is 1 or more.")


def _told(
    progress: Callable[[int, int], None] | None, epochs: tuple[int, int, int]
) -> Callable[[int], Callable[[int, int], None] | None]:
    """Count the epochs of all stages in one row."""

    def of(stage: int) -> Callable[[int, int], None] | None:
        if progress is None:
            return None
        return lambda done, _: progress(sum(epochs[:stage]) + done, sum(epochs))

    return of
