"""Randomisation: every learned number is drawn anew, blind maps fail the check, and twins agree with each value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import Tensor, nn

from bench.api import explain, explainer, score
from bench.engine import Engine, Network
from bench.engine.randomise import layers_from_the_top, reinitialised
from bench.metrics._noisy import Noise
from bench.metrics._similarity import centred_ranks, spearman, ssim
from bench.metrics.randomization.efficient_parameter_randomization import entropy
from bench.registry import LimenError

BLIND_TO_THE_NETWORK = {
    "parameter_randomization": 1.0,
    "smooth_parameter_randomization": 1.0,
    "efficient_parameter_randomization": 0.0,
}
QUICK = {"smooth_parameter_randomization": {"samples": 4, "steps": 3}}
TARGETS = [3, 0, 1, 4]


class Odd(nn.Module):
    """A transformer with parameters that no `reset_parameters` knows, layers defined out of order, and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.token = nn.Parameter(torch.ones(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 17, 8))
        self.norm = nn.BatchNorm2d(3)
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.scale = nn.ParameterDict({"gamma": torch.full((8,), 0.1)})
        self.slope = nn.PReLU()
        self.last_norm = nn.LayerNorm(8)
        self.tied = nn.Linear(8, 8, bias=False)
        self.twin = nn.Linear(8, 8, bias=False)
        self.twin.weight = self.tied.weight
        with torch.no_grad():
            for norm in (self.norm, self.last_norm):
                norm.weight.normal_()
                norm.bias.normal_()
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)
            self.norm.num_batches_tracked.fill_(7)
            self.head.bias.normal_()

    def forward(self, images: Tensor) -> Tensor:
        rows = self.patches(self.norm(images)).flatten(2).mT
        rows = torch.cat([self.token.expand(len(rows), -1, -1), rows], dim=1) + self.position
        rows = rows + self.scale["gamma"] * self.attention(rows, rows, rows, need_weights=False)[0]
        return self.head(self.last_norm(self.twin(self.slope(self.tied(rows))))[:, 0])


@pytest.fixture
def odd() -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(name="odd", module=Odd(), size=16)
    return Engine(network, device="cpu", precision="fp32")


def state(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.module.state_dict().items()}


def test_every_learned_number_is_drawn_anew(odd: Engine) -> None:
    before = state(odd.network)
    copy = reinitialised(odd.network, None, odd.draws(0))
    for name, value in copy.module.state_dict().items():
        assert not torch.equal(value, before[name]), name
        assert value.isfinite().all()
    assert copy.fingerprint != odd.network.fingerprint
    assert copy.name == "odd (randomised)"
    assert not copy.module.training
    assert not any(value.requires_grad for value in copy.module.parameters())


