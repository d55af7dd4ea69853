"""Anyone's explainer where a name is taken: captum's and zennit's objects and classes, and plain functions."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import api
from bench.api import explain, explainer
from bench.attributions.forgrad import low_pass
from bench.engine import Engine, Network
from bench.registry import LimenError
from bench.zoo.extras import import_extra

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    captum = pytest.importorskip("captum.attr")

# Captum warns of hooks and of gradients it turns on; they are its own matter.
pytestmark = pytest.mark.filterwarnings("ignore")
TARGETS = [3, 0, 1, 4]
SAME = {
    "Saliency": ("saliency", {"abs": True}, {"channels": "sum"}),
    "InputXGradient": ("gradient_input", {}, {}),
    "IntegratedGradients": ("integrated_gradients", {}, {}),
    "GuidedBackprop": ("guided_backprop", {}, {}),
    "Deconvolution": ("deconvnet", {}, {}),
}
"""Captum's class: our name, the options of theirs, the options of ours."""


@pytest.fixture
def zennit() -> Any:
    try:
        import_extra("zennit", extra="lrp", where="test")
    except LimenError as reason:
        pytest.skip(str(reason))
    from zennit import attribution, composites

    return {"attribution": attribution, "composites": composites}


@pytest.mark.parametrize("peer", SAME)
@pytest.mark.parametrize("form", ["class", "instance"])
def test_captum_is_taken_as_class_and_as_instance(engine: Engine, images: Tensor, peer: str, form: str) -> None:
    name, theirs, ours = SAME[peer]
    made = getattr(captum, peer)
    given = made if form == "class" else made(engine.network.module)
    found = explain(given, engine, images, TARGETS, **theirs)
    torch.testing.assert_close(found, explain(name, engine, images, TARGETS, **ours), atol=1e-5, rtol=1e-4)


def test_options_go_to_captums_constructor_and_to_its_call(engine: Engine, images: Tensor) -> None:
    found = explain(captum.IntegratedGradients, engine, images, TARGETS, multiply_by_inputs=False, n_steps=3)
    expected = captum.IntegratedGradients(engine.network.module, multiply_by_inputs=False).attribute(
        images.clone(), target=torch.tensor(TARGETS), n_steps=3
    )
    torch.testing.assert_close(found, expected.float().sum(1, keepdim=True))


def test_a_captum_attribution_with_a_window_is_taken(engine: Engine, images: Tensor) -> None:
    window = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}
    found = explain(captum.Occlusion, engine, images, TARGETS, **window)
    torch.testing.assert_close(found / 3, explain("occlusion", engine, images, TARGETS, patch=4, stride=4))


def test_a_noise_tunnel_is_taken(engine: Engine, images: Tensor) -> None:
    tunnel = captum.NoiseTunnel(captum.Saliency(engine.network.module))
    found = explain(tunnel, engine, images, TARGETS, nt_samples=1, stdevs=0.0, abs=False)
    torch.testing.assert_close(found, captum_gradient(engine, images))


def captum_gradient(engine: Engine, images: Tensor) -> Tensor:
    slopes = captum.Saliency(engine.network.module).attribute(images.clone(), torch.tensor(TARGETS), abs=False)
    return slopes.sum(1, keepdim=True)


def test_a_plain_function_is_taken(engine: Engine, images: Tensor) -> None:
    found = explain(lambda module, inputs, targets: inputs * targets.reshape(-1, 1, 1, 1), engine, images, TARGETS)
    torch.testing.assert_close(found, (images * torch.tensor(TARGETS).reshape(-1, 1, 1, 1)).sum(1, keepdim=True))


