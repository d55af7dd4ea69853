"""Captum side by side: the same networks, the same images, the same maps."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional
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


@pytest.mark.parametrize(("name", "peer"), [("guided_backprop", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
def test_relu_rules_equal_captum_where_the_relus_are_modules(
    engine: Engine, images: Tensor, name: str, peer: str
) -> None:
    theirs = getattr(captum, peer)(engine.network.module).attribute(images.clone(), torch.tensor(TARGETS))
    torch.testing.assert_close(explain(name, engine, images, TARGETS), theirs.sum(1, keepdim=True))


def test_guided_backprop_reproduces_captums_toy_value(toy: Engine) -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = torch.tensor([[0.0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]])
    torch.testing.assert_close(explain("guided_backprop", toy, image, 0)[0, 0], expected)


class Functional(torch.nn.Module):
    """The shared small network with its rectifications as functions."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        values = functional.relu(self.inner.stem[0](images))
        values = functional.relu(self.inner.stage[0](values))
        return self.inner.fc(self.inner.pool(values).flatten(1))


@pytest.mark.parametrize(("name", "peer"), [("guided_backprop", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
def test_functional_relus_follow_the_rule_here_and_not_in_captum(
    engine: Engine, images: Tensor, name: str, peer: str
) -> None:
    expected = explain(name, engine, images, TARGETS)
    module = Functional(engine.network.module)
    ours = explain(name, Engine(module, device="cpu", precision="fp32"), images, TARGETS)
    torch.testing.assert_close(ours, expected)
    theirs = getattr(captum, peer)(module).attribute(images.clone(), torch.tensor(TARGETS))
    plain = captum.Saliency(module).attribute(images.clone(), torch.tensor(TARGETS), abs=False)
    # Captum's defect: it returns the plain gradient, without a word.
    torch.testing.assert_close(theirs, plain)
    assert not torch.allclose(ours, theirs.sum(1, keepdim=True))


def test_captums_cam_preset_is_captum_interpolated_as_it_does_by_default(engine: Engine, images: Tensor) -> None:
    module = engine.network.module
    theirs = captum.LayerGradCam(module, module.stage).attribute(images.clone(), torch.tensor(TARGETS)).detach()
    expected = captum.LayerAttribution.interpolate(theirs, (16, 16))
    torch.testing.assert_close(explain("grad_cam", engine, images, TARGETS, preset="captum"), expected)


def test_the_quantus_preset_of_integrated_gradients_has_the_points_without_the_lost_factor(
    engine: Engine, images: Tensor
) -> None:
    theirs = captum.IntegratedGradients(engine.network.module).attribute(
        images.clone(), target=torch.tensor(TARGETS), n_steps=10, method="riemann_trapezoid"
    )
    found = explain("integrated_gradients", engine, images, TARGETS, preset="quantus")
    # Captum's weights sum to 9/10.
    torch.testing.assert_close(found * 0.9, theirs.float().sum(1, keepdim=True), atol=1e-6, rtol=1e-4)


def test_the_captum_preset_of_integrated_gradients_is_captums_default(engine: Engine, images: Tensor) -> None:
    theirs = captum.IntegratedGradients(engine.network.module).attribute(images.clone(), target=torch.tensor(TARGETS))
    found = explain("integrated_gradients", engine, images, TARGETS, preset="captum")
    torch.testing.assert_close(found, theirs.float().sum(1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_the_quantus_preset_of_saliency_sums_captums_channels(engine: Engine, images: Tensor) -> None:
    theirs = captum.Saliency(engine.network.module).attribute(images.clone(), torch.tensor(TARGETS))
    found = explain("saliency", engine, images, TARGETS, preset="quantus")
    torch.testing.assert_close(found, theirs.sum(1, keepdim=True))


def test_lrp_equals_captum_on_a_network_it_takes(images: Tensor) -> None:
    class Layers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()
            self.pool, self.fc = torch.nn.AdaptiveAvgPool2d(2), torch.nn.Linear(16, 5)

        def forward(self, values: Tensor) -> Tensor:
            return self.fc(self.pool(self.relu(self.conv(values))).flatten(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        engine = Engine(Layers(), device="cpu", precision="fp32")
    theirs = captum.LRP(engine.network.module).attribute(images.clone(), target=torch.tensor(TARGETS)).detach()
    found = explain("lrp", engine, images, TARGETS, preset="captum")
    torch.testing.assert_close(found, theirs.sum(1, keepdim=True), atol=1e-5, rtol=1e-3)
