"""Copies that differ from their image in a box: what is computed of them alone is what a whole pass gives."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from bench.api import explain
from bench.attributions.sobol import replicated
from bench.engine import Engine, Masks, Network, Within
from bench.engine import forward as forward_module
from bench.engine.frozen import operations
from bench.engine.local import Local, cut
from bench.engine.reach import Reach, Sliding
from bench.registry import LimenError
from bench.spaces import Pixels

SIZE = 24


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give a module random weights, and its normalisations random moments."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) / math.sqrt(max(1, parameter[0].numel())))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
                part.running_mean.copy_(0.1 * torch.randn(part.num_features, generator=draws))
                part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=draws))
    return module.eval().requires_grad_(False)


class Block(nn.Module):
    """A shortcut whose window is narrower than that of the convolutions beside it."""

    def __init__(self, inputs: int, outputs: int, stride: int, inplace: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm, self.relu = nn.BatchNorm2d(outputs), nn.ReLU(inplace)
        self.way = nn.Identity() if stride == 1 and inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, values: Tensor) -> Tensor:
        inner = self.second(self.relu(self.norm(self.first(values))))
        inner += self.way(values)
        return self.relu(inner)


class Dense(nn.Module):
    """Maps joined along the channels, and operations written as functions and methods."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Conv2d(7, 4, 5, padding=2),
            nn.Conv2d(11, 4, 1),
        )
        self.head = nn.Linear(4, 5)

    def forward(self, values: Tensor) -> Tensor:
        first = functional.relu(self.one(values))
        second = torch.cat([values, first], dim=1)
        third = torch.tanh(self.two(second)) * 2
        fourth = self.three(torch.cat((second, third), 1)).relu()
        return self.head(functional.adaptive_avg_pool2d(fourth, 1).flatten(1))


class Squeezed(nn.Module):
    """A gate of the whole map: behind it everything is reached."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 1)
        self.last, self.head = nn.Conv2d(6, 6, 3), nn.Linear(6, 5)

    def forward(self, values: Tensor) -> Tensor:
        found = self.conv(values)
        found = found * self.gate(found.mean((2, 3), keepdim=True)).sigmoid()
        found = self.last(found)
        return self.head(found.mean((2, 3)))


class Viewed(nn.Module):
    """Reshapes by `view`, which wants the plain layout, and runs one part under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3 * SIZE * (SIZE - 3), 5)
        self.again = self.conv

    def forward(self, values: Tensor) -> Tensor:
        found = self.again(functional.relu(self.conv(values)))
        return self.head(found.view(found.shape[0], -1))


def tail(*parts: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


NETWORKS: dict[str, Any] = {
    "padded": lambda: tail(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 5, padding=2), channels=4),
    "valid": lambda: tail(nn.Conv2d(3, 6, 3), nn.GELU(), nn.Conv2d(6, 4, (1, 5), (2, 1)), channels=4),
    "strided": lambda: tail(nn.Conv2d(3, 6, 7, 2, 3), nn.ReLU(True), nn.Conv2d(6, 4, 2, 3), channels=4),
    "skipping": lambda: tail(nn.Conv2d(3, 6, 1, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=2), channels=4),
    "dilated": lambda: tail(nn.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3), nn.Conv2d(6, 4, 3, 2), channels=4),
    "most": lambda: tail(nn.Conv2d(3, 6, 3), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(6, 4, 3), channels=4),
    "mean": lambda: tail(nn.Conv2d(3, 6, 3), nn.AvgPool2d(2, padding=1), nn.Conv2d(6, 4, 3), channels=4),
    "mean of few": lambda: tail(nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Conv2d(3, 4, 3), channels=4),
    "reflected": lambda: tail(nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), nn.Conv2d(6, 4, 3), channels=4),
    "same": lambda: tail(nn.Conv2d(3, 6, 5, padding="same"), nn.Conv2d(6, 4, 3), channels=4),
    "blocks": lambda: tail(nn.Conv2d(3, 6, 3, padding=1), Block(6, 6, 1), Block(6, 8, 2, True), channels=8),
    "joined": Dense,
    "gated": Squeezed,
    "viewed": Viewed,
}  # fmt: skip


def boxed(image: Tensor, starts: Tensor, sides: tuple[int, int]) -> Tensor:
    """Copy an image once for each box, with other numbers inside."""
    copies = image.repeat(len(starts), 1, 1, 1)
    draws = torch.Generator().manual_seed(1)
    for copy, (row, column) in zip(copies, starts.tolist(), strict=True):
        copy[:, row : row + sides[0], column : column + sides[1]] = torch.randn(3, *sides, generator=draws)
    return copies


