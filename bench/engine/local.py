"""Copies that differ from their image in a box alone: a network rewritten to compute again only what the box reaches."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from .reach import Reach, Sliding, Stretch

Sides = tuple[int, int]
Window = tuple[Reach, Reach]
_DENSE = 0.8
"""Share of a map from which it is computed whole."""
_POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid,
    nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Identity, nn.Dropout, nn.Dropout2d,
)  # fmt: skip
_POINTWISE_FUNCTIONS = {
    functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.gelu, functional.silu,
    functional.hardswish, functional.hardsigmoid, functional.sigmoid, functional.tanh, torch.relu, torch.sigmoid,
    torch.tanh, torch.add, torch.mul, torch.sub, operator.add, operator.iadd, operator.mul, operator.imul, operator.sub,
}  # fmt: skip
_POINTWISE_METHODS = {"relu", "relu_", "sigmoid", "tanh", "add", "add_", "mul", "mul_", "clone", "contiguous"}


class Local:
    """A network for copies of one image that differ from it in a box of one size.

    Of the image every map of the network is known; of a copy only the window of a map that the box reaches is computed,
    from the same window of the maps before, with the image's own values around it. A map reached nearly whole, or by an
    operation that is not known here, is computed whole. The result is that of a whole pass.

    Parameters
    ----------
    module : in evaluation mode, of inputs (n, C, H, W)
    sample : (1, C, H, W), an input in the layout that suits the module
    sides : of the box, in the input

    Attributes
    ----------
    run : `run(boxes (B, C, h, w), rows (B,), columns (B,), *maps) -> output`
        Where the boxes begin, int64, and the image's maps.
    sides : of the box
    share : multiplications of a copy, of those of a whole pass

    Raises
    ------
    Exception
        Whatever torch.fx raises for a module that cannot be traced; NotImplementedError for one that writes over a map
        which others read, or has several inputs.
    """

    def __init__(self, module: nn.Module, sample: Tensor, sides: Sides) -> None:
        traced = fx.symbolic_trace(module)
        with torch.no_grad():
            ShapeProp(traced).propagate(sample)
        writer = _Writer(traced, sides, plain=sample.is_contiguous())
        self.sides = sides
        self.run: Callable[..., Any] = writer.module.to(sample.device)
        self.share = writer.done / writer.whole if writer.whole else 1.0
        self._recorder = _Recorder(traced, writer.kept)

    def maps(self, image: Tensor) -> tuple[list[Tensor], Any]:
        """Return the maps (1, ...) of an image (1, C, H, W), as `run` wants them, and the module's output."""
        return self._recorder.record(image)


def cut(images: Tensor, rows: Tensor, columns: Tensor, sides: Sides) -> Tensor:
    """Return the boxes (B, C, *sides) of images (B, C, H, W) that begin at `rows` and `columns` (B,)."""
    copy = torch.arange(len(images), device=images.device)[:, None, None]
    down = rows[:, None] + torch.arange(sides[0], device=rows.device)
    along = columns[:, None] + torch.arange(sides[1], device=rows.device)
    return images[copy, :, down[:, :, None], along[:, None]].permute(0, 3, 1, 2)


class _Axis(nn.Module):
    """Where the places of a stretch are found along an axis, by where the box begins.

    Attributes
    ----------
    at, own : int64 (S, n), in the image's map and in the copy's window, moved inside where they are not
    mine, inside : bool (S, n), whether they are in the window, and in the map
    """

    at: Tensor
    own: Tensor
    mine: Tensor
    inside: Tensor

    def __init__(self, have: Reach, want: Stretch) -> None:
        super().__init__()
        places = want.start[:, None] + torch.arange(want.count)
        own = places - have.start[:, None]
        self.register_buffer("at", places.clamp(0, have.length - 1))
        self.register_buffer("own", own.clamp(0, have.count - 1))
        self.register_buffer("mine", (own >= 0) & (own < have.count))
        self.register_buffer("inside", (places >= 0) & (places < have.length))


