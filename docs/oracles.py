"""Measure how far each number lies from its closed form, and write docs/oracles.md (`make oracles`).

The tests assert most of these with a margin; this page says by how much they hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.api import explain, explainer, score
from bench.attributions.forgrad import low_pass
from bench.attributions.hsic import dependence
from bench.attributions.sobol import total_indices
from bench.engine import Draws, Engine, Network
from bench.spaces import Wavelets

Row = tuple[str, str, float]
PAGE = Path(__file__).with_name("oracles.md")
INTRO = """# Closed forms, and how far the code lies from them

Written by `make oracles`. Each row is a case whose answer is known exactly; the error is the largest absolute difference over
all places, images and draws of the case. What is exact in arithmetic differs by float32 rounding (about 1e-7 of the size of the
numbers); what is estimated from draws differs by its Monte Carlo error, and the row says how many were drawn.

| case | expected | largest error |
|---|---|---|
"""


class Function(nn.Module):
    """Logits of a function of the flattened image: one, beside a constant 0, or as many as it gives."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        values = self.function(images.flatten(1))
        return torch.stack([torch.zeros_like(values), values], dim=1) if values.ndim == 1 else values


def engine_of(function: Callable[[Tensor], Tensor]) -> Engine:
    return Engine(Network(name="oracle", module=Function(function)), device="cpu", precision="fp32", batch_size=512)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(found: Tensor | np.ndarray, expected: Tensor | np.ndarray | float) -> float:
    """Return the largest absolute difference."""
    return float((torch.as_tensor(found).double() - torch.as_tensor(expected).double()).abs().max())


def linear() -> Iterator[Row]:
    """Yield what is known of f = w . x + b on 8 x 8 images of one channel."""
    weights, images = normal(64, seed=0), normal(3, 1, 8, 8, seed=1)
    engine = engine_of(lambda flat: flat @ weights + 0.3)
    parts = (weights * images.flatten(1)).reshape(3, 1, 8, 8)
    slope = weights.reshape(1, 1, 8, 8).expand(3, 1, 8, 8)
    cells = {"side": 8}
    for name, options, expected, text in (
        ("saliency", {}, slope.abs(), "abs(w)"),
        ("gradient_input", {}, parts, "w x"),
        ("integrated_gradients", {}, parts, "w (x - x0)"),
        ("integrated_gradients", {"rule": "trapezoid"}, parts, "w (x - x0), trapezoid"),
        ("occlusion", {"patch": 1, "stride": 1}, parts, "w (x - x0)"),
        ("lime", {**cells, "alpha": 0.0}, parts, "w (x - x0), no ridge"),
        ("kernel_shap", cells, parts, "w (x - x0)"),
        ("smoothgrad", {}, slope, "w"),
        ("squaregrad", {}, slope.square(), "w²"),
        ("vargrad", {}, torch.zeros_like(slope), "0"),
    ):
        yield f"{name}, linear", text, error(explain(name, engine, images, 1, **options), expected)
    shares = parts.flatten(1).square() / parts.flatten(1).square().sum(1, keepdim=True)
    found = explain("sobol", engine, images, 1, **cells, samples=4096).flatten(1)
    yield "sobol, linear, 4,096 rows", "(w x)² / sum", error(found, shares)
    found = explain("rise", engine, images, 1, side=None, smooth=False, score="logit", masks=20_000).flatten(1)
    flat = parts.flatten(1)
    expected = flat + 0.5 * (flat.sum(1, keepdim=True) - flat) + 0.3
    yield "rise, linear, pixel masks, 20,000", "w x + p (sum of the others) + b", error(found, expected)
    waves = Wavelets("db2", levels=2)
    credit = explain("integrated_gradients", engine, images, 1, space=waves).flatten(1).sum(1)
    yield "integrated_gradients in wavelets, linear", "sum = f(x) - f(x0)", error(credit, flat.sum(1))
    yield "wavelets (db2, 2 levels)", "inverse of transform = x", error(waves.inputs(waves.transform(images)), images)
    yield from linear_metrics(engine, images, parts, slope)