def test_the_network_itself_is_left_as_it_was(odd: Engine) -> None:
    before, random = state(odd.network), torch.get_rng_state()
    reinitialised(odd.network, None, odd.draws(0))
    assert all(torch.equal(value, before[name]) for name, value in odd.network.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_normalisation_goes_back_to_the_identity_and_weights_keep_to_the_fan_in(odd: Engine) -> None:
    module = reinitialised(odd.network, None, odd.draws(0)).module
    assert module.norm.running_mean.tolist() == [0, 0, 0]
    assert module.norm.running_var.tolist() == [1, 1, 1]
    assert int(module.norm.num_batches_tracked) == 0
    assert module.last_norm.weight.tolist() == [1] * 8
    assert module.last_norm.bias.tolist() == [0] * 8
    for layer, fan_in in ((module.patches, 48), (module.head, 8), (module.tied, 8)):
        for value in layer.parameters():
            assert value.abs().max() <= fan_in**-0.5
        assert layer.weight.abs().max() > 0.8 * fan_in**-0.5


def test_tied_weights_stay_tied(odd: Engine) -> None:
    module = reinitialised(odd.network, None, odd.draws(0)).module
    assert module.tied.weight is module.twin.weight
    assert "twin" not in layers_from_the_top(odd, torch.zeros(1, 3, 16, 16))


def test_one_layer_changes_alone_and_gets_the_same_numbers_in_any_company(odd: Engine) -> None:
    before = state(odd.network)
    alone = state(reinitialised(odd.network, ["head"], odd.draws(0)))
    everything = state(reinitialised(odd.network, None, odd.draws(0)))
    assert {name for name in before if not torch.equal(alone[name], before[name])} == {"head.weight", "head.bias"}
    assert torch.equal(alone["head.weight"], everything["head.weight"])
    other = state(reinitialised(odd.network, ["head"], odd.draws(1)))
    assert not torch.equal(other["head.weight"], alone["head.weight"])


def test_layers_are_ordered_by_when_they_run_and_the_tokens_come_first(odd: Engine, images: Tensor) -> None:
    found = layers_from_the_top(odd, images)
    called = [name for name in found if name not in ("attention.out_proj", "scale")]
    assert called == ["head", "last_norm", "slope", "tied", "attention", "patches", "norm", "(network)"]
    # What is never called as a module stands next to what it is defined after.
    assert found.index("attention.out_proj") == found.index("attention") - 1
    learned = {name for name, _ in odd.network.module.named_parameters()}
    covered = {name for layer in found for name in learned if name.startswith(layer.replace("(network)", ""))}
    assert covered == learned


def test_the_order_leaves_no_hook_behind(odd: Engine, images: Tensor) -> None:
    layers_from_the_top(odd, images)
    assert not any(part._forward_pre_hooks for part in odd.network.module.modules())


def test_an_unknown_layer_is_told(odd: Engine) -> None:
    with pytest.raises(LimenError, match="layer to randomise: unknown name 'hed'.*did you mean 'head'"):
        reinitialised(odd.network, ["hed"], odd.draws(0))


@pytest.mark.parametrize("name", BLIND_TO_THE_NETWORK)
@pytest.mark.parametrize("method", ["image_gradient", "random"])
def test_a_map_that_does_not_look_at_the_network_fails_the_check(
    name: str, method: str, engine: Engine, images: Tensor
) -> None:
    maps = explain(method, engine, images, TARGETS)
    found = score(name, engine, images, maps, TARGETS, explainer=explainer(method, engine), null_draws=1,
                  **QUICK.get(name, {}))  # fmt: skip
    # Exactly, not within rounding: a gain of -1e-16 in every image would not hold 0.
    assert found.values.tolist() == [BLIND_TO_THE_NETWORK[name]] * 4
    assert found.at_null


@pytest.mark.parametrize("name", ["parameter_randomization", "smooth_parameter_randomization"])
@pytest.mark.parametrize("method", ["gradient_input", "saliency"])
def test_a_map_of_the_gradient_passes_it(name: str, method: str, engine: Engine, images: Tensor) -> None:
    maps = explain(method, engine, images, TARGETS)
    found = score(name, engine, images, maps, TARGETS, explainer=explainer(method, engine), null_draws=1,
                  **QUICK.get(name, {}))  # fmt: skip
    assert found.value.mean < 0.8
    assert found.gain.low > 0.1
    assert found.curve_y is not None
    assert found.curve_y[:, -1].mean() < 0.5


def test_a_linear_network_drawn_anew_has_an_unrelated_gradient(linear_engine: Engine) -> None:
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def gradient(inputs: Tensor, targets: Tensor, *, on: Engine | None = None) -> Tensor:
        weight = (on or linear_engine).network.module.fc.weight  # type: ignore[union-attr]
        return weight[targets].reshape(-1, 3, 8, 8).sum(1, keepdim=True)

    found = [
        score("parameter_randomization", linear_engine, images, gradient(images, torch.tensor([1])), 1, seed=seed,
              explainer=gradient, null=np.ones(1)).values[0]
        for seed in range(40)
    ]  # fmt: skip
    # The rank correlation of independent maps of 64 places has a mean of 0 and a deviation of 1 / sqrt(63).
    assert abs(np.mean(found)) < 4 / np.sqrt(63 * 40)
    assert np.std(found) == pytest.approx(1 / np.sqrt(63), rel=0.35)


@pytest.mark.parametrize("order", ["cumulative", "independent"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_slow_twin_randomises_layer_by_layer(order: str, absolute: bool, engine: Engine, images: Tensor) -> None:
    run = explainer("gradient_input", engine)
    maps = run(images, torch.tensor(TARGETS))
    found = score("parameter_randomization", engine, images, maps, TARGETS, explainer=run, null=np.ones(4), order=order,
                  absolute=absolute)  # fmt: skip
    draws = engine.draws(0, "metric", "parameter_randomization")
    layers = ["fc", "stage.0", "stem.0"]
    expected = []
    for place, layer in enumerate(layers):
        chosen = layers[: place + 1] if order == "cumulative" else [layer]
        other = run(images, torch.tensor(TARGETS), on=engine.beside(reinitialised(engine.network, chosen, draws)))
        pairs = [(one.flatten().numpy(), two.flatten().numpy()) for one, two in zip(maps, other, strict=True)]
        pairs = [(np.abs(one), np.abs(two)) for one, two in pairs] if absolute else pairs
        expected.append([spearmanr(*pair).statistic for pair in pairs])
    assert found.curve_y is not None
    np.testing.assert_allclose(found.curve_y.T, expected, atol=1e-6)
    np.testing.assert_allclose(found.values, np.mean(expected, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.extra["last"], expected[-1], atol=1e-6)
    np.testing.assert_allclose(found.curve_x, [1 / 3, 2 / 3, 1], rtol=1e-6)


def test_the_quantus_preset_compares_absolute_maps(engine: Engine, images: Tensor) -> None:
    run = explainer("gradient_input", engine)
    values = [
        score("parameter_randomization", engine, images, run(images, torch.tensor(TARGETS)), TARGETS, explainer=run,
              null=np.ones(4), **options).values
        for options in ({"preset": "quantus"}, {"absolute": True}, {})
    ]  # fmt: skip
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.allclose(values[0], values[2])


def test_fewer_steps_are_spread_over_the_layers_and_end_with_all_of_them(engine: Engine, images: Tensor) -> None:
    run = explainer("gradient_input", engine)
    maps = run(images, torch.tensor(TARGETS))
    curves = [
        score("parameter_randomization", engine, images, maps, TARGETS, explainer=run, null=np.ones(4), steps=steps)
        for steps in (2, 3)
    ]
    assert curves[0].curve_y is not None
    assert curves[1].curve_y is not None
    np.testing.assert_allclose(curves[0].curve_y, curves[1].curve_y[:, [0, 2]])


def test_a_constant_map_ranks_nothing_and_is_counted(engine: Engine, images: Tensor) -> None:
    def sometimes(inputs: Tensor, targets: Tensor, *, on: Engine | None = None) -> Tensor:
        maps = inputs.sum(1, keepdim=True).clone()
        maps[1] = 0 if on is not None else maps[1]
        return maps

    maps = sometimes(images, torch.tensor(TARGETS))
    found = score("parameter_randomization", engine, images, maps, TARGETS, explainer=sometimes, null=np.ones(4))
    assert np.isnan(found.values).tolist() == [False, True, False, False]
    assert found.extra["undefined"].tolist() == [0, 3, 0, 0]


def test_the_smooth_test_averages_maps_over_the_same_noise_for_both_networks(engine: Engine, images: Tensor) -> None:
    run = explainer("gradient_input", engine)
    found = score("smooth_parameter_randomization", engine, images, run(images, torch.tensor(TARGETS)), TARGETS,
                  explainer=run, null=np.ones(4), samples=5, steps=1)  # fmt: skip
    draws = engine.draws(0, "metric", "smooth_parameter_randomization")
    other = engine.beside(reinitialised(engine.network, None, draws))
    expected = []
    for index, stream in enumerate(draws.spawn("noise").for_images(images)):
        image = images[index]
        noise = stream.normal(5, *image.shape)
        copies = image + 0.1 * (image.max() - image.min()) * noise
        means = [
            run(copies, torch.full((5,), TARGETS[index]), on=one).mean(0).flatten().numpy() for one in (engine, other)
        ]
        expected.append(spearmanr(*means).statistic)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)


def test_entropy_is_that_of_numpys_histogram() -> None:
    maps = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = []
    for one in maps.double().numpy():
        shares = np.histogram(one, bins=100)[0] / one.size
        expected.append(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    np.testing.assert_allclose(entropy(maps, 100), expected, rtol=1e-12)
    assert entropy(torch.ones(1, 1, 4, 4), 100).tolist() == [0]
    np.testing.assert_allclose(entropy(torch.arange(100.0).reshape(1, 1, 10, 10), 100), [np.log(100)])


def test_a_map_that_falls_apart_with_the_network_gains_entropy(engine: Engine, images: Tensor) -> None:
    def tidy(inputs: Tensor, targets: Tensor, *, on: Engine | None = None) -> Tensor:
        maps = torch.zeros(len(inputs), 1, 16, 16)
        maps[:, :, 4:12, 4:12] = 1
        return maps if on is None else explain("random", engine, inputs, targets)

    maps = tidy(images, torch.tensor(TARGETS))
    found = score("efficient_parameter_randomization", engine, images, maps, TARGETS, explainer=tidy, null_draws=1)
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(found.extra["entropy"], quarter, rtol=1e-12)
    np.testing.assert_allclose(found.values, found.extra["entropy_randomised"] / quarter - 1, rtol=1e-9)
    assert found.gain.low > 5
    flat = score("efficient_parameter_randomization", engine, images, torch.ones_like(maps), TARGETS, explainer=tidy, null_draws=1)  # fmt: skip
    assert np.isnan(flat.values).all()


@pytest.mark.parametrize("similarity", ["ssim", "spearman"])
def test_a_map_that_does_not_look_at_the_class_fails_the_random_logit_test(
    similarity: str, engine: Engine, images: Tensor
) -> None:
    maps = explain("image_gradient", engine, images, TARGETS)
    found = score("random_logit", engine, images, maps, TARGETS, explainer=explainer("image_gradient", engine),
                  similarity=similarity, null_draws=1)  # fmt: skip
    assert found.values.tolist() == [1] * 4
    assert found.at_null


def test_the_gradient_of_a_linear_network_passes_the_random_logit_test(
    linear_engine: Engine, small_images: Tensor
) -> None:
    run = explainer("gradient_input", linear_engine)
    found = score("random_logit", linear_engine, small_images, run(small_images, torch.zeros(4, dtype=torch.int64)), 0,
                  explainer=run, null_draws=1)  # fmt: skip
    assert found.gain.low > 0.5


@pytest.mark.parametrize(("name", "similarity"), [("ssim", ssim), ("spearman", spearman)])
def test_the_value_is_the_similarity_to_the_map_of_the_other_class(
    name: str, similarity: Callable[[Tensor, Tensor], Tensor], engine: Engine, images: Tensor
) -> None:
    run = explainer("gradient_input", engine)
    maps = run(images, torch.tensor(TARGETS))
    found = score("random_logit", engine, images, maps, TARGETS, explainer=run, null=np.ones(4), similarity=name)
    for index, other in enumerate(found.extra["other"]):
        one = run(images[index : index + 1], torch.tensor([int(other)]))
        assert found.values[index] == pytest.approx(float(similarity(maps[index : index + 1], one)), abs=1e-4)


def test_the_other_class_is_never_the_one_explained_and_belongs_to_the_image(
    linear_engine: Engine, small_images: Tensor
) -> None:
    many = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    targets = torch.arange(200) % 4
    run = explainer("gradient_input", linear_engine)
    maps = run(many, targets)
    others = score("random_logit", linear_engine, many, maps, targets, explainer=run, null=np.ones(200)).extra["other"]
    assert (others != targets.numpy()).all()
    counts = np.histogram2d(targets.numpy(), others, bins=4)[0]
    assert counts[~np.eye(4, dtype=bool)].min() > 5
    part = score("random_logit", linear_engine, many[40:60], maps[40:60], targets[40:60], explainer=run, null=np.ones(20))  # fmt: skip
    assert part.extra["other"].tolist() == others[40:60].tolist()


def test_a_network_of_one_class_has_no_other_logit() -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), device="cpu")
    images = torch.zeros(2, 3, 8, 8)
    with pytest.raises(LimenError, match="'random_logit': given network 'Sequential' of 1 class"):
        score("random_logit", engine, images, torch.ones(2, 1, 8, 8), 0, explainer=explainer("random", engine))


def test_ssim_is_that_of_gaussian_filters() -> None:
    left, right = (torch.randn(3, 1, 24, 20, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    right = left + 0.7 * right
    expected = []
    for one, two in zip(left.double().numpy()[:, 0], right.double().numpy()[:, 0], strict=True):
        one, two = (values / np.abs(values).max() / 2 + 0.5 for values in (one, two))

        def blur(values: np.ndarray) -> np.ndarray:
            return gaussian_filter(values, sigma=1.5, radius=5)[5:-5, 5:-5]

        means = blur(one), blur(two)
        spreads = blur(one**2) - means[0] ** 2, blur(two**2) - means[1] ** 2
        shared = blur(one * two) - means[0] * means[1]
        c1, c2 = 0.01**2, 0.03**2
        every = (2 * means[0] * means[1] + c1) * (2 * shared + c2)
        every /= (means[0] ** 2 + means[1] ** 2 + c1) * (sum(spreads) + c2)
        expected.append(every.mean())
    np.testing.assert_allclose(ssim(left, right), expected, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 4, 8, 11, 32])
def test_ssim_of_a_map_with_itself_is_one_at_any_size_and_scale(size: int) -> None:
    maps = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(ssim(maps, 100 * maps), 1, rtol=1e-6)
    assert ssim(maps, -maps).max() < 1e-3
    assert ssim(torch.zeros_like(maps), torch.zeros_like(maps)).tolist() == [1, 1]


def test_rank_correlation_is_scipys_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(0, 9, (4, 1, 10, 10), generator=generator).float() for _ in range(2))
    expected = [
        spearmanr(one.flatten(), two.flatten()).statistic for one, two in zip(left.numpy(), right.numpy(), strict=True)
    ]
    np.testing.assert_allclose(spearman(left, right), expected, atol=1e-12)
    assert spearman(left, torch.ones_like(left)).isnan().all()
    np.testing.assert_allclose(centred_ranks(left).sum(dim=1), 0, atol=1e-9)


def test_noise_says_what_it_is() -> None:
    said = {
        "3 copies with U(-0.02, 0.02) noise on the normalised image": Noise("uniform", 0.02, 3),
        "3 copies with U(0, 0.1) noise on the normalised image": Noise("positive", 0.1, 3),
        "3 copies with N(0, 0.1^2) noise on the normalised image": Noise("normal", 0.1, 3),
        "3 copies with N(0, 0.1^2) noise in units of the image's range on the normalised image": Noise(
            "normal", 0.1, 3, relative=True
        ),
    }
    for sentence, noise in said.items():
        assert str(noise) == sentence
