"""EVA: closed forms on linear networks, limits of small boxes, signs, the sampled split, and what it is worth on digits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.api import explain, score
from bench.engine import Engine, Network
from bench.registry import LimenError
from bench.spaces import Pixels
from bench.zoo import load_images, load_network


def margins(linear_engine: Engine, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the runner-up class of each image and the weights (N, 3, 8, 8) of its margin."""
    weight = linear_engine.network.module.fc.weight
    runner_up = linear_engine.scores(images).scatter(1, targets[:, None], -torch.inf).argmax(dim=1)
    return runner_up, (weight[runner_up] - weight[targets]).reshape(-1, 3, 8, 8)


def per_cell(values: Tensor, side: int) -> Tensor:
    """Sum (N, C, 8, 8) over channels and cells, and give each cell's sum to its places."""
    size = values.shape[-1] // side
    sums = values.sum(dim=1, keepdim=True).unfold(2, size, size).unfold(3, size, size).sum(dim=(4, 5))
    return sums.repeat_interleave(size, dim=2).repeat_interleave(size, dim=3)


@pytest.mark.parametrize("relaxation", ["ibp", "forward", "crown_ibp", "crown", "combination"])
def test_a_linear_margin_has_its_closed_form(linear_engine: Engine, small_images: Tensor, relaxation: str) -> None:
    targets = linear_engine.targets(small_images)
    _, weights = margins(linear_engine, small_images, targets)
    found = explain("eva", linear_engine, small_images, targets, side=4, eps=1e-3, relaxation=relaxation)
    torch.testing.assert_close(found, 1e-3 * per_cell(weights.abs(), 4), rtol=2e-3, atol=2e-6)


def test_separate_linear_logits_have_their_closed_form(linear_engine: Engine, small_images: Tensor) -> None:
    targets = linear_engine.targets(small_images)
    weight = linear_engine.network.module.fc.weight
    found = explain("eva", linear_engine, small_images, targets, side=4, eps=1e-2, relaxation="ibp", bound="separate")
    rivals = torch.tensor([[other for other in range(4) if other != int(target)] for target in targets])
    reach = 1e-2 * weight.abs().sum(dim=1)
    tops = linear_engine.scores(small_images).gather(1, rivals) + reach[rivals]
    other = rivals.gather(1, tops.argmax(dim=1, keepdim=True))[:, 0]
    sizes = (weight[other].abs() + weight[targets].abs()).reshape(-1, 3, 8, 8)
    torch.testing.assert_close(found, 1e-2 * per_cell(sizes, 4), rtol=2e-3, atol=1e-5)


def test_a_fixed_rival_has_its_own_closed_form(linear_engine: Engine, small_images: Tensor) -> None:
    targets = torch.tensor([0, 1, 0, 1])
    weight = linear_engine.network.module.fc.weight
    found = explain("eva", linear_engine, small_images, targets, side=4, eps=0.1, rival=3)
    sizes = (weight[3] - weight[targets]).abs().reshape(-1, 3, 8, 8)
    torch.testing.assert_close(found, 0.1 * per_cell(sizes, 4), rtol=1e-3, atol=1e-5)


def test_directions_hold_the_half_of_the_weights_that_they_can_use(linear_engine: Engine, small_images: Tensor) -> None:
    targets = torch.tensor([0, 1, 0, 1])
    weights = (linear_engine.network.module.fc.weight[3] - linear_engine.network.module.fc.weight[targets]).reshape(
        -1, 3, 8, 8
    )
    for direction, part in (("positive", weights.clamp(min=0)), ("negative", -weights.clamp(max=0))):
        found = explain("eva", linear_engine, small_images, targets, side=4, eps=0.1, rival=3, direction=direction)
        torch.testing.assert_close(found, 0.1 * per_cell(part, 4), rtol=1e-3, atol=1e-5)


def test_eps_is_in_units_of_pictures(conv_network: Network, engine: Engine, images: Tensor) -> None:
    targets = torch.tensor([3, 0, 1, 4])
    plain = Engine(Network(name="plain", module=conv_network.module, layer="stage"), device="cpu", precision="fp32")
    scaled = explain("eva", engine, images, targets, side=4, eps=0.01, relaxation="ibp")
    own = explain("eva", plain, images, targets, side=4, eps=0.04, relaxation="ibp")
    torch.testing.assert_close(scaled, own)


