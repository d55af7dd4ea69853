"""Every attribution method runs on the meta device: none makes a tensor on a device of its own choice."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from bench.engine import Engine, Network
from bench.registry import ATTRIBUTIONS
from bench.spaces import Pixels

VALUES = ("lrp",)
"""Other libraries read the numbers of the network's own weights, which the meta device does not hold."""


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in ATTRIBUTIONS.names() if name not in VALUES])
def test_a_method_makes_its_tensors_where_the_images_are(conv_network: Network, images: Tensor, name: str) -> None:
    engine = Engine(conv_network, device="meta")
    inputs, targets = engine.prepare(images), engine.targets(images, torch.tensor([4, 0, 2, 2]))
    function = ATTRIBUTIONS.load(name)
    offered = {"space": Pixels(), "draws": engine.draws(0)}
    injected = {key: value for key, value in offered.items() if key in inspect.signature(function).parameters}
    maps = function(engine, inputs, targets, **injected)
    assert maps.device.type == "meta"
    assert maps.shape == (4, 1, 16, 16)