def linear_metrics(engine: Engine, images: Tensor, parts: Tensor, slope: Tensor) -> Iterator[Row]:
    """Yield what is known of metrics of the exact maps of a linear score."""
    null, flat = np.zeros(len(images)), parts.flatten(1).double()

    def value(name: str, maps: Tensor, method: str = "gradient_input", **options: object) -> np.ndarray:
        again = explainer(method, engine)
        return score(name, engine, images, maps, 1, null=null, explainer=again, **options).values

    order = flat.sort(dim=1, descending=True).values
    place, count = torch.arange(1, 65), 64
    deletion = 0.3 + (order * (place - 0.5) / count).sum(1)
    insertion = 0.3 + (order * (count - place + 0.5) / count).sum(1)
    logits = {"steps": 64, "score": "logit"}
    yield "deletion, linear", "f(x0) + sum c_j (j - .5) / n", error(value("deletion", parts, **logits), deletion)
    yield "insertion, linear", "f(x0) + sum c_j (n - j + .5) / n", error(value("insertion", parts, **logits), insertion)
    yield "mu_fidelity of w x, linear", "1", error(value("mu_fidelity", parts, side=8), 1.0)
    for name in ("faithfulness_correlation", "faithfulness_estimate", "single_deletion", "sensitivity_n"):
        options = {"side": 4} if name == "single_deletion" else {}
        yield f"{name} of w x, linear", "1", error(value(name, parts, **options), 1.0)
    yield "infidelity of w, linear", "0", error(value("infidelity", slope), 0.0)
    yield "completeness of w x, linear", "0", error(value("completeness", parts), 0.0)
    for name in ("max_sensitivity", "avg_sensitivity", "local_lipschitz", "average_stability"):
        yield f"{name} of the gradient, linear", "0", error(value(name, slope.abs(), "saliency"), 0.0)
    found = value("relative_input_stability", parts)
    yield "relative_input_stability of gradient x input, linear", "1", error(found, 1.0)


def functions() -> Iterator[Row]:
    """Yield what is known of products, squares, games and Ishigami's function."""
    pair = torch.tensor([[2.0, 3.0]]).reshape(1, 1, 1, 2)
    product = engine_of(lambda flat: flat[:, 0] * flat[:, 1])
    yield "integrated_gradients, x1 x2", "x1 x2 / 2", error(explain("integrated_gradients", product, pair, 1), 3.0)
    points = Draws(0, "sobol").sobol(2**14, 4)
    first, second = points[:, :2], points[:, 2:]
    yield "sobol, x1 x2, 16,384 rows", "4/7 each", error(indices(lambda m: m[:, 0] * m[:, 1], first, second), 4 / 7)
    squares, images = engine_of(lambda flat: flat.square().sum(1)), normal(2, 1, 4, 4, seed=2)
    yield "gradient_input, sum of x²", "2 x²", error(explain("gradient_input", squares, images, 1), 2 * images.square())
    found = explain("integrated_gradients", squares, images, 1)
    yield "integrated_gradients, sum of x²", "x²", error(found, images.square())
    points = (2 * Draws(0, "ishigami").sobol(2**14, 6) - 1) * math.pi
    found = indices(ishigami, points[:, :3], points[:, 3:])
    yield (
        "sobol, Ishigami (7, .1), 16,384 rows",
        ".5576 .4424 .2437",
        error(found, torch.tensor([[0.5576, 0.4424, 0.2437]])),
    )
    matrix, line, image = normal(10, 10, seed=3), normal(10, seed=4), torch.ones(1, 1, 1, 10)
    game = engine_of(lambda flat: ((flat @ matrix) * flat).sum(1) + flat @ line)
    exact = line + (matrix + matrix.T).sum(1) / 2
    found = explain("kernel_shap", game, image, 1, space=Line(), side=10, samples=800).flatten()
    yield "kernel_shap, quadratic game of 10, 800 pairs", "exact Shapley values", error(found, exact)
    table = normal(64, seed=5)
    cube = engine_of(lambda flat: table[(flat[:, :6] * 2.0 ** torch.arange(6)).sum(1).round().long()])
    found = explain("kernel_shap", cube, torch.ones(1, 1, 1, 6), 1, space=Line(), side=6).flatten()
    yield "kernel_shap, any game of 6, every subset", "exact Shapley values", error(found, shapley(table))


class Line:
    """Pixels of one row, each a cell of its own."""

    name, layer, identity, ordered = "line", None, None, True

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
        return engine.prepare(images)

    def baseline(self, coordinates: Tensor) -> Tensor:
        return torch.zeros_like(coordinates)

    def rebased(self, baseline: str) -> Line:
        return self

    def inputs(self, coordinates: Tensor) -> Tensor:
        return coordinates

    def cells(self, coordinates: Tensor, side: int | None) -> int:
        return coordinates[0, 0].numel()

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: str = "nearest") -> Tensor:
        return weights.reshape(len(weights), 1, *coordinates.shape[2:])

    def pool(self, credit: Tensor, side: int | None) -> Tensor:
        return credit.flatten(1)

    def credit(self, gradients: Tensor) -> Tensor:
        return gradients.sum(dim=1, keepdim=True)

    def map(self, credit: Tensor, size: int | tuple[int, ...]) -> Tensor:
        return credit


