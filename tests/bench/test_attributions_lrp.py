"""LRP by both libraries: beside rules re-derived from each layer's Jacobian, and on networks that libraries trip over."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.api import explain
from bench.attributions import lrp as method
from bench.engine import Engine, Network
from bench.registry import LimenError
from bench.zoo.resnet import ResidualNetwork

pytest.importorskip("captum")
BY_CAPTUM = ("epsilon", "epsilon_plus")
BY_ZENNIT = (*BY_CAPTUM, "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box")
CASES = [("captum", name) for name in BY_CAPTUM] + [("zennit", name) for name in BY_ZENNIT]
STABLE = 1e-6


def need(library: str) -> None:
    if not method.installed(library):
        pytest.skip(f"{library} cannot be imported here")


class Parts(nn.Module):
    """A convolution with BatchNorm, a residual branch, two kinds of pooling and a head: 8-pixel images, 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.Generator().manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.relu, self.pool, self.head = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(4, 3)
        for parameter in self.parameters():
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=weights)
        self.norm.running_mean.copy_(torch.randn(4, generator=weights))
        self.norm.running_var.copy_(0.5 + torch.rand(4, generator=weights))

    def forward(self, images: Tensor) -> Tensor:
        kept = self.pool(self.relu(self.norm(self.stem(images))))
        inner = self.second(self.relu(self.first(kept)))
        return self.head((kept + inner).relu().mean(dim=(2, 3)))


class Functional(Parts):
    """The same, written with functions, in place, and with reshapes."""

    def forward(self, images: Tensor) -> Tensor:
        kept = functional.max_pool2d(functional.relu_(self.norm(self.stem(images))), 2)
        inner = self.second(torch.relu(self.first(kept)))
        inner += kept
        pooled = functional.adaptive_avg_pool2d(functional.relu(inner), (1, 1))
        return self.head(functional.dropout(pooled, training=False).view(pooled.size(0), -1))


