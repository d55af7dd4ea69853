"""Is the network after a layer affine, and with which slopes? Read from gradients, believed only if they predict."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine import TOLERANCE, Draws, Engine
from ..registry import LimenError
from .dictionary import positions

_PROBES = 4
"""Images from which an affine head is told."""


@dataclass(frozen=True, eq=False)
class AffineHead:
    """A head whose logits are `sum_t <slopes_t, a_t> + bias` in the activations of a layer.

    Attributes
    ----------
    slopes : float (C, T, d), or (C, 1, d) where all positions count alike
    bias : float (C,)
    classes : the C classes that were asked for
    positions : T
    """

    slopes: Tensor
    bias: Tensor
    classes: tuple[int, ...]
    positions: int

    @property
    def pooled(self) -> bool:
        """True if the logits are affine in the activations averaged over positions."""
        return self.slopes.shape[1] == 1

    @property
    def weights(self) -> Tensor:
        """Return (C, d) with logits = mean over positions @ weights.T + bias.

        Raises
        ------
        LimenError
            If positions do not count alike.
        """
        if not self.pooled:
            raise LimenError(
                "affine head, weights: given a head that reads positions unlike each other, allowed is one that averages "
                "them; its slopes are (classes, positions, features)."
            )
        return self.slopes[:, 0] * self.positions

    def logits(self, activations: Tensor) -> Tensor:
        """Return what the affine form says of activations (n, *layer), (n, C)."""
        rows = positions(activations).reshape(len(activations), -1, self.slopes.shape[2])
        spread = self.slopes.expand(-1, rows.shape[1], -1)
        return torch.einsum("ntd,ctd->nc", rows, spread) + self.bias


def affine_head(
    engine: Engine, inputs: Tensor, layer: str, classes: tuple[int, ...] | None = None
) -> AffineHead | None:
    """Tell whether the network after a layer is affine, and read its slopes.

    The slopes are gradients at one image. They are believed only if they predict the logits at zero, at images, their
    negatives, doubles and mixtures, and at noise, to 1e-4 of the range of the logits there.

    Parameters
    ----------
    engine : Engine
    inputs : float (N, C, H, W), as the network takes them; the first four are read
    layer : a layer that everything passes through
    classes : the classes to read; None is all of them

    Returns
    -------
    AffineHead, or None where the head bends
    """
    activations = engine.tap(inputs[:_PROBES], layer)
    head = engine.head(layer)
    point = activations[:1].clone().requires_grad_()
    logits = head(point)[0]
    if not logits.requires_grad:
        return None
    chosen = tuple(range(len(logits))) if classes is None else classes
    points = _probes(activations, engine.draws(0, "affine head", layer))
    answers = head(points.requires_grad_()).detach()[:, list(chosen)]
    found: list[Tensor] = []
    for index, one in enumerate(chosen):
        (slope,) = torch.autograd.grad(logits[one], point, retain_graph=True, materialize_grads=True)
        found.append(_by_position(slope))
        # Most heads bend: one class tells, before the others are asked.
        if index == 0 and _affine(found, answers[:, :1], points.detach(), chosen[:1]) is None:
            return None
    return _affine(found, answers, points.detach(), chosen)


def _by_position(slope: Tensor) -> Tensor:
    """Return the slope of one logit as (T, d), or (1, d) where positions count alike."""
    rows = positions(slope)
    level = rows.mean(dim=0, keepdim=True)
    alike = (rows - level).abs().max() <= TOLERANCE * level.abs().max()
    return level if bool(alike) else rows


def _probes(activations: Tensor, draws: Draws) -> Tensor:
    noise = draws.normal(*activations.shape).type_as(activations) * activations.square().mean().sqrt()
    mixed = (activations + activations.flip(0)) / 2
    return torch.cat([0 * activations[:1], activations, -activations, 2 * activations, mixed, noise])


def _affine(slopes: list[Tensor], answers: Tensor, points: Tensor, classes: tuple[int, ...]) -> AffineHead | None:
    """Put slopes together and believe them if they predict the answers; the first point is zero."""
    rows = positions(points[:1]).shape[0]
    alike = all(len(one) == 1 for one in slopes)
    found = torch.stack([one if alike else one.expand(rows, -1) for one in slopes])
    head = AffineHead(found, answers[0], classes, rows)
    gap = (head.logits(points) - answers).abs().max()
    return head if bool(gap <= TOLERANCE * (answers - answers[0]).abs().max()) else None
