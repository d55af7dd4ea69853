"""Slow twins: each perturbation method written once more, as plain loops from its formula."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench.attributions.occlusion import occlusion
from bench.attributions.rise import rise
from bench.attributions.sobol import sobol
from bench.engine import Engine
from bench.spaces import Pixels


def score_of(engine: Engine, image: Tensor, target: int, *, probability: bool) -> float:
    """One forward of one image, without the engine's batches."""
    with torch.no_grad():
        logits = engine.network.module(image.unsqueeze(0))[0]
    return float((logits.softmax(0) if probability else logits)[target])


def test_rise_equals_its_loop(engine: Engine, images: Tensor) -> None:
    count, side, p, target = 40, 3, 0.3, 2
    image = images[:1, :, :, :13]
    found = rise(
        engine, image, torch.tensor([target]), space=Pixels(), draws=engine.draws(7), masks=count, side=side, p=p
    )
    draws = engine.draws(7)
    bits = draws.spawn("bits").bernoulli(p, count, side, side)
    cells = [-(-length // side) for length in image.shape[2:]]
    offsets = [draws.spawn("offset", axis).integers(cell, count) for axis, cell in enumerate(cells)]
    weighted, kept = np.zeros(image.shape[2:]), np.zeros(image.shape[2:])
    for index in range(count):
        size = tuple((side + 1) * cell for cell in cells)
        whole = interpolate(bits[index][None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        top, left = (int(offset[index]) for offset in offsets)
        mask = whole[top : top + image.shape[2], left : left + image.shape[3]]
        value = score_of(engine, image[0] * mask, target, probability=True)
        weighted += value * mask.numpy()
        kept += mask.numpy()
    np.testing.assert_allclose(found[0, 0].numpy(), weighted / kept, rtol=1e-4)


def test_rise_by_expectation_divides_by_masks_times_p(engine: Engine, images: Tensor) -> None:
    arguments = {"space": Pixels(), "masks": 30, "side": 3, "p": 0.3}
    targets = torch.zeros(4, dtype=torch.int64)
    by_sum = rise(engine, images, targets, draws=engine.draws(7), **arguments)
    by_expectation = rise(engine, images, targets, draws=engine.draws(7), norm="expected", **arguments)
    ratio = by_expectation / by_sum
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ratio, torch.ones_like(ratio))


def test_sobol_equals_its_loop(engine: Engine, images: Tensor) -> None:
    side, samples, target = 2, 8, 1
    targets = torch.full((2,), target)
    found = sobol(
        engine, images[:2], targets, space=Pixels(), draws=engine.draws(3), side=side, samples=samples,
        upsampling="nearest",
    )  # fmt: skip
    points = engine.draws(3).sobol(samples, 2 * side * side)
    first, second = points[:, : side * side], points[:, side * side :]
    for image, credit in zip(images[:2], found, strict=True):

        def run(row: Tensor, image: Tensor = image) -> float:
            mask = torch.kron(row.reshape(side, side), torch.ones(8, 8))
            return score_of(engine, image * mask, target, probability=False)

        plain = np.array([run(row) for row in first])
        for cell in range(side * side):
            mixed = first.clone()
            mixed[:, cell] = second[:, cell]
            other = np.array([run(row) for row in mixed])
            index = ((plain - other) ** 2).sum() / (2 * samples * plain.var(ddof=1))
            row, column = divmod(cell, side)
            np.testing.assert_allclose(credit[0, row * 8, column * 8], index, rtol=1e-3)


def test_occlusion_equals_its_loop(engine: Engine, images: Tensor) -> None:
    patch, stride, target = 5, 3, 0
    image = images[:1]
    found = occlusion(engine, image, torch.tensor([target]), space=Pixels(), patch=patch, stride=stride)
    clean = score_of(engine, image[0], target, probability=False)
    starts = [0, 3, 6, 9, 11]
    total, covered = np.zeros((16, 16)), np.zeros((16, 16))
    for top in starts:
        for left in starts:
            hidden = image[0].clone()
            hidden[:, top : top + patch, left : left + patch] = 0
            drop = clean - score_of(engine, hidden, target, probability=False)
            total[top : top + patch, left : left + patch] += drop
            covered[top : top + patch, left : left + patch] += 1
    np.testing.assert_allclose(found[0, 0].numpy(), total / covered, atol=1e-5)


def test_occlusion_of_a_rectangle_by_rectangles_equals_its_loop(engine: Engine, images: Tensor) -> None:
    image, target = images[:1, :, :11].contiguous(), 4
    for window in ("hide", "keep"):
        found = occlusion(
            engine, image, torch.tensor([target]), space=Pixels("mean"), patch=(4, 6), stride=(3, 5), window=window
        )
        background = image[0].mean(dim=(1, 2), keepdim=True).expand_as(image[0])
        clean = score_of(engine, image[0], target, probability=False)
        total, covered = np.zeros((11, 16)), np.zeros((11, 16))
        for top in (0, 3, 6, 7):
            for left in (0, 5, 10):
                inside = np.zeros((11, 16))
                inside[top : top + 4, left : left + 6] = 1
                hidden = inside if window == "hide" else 1 - inside
                copy = torch.where(torch.from_numpy(hidden) > 0, background, image[0])
                score = score_of(engine, copy, target, probability=False)
                total += inside * (clean - score if window == "hide" else score)
                covered += inside
        np.testing.assert_allclose(found[0, 0].numpy(), total / covered, atol=1e-5)
