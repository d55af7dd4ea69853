"""Captum side by side: the same networks, the same images, the same maps."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench.api import explain
from bench.engine import Engine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    captum = pytest.importorskip("captum.attr")
    from captum.testing.helpers.basic_models import BasicModel_ConvNet_One_Conv, BasicModel_MultiLayer

# Captum warns of hooks and of gradients it turns on; they are its own matter.
pytestmark = pytest.mark.filterwarnings("ignore")
TARGETS = [3, 0, 1, 4]


class Flat(torch.nn.Module):
    """Feeds images (N, 1, 1, 3) to captum's toy network of three features."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = BasicModel_MultiLayer()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.flatten(1))


@pytest.fixture
def toy() -> Engine:
    return Engine(BasicModel_ConvNet_One_Conv(), device="cpu", precision="fp32")


def test_saliency_equals_captum(engine: Engine, images: Tensor) -> None:
    theirs = captum.Saliency(engine.network.module).attribute(images.clone(), torch.tensor(TARGETS))
    torch.testing.assert_close(explain("saliency", engine, images, TARGETS), theirs.amax(1, keepdim=True))


def test_gradient_input_equals_captum(engine: Engine, images: Tensor) -> None:
    theirs = captum.InputXGradient(engine.network.module).attribute(images.clone(), torch.tensor(TARGETS))
    found = explain("gradient_input", engine, images, TARGETS)
    torch.testing.assert_close(found, theirs.detach().sum(1, keepdim=True), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("rule", "method"), [("gauss_legendre", "gausslegendre"), ("right", "riemann_right")])
def test_integrated_gradients_equals_captum(engine: Engine, images: Tensor, rule: str, method: str) -> None:
    theirs = captum.IntegratedGradients(engine.network.module).attribute(
        images.clone(), target=torch.tensor(TARGETS), n_steps=50, method=method
    )
    found = explain("integrated_gradients", engine, images, TARGETS, rule=rule)
    torch.testing.assert_close(found, theirs.float().sum(1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_occlusion_equals_captum_where_the_windows_fit(engine: Engine, images: Tensor) -> None:
    theirs = captum.Occlusion(engine.network.module).attribute(
        images.clone(), (3, 4, 4), strides=(3, 2, 2), target=torch.tensor(TARGETS), baselines=0
    )
    found = explain("occlusion", engine, images, TARGETS, patch=4, stride=2)
    # Captum repeats the map in each channel, since its window spans them.
    torch.testing.assert_close(found, theirs[:, :1].float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layer", ["stem", "stage"])
def test_grad_cam_equals_captum(engine: Engine, images: Tensor, layer: str) -> None:
    module = engine.network.module
    theirs = captum.LayerGradCam(module, getattr(module, layer)).attribute(images.clone(), torch.tensor(TARGETS))
    expected = interpolate(theirs.detach().relu(), size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(explain("grad_cam", engine, images, TARGETS, layer=layer), expected)


@pytest.mark.parametrize(
    ("layer", "cam"), [("conv1", [[11.25, 13.5], [20.25, 22.5]]), ("relu1", [[0.0, 4.0], [28.0, 32.5]])]
)
def test_grad_cam_reproduces_captums_toy_values(toy: Engine, layer: str, cam: list[list[float]]) -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = interpolate(torch.tensor([[cam]]), size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(explain("grad_cam", toy, image, 0, layer=layer), expected)


def test_occlusion_reproduces_captums_toy_values() -> None:
    engine = Engine(Flat(), device="cpu", precision="fp32")
    image = torch.tensor([[[[20.0, 50.0, 30.0]]]])
    assert explain("occlusion", engine, image, 0, patch=1, stride=1).flatten().tolist() == [80.0, 200.0, 120.0]


def test_a_captum_attribution_is_accepted_where_a_name_is(engine: Engine, images: Tensor) -> None:
    found = explain(
        lambda module, inputs, targets: captum.IntegratedGradients(module).attribute(inputs, target=targets),
        engine,
        images,
        TARGETS,
    )
    torch.testing.assert_close(found, explain("integrated_gradients", engine, images, TARGETS), atol=1e-5, rtol=1e-4)