def test_a_foreign_explainer_is_called_in_batches(conv_network: Network, images: Tensor) -> None:
    seen = []

    def peer(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(len(inputs))
        return inputs * targets.reshape(-1, 1, 1, 1)

    engine = Engine(conv_network, device="cpu", precision="fp32", batch_size=3)
    found = explain(peer, engine, images, TARGETS)
    assert seen == [3, 1]
    torch.testing.assert_close(found, (images * torch.tensor(TARGETS).reshape(-1, 1, 1, 1)).sum(1, keepdim=True))


def test_a_foreign_explainer_that_needs_memory_gets_smaller_batches(conv_network: Network, images: Tensor) -> None:
    def greedy(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        if len(inputs) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return inputs

    engine = Engine(conv_network, device="cpu", precision="fp32", batch_size=4)
    torch.testing.assert_close(explain(greedy, engine, images, TARGETS), images.sum(1, keepdim=True))


def test_foreign_explainers_cannot_write_to_the_images(engine: Engine, images: Tensor) -> None:
    before = images.clone()
    explain(lambda module, inputs, targets: inputs.mul_(2), engine, images, TARGETS)
    assert torch.equal(images, before)


@pytest.mark.parametrize("make", [lambda module: captum.Saliency, lambda module: captum.Saliency(module)])
def test_a_foreign_explainer_can_be_filtered_and_averaged(engine: Engine, images: Tensor, make: Any) -> None:
    given = make(engine.network.module)
    filtered = explain("forgrad", engine, images, TARGETS, of=given, of_options={"abs": False}, sigma=3)
    torch.testing.assert_close(filtered, low_pass(captum_gradient(engine, images), 3.0))
    averaged = explain("smoothgrad", engine, images, TARGETS, of=given, of_options={"abs": False}, samples=4)
    torch.testing.assert_close(
        averaged, explain("smoothgrad", engine, images, TARGETS, samples=4), rtol=1e-3, atol=1e-6
    )


def test_a_foreign_explainer_is_scored_like_any_other(engine: Engine, images: Tensor) -> None:
    maps = explain(captum.InputXGradient, engine, images, TARGETS)
    ours = explain("gradient_input", engine, images, TARGETS)
    values = [api.score("deletion", engine, images, each, TARGETS).values for each in (maps, ours)]
    assert values[0] == pytest.approx(values[1], abs=1e-3)


def test_an_explainer_of_a_class_moves_to_another_network(engine: Engine, images: Tensor) -> None:
    other = engine.beside(Network(name="other", module=halved(engine.network.module)))
    run = explainer(captum.Saliency, engine)
    targets = torch.tensor(TARGETS)
    torch.testing.assert_close(run(images, targets, on=other), run(images, targets) / 2)


def halved(module: nn.Module) -> nn.Module:
    """The same network with half its logits."""
    other = copy.deepcopy(module)
    other.fc.weight.data /= 2
    other.fc.bias.data /= 2
    return other


def test_an_instance_of_another_network_is_refused(engine: Engine, images: Tensor) -> None:
    other = engine.beside(Network(name="other", module=halved(engine.network.module)))
    run = explainer(captum.Saliency(engine.network.module), engine)
    with pytest.raises(LimenError, match=r"attribution 'Saliency': given an instance of another network than 'other'"):
        run(images, torch.tensor(TARGETS), on=other)


def test_an_instance_of_a_function_is_not_moved_in_silence(engine: Engine, images: Tensor) -> None:
    module = engine.network.module
    given = captum.Saliency(lambda inputs: module(inputs))
    assert explain(given, engine, images, TARGETS).shape == (4, 1, 16, 16)
    other = engine.beside(Network(name="other", module=halved(module)))
    with pytest.raises(LimenError, match=r"given a captum instance of a function, which cannot be asked about another"):
        explainer(given, engine)(images, torch.tensor(TARGETS), on=other)


def test_an_instance_of_a_wrapper_around_the_network_is_taken(engine: Engine, images: Tensor) -> None:
    wrapped = nn.Sequential(engine.network.module, nn.Softmax(dim=1))
    found = explain(captum.Saliency(wrapped), engine, images, TARGETS, abs=False)
    assert not torch.allclose(found, captum_gradient(engine, images))


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (
            lambda: captum.Saliency,
            {"absolute": True},
            r"'Saliency', option: unknown name 'absolute'; allowed are .*abs",
        ),
        (lambda: captum.Occlusion, {}, r"'Occlusion': its 'attribute' needs sliding_window_shapes"),
        (lambda: captum.LayerGradCam, {}, r"'LayerGradCam': its constructor needs layer; allowed is to give them as"),
        (lambda: captum.NoiseTunnel, {}, r"'NoiseTunnel': its class is made from 'attribution_method', not from a"),
        (
            lambda: lambda module, inputs, targets: inputs,
            {"steps": 3},
            r"given options steps, a plain callable takes none",
        ),
        (
            lambda: object(),
            {},
            r"'object': given object, which explains nothing; allowed are a registered name, .* zennit",
        ),
        (lambda: dict, {}, r"'dict': given type, which explains nothing"),
        (
            lambda: lambda module, inputs, targets: inputs[:, :, :3],
            {},
            r"given \(4, 3, 3, 16\), allowed is a tensor of",
        ),
        (lambda: lambda module, inputs, targets: inputs / 0, {}, r"given numbers that are not finite"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(
    engine: Engine, images: Tensor, make: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LimenError, match=sentence):
        explain(make(), engine, images, TARGETS, **options)


def test_a_layer_of_the_network_can_be_named_in_captums_way(engine: Engine, images: Tensor) -> None:
    found = explain(captum.GuidedGradCam, engine, images, TARGETS, layer=engine.network.module.stage)
    assert found.shape == (4, 1, 16, 16)


@pytest.mark.parametrize("form", ["class", "instance"])
def test_zennits_attributor_is_taken(engine: Engine, images: Tensor, zennit: Any, form: str) -> None:
    gradient = zennit["attribution"].Gradient
    given = gradient if form == "class" else gradient(engine.network.module)
    torch.testing.assert_close(explain(given, engine, images, TARGETS), captum_gradient(engine, images))


def test_zennits_integrated_gradients_are_our_preset(engine: Engine, images: Tensor, zennit: Any) -> None:
    found = explain(zennit["attribution"].IntegratedGradients, engine, images, TARGETS)
    ours = explain("integrated_gradients", engine, images, TARGETS, preset="zennit")
    torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["class", "instance"])
def test_zennits_composite_is_lrp_of_one_unit_of_relevance(
    engine: Engine, images: Tensor, zennit: Any, form: str
) -> None:
    given = zennit["composites"].EpsilonPlus
    found = explain(given if form == "class" else given(), engine, images, TARGETS)
    ours = explain("lrp", engine, images, TARGETS, library="zennit")
    logits = engine.scores(images).gather(1, torch.tensor(TARGETS)[:, None]).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(found * logits, ours, rtol=0, atol=1e-4 * float(ours.abs().max()))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in engine.network.module.modules())


def test_zennits_attributor_of_another_network_is_refused(engine: Engine, images: Tensor, zennit: Any) -> None:
    given = zennit["attribution"].Gradient(halved(engine.network.module))
    with pytest.raises(LimenError, match=r"attribution 'Gradient': given an instance of another network than 'tiny'"):
        explain(given, engine, images, TARGETS)


def test_zennits_rule_explains_nothing(engine: Engine, images: Tensor, zennit: Any) -> None:
    from zennit.rules import Epsilon

    with pytest.raises(LimenError, match=r"given zennit's Epsilon, which explains nothing"):
        explain(Epsilon(), engine, images, TARGETS)
