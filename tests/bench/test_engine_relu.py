"""The backward rules of the ReLU, at every form in which a network may rectify."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bench.engine import Engine
from bench.registry import LimenError
from bench.spaces import Pixels

Form = Callable[[Tensor], Tensor]
FORMS: dict[str, Form] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": functional.relu,
    "F.relu in place": lambda values: functional.relu(values, inplace=True),
    "F.relu_": functional.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "tensor.relu": lambda values: values.relu(),
    "tensor.relu_": lambda values: values.relu_(),
    "clamp": lambda values: values.clamp(min=0),
    "clamp_min": lambda values: values.clamp_min(0),
    "threshold": lambda values: functional.threshold(values, 0.0, 0.0),
    "aten": torch.ops.aten.relu.default,
}


class Rectifier(nn.Module):
    """Two rectified linear layers and a head: images of 2 x 2 pixels, 3 classes."""

    def __init__(self, rectify: Form) -> None:
        super().__init__()
        weights = torch.Generator().manual_seed(0)
        self.layers = nn.ParameterList([torch.randn(6, 4, generator=weights), torch.randn(6, 6, generator=weights)])
        self.head = nn.Parameter(torch.randn(3, 6, generator=weights))
        self.rectify = rectify

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(1)
        for layer in self.layers:
            values = self.rectify(values @ layer.T)
        return values @ self.head.T


def by_hand(module: Rectifier, images: Tensor, target: int, rule: str) -> Tensor:
    """Go back through the two layers by the rule, image by image."""
    found = []
    for image in images.flatten(1):
        first = module.layers[0] @ image
        second = module.layers[1] @ first.clamp(min=0)
        slope = module.head[target]
        for weights, before in ((module.layers[1], second), (module.layers[0], first)):
            open_ = (before > 0).float() if rule != "deconvnet" else 1.0
            positive = (slope > 0).float() if rule != "plain" else 1.0
            slope = weights.T @ (slope * open_ * positive)
        found.append(slope)
    return torch.stack(found).reshape(images.shape)


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))


def slopes(module: nn.Module, images: Tensor, rule: str) -> Tensor:
    engine = Engine(module, device="cpu", precision="fp32", batch_size=2)
    return engine.gradients(images, torch.full((len(images),), 1), space=Pixels(), rule=rule)


@pytest.mark.parametrize("rule", ["plain", "guided", "deconvnet"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_relu_follows_the_rule(form: str, rule: str, pixels: Tensor) -> None:
    # `Rectifier` runs one module twice, so 'nn.ReLU' is also a reused module.
    module = Rectifier(FORMS[form])
    torch.testing.assert_close(slopes(module, pixels, rule), by_hand(module, pixels, 1, rule))


def test_the_three_rules_differ(pixels: Tensor) -> None:
    plain, guided, deconvnet = (
        slopes(Rectifier(torch.relu), pixels, rule) for rule in ("plain", "guided", "deconvnet")
    )
    assert not torch.allclose(plain, guided)
    assert not torch.allclose(guided, deconvnet)


def test_a_relu_with_a_ceiling_stays_shut_above_it() -> None:
    class Ceiling(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([functional.relu6(images), -functional.relu6(images)], dim=1).flatten(1)

    images = torch.tensor([-1.0, 3.0, 9.0]).reshape(3, 1, 1, 1)
    engine = Engine(Ceiling(), device="cpu", precision="fp32")
    up, down = (
        engine.gradients(images, torch.full((3,), target), space=Pixels(), rule="guided").flatten() for target in (0, 1)
    )
    assert up.tolist() == [0, 1, 0]
    assert down.tolist() == [0, 0, 0]


def test_an_exported_program_follows_the_rule(pixels: Tensor) -> None:
    module = Rectifier(torch.relu).eval()
    exported = torch.export.export(module, (pixels[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    torch.testing.assert_close(slopes(exported, pixels, "guided"), by_hand(module, pixels, 1, "guided"))


def test_a_rule_leaves_the_next_gradient_plain(pixels: Tensor) -> None:
    module = Rectifier(nn.ReLU())
    slopes(module, pixels, "guided")
    torch.testing.assert_close(slopes(module, pixels, "plain"), by_hand(module, pixels, 1, "plain"))


@pytest.mark.parametrize("rectify", [torch.tanh, functional.gelu, lambda values: values.clamp(min=-1)])
def test_a_network_without_relu_is_refused(rectify: Form, pixels: Tensor) -> None:
    with pytest.raises(LimenError, match=r"network 'Rectifier': its forward pass has no ReLU operation, so the rule"):
        slopes(Rectifier(rectify), pixels, "guided")


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_step_that_hides_its_relus_is_refused(pixels: Tensor) -> None:
    hidden = Rectifier(lambda values: checkpoint(torch.relu, values, use_reentrant=True))
    with pytest.raises(LimenError, match=r"holds a 'CheckpointFunctionBackward', which hides ReLU operations"):
        slopes(hidden, pixels, "deconvnet")
