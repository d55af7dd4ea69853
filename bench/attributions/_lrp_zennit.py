"""LRP by zennit, on a canonical copy of the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from ..engine import Network
from ._lrp_graph import CONVOLUTIONS, Canonical


def build(module: nn.Module, where: str) -> fx.GraphModule:
    """Return the canonical copy with zennit's sums."""
    from zennit.layer import Sum  # type: ignore[import-not-found,unused-ignore]

    def add(canonical: Canonical, first: fx.Node, second: fx.Node) -> fx.Node:
        return canonical.call(Sum(), canonical.graph.call_function(torch.stack, ([first, second], -1)))

    return Canonical(module, add, where).build()


def relevance(module: fx.GraphModule, rules: Any, images: Tensor, targets: Tensor) -> Tensor:
    """Return the relevance (N, C, H, W) of the target's logit under the rules of a composite."""
    from zennit.attribution import Gradient  # type: ignore[import-not-found,unused-ignore]

    def start(logits: Tensor) -> Tensor:
        return logits.detach() * nn.functional.one_hot(targets, logits.shape[1])

    with Gradient(module, rules) as attributor:
        _, found = attributor(images, start)
    return found.detach()


def rules(composite: str, images: Tensor, network: Network, epsilon: float, gamma: float) -> Any:
    """Return zennit's composite by name; the box of pixel values is the network's own normalisation of [0, 1]."""
    from zennit import composites  # type: ignore[import-not-found,unused-ignore]
    from zennit.rules import Epsilon  # type: ignore[import-not-found,unused-ignore]

    if composite == "epsilon":
        layers = [(CONVOLUTIONS, Epsilon(epsilon=epsilon)), ((nn.Linear,), Epsilon(epsilon=epsilon))]
        return composites.LayerMapComposite(layer_map=[*composites.layer_map_base(), *layers])
    if composite == "epsilon_gamma_box":
        low, high = (_normalised(value, images, network) for value in (0.0, 1.0))
        return composites.EpsilonGammaBox(low=low, high=high, epsilon=epsilon, gamma=gamma)
    return composites.COMPOSITES[composite](epsilon=epsilon)


def _normalised(value: float, images: Tensor, network: Network) -> Tensor:
    """Return the number (1, C, 1, 1) that a pixel value in [0, 1] becomes in each channel."""
    mean, std = (images.new_tensor(line).reshape(1, -1, 1, 1) for line in (network.mean, network.std))
    return (value - mean) / std
