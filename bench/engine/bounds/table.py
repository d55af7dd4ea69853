"""Which torch operations bounds can go through, and as which step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from .steps import Affine, MaxPool, Monotone, Product, Rectifier, Step, Valley

aten = torch.ops.aten
Build = Callable[["Call"], Step | None]


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of a traced network.

    Attributes
    ----------
    node : fx.Node
    args, kwargs : its arguments: values where they are constant, nodes where they vary with the input
    slots : slot and shape (*S) of each node that varies
    shape : shape (*S) of the output
    """

    node: fx.Node
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    slots: Mapping[fx.Node, tuple[int, tuple[int, ...]]]
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The operation's name, without its overload."""
        target = self.node.target
        return str(getattr(target, "overloadpacket", getattr(target, "__name__", target))).removeprefix("aten.")

    @property
    def varying(self) -> list[fx.Node]:
        """The nodes it reads that vary, each once."""
        found: dict[fx.Node, None] = {}
        map_arg((self.args, dict(self.kwargs)), lambda node: found.setdefault(node))
        return list(found)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument given by place or by name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def run(self, *values: Tensor) -> Any:
        """Run the operation on values of what varies."""
        given = dict(zip(self.varying, values, strict=True))
        args = map_arg(self.args, lambda node: given[node])
        return cast(Any, self.node.target)(*args, **map_arg(dict(self.kwargs), lambda node: given[node]))

    def facts(self) -> dict[str, Any]:
        """Return what every step needs, beside `run`."""
        inputs = [self.slots[node] for node in self.varying]
        slots, shapes = (tuple(parts) for parts in zip(*inputs, strict=True))
        return {"name": self.name, "inputs": slots, "shapes": shapes, "shape": self.shape}


def build(call: Call) -> Step | None:
    """Return the step of an operation, or None where bounds cannot go through it."""
    packet = getattr(call.node.target, "overloadpacket", call.node.target)
    return TABLE[packet](call) if packet in TABLE else None


def _same(call: Call, run: Callable[..., Tensor] | None = None, diagonal: bool = True) -> Affine:
    """Copies, orders or averages: weights are not negative, and the radius goes as the value does."""
    run = call.run if run is None else run
    return Affine(run=run, spread=run, diagonal=diagonal, **call.facts())


def _copy(call: Call) -> Step | None:
    return _same(call)


def _average(call: Call) -> Step | None:
    return _same(call, diagonal=False)


def _reshape(call: Call) -> Step | None:
    return _same(call, lambda values: values.reshape(len(values), *call.shape))


def _restride(call: Call) -> Step | None:
    """A pool to one place sets the strides of its result; nothing moves where one dimension alone is longer than 1."""
    same = tuple(call.args[1][1:]) == call.shape == call.facts()["shapes"][0]
    return _reshape(call) if same and sum(size > 1 for size in call.shape) <= 1 else None


def _expand(call: Call) -> Step | None:
    return _same(call, lambda values: values.expand(len(values), *call.shape))


def _pad(call: Call) -> Step | None:
    fill = call.argument(2, "value", 0)

    def spread(radius: Tensor) -> Tensor:
        return torch.constant_pad_nd(radius, call.args[1], 0)

    return Affine(run=call.run, spread=spread, diagonal=True, **call.facts()) if _number(fill) else None


def item(call: Call, place: int) -> Step:
    """Return the step of one part of a tensor cut in several; the cut is run again for it."""
    return _same(call, lambda *values: call.run(*values)[place])


def _convolution(call: Call) -> Step | None:
    weight, bias, *settings = call.args[1:]
    if not isinstance(weight, Tensor) or isinstance(bias, fx.Node):
        return None
    sizes, (shape,) = weight.abs(), call.facts()["shapes"]

    def spread(radius: Tensor) -> Tensor:
        return aten.convolution.default(radius, sizes, None, *settings)

    def transposed(rows: Tensor) -> tuple[Tensor, ...]:
        like = rows.new_zeros(()).expand(len(rows), *shape)
        keep = [True, False, False]
        slopes = aten.convolution_backward.default(rows.contiguous(), like, weight, None, *settings, keep)
        return (slopes[0],)

    return Affine(run=call.run, spread=spread, transposed=transposed, **call.facts())