def everywhere(lengths: tuple[int, int], sides: tuple[int, int]) -> Tensor:
    rows, columns = (torch.arange(length - side + 1) for length, side in zip(lengths, sides, strict=True))
    return torch.cartesian_prod(rows, columns)


@pytest.mark.parametrize("sides", [(1, 1), (5, 3), (9, 9)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_windows_give_what_whole_passes_give_wherever_the_box_is(name: str, sides: tuple[int, int]) -> None:
    module = seeded(NETWORKS[name]())
    image = torch.randn(1, 3, SIZE, SIZE - 3, generator=torch.Generator().manual_seed(2))
    starts = everywhere((SIZE, SIZE - 3), sides)
    copies = boxed(image, starts, sides)
    local = Local(module, image, sides)
    rows, columns = starts.unbind(1)
    with torch.no_grad():
        found = local.run(cut(copies, rows, columns, sides), rows, columns, *local.maps(image)[0])
        expected = module(copies.clone())
    assert (expected - module(image)).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


class Overwritten(nn.Module):
    """Writes over a map that the shortcut reads afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(True), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        found = self.conv(values)
        return (self.last(self.relu(found)) + found).mean((2, 3))


def test_a_network_that_writes_over_a_map_in_use_runs_whole(images: Tensor) -> None:
    network = Network(name="overwritten", module=seeded(Overwritten()), classes=tuple("abcd"), size=16)
    expected, forwards, _ = scored(network, images, hidden(20, boxes=False))
    found, same, engine = scored(network, images, hidden(20))
    assert forwards == same
    assert "NotImplementedError" in engine.audit["windows"]["4 x 4"]
    torch.testing.assert_close(found, expected)


def test_a_hook_sees_whole_maps_and_what_it_changes_counts() -> None:
    module = seeded(NETWORKS["padded"]())
    shapes: list[Any] = []

    def half(part: nn.Module, given: Any, output: Tensor) -> Tensor:
        shapes.append(tuple(output.shape[2:]))
        return output / 2

    module[2].register_forward_hook(half)
    image, starts = torch.randn(1, 3, SIZE, SIZE), torch.tensor([[3, 4], [0, 9]])
    copies, (rows, columns) = boxed(image, starts, (3, 3)), starts.unbind(1)
    local = Local(module, image, (3, 3))
    with torch.no_grad():
        found = local.run(cut(copies, rows, columns, (3, 3)), rows, columns, *local.maps(image)[0])
        torch.testing.assert_close(found, module(copies))
    assert set(shapes) == {(SIZE, SIZE)}


@pytest.mark.parametrize("name", ["padded", "strided", "skipping", "dilated", "blocks", "joined"])
def test_the_share_is_what_is_multiplied(name: str) -> None:
    """Counted by torch itself in both graphs."""
    module, image, sides = seeded(NETWORKS[name]()), torch.randn(1, 3, SIZE, SIZE), (3, 3)
    local = Local(module, image, sides)
    rows = columns = torch.tensor([7])
    maps, _ = local.maps(image)

    def work(run: Any, *given: Tensor) -> float:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(*given)
        return float(counter.get_total_flops())

    part = work(local.run, cut(image, rows, columns, sides), rows, columns, *maps)
    assert local.share == pytest.approx(part / work(module, image), rel=1e-6)
    assert local.share < 1


def test_the_share_of_one_convolution_by_hand() -> None:
    """A box of 4 x 4 reaches 6 x 6 of the 16 x 16 places behind a padded 3 x 3 convolution."""
    local = Local(seeded(nn.Sequential(nn.Conv2d(3, 2, 3, padding=1))), torch.zeros(1, 3, 16, 16), (4, 4))
    assert local.share == 36 / 256


@settings(deadline=None, max_examples=200)
@given(
    kernel=st.integers(1, 5), stride=st.integers(1, 4), padding=st.integers(0, 3), dilation=st.integers(1, 3),
    length=st.integers(13, 30), side=st.integers(1, 9),
)  # fmt: skip
def test_the_reach_is_what_a_convolution_changes(
    kernel: int, stride: int, padding: int, dilation: int, length: int, side: int
) -> None:
    step = Sliding(kernel, stride, min(padding, kernel // 2), dilation)
    weights = torch.ones(1, 1, kernel)
    boxes = Reach.of_boxes(length, side)
    changed = torch.zeros(length - side + 1, 1, length)
    for start in range(len(changed)):
        changed[start, 0, start : start + side] = 1
    behind = functional.conv1d(changed, weights, None, stride, step.padding, dilation)[:, 0] > 0
    reach = boxes.after(step, behind.shape[1])
    places = torch.arange(behind.shape[1])
    covered = (places >= reach.start[:, None]) & (places < reach.start[:, None] + reach.count)
    assert bool((covered | ~behind).all())
    seen = reach.seen_by(step)
    assert seen.count == (reach.count - 1) * stride + dilation * (kernel - 1) + 1
    # Not one place too many, where a box lies whole inside, and no place of it goes unseen.
    assert reach.count <= (side - 1 + dilation * (kernel - 1)) // stride + 1


@pytest.mark.parametrize("side", [4, 5, 7, None])
def test_the_boxes_of_cells_hold_the_cells(side: int | None) -> None:
    space, places = Pixels(), torch.zeros(1, 3, 13, 16)
    cells = space.cells(places, side)
    within = Within.cells((13, 16), side)
    drawn = space.spread(torch.eye(cells), places.expand(cells, -1, -1, -1), side)[:, 0] > 0
    assert len(within.starts) == cells
    for cell, (row, column) in zip(drawn, within.starts.tolist(), strict=True):
        inside = cell[row : row + within.sides[0], column : column + within.sides[1]]
        assert inside.shape == within.sides
        assert int(inside.sum()) == int(cell.sum()) > 0


class Untraceable(nn.Module):
    """Chooses by its numbers, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.body = tail(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), channels=4)

    def forward(self, values: Tensor) -> Tensor:
        return self.body(values) if bool(values.sum() < 1e9) else self.body(-values)


def hidden(count: int, sides: tuple[int, int] = (4, 4), *, boxes: bool = True, beyond: int = 0) -> Masks:
    """Masks that each hide a box, larger by `beyond` than is told."""
    starts = everywhere((16, 16), sides)[:count]

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        masks = torch.ones(len(mask_index), 1, 16, 16)
        for mask, (row, column) in zip(masks, starts[mask_index].tolist(), strict=True):
            mask[:, row : row + sides[0] + beyond, column : column + sides[1]] = 0
        return masks

    return Masks.lazy(count, build, Within(starts, sides) if boxes else None)


def scored(network: Network, images: Tensor, masks: Masks, **options: Any) -> tuple[Tensor, int, Engine]:
    engine = Engine(network, device="cpu", **{"precision": "fp32", "graphs": "never", **options})
    with engine.meter() as cost:
        found = engine.perturbed_scores(images, masks, torch.arange(len(images)), space=Pixels())
    return found, cost.forwards, engine


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_engine_scores_copies_within_boxes_alike(conv_network: Network, images: Tensor, batch_size: int) -> None:
    """One forward more an image is the sign that windows were run: that of the image itself."""
    expected, forwards, _ = scored(conv_network, images, hidden(40, boxes=False), batch_size=batch_size)
    found, more, engine = scored(conv_network, images, hidden(40), batch_size=batch_size)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    assert more == forwards + len(images) == 41 * len(images)
    share = Local(conv_network.module, images[:1], (4, 4)).share
    assert engine.audit["windows"] == {"4 x 4": f"{share:.1%} of a pass"}
    json.dumps(engine.audit, allow_nan=False)


@pytest.mark.parametrize("why", ["untraceable", "few copies", "large boxes", "another space"])
def test_whole_passes_where_windows_cannot_be_or_do_not_pay(conv_network: Network, images: Tensor, why: str) -> None:
    network, masks, space = conv_network, hidden(20), Pixels()
    if why == "untraceable":
        network = Network(name="untraceable", module=seeded(Untraceable()), classes=tuple("abcde"), size=16)
    elif why == "few copies":
        masks = hidden(15)
    elif why == "large boxes":
        masks = hidden(16, (13, 13))
    else:
        space.inputs = lambda coordinates: coordinates * 1  # type: ignore[method-assign]
    engine = Engine(network, device="cpu", precision="fp32", graphs="never")
    with engine.meter() as cost:
        found = engine.perturbed_scores(images, masks, torch.zeros(len(images), dtype=torch.long), space=space)
    assert cost.forwards == masks.count * len(images)
    told = {
        "untraceable": {"4 x 4": "whole passes, since the network cannot be rewritten: TraceError"},
        "large boxes": {"13 x 13": "whole passes, since 100.0% would be run"},
    }
    assert engine.audit.get("windows") == told.get(why)
    plain = Masks.lazy(masks.count, masks.build)
    expected = engine.perturbed_scores(images, plain, torch.zeros(len(images), dtype=torch.long), space=Pixels())
    torch.testing.assert_close(found, expected)


def test_runs_are_windows_of_their_first_copy(conv_network: Network, images: Tensor) -> None:
    """Sobol's design: each run is a row of A, then the row with one cell of B; the row's own pass makes the maps."""
    first, second = torch.rand(3, 25, generator=torch.Generator().manual_seed(0)), torch.rand(3, 25)
    plain, boxed_runs = replicated(first, second), replicated(first, second, Within.cells((16, 16), 5))
    expected, forwards, _ = scored(conv_network, images, plain)
    found, same, _ = scored(conv_network, images, boxed_runs)
    assert forwards == same == 3 * 26 * len(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    with torch.no_grad():
        rows = Pixels().spread(first, images[:1].expand(3, -1, -1, -1), 5) * images[1]
        torch.testing.assert_close(found[1, ::26], conv_network.module(rows)[:, 1])


def test_a_run_whose_copies_are_unlike_its_first_is_refused(conv_network: Network, images: Tensor) -> None:
    masks = hidden(36)
    assert masks.within is not None
    runs = Masks.lazy(36, masks.build, Within(masks.within.starts, (4, 4), 18))
    with pytest.raises(LimenError, match="differ from the first of their run elsewhere too"):
        scored(conv_network, images, runs)


def test_sobol_asks_for_windows(conv_network: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same maps with and without them."""
    engine = Engine(conv_network, device="cpu", precision="fp32")
    asked: list[int] = []
    plain = Local.maps
    monkeypatch.setattr(Local, "maps", lambda self, image: asked.append(1) or plain(self, image))  # type: ignore[func-returns-value]
    with_windows = explain("sobol", engine, images, 0, side=4, samples=5)
    assert len(asked) == 5 * len(images)
    monkeypatch.setattr(forward_module, "_SAVING", 0)
    other = Engine(conv_network, device="cpu", precision="fp32")
    whole = explain("sobol", other, images, 0, side=4, samples=5)
    assert len(asked) == 5 * len(images)
    torch.testing.assert_close(with_windows, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_a_change_outside_of_the_box_is_refused(conv_network: Network, images: Tensor) -> None:
    with pytest.raises(LimenError, match="within boxes of 4 x 4: given copies that differ from their image elsewhere"):
        scored(conv_network, images, hidden(20, beyond=1))


def test_bfloat16_windows_are_as_near_as_whole_passes(conv_network: Network, images: Tensor) -> None:
    exact, _, _ = scored(conv_network, images, hidden(60))
    whole, _, _ = scored(conv_network, images, hidden(60, boxes=False), precision="bf16")
    found, forwards, _ = scored(conv_network, images, hidden(60), precision="bf16")
    assert forwards >= 61 * len(images)
    assert (found - exact).abs().max() <= 2 * (whole - exact).abs().max() + 1e-3


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("count", [36, 30], ids=["full batches", "a short rest"])
def test_a_compiled_graph_of_windows_gives_the_same_scores(
    conv_network: Network, images: Tensor, precision: str, count: int
) -> None:
    expected, _, _ = scored(conv_network, images, hidden(count, boxes=False))
    found, forwards, engine = scored(
        conv_network, images, hidden(count), precision=precision, graphs="always", batch_size=12
    )
    assert engine.audit["graphs"] == "compiled"
    assert forwards >= (count + 1) * len(images)
    close = 1e-5 if precision == "fp32" else 0.02 * float(expected.std())
    torch.testing.assert_close(found, expected, rtol=0, atol=close)


def test_auto_compiles_windows_only_for_much_more_work(
    conv_network: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph of windows takes longer to compile, and a copy is only a part of a pass."""
    made: list[int] = []

    class Recorder:
        def __init__(self, run: Any, batch: tuple[Tensor, ...], around: Any, held: list[Tensor]) -> None:
            made.append(len(batch[0]))
            self._run, self._maps = run, held

        def hold(self, maps: list[Tensor]) -> None:
            self._maps = maps

        def __call__(self, *batch: Tensor) -> Tensor:
            return self._run(*batch, *self._maps)

    monkeypatch.setattr(forward_module, "Frozen", Recorder)
    monkeypatch.setattr(forward_module, "_LEAST", 100)
    share = Local(conv_network.module, images[:1], (4, 4)).share
    work = operations(conv_network.module, images[:1]) * share * 160 / 4
    monkeypatch.setitem(forward_module.WORTHWHILE, "cpu", work * 1.001)
    scored(conv_network, images, hidden(40), graphs="auto", batch_size=20)
    assert made == []
    monkeypatch.setitem(forward_module.WORTHWHILE, "cpu", work * 0.999)
    found, _, _ = scored(conv_network, images, hidden(40), graphs="auto", batch_size=20)
    assert made == [20]
    torch.testing.assert_close(found, scored(conv_network, images, hidden(40))[0])