def test_a_vanishing_box_gives_the_gradient_of_the_margin(engine: Engine, images: Tensor) -> None:
    targets = engine.targets(images)
    logits = engine.scores(images)
    rival = logits.scatter(1, targets[:, None], -torch.inf).argmax(dim=1)
    slope = engine.gradients(images, rival, space=Pixels()) - engine.gradients(images, targets, space=Pixels())
    expected = slope.abs().sum(dim=1, keepdim=True).unfold(2, 4, 4).unfold(3, 4, 4).sum(dim=(4, 5)).flatten(1)
    apart = []
    for eps in (1e-3, 1e-5):
        found = explain("eva", engine, images, targets, side=4, eps=eps)[:, 0, ::4, ::4].flatten(1)
        # The fixture's deviation is 1/4, so a channel moves by 4 eps.
        apart.append((found / (4 * eps) / expected - 1).abs().median())
    assert apart[1] < 0.01 < apart[0]


def test_interval_credit_is_never_negative(engine: Engine, images: Tensor) -> None:
    for eps in (0.01, 0.3):
        assert (explain("eva", engine, images[:2], side=3, eps=eps, relaxation="ibp") >= 0).all()


def test_the_margin_never_exceeds_separate_logits_on_a_relu_network(engine: Engine, images: Tensor) -> None:
    credit = {
        bound: explain("eva", engine, images, side=1, eps=0.1, relaxation="ibp", bound=bound).mean()
        for bound in ("margin", "separate")
    }
    assert credit["margin"] < credit["separate"]


def test_a_split_is_keyed_by_content_and_seed(engine: Engine, images: Tensor) -> None:
    options = {"side": 2, "eps": 0.1, "split": "stage", "samples": 3, "relaxation": "ibp"}
    targets = torch.tensor([3, 0, 1, 4])
    whole = explain("eva", engine, images, targets, **options)
    torch.testing.assert_close(explain("eva", engine, images[2:3], targets[2:3], **options), whole[2:3])
    assert not torch.equal(explain("eva", engine, images, targets, seed=1, **options), whole)


def test_a_split_sees_less_than_the_whole_box_allows(engine: Engine, images: Tensor) -> None:
    verified = explain("eva", engine, images, side=1, eps=0.1, relaxation="ibp")
    sampled = explain("eva", engine, images, side=1, eps=0.1, relaxation="ibp", split="stage", samples=5)
    assert (sampled > 0).all()
    assert (sampled < verified).all()


def test_a_split_of_one_sample_is_the_head_at_that_sample(engine: Engine, images: Tensor) -> None:
    targets = engine.targets(images)
    seen: list[Tensor] = []
    tap = engine.tap

    def watched(points: Tensor, layer: str | None = None) -> Tensor:
        seen.append(points)
        return tap(points, layer)

    engine.tap = watched  # type: ignore[method-assign]
    found = explain("eva", engine, images[:1], targets[:1], side=1, eps=0.1, split="stage", samples=1)
    logits = engine.network.module(torch.stack([seen[-1][0], images[0]]))
    gaps = logits.scatter(1, targets[:1].expand(2, 1), -torch.inf).amax(dim=1) - logits[:, targets[0]]
    torch.testing.assert_close(found[0, 0, 0, 0], gaps[0] - gaps[1], rtol=1e-3, atol=1e-5)


def test_the_rival_may_not_be_the_target(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match="'rival': given 2, which is the target"):
        explain("eva", engine, images, 2, rival=2)


def test_another_space_is_refused(engine: Engine, images: Tensor) -> None:
    class Other:
        name, layer = "waves", None

        def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
            return images

    with pytest.raises(LimenError, match="'eva', space: given 'waves', allowed is pixels"):
        explain("eva", engine, images, space=Other())  # type: ignore[arg-type]


def test_the_paper_preset_bounds_separate_logits_by_all_relaxations(small_images: Tensor) -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), device="cpu")
    options = {"side": 12, "eps": 0.5, "relaxation": "combination", "bound": "separate"}
    images = small_images[:1]
    with pytest.raises(LimenError, match="12 cells a side"):
        explain("eva", engine, images, preset="paper")
    preset = explain("eva", engine, images, preset="paper", side=2)
    torch.testing.assert_close(preset, explain("eva", engine, images, **{**options, "side": 2}))


@pytest.mark.long
def test_on_digits_eva_deletes_better_than_random_maps() -> None:
    engine = Engine(load_network("tiny@digits", device="cpu", progress=False), device="cpu", precision="fp32")
    images = engine.inputs(load_images("digits", n=24, seed=0).pictures)
    maps = explain("eva", engine, images, side=8, eps=0.05, relaxation="ibp")
    found = score("deletion", engine, images, maps)
    assert found.gain.low > 0