def contributions(layer: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights (out, in), contributions w x (out, in) and bias (out,) of an affine layer, float64."""
    flat = values.flatten().double()
    bias = layer(torch.zeros_like(flat)).flatten()
    weights = torch.autograd.functional.jacobian(lambda one: layer(one).flatten(), torch.zeros_like(flat))
    return weights, weights * flat, bias


def shares(numerator: Tensor, denominator: Tensor, relevance: Tensor, stable: float = STABLE) -> Tensor:
    sign = torch.where(denominator < 0, -1.0, 1.0)
    return (numerator * (relevance / (denominator + stable * sign))[:, None]).sum(dim=0)


def handed_down(
    layer: Callable[[Tensor], Tensor],
    values: Tensor,
    relevance: Tensor,
    rule: str,
    box: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Hand relevance (out,) down an affine layer by a rule, in matrix form; returns (in,)."""
    weights, parts, bias = contributions(layer, values)
    up, down = parts.clamp(min=0), parts.clamp(max=0)
    rising, falling = up.sum(1) + bias.clamp(min=0), down.sum(1) + bias.clamp(max=0)
    total = parts.sum(1) + bias
    if rule == "epsilon":
        return shares(parts, total, relevance)
    if rule == "plus":
        return shares(up, rising, relevance)
    if rule == "alpha2_beta1":
        return 2 * shares(up, rising, relevance) - shares(down, falling, relevance)
    if rule == "gamma":
        positive = shares(parts + 0.25 * up, total + 0.25 * rising, relevance * (total > 0))
        return positive + shares(parts + 0.25 * down, total + 0.25 * falling, relevance * (total < 0))
    if rule == "flat":
        reached = (weights != 0).double()
        return shares(reached, reached.sum(1), relevance)
    assert rule == "box"
    assert box is not None
    low, high = (values.flatten().double() for values in box)
    parts = parts - weights.clamp(min=0) * low - weights.clamp(max=0) * high
    split = bias - bias.clamp(min=0) - bias.clamp(max=0)
    return shares(parts, parts.sum(1) + split, relevance)


RULES = {
    "epsilon": ("epsilon", "epsilon"),
    "epsilon_plus": ("plus", "plus"),
    "epsilon_plus_flat": ("flat", "plus"),
    "epsilon_alpha2_beta1": ("alpha2_beta1", "alpha2_beta1"),
    "epsilon_alpha2_beta1_flat": ("flat", "alpha2_beta1"),
    "epsilon_gamma_box": ("box", "gamma"),
}


def by_matrices(module: Parts, image: Tensor, target: int, composite: str, box: tuple[Tensor, Tensor]) -> Tensor:
    """Go down `Parts` for one image, layer by layer, by the rules of a composite."""
    first_rule, rule = RULES[composite]
    module = copy.deepcopy(module).double()

    def stem(flat: Tensor) -> Tensor:
        return module.norm(module.stem(flat.reshape(1, 3, 8, 8)))

    def inside(layer: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda flat: layer(flat.reshape(1, 4, 4, 4))

    pixels = image.double()
    opened = stem(pixels).relu()
    kept = module.pool(opened)
    middle = module.first(kept).relu()
    inner = module.second(middle)
    summed = (kept + inner).relu()
    pooled = summed.mean(dim=(2, 3))
    logit = module.head(pooled)[0, target]
    start = functional.one_hot(torch.tensor(target), 3) * logit
    relevance = handed_down(lambda flat: module.head(flat.reshape(1, 4)), pooled, start, "epsilon")
    relevance = handed_down(lambda flat: flat.reshape(1, 4, 4, 4).mean((2, 3)), summed, relevance, "epsilon")
    total = (kept + inner).flatten()
    sign = torch.where(total < 0, -1.0, 1.0)
    skip, branch = (part.flatten() * relevance / (total + STABLE * sign) for part in (kept, inner))
    branch = handed_down(inside(module.second), middle, branch, rule)
    relevance = skip + handed_down(inside(module.first), kept, branch, rule)
    winners = torch.autograd.functional.jacobian(
        lambda flat: module.pool(flat.reshape(1, 4, 8, 8)).flatten(), opened.flatten()
    )
    return handed_down(stem, pixels, winners.T @ relevance, first_rule, box).reshape(3, 8, 8).sum(dim=0, keepdim=True)


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 4 - 2


def engine_of(module: nn.Module) -> Engine:
    network = Network(name="parts", module=module, mean=(0.5,) * 3, std=(0.25,) * 3)
    return Engine(network, device="cpu", precision="fp32")


@pytest.mark.parametrize(("library", "composite"), CASES)
def test_every_composite_equals_its_matrix_form(library: str, composite: str, pictures: Tensor) -> None:
    need(library)
    module = Parts().eval()
    targets = [2, 0, 1]
    box = (torch.full((1, 3, 8, 8), -2.0), torch.full((1, 3, 8, 8), 2.0))
    found = explain("lrp", engine_of(module), pictures, targets, library=library, composite=composite)
    for image, target, credit in zip(pictures, targets, found, strict=True):
        expected = by_matrices(module, image[None], target, composite, box).float()
        torch.testing.assert_close(credit, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("library", "composite"), CASES)
def test_functions_and_modules_are_the_same_network(library: str, composite: str, pictures: Tensor) -> None:
    need(library)
    modules, functions = (
        explain("lrp", engine_of(build().eval()), pictures, 1, library=library, composite=composite)
        for build in (Parts, Functional)
    )
    torch.testing.assert_close(functions, modules, rtol=0, atol=1e-5 * float(modules.abs().max()))


@pytest.mark.parametrize("composite", BY_CAPTUM)
def test_zennit_and_captum_agree_on_a_residual_network(composite: str, images: Tensor) -> None:
    need("zennit")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = ResidualNetwork(5, (4, 6, 8, 8), (1, 1, 2, 2, 1))
    engine = Engine(module, device="cpu", precision="fp32")
    theirs, others = (
        explain("lrp", engine, images, 1, library=library, composite=composite) for library in ("zennit", "captum")
    )
    torch.testing.assert_close(others, theirs, rtol=0, atol=5e-3 * float(theirs.abs().max()))


class Forked(nn.Module):
    """BatchNorm that cannot be merged: before any layer, after a layer that is also read elsewhere, after a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.conv, self.after = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.inner, self.last, self.head = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        values = self.conv(self.before(images))
        values = torch.add(torch.relu(self.after(values)), values).relu()
        pooled = functional.avg_pool2d(values, 6).squeeze(3).squeeze(2)
        return self.head(self.last(self.inner(pooled)).relu())


class Same(nn.Conv2d):
    """A convolution that pads by itself, as networks have that came from TensorFlow."""

    def forward(self, values: Tensor) -> Tensor:
        return functional.conv2d(
            functional.pad(values, (0, 1, 0, 1)), self.weight, self.bias, self.stride, groups=self.groups
        )


class Own(nn.Module):
    """Layers as operations on the network's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = Same(3, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6)
        self.second, self.head = Same(6, 6, 3, groups=3), nn.Linear(6 * 16, 5)

    def forward(self, images: Tensor) -> Tensor:
        values = functional.relu(self.second(functional.relu(self.norm(self.first(images)))))
        return functional.linear(functional.pad(values, (1, 0, 1, 0)).flatten(1), self.head.weight, bias=self.head.bias)


class Padded(nn.Module):
    """Zeros around the maps, by a layer and by an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.pad, self.conv, self.head = nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, stride=2), nn.Linear(64, 5)

    def forward(self, images: Tensor) -> Tensor:
        values = functional.pad(self.conv(self.pad(images)).relu(), (1, 0, 1, 0))
        return self.head(functional.max_pool2d(values, 2, 1).flatten(1))


def drawn(module: nn.Module) -> nn.Module:
    """Give every parameter and running statistic a seeded value."""
    weights = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean.copy_(0.3 * torch.randn(part.num_features, generator=weights))
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=weights))
    for parameter in module.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=weights)
    return module.eval()


@pytest.mark.parametrize("library", ["zennit", "captum"])
@pytest.mark.parametrize(
    "build", [Parts, Functional, Forked, Padded, Own, lambda: ResidualNetwork(5, (4, 6, 8, 8), (1, 1, 2, 2, 1))]
)
def test_the_epsilon_rule_of_a_relu_network_is_gradient_times_input(
    library: str, build: Callable[[], nn.Module], pictures: Tensor
) -> None:
    need(library)
    engine = engine_of(drawn(build()))
    # Layer by layer each share is weight times input over their sum, so without a stabiliser the sums cancel.
    found = explain("lrp", engine, pictures, 1, library=library, composite="epsilon", epsilon=1e-9)
    expected = explain("gradient_input", engine, pictures, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("library", ["zennit", "captum"])
def test_lrp_of_a_linear_network_is_weight_times_input(library: str, small_images: Tensor) -> None:
    need(library)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4, bias=False))
    module[1].weight.data = torch.randn(4, 192, generator=torch.Generator().manual_seed(0))
    found = explain("lrp", engine_of(module), small_images, 2, library=library)
    expected = (module[1].weight[2].reshape(1, 3, 8, 8) * small_images).sum(1, keepdim=True)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("library", ["zennit", "captum"])
@pytest.mark.parametrize(
    ("composite", "corner", "relevance"),
    [("epsilon", 2.0, [18.0, 36.0, 54.0]), ("epsilon_plus", -2.0, [12.0, 33.6, 50.4])],
)
def test_lrp_reproduces_captums_toy_values(library: str, composite: str, corner: float, relevance: list[float]) -> None:
    need(library)
    first, second = nn.Conv2d(1, 3, (1, 3), bias=False), nn.Conv2d(3, 1, 1, bias=False)
    first.weight.data.fill_(2.0)
    first.weight.data[0, 0, 0, 0] = corner
    second.weight.data.fill_(3.0)
    engine = Engine(nn.Sequential(first, nn.ReLU(), second, nn.Flatten()), device="cpu", precision="fp32")
    found = explain("lrp", engine, torch.tensor([[[[1.0, 2.0, 3.0]]]]), 0, library=library, composite=composite)
    assert found.flatten().tolist() == pytest.approx(relevance, rel=1e-4)


@pytest.mark.parametrize("library", ["zennit", "captum"])
def test_batches_and_a_low_precision_of_the_scores_change_nothing(library: str, pictures: Tensor) -> None:
    need(library)
    expected = explain("lrp", engine_of(Parts()), pictures, 1, library=library)
    other = Engine(Network(name="parts", module=Parts()), device="cpu", precision="bf16", batch_size=2)
    found = explain("lrp", other, pictures, 1, library=library)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("library", ["zennit", "captum"])
def test_a_second_call_gives_the_same_map(library: str, pictures: Tensor) -> None:
    need(library)
    engine = engine_of(Parts())
    first, second = (explain("lrp", engine, pictures, 1, library=library) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("library", ["zennit", "captum"])
def test_the_callers_module_is_left_as_it_was(library: str, pictures: Tensor) -> None:
    need(library)
    module = Parts().eval()
    names, attributes = (
        [name for name, _ in module.named_modules()],
        {key: set(part.__dict__) for key, part in module.named_modules()},
    )
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    explain("lrp", engine_of(module), pictures, 1, library=library)
    assert [name for name, _ in module.named_modules()] == names
    assert all(set(part.__dict__) == attributes[key] for key, part in module.named_modules())
    assert all(torch.equal(value, weights[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("library", ["zennit", "captum"])
def test_lrp_finds_the_patch_that_the_head_reads(library: str) -> None:
    need(library)
    conv, head = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Linear(4 * 16 * 16, 2, bias=False)
    conv.weight.data = torch.rand(conv.weight.shape, generator=torch.Generator().manual_seed(0))
    read = torch.zeros(2, 4, 16, 16)
    read[1, :, 4:8, 9:13] = 1.0
    head.weight.data = read.flatten(1)
    engine = Engine(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), head), device="cpu", precision="fp32")
    pictures = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    maps = explain("lrp", engine, pictures, 1, library=library)
    outside = maps.clone()
    outside[..., 3:9, 8:14] = 0
    assert (maps[..., 4:8, 9:13] > 0).all()
    assert outside.abs().max() == 0
    torch.testing.assert_close(maps.sum((1, 2, 3)), engine.scores(pictures)[:, 1], rtol=1e-4, atol=1e-4)


class Odd(nn.Module):
    """A convolution, something in between, and a head."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.between, self.head = nn.Conv2d(3, 4, 8), between, nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.between(self.conv(images).flatten(1)))


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2] if images.sum() > 0 else images.flatten(1)[:, 2:4]


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (
            Odd(nn.LayerNorm(4)),
            r"it has the layer 'between' of type LayerNorm, for which LRP has no rule here; allowed",
        ),
        (Odd(lambda values: values * values), r"it has the operation 'mul', for which LRP has no rule"),
        (Odd(lambda values: values + 1), r"it has the operation 'add', for which LRP has no rule"),
        (Odd(lambda values: values.mean(dim=1, keepdim=True).expand(-1, 4)), r"'mean' over other axes than height"),
        (
            Odd(lambda values: functional.linear(values, torch.cat([values[:1]] * 4))),
            r"'linear' with weights that are not the network's",
        ),
        (Odd(nn.ConstantPad1d((0, 0), 1.0)), r"the layer 'between' of type ConstantPad1d, for which LRP has no rule"),
        (
            Odd(lambda values: functional.pad(values, (0, 0), value=1.0)),
            r"the operation 'pad', for which LRP has no rule",
        ),
        (Odd(nn.BatchNorm1d(4)), r"the layer 'between' with no layer before it to merge with"),
        (
            Odd(
                lambda values: functional.avg_pool2d(values.reshape(-1, 1, 4, 1), (values.shape[1], 1)).expand(
                    -1, -1, 4, 1
                )[:, 0, :, 0]
            ),
            r"it has the operation 'avg_pool2d'",
        ),
        (Odd(nn.GELU()), r"it has a GELU, for which captum has no rule; .* or `library='zennit'`"),
        (Branching(), r"its steps cannot be traced"),
    ],
)
def test_a_network_without_rules_is_refused(module: nn.Module, sentence: str, pictures: Tensor) -> None:
    engine = Engine(module, device="cpu", precision="fp32")
    with pytest.raises(LimenError, match=sentence):
        explain("lrp", engine, pictures, 0, library="captum")