def indices(function: Callable[[Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Return Jansen's total indices of a function from two designs (n, d)."""
    swapped = [torch.cat([first[:, :i], second[:, i : i + 1], first[:, i + 1 :]], 1) for i in range(first.shape[1])]
    values = torch.stack([function(design.double()) for design in (first, *swapped)], dim=1)
    return total_indices(values[None])


def ishigami(x: Tensor) -> Tensor:
    return x[:, 0].sin() + 7 * x[:, 1].sin() ** 2 + 0.1 * x[:, 2] ** 4 * x[:, 0].sin()


def shapley(table: Tensor) -> Tensor:
    """Return the Shapley values of a game given as a table of its 2^d subsets, by all orders of the players."""
    players = int(math.log2(len(table)))
    total = torch.zeros(players, dtype=torch.float64)
    for order in itertools.permutations(range(players)):
        held = 0
        for player in order:
            total[player] += float(table[held | 1 << player] - table[held])
            held |= 1 << player
    return total / math.factorial(players)


def kernels() -> Iterator[Row]:
    """Yield what is known of HSIC, EVA and the low-pass filter."""
    masks = Draws(0, "masks").sobol(500, 16).round()
    scores = normal(1, 500, seed=6)
    ones = torch.eye(500, dtype=torch.float64) - 1 / 500
    gaps = (scores[0, :, None] - scores[0, None]).double()
    width = gaps[torch.triu(torch.ones_like(gaps), 1) > 0].abs().quantile(0.5)
    kernel = torch.exp(-gaps.square() / (2 * width**2))
    agree = [(column[:, None] == column[None]).double() for column in masks.T]
    literal = torch.stack([torch.trace(one @ ones @ kernel @ ones) / 500**2 for one in agree])
    found = dependence(masks, scores)[0] / literal.max()
    yield "hsic over its largest, 500 masks", "tr(K H L H) / n², transcribed", error(found, literal / literal.max())
    yield "hsic, constant score", "0", error(dependence(masks, torch.ones(1, 500)), 0.0)
    weights, images = normal(3, 64, seed=7), normal(2, 1, 8, 8, seed=8)
    engine = engine_of(lambda flat: flat @ weights.T)
    found = explain("eva", engine, images, 0, side=4, eps=0.1, rival=1)
    gap = (weights[1] - weights[0]).abs().reshape(4, 2, 4, 2).sum((1, 3)) * 0.1
    drawn = gap.repeat_interleave(2, 0).repeat_interleave(2, 1).expand(2, 1, 8, 8)
    yield "eva, linear, margin to one rival", "eps sum of abs(w_c' - w_c) in the cell", error(found, drawn)
    maps = normal(2, 1, 15, 15, seed=9)
    yield "forgrad, cut-off beyond all frequencies", "abs(map)", error(low_pass(maps, 100.0), maps.abs())
    yield "forgrad, constant map", "the map", error(low_pass(torch.full((1, 1, 9, 7), 2.0), 2.0), 2.0)


def shapes() -> Iterator[Row]:
    """Yield what is known of metrics of the map alone."""
    engine, images = engine_of(lambda flat: flat.sum(1)), torch.ones(1, 1, 10, 10)
    one_hot, flat = torch.zeros(1, 1, 10, 10), torch.ones(1, 1, 10, 10)
    one_hot[..., 3, 4] = 1
    null = np.zeros(1)
    for name, maps, expected in (
        ("sparseness", one_hot, 0.99),
        ("sparseness", flat, 0.0),
        ("complexity", one_hot, 0.0),
        ("complexity", flat, math.log(100)),
        ("effective_complexity", one_hot, 1.0),
        ("effective_complexity", flat, 100.0),
    ):
        found = score(name, engine, images, maps, 1, null=null).values
        kind = "one-hot" if maps is one_hot else "constant"
        yield f"{name}, {kind} map of 100", f"{expected:.4g}", error(found, expected)
    touched = Engine(Function(lambda flat: (flat.amin(1) > 0.5).float() * 40), device="cpu", precision="fp32")
    found = score("deletion", touched, images, normal(1, 1, 10, 10, seed=1), 1, null=null, steps=100).values
    yield "deletion, any pixel touched", "step from 1 to .5: .5025", error(found, 0.5025)


def main() -> None:
    """Measure all rows and write the page."""
    rows = [row for part in (linear, functions, kernels, shapes) for row in part()]
    lines = [f"| {case} | {expected} | {largest:.1e} |" for case, expected, largest in rows]
    PAGE.write_text(INTRO + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(rows)} rows in {PAGE.name}")


if __name__ == "__main__":
    main()
