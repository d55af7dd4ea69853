"""Integrated Gradients: the gradient averaged along the straight path from the baseline to the image."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveInt
from torch import Tensor

from ..engine import Engine
from ..registry import LimenError, attribution
from ..spaces import Space
from ._channels import Channels, credit

Rule = Literal["gauss_legendre", "trapezoid", "right", "equal"]


@attribution(
    version=2,
    citation="arXiv:1703.01365",
    cost="steps forwards + steps backwards",
    presets={
        "xplique": {"steps": 50, "rule": "trapezoid", "channels": "mean"},
        "captum": {"steps": 50, "rule": "gauss_legendre"},
        "zennit": {"steps": 20, "rule": "right"},
        "pair": {"steps": 25, "rule": "equal"},
        "quantus": {"steps": 10, "rule": "trapezoid"},
    },
)
def integrated_gradients(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    steps: PositiveInt = 50,
    rule: Rule = "gauss_legendre",
    channels: Channels = "sum",
) -> Tensor:
    """Integrate the gradient of the logit from the space's baseline to the image, times their difference.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates and baseline
    steps : number of points on the path
    rule : 'gauss_legendre' (captum's default), 'trapezoid' (Xplique's), 'right' Riemann sum (zennit's, steps=20),
        'equal' weights on points that include both ends (PAIR's, steps=25); the weights always sum to 1, also under
        the preset 'quantus', whose own sum to (steps - 1) / steps
    channels : 'sum', which alone keeps completeness, or 'mean' over the channels

    Returns
    -------
    (N, 1, H, W), signed; sums to f(x) - f(baseline) up to the error of the rule

    Raises
    ------
    LimenError
        If 'trapezoid' is asked for with fewer than two steps.

    References
    ----------
    Sundararajan, Taly, Yan 2017, arXiv:1703.01365.
    """
    nodes, weights = quadrature(rule, steps)
    coordinates = space.coordinates(engine, images)
    mean_gradient = engine.path_gradients(
        images, images.new_tensor(nodes), images.new_tensor(weights), targets, space=space
    )
    return credit((coordinates - space.baseline(coordinates)) * mean_gradient, space, channels)


def quadrature(rule: Rule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes in [0, 1] and weights that sum to 1, both of shape (steps,)."""
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    if rule == "right":
        return np.arange(1, steps + 1) / steps, np.full(steps, 1 / steps)
    nodes = np.linspace(0, 1, steps)
    if rule == "equal":
        return nodes, np.full(steps, 1 / steps)
    if steps < 2:
        raise LimenError(
            f"attribution 'integrated_gradients', option 'steps': given {steps}, the trapezoid rule needs at least 2."
        )
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return nodes, weights