def _linear(call: Call) -> Step | None:
    """`x W`, `b + x W` or `x W^T + b`, whatever the operation."""
    place = 1 if call.name == "addmm" else 0
    weight = call.args[place + 1]
    scaled = call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("beta", 1) != 1
    if not isinstance(call.args[place], fx.Node) or not isinstance(weight, Tensor) or len(call.varying) > 1 or scaled:
        return None
    weight = weight.T if call.name == "linear" else weight
    sizes = weight.abs()

    def transposed(rows: Tensor) -> tuple[Tensor, ...]:
        return (rows @ weight.T,)

    return Affine(run=call.run, spread=lambda radius: radius @ sizes, transposed=transposed, **call.facts())


def _batch_norm(call: Call) -> Step | None:
    """Batch normalisation by its running statistics."""
    gain, shift, mean, variance = call.args[1:5]
    named = "no_training" in call.name
    training = False if named else call.args[5]
    if training or not isinstance(mean, Tensor) or len(call.varying) > 1:
        return None
    scale = (variance + call.args[-1]).rsqrt()
    scale = scale if gain is None else scale * gain
    offset = -mean * scale if shift is None else shift - mean * scale
    lanes = (1, -1, *[1] * (len(call.shape) - 1))
    scale, offset = scale.reshape(lanes), offset.reshape(lanes)
    return Affine(
        run=lambda values: values * scale + offset,
        spread=lambda radius: radius * scale.abs(),
        transposed=lambda rows: (rows * scale,),
        diagonal=True,
        **call.facts(),
    )


def _multiply(call: Call) -> Step | None:
    left, right = call.args
    if isinstance(left, fx.Node) and isinstance(right, fx.Node):
        return Product(run=call.run, **call.facts())
    factor = right if isinstance(left, fx.Node) else left
    return _scaled(call, abs(factor))


def _divide(call: Call) -> Step | None:
    plain = isinstance(call.args[0], fx.Node) and not isinstance(call.args[1], fx.Node) and not call.kwargs
    return _scaled(call, abs(1 / call.args[1])) if plain else None


def _negate(call: Call) -> Step | None:
    return _scaled(call, 1)


def _scaled(call: Call, size: Tensor | float) -> Affine:
    return Affine(run=call.run, spread=lambda radius: _fill(radius * size, call.shape), diagonal=True, **call.facts())


def _add(call: Call) -> Step | None:
    """Sums and differences; a residual branch is one."""
    terms = [(node, size) for node, size in zip(call.args[:2], _sizes(call), strict=True) if isinstance(node, fx.Node)]

    def spread(*radii: Tensor) -> Tensor:
        given = dict(zip(call.varying, radii, strict=True))
        return _fill(sum(given[node] * size for node, size in terms), call.shape)

    return Affine(run=call.run, spread=spread, diagonal=len(terms) == 1, **call.facts())


def _sizes(call: Call) -> tuple[float, float]:
    factor = abs(call.argument(2, "alpha", 1))
    return (factor, 1) if call.name == "rsub" else (1, factor)


def _fill(values: Any, shape: tuple[int, ...]) -> Tensor:
    return values.expand(len(values), *shape)


def _relu(call: Call) -> Step | None:
    return Rectifier(run=call.run, **call.facts())


def _leaky_relu(call: Call) -> Step | None:
    slope = call.argument(1, "negative_slope", 0.01)
    return Rectifier(run=call.run, slope=slope, **call.facts()) if 0 <= slope <= 1 else None


def _monotone(call: Call) -> Step | None:
    return Monotone(run=call.run, **call.facts()) if all(map(_number, call.args[1:])) else None