def test_a_canonical_form_that_is_another_function_is_refused(pictures: Tensor) -> None:
    # Dropout that stays on is no step of a classifier in evaluation mode.
    module = Odd(lambda values: functional.dropout(values, 0.9, training=True))
    engine = Engine(module, device="cpu", precision="fp32")
    with torch.random.fork_rng(devices=[]), pytest.raises(LimenError, match=r"its canonical form gives other logits"):
        torch.manual_seed(0)
        explain("lrp", engine, pictures, torch.tensor([0, 0, 0]), library="captum")


@pytest.mark.parametrize("composite", [name for name in BY_ZENNIT if name not in BY_CAPTUM])
def test_captum_is_not_asked_for_what_it_gets_wrong(composite: str, pictures: Tensor) -> None:
    with pytest.raises(LimenError, match=rf"given '{composite}' with captum, allowed there is epsilon_plus or epsilon"):
        explain("lrp", engine_of(Parts()), pictures, 0, library="captum", composite=composite)


def test_auto_takes_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method, "installed", lambda name: True)
    assert method.choose("auto", "epsilon_plus") == "zennit"
    monkeypatch.setattr(method, "installed", lambda name: name == "captum")
    assert method.choose("auto", "epsilon_plus") == "captum"


@pytest.mark.parametrize(
    ("library", "composite", "missing"),
    [("zennit", "epsilon", "zennit"), ("captum", "epsilon", "captum"), ("auto", "epsilon_gamma_box", "zennit")],
)
def test_a_library_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, composite: str, missing: str
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name.split(".")[0])

    monkeypatch.setattr("bench.zoo.extras.importlib.import_module", absent)
    with pytest.raises(LimenError, match=rf"'{missing}': '{missing}' is not installed; pip install 'limen\[lrp\]'"):
        method.choose(library, composite)