class Read(nn.Module):
    """Reads a stretch of the copies' maps: the copies' own values in their windows, the image's around, `fill` outside.

    Parameters
    ----------
    have : the window, along rows and columns, that is known of each copy
    want : the stretches to be read
    fill : stands for places outside the map
    plain : the layout of what is read, contiguous or channels last: some modules ask for the former
    """

    def __init__(self, have: Window, want: tuple[Stretch, Stretch], fill: float, plain: bool) -> None:
        super().__init__()
        self._fill, self._plain = fill, plain
        self._rows, self._columns = (_Axis(*axis) for axis in zip(have, want, strict=True))
        self._edged = not bool(self._rows.inside.all() and self._columns.inside.all())

    def forward(self, values: Tensor, whole: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Map windows (B, C, h, w), the image's map (1, C, H, W) and where the boxes begin (B,) to (B, C, *want)."""
        down, along = self._rows, self._columns
        copy = torch.arange(len(values), device=values.device)[:, None, None]
        own = values.permute(0, 2, 3, 1)[copy, down.own[rows][:, :, None], along.own[columns][:, None]]
        around = whole[0].permute(1, 2, 0)[down.at[rows][:, :, None], along.at[columns][:, None]]
        mine = down.mine[rows][:, :, None, None] & along.mine[columns][:, None, :, None]
        found = torch.where(mine, own, around)
        if self._edged:
            inside = down.inside[rows][:, :, None, None] & along.inside[columns][:, None, :, None]
            found = torch.where(inside, found, self._fill)
        found = found.permute(0, 3, 1, 2)
        return found.contiguous() if self._plain else found


class Unpadded(nn.Module):
    """A convolution or pooling of what was read with its padding."""

    def __init__(self, part: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> None:
        super().__init__()
        self.part = part

    def forward(self, values: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h', w'); nothing is added around."""
        part = self.part
        if isinstance(part, nn.Conv2d):
            return functional.conv2d(values, part.weight, part.bias, part.stride, 0, part.dilation, part.groups)
        if isinstance(part, nn.MaxPool2d):
            return functional.max_pool2d(values, part.kernel_size, part.stride, 0, part.dilation)
        return functional.avg_pool2d(values, part.kernel_size, part.stride)


class _Recorder(fx.Interpreter):
    """Runs the network on an image and keeps the maps of some nodes."""

    def __init__(self, traced: fx.GraphModule, kept: Sequence[fx.Node]) -> None:
        super().__init__(traced)
        self._kept = {node: place for place, node in enumerate(kept)}
        self._maps: list[Tensor] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._kept:
            # A copy: a later operation may write over it.
            self._maps[self._kept[n]] = value.clone()
        return value

    def record(self, image: Tensor) -> tuple[list[Tensor], Any]:
        self._maps = [image] * len(self._kept)
        output = self.run(image)
        found, self._maps = self._maps, []
        return found, output


class _Writer:
    """Writes the graph of windows from the graph of whole maps, node by node."""

    def __init__(self, traced: fx.GraphModule, sides: Sides, plain: bool) -> None:
        self._plain = plain
        (first, *others) = (node for node in traced.graph.nodes if node.op == "placeholder")
        if others:
            raise NotImplementedError("more than one input")
        self._traced, self._parts = traced, dict(traced.named_modules(remove_duplicate=False))
        self._held: dict[str, Any] = {}
        self._windows: dict[fx.Node, Window] = {}
        self._values: dict[fx.Node, fx.Node] = {}
        self._filled: dict[fx.Node, fx.Node] = {}
        self.graph = fx.Graph()
        self._values[first] = self.graph.placeholder("boxes")
        self._starts = self.graph.placeholder("rows"), self.graph.placeholder("columns")
        self._maps = {node: self.graph.placeholder(f"map_{node.name}") for node in traced.graph.nodes if _spatial(node)}
        rows, columns = _shape(first)[2:]
        self._windows[first] = Reach.of_boxes(rows, sides[0]), Reach.of_boxes(columns, sides[1])
        self.whole = self.done = 0.0
        for node in traced.graph.nodes:
            if node is not first:
                self._write(node)
        self.kept = [node for node, held in self._maps.items() if held.users]
        for held in self._maps.values():
            if not held.users:
                self.graph.erase_node(held)
        self.graph.lint()
        self.module = fx.GraphModule(self._held, self.graph).eval()

    def _write(self, node: fx.Node) -> None:
        part = self._parts.get(str(node.target)) if node.op == "call_module" else None
        written = node.all_input_nodes[0] if _in_place(node, part) and node.all_input_nodes else None
        if written in self._windows and len(written.users) > 1:
            raise NotImplementedError("an operation writes over a map that others read")
        window, work = self._reached(node), _multiplications(node, self._parts)
        share = 1.0 if window is None else math.prod(reach.count / reach.length for reach in window)
        self.whole += work
        if window is None or share > _DENSE:
            self.done += work
            self._values[node] = self._whole(node)
            return
        self.done += work * share
        self._windows[node] = window
        steps = _sliding(part)
        if steps is None:
            self._values[node] = self.graph.node_copy(node, lambda one: self._read(one, window, 0.0))
            self._hold(node)
            return
        want = window[0].seen_by(steps[0]), window[1].seen_by(steps[1])
        seen = self._read(node.all_input_nodes[0], want, -math.inf if isinstance(part, nn.MaxPool2d) else 0.0)
        self._values[node] = self._call(f"step_{node.name}", Unpadded(part), seen)  # type: ignore[arg-type]

    def _whole(self, node: fx.Node) -> fx.Node:
        """Copy a node that works on whole maps."""
        self._hold(node)
        return self.graph.node_copy(node, self._fill)

    def _fill(self, node: fx.Node) -> fx.Node:
        """Return the whole map of each copy."""
        if node not in self._windows:
            return self._values[node]
        if node not in self._filled:
            rows, columns = self._windows[node]
            self._filled[node] = self._read(node, (rows.whole(), columns.whole()), 0.0)
        return self._filled[node]

    def _read(self, node: fx.Node, want: tuple[Stretch, Stretch], fill: float) -> fx.Node:
        have = self._windows[node]
        if all(map(Stretch.like, have, want)):
            return self._values[node]
        name = f"read_{len(self._held)}"
        return self._call(
            name, Read(have, want, fill, self._plain), self._values[node], self._maps[node], *self._starts
        )

    def _call(self, name: str, part: nn.Module, *given: fx.Node) -> fx.Node:
        self._held[name] = part
        return self.graph.call_module(name, given)

    def _hold(self, node: fx.Node) -> None:
        """Take over what a copied node refers to."""
        if node.op == "call_module":
            self._held[str(node.target)] = self._parts[str(node.target)]
        elif node.op == "get_attr":
            self._held[str(node.target)] = reduce(getattr, str(node.target).split("."), self._traced)

    def _reached(self, node: fx.Node) -> Window | None:
        """Return the window that a node gives from windows; None where it gives whole maps."""
        given = node.all_input_nodes
        if not given or not _spatial(node) or any(one not in self._windows for one in given):
            return None
        part = self._parts.get(str(node.target)) if node.op == "call_module" else None
        if part is not None and (part._forward_hooks or part._forward_pre_hooks):
            # Somebody's hook wants the whole map, and may change it.
            return None
        steps, lengths = _sliding(part), _shape(node)[2:]
        if steps is not None:
            rows, columns = self._windows[given[0]]
            return rows.after(steps[0], lengths[0]), columns.after(steps[1], lengths[1])
        if not _pointwise(node, part) or any(_shape(one)[2:] != lengths for one in given):
            return None
        along = zip(*(self._windows[one] for one in given), strict=True)
        rows, columns = (reduce(Reach.joined, reaches) for reaches in along)
        return rows, columns


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))


def _spatial(node: fx.Node) -> bool:
    return len(_shape(node)) == 4


def _sliding(part: nn.Module | None) -> tuple[Sliding, Sliding] | None:
    """Return what a convolution or pooling does along rows and columns; None for anything else."""
    if isinstance(part, nn.Conv2d):
        if part.padding_mode != "zeros" or isinstance(part.padding, str):
            return None
    elif isinstance(part, nn.MaxPool2d):
        if part.return_indices:
            return None
    elif not isinstance(part, nn.AvgPool2d) or part.ceil_mode or not part.count_include_pad or part.divisor_override:
        return None
    given = (part.kernel_size, part.stride, part.padding, getattr(part, "dilation", 1))
    rows, columns = zip(*((one, one) if isinstance(one, int) else one for one in given), strict=True)
    return Sliding(*rows), Sliding(*columns)


def _pointwise(node: fx.Node, part: nn.Module | None) -> bool:
    """Tell whether each place of the output depends on the same place of the inputs alone."""
    if node.op == "call_module":
        if isinstance(part, nn.BatchNorm2d):
            return part.running_mean is not None
        return isinstance(part, _POINTWISE)
    if node.op == "call_method":
        return node.target in _POINTWISE_METHODS
    if node.target is torch.cat:
        return [*node.args[1:], *node.kwargs.values()] == [1]
    return node.op == "call_function" and node.target in _POINTWISE_FUNCTIONS


def _in_place(node: fx.Node, part: nn.Module | None) -> bool:
    """Tell whether an operation writes over its first input."""
    if node.op == "call_method":
        return str(node.target).endswith("_")
    function = node.op == "call_function" and node.target in (operator.iadd, operator.imul)
    return function or bool(getattr(part, "inplace", False) or node.kwargs.get("inplace"))


def _multiplications(node: fx.Node, parts: dict[str, nn.Module]) -> float:
    part = parts.get(str(node.target)) if node.op == "call_module" else None
    if isinstance(part, nn.Conv2d):
        return float(math.prod(_shape(node)) * part.weight[0].numel())
    return float(math.prod(_shape(node)) * part.in_features) if isinstance(part, nn.Linear) else 0.0