def _elu(call: Call) -> Step | None:
    return _monotone(call) if all(size >= 0 for size in call.args[1:]) else None


def _first(call: Call) -> Step | None:
    """A largest value that comes with its place."""
    return Monotone(run=lambda values: call.run(values)[0], **call.facts())


def _max_pool(call: Call) -> Step | None:
    kernel, stride = call.args[1], call.argument(2, "stride") or call.args[1]
    rest = [call.argument(3, "padding", 0), call.argument(4, "dilation", 1)]
    window = tuple(_pair(one) for one in (kernel, stride, *rest))
    value, pick = (lambda values, part=part: call.run(values)[part] for part in (0, 1))
    return MaxPool(run=value, pick=pick, window=window, **call.facts())


def _pair(value: Any) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return cast(tuple[int, int], pair * (2 // len(pair)))


def _number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _valley(bottom: float) -> Build:
    return lambda call: Valley(run=call.run, bottom=bottom, **call.facts())


CUTS = {aten.split, aten.split_with_sizes, aten.chunk, aten.unbind}
"""Operations that give several tensors; each is read by an item of its own."""
JOINS = {aten.cat, aten.stack}
"""Operations that put tensors side by side."""
PAIRS = {aten.max_pool2d_with_indices, aten.adaptive_max_pool2d, aten.max}
"""Operations whose first result is the value."""
NORMS = {
    aten.native_batch_norm,
    aten._native_batch_norm_legit,
    aten._native_batch_norm_legit_no_training,
    aten.cudnn_batch_norm,
    aten.miopen_batch_norm,
}
SHAPED = {
    *(aten.zeros_like, aten.ones_like, aten.full_like, aten.empty_like),
    *(aten.new_zeros, aten.new_ones, aten.new_full, aten.new_empty),
}
"""Operations that look at the shape alone."""
TABLE: dict[Any, Build] = {
    **dict.fromkeys(
        [
            *(aten.clone, aten.detach, aten.alias, aten.contiguous, aten._to_copy, aten.lift_fresh_copy, aten.dropout),
            *(aten.permute, aten.transpose, aten.squeeze, aten.unsqueeze, aten.slice, aten.select),
            *(aten.reflection_pad2d, aten.replication_pad2d, aten.pixel_shuffle),
        ],
        _copy,
    ),
    **dict.fromkeys([aten.view, aten._unsafe_view, aten.reshape, aten.flatten], _reshape),
    aten.expand: _expand,
    aten.as_strided_: _restride,
    aten.constant_pad_nd: _pad,
    **dict.fromkeys(
        [
            *(aten.mean, aten.sum, aten.avg_pool1d, aten.avg_pool2d, aten._adaptive_avg_pool2d, aten.cat, aten.stack),
            *(aten.upsample_nearest2d, aten.upsample_bilinear2d),
        ],
        _average,
    ),
    aten.convolution: _convolution,
    **dict.fromkeys([aten.addmm, aten.mm, aten.linear], _linear),
    **dict.fromkeys(NORMS, _batch_norm),
    aten.mul: _multiply,
    aten.div: _divide,
    aten.neg: _negate,
    **dict.fromkeys([aten.add, aten.sub, aten.rsub], _add),
    aten.relu: _relu,
    aten.leaky_relu: _leaky_relu,
    **dict.fromkeys(
        [
            *(aten.sigmoid, aten.tanh, aten.hardtanh, aten.clamp, aten.clamp_min, aten.clamp_max, aten.exp),
            *(aten.softplus, aten.hardsigmoid, aten.amax),
        ],
        _monotone,
    ),
    aten.elu: _elu,
    aten.max_pool2d_with_indices: _max_pool,
    **dict.fromkeys([aten.adaptive_max_pool2d, aten.max], _first),
    aten.gelu: _valley(-0.7517915246935645),
    aten.silu: _valley(-1.2784645427610738),
    aten.hardswish: _valley(-1.5),
    aten.abs: _valley(0.0),
}
