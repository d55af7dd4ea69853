"""Scores and gradients, each against a slow twin written from the formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.engine import TOLERANCE, Draws, Engine, Masks, Network
from bench.registry import LimenError
from bench.spaces import Pixels


def slow_perturbed(module: nn.Module, images: Tensor, masks: Tensor, baseline: Tensor) -> Tensor:
    """Score one masked copy after the other: masks (N, M, H, W) to logits (N, M, K)."""
    rows = []
    for image, own, start in zip(images, masks, baseline, strict=True):
        copies = [mask * image + (1 - mask) * start for mask in own]
        rows.append(torch.stack([module(copy[None])[0] for copy in copies]))
    return torch.stack(rows)


def slow_gradient(module: nn.Module, image: Tensor, target: int) -> Tensor:
    """Differentiate one logit with respect to one image."""
    leaf = image.clone().requires_grad_()
    module(leaf[None])[0, target].backward()
    assert leaf.grad is not None
    return leaf.grad


def full_masks(images: Tensor, count: int) -> Tensor:
    height, width = images.shape[2:]
    return Draws(3, "masks").uniform(len(images), count, height, width)


def test_scores_are_the_logits_of_the_module(engine: Engine, images: Tensor) -> None:
    expected = torch.stack([engine.network.module(image[None])[0] for image in images])
    torch.testing.assert_close(engine.scores(images), expected)


def test_probabilities_are_the_softmax_of_the_logits(engine: Engine, images: Tensor) -> None:
    probabilities = engine.scores(images, "probability")
    torch.testing.assert_close(probabilities, engine.scores(images).softmax(1))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))


def test_scores_are_remembered_by_content(engine: Engine, images: Tensor) -> None:
    first = engine.scores(images)
    with engine.meter() as cost:
        again = engine.scores(images.clone()[[2, 0]])
    assert cost.forwards == 0
    assert torch.equal(again, first[[2, 0]])


def test_equal_images_run_once(engine: Engine, images: Tensor) -> None:
    with engine.meter() as cost:
        scores = engine.scores(images[[0, 1, 0, 0]])
    assert cost.forwards == 2
    assert torch.equal(scores[0], scores[3])


def test_an_image_changed_in_place_is_not_mistaken_for_itself(engine: Engine, images: Tensor) -> None:
    before = engine.scores(images)
    images[0] += 1
    assert not torch.equal(engine.scores(images)[0], before[0])


def test_images_that_differ_in_their_last_number_are_told_apart(engine: Engine, images: Tensor) -> None:
    other = images[:1].clone()
    other[0, -1, -1, -1] += 1
    assert not torch.equal(engine.scores(images[:1]), engine.scores(other))


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_perturbed_scores_agree_with_one_copy_after_the_other(
    conv_network: Network, images: Tensor, batch_size: int, baseline: str
) -> None:
    engine, space = Engine(conv_network, device="cpu", precision="fp32", batch_size=batch_size), Pixels(baseline)
    masks = full_masks(images, 6)
    expected = slow_perturbed(conv_network.module, images, masks, space.baseline(images))
    found = engine.perturbed_scores(images, Masks.each(masks.unsqueeze(2)), None, space=space)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_perturbed_scores_keep_the_target_of_each_image(engine: Engine, images: Tensor) -> None:
    masks, targets = Masks.each(full_masks(images, 5).unsqueeze(2)), torch.tensor([4, 0, 2, 2])
    whole = engine.perturbed_scores(images, masks, None, space=Pixels(), score="probability")
    found = engine.perturbed_scores(images, masks, targets, space=Pixels(), score="probability")
    assert torch.equal(found, torch.stack([rows[:, target] for rows, target in zip(whole, targets, strict=True)]))
    torch.testing.assert_close(whole.sum(2), torch.ones(4, 5))


def test_cell_weights_are_spread_over_the_cells(engine: Engine, images: Tensor) -> None:
    weights = Draws(0).uniform(3, 16)
    blocks = weights.reshape(3, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    found = engine.perturbed_scores(images, Masks.shared(weights), None, space=Pixels(), side=4)
    assert torch.equal(found, engine.perturbed_scores(images, Masks.shared(blocks), None, space=Pixels()))


def test_lazy_masks_see_every_pair_of_image_and_mask_once_in_order(engine: Engine, images: Tensor) -> None:
    seen: list[tuple[int, int]] = []

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        seen.extend(zip(image_index.tolist(), mask_index.tolist(), strict=True))
        return torch.ones(len(image_index), 1)

    engine.perturbed_scores(images, Masks.lazy(5, build), None, space=Pixels())
    assert seen == [(image, mask) for image in range(4) for mask in range(5)]


def test_batches_are_full_and_span_images(conv_network: Network, images: Tensor) -> None:
    sizes: list[int] = []
    conv_network.module.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    engine = Engine(conv_network, device="cpu", precision="fp32", batch_size=8)
    engine.perturbed_scores(images, Masks.shared(torch.ones(5, 1)), None, space=Pixels())
    assert sizes == [8, 8, 4]


def test_a_mask_of_ones_keeps_the_image_and_one_of_zeros_the_baseline(engine: Engine, images: Tensor) -> None:
    space = Pixels("blur")
    found = engine.perturbed_scores(images, Masks.shared(torch.tensor([[1.0], [0.0]])), None, space=space)
    torch.testing.assert_close(found[:, 0], engine.scores(images))
    torch.testing.assert_close(found[:, 1], engine.scores(space.baseline(images)))


def test_no_masks_give_no_scores(engine: Engine, images: Tensor) -> None:
    targets = torch.zeros(4, dtype=torch.int64)
    assert engine.perturbed_scores(images, Masks.shared(torch.ones(0, 1)), targets, space=Pixels()).shape == (4, 0)


@pytest.mark.parametrize("shape", [(3, 1, 16, 16), (1, 1, 16, 16), (20, 1, 8, 8), (20, 16, 16)])
def test_masks_that_do_not_fit_are_refused(engine: Engine, images: Tensor, shape: tuple[int, ...]) -> None:
    masks = Masks.lazy(5, lambda image_index, mask_index: torch.ones(shape))
    with pytest.raises(LimenError, match="allowed is one mask a copy"):
        engine.perturbed_scores(images, masks, None, space=Pixels())


@pytest.mark.parametrize("build", [Masks.shared, Masks.each])
def test_masks_of_the_wrong_rank_are_refused(build) -> None:
    with pytest.raises(LimenError, match=r"masks: given shape \(2,\), allowed are"):
        build(torch.ones(2))


def test_gradients_agree_with_one_image_after_the_other(engine: Engine, images: Tensor) -> None:
    targets = torch.tensor([4, 0, 2, 2])
    found = engine.gradients(images, targets, space=Pixels())
    for image, target, gradient in zip(images, targets.tolist(), found, strict=True):
        torch.testing.assert_close(gradient, slow_gradient(engine.network.module, image, target))


def test_gradients_without_targets_are_those_of_the_predicted_class(engine: Engine, images: Tensor) -> None:
    predicted = engine.scores(images).argmax(1)
    assert torch.equal(
        engine.gradients(images, None, space=Pixels()), engine.gradients(images, predicted, space=Pixels())
    )


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_path_gradients_agree_with_one_point_after_the_other(
    conv_network: Network, images: Tensor, batch_size: int
) -> None:
    engine, space = Engine(conv_network, device="cpu", precision="fp32", batch_size=batch_size), Pixels("mean")
    nodes, weights, targets = [0.1, 0.4, 0.75, 1.0], [0.4, 0.3, 0.2, 0.1], torch.tensor([4, 0, 2, 2])
    found = engine.path_gradients(images, nodes, weights, targets, space=space)
    for image, start, target, sums in zip(images, space.baseline(images), targets.tolist(), found, strict=True):
        points = [start + node * (image - start) for node in nodes]
        slopes = [slow_gradient(conv_network.module, point, target) for point in points]
        expected = sum(weight * slope for weight, slope in zip(weights, slopes, strict=True))
        torch.testing.assert_close(sums, expected, rtol=TOLERANCE, atol=1e-7)


def test_the_gradient_of_a_linear_network_is_its_weights(linear_engine: Engine, small_images: Tensor) -> None:
    targets = torch.tensor([3, 0, 1, 2])
    weights = linear_engine.network.module.fc.weight[targets].reshape(4, 3, 8, 8)
    torch.testing.assert_close(linear_engine.gradients(small_images, targets, space=Pixels()), weights)
    path = linear_engine.path_gradients(small_images, [0.2, 0.9], [0.5, 0.5], targets, space=Pixels())
    torch.testing.assert_close(path, weights)


def test_a_long_path_loses_nothing_to_rounding(linear_engine: Engine, small_images: Tensor) -> None:
    targets = torch.tensor([3, 0, 1, 2])
    weights = linear_engine.network.module.fc.weight[targets].reshape(4, 3, 8, 8)
    path = linear_engine.path_gradients(
        small_images, torch.linspace(0, 1, 997), [1 / 997] * 997, targets, space=Pixels()
    )
    torch.testing.assert_close(path, weights, rtol=1e-7, atol=0)


def test_the_engine_counts_images(engine: Engine, images: Tensor) -> None:
    targets = torch.tensor([0, 1, 2, 3])
    with engine.meter() as outer:
        engine.perturbed_scores(images, Masks.shared(torch.ones(5, 1)), targets, space=Pixels())
        with engine.meter() as inner:
            engine.path_gradients(images, [0.5, 1.0], [0.5, 0.5], targets, space=Pixels())
    assert (inner.forwards, inner.backwards) == (8, 8)
    assert (outer.forwards, outer.backwards) == (28, 8)
    assert outer.seconds >= inner.seconds > 0
    assert outer.peak_bytes >= inner.peak_bytes > 0


def test_a_meter_goes_on_after_one_inside_it_that_counted_the_same(engine: Engine, images: Tensor) -> None:
    with engine.meter() as outer:
        with engine.meter(), engine.meter():
            engine.scores(images)
        engine.scores(images + 1)
    assert outer.forwards == 8


def test_a_meter_stops_at_the_end_of_its_context(engine: Engine, images: Tensor) -> None:
    with engine.meter() as cost:
        pass
    engine.scores(images)
    assert cost.forwards == 0


def test_images_are_never_written_to(images: Tensor) -> None:
    class InPlace(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels.mul_(2).clamp_(min=-1).flatten(1)[:, :4]

    engine, before, space = Engine(InPlace(), device="cpu", precision="fp32"), images.clone(), Pixels()
    engine.scores(images)
    engine.perturbed_scores(images, Masks.shared(torch.ones(2, 1)), None, space=space)
    engine.gradients(images, None, space=space)
    engine.path_gradients(images, [1.0], [1.0], None, space=space)
    assert torch.equal(images, before)


def test_the_caller_s_state_is_left_alone(engine: Engine, images: Tensor) -> None:
    state, threads, enabled = torch.random.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    engine.gradients(images, None, space=Pixels())
    engine.draws(0).sobol(4, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, enabled)
    assert all(value.grad is None for value in engine.network.module.parameters())


def test_gradients_are_taken_where_the_caller_has_them_switched_off(engine: Engine, images: Tensor) -> None:
    expected = engine.gradients(images, None, space=Pixels())
    with torch.no_grad():
        assert torch.equal(engine.gradients(images, None, space=Pixels()), expected)
