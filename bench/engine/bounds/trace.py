"""A network as a list of steps: traced to torch operations at a batch of zeros, what is constant folded."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from ...registry import LimenError
from .steps import Affine, MaxPool, Rectifier, Source, Step, constant, source
from .table import CUTS, JOINS, NORMS, PAIRS, SHAPED, TABLE, Call, build, item

_COPIES = 7
"""Images in the traced batch: a number that no other dimension is likely to have."""


@dataclass(frozen=True, eq=False)
class Program:
    """A traced network; step `i` writes slot `i`, slot 0 is the input and the last the logits.

    Attributes
    ----------
    steps : tuple of Step
    """

    steps: tuple[Step, ...]

    def __call__(self, inputs: Tensor) -> Tensor:
        """Run the steps on inputs (B, *S), as the network would."""
        values = [inputs]
        for step in self.steps[1:]:
            if isinstance(step, Source):
                values.append(cast(Tensor, step.value).expand(len(inputs), *step.shape))
            else:
                values.append(step.run(*(values[slot] for slot in step.inputs)))
        return values[-1]

    @cached_property
    def widest(self) -> int:
        """Values of the largest slot of one image."""
        return max(torch.Size(step.shape).numel() for step in self.steps)

    @cached_property
    def readers(self) -> list[list[int]]:
        """The slots that read each slot."""
        found: list[list[int]] = [[] for _ in self.steps]
        for slot, step in enumerate(self.steps):
            for place in step.inputs:
                found[place].append(slot)
        return found

    @cached_property
    def exact(self) -> list[bool]:
        """Whether interval arithmetic is exact at each slot: at most one step before it mixes places."""
        mixed: list[int] = []
        for step in self.steps:
            depth = max((mixed[slot] for slot in step.inputs), default=0)
            straight = isinstance(step, Source) or (isinstance(step, Affine) and step.diagonal)
            joins = sum(mixed[slot] > 0 for slot in step.inputs) > 1
            curved = not isinstance(step, (Source, Affine))
            mixed.append(2 if curved or joins else depth + (not straight))
        return [depth < 2 for depth in mixed]

    @cached_property
    def rectified(self) -> frozenset[int]:
        """The slots that a ReLU reads."""
        return frozenset(step.inputs[0] for step in self.steps if isinstance(step, Rectifier))

    @cached_property
    def ends(self) -> frozenset[int]:
        """The slots where linear functions end: the input, and what curved steps write."""
        return frozenset(slot for slot, step in enumerate(self.steps) if not isinstance(step, Affine))

    @cached_property
    def kept(self) -> frozenset[int]:
        """The slots whose intervals backward passes read."""
        passed = {slot for step in self.steps if isinstance(step, (Rectifier, MaxPool)) for slot in step.inputs}
        return self.ends | passed


def trace(run: Callable[[Tensor], Tensor], shape: Sequence[int], like: Tensor, where: str) -> Program:
    """Trace a network.

    Parameters
    ----------
    run : callable, inputs (B, *shape) to logits (B, K)
    shape : of one input
    like : tensor on the device
    where : opens the error sentences

    Raises
    ------
    LimenError
        If the network cannot be traced, or holds an operation that bounds cannot go through; names it.
    """
    example = like.new_zeros(_COPIES, *shape)
    try:
        graph = make_fx(functionalize(run, remove="mutations"))(example)
    except Exception as error:
        raise LimenError(
            f"{where}, bounds: it cannot be traced ({type(error).__name__}: {str(error).split('. ')[0].splitlines()[0][:160]}); allowed is a "
            "network whose operations do not depend on the values that go through it."
        ) from error
    return _Builder(graph, where).program(example)


class _Builder:
    """Turns a graph of torch operations into steps."""

    def __init__(self, graph: fx.GraphModule, where: str) -> None:
        self._graph, self._where = graph, where
        self._steps: list[Step] = []
        self._slots: dict[fx.Node, tuple[int, tuple[int, ...]]] = {}
        self._constants: dict[fx.Node, Any] = {}
        self._made: dict[fx.Node, Tensor] = {}
        """Constants with a batch dimension, (1, *S): what the network makes in the shape of its input."""

    def program(self, example: Tensor) -> Program:
        """Go through the graph with the values of the example; only what leads to the logits is looked at."""
        (output,) = (node for node in self._graph.graph.nodes if node.op == "output")
        (logits,) = output.all_input_nodes
        needed = _ancestors(logits)
        values: dict[fx.Node, Any] = {}
        for node in self._graph.graph.nodes:
            if node not in needed:
                continue
            if node.op == "placeholder":
                values[node] = example
                self._write(node, source(tuple(example.shape[1:])))
            elif node.op == "get_attr":
                values[node] = self._constants[node] = getattr(self._graph, str(node.target))
            else:
                values[node] = self._value(node, values)
                self._add(node, values[node])
        if logits not in self._slots:
            self._refuse("an output that does not depend on the input")
        return Program(tuple(self._steps))

    def _value(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        args = map_arg(node.args, lambda one: values[one])
        kwargs = map_arg(dict(node.kwargs), lambda one: values[one])
        return cast(Any, node.target)(*cast(Any, args), **cast(Any, kwargs))

    def _add(self, node: fx.Node, value: Any) -> None:
        packet = _packet(node)
        inputs = node.all_input_nodes
        if all(one in self._constants for one in inputs):
            self._constants[node] = value
        elif packet in SHAPED or all(one in self._constants or one in self._made for one in inputs):
            self._made[node] = self._batched(node, value)[:1]
        elif node.target is operator.getitem and _packet(node.args[0]) in PAIRS | NORMS:
            self._alias(node)
        elif packet not in CUTS:
            self._build(node, value[0] if packet in PAIRS | NORMS and isinstance(value, tuple) else value)

    def _alias(self, node: fx.Node) -> None:
        first, place = node.args
        if place != 0:
            self._refuse(f"{cast(fx.Node, first).target}, result {place}")
        self._slots[node] = self._slots[cast(fx.Node, first)]

    def _build(self, node: fx.Node, value: Any) -> None:
        shape = tuple(self._batched(node, value).shape[1:])
        if node.target is operator.getitem:
            cut, place = cast(tuple[fx.Node, int], node.args)
            step: Step | None = item(self._call(cut, shape), place)
        else:
            step = build(self._call(node, shape))
        if step is None:
            self._refuse(str(_packet(node)))
        if isinstance(step, Affine):
            step.bias = _bias(step, value)
        self._write(node, cast(Step, step))

    def _call(self, node: fx.Node, shape: tuple[int, ...]) -> Call:
        """Describe an operation; what joins tensors needs constants as whole batches, the rest takes them as numbers."""
        joins = _packet(node) in JOINS
        for made in node.all_input_nodes if joins else ():
            if made in self._made and made not in self._slots:
                self._write(made, constant(self._made[made], "constant"))

        def known(one: fx.Node) -> Any:
            if one in self._constants:
                return self._constants[one]
            return self._made[one] if one in self._made and not joins else one

        args, kwargs = map_arg(node.args, known), map_arg(dict(node.kwargs), known)
        return Call(node, args, kwargs, self._slots, shape)

    def _write(self, node: fx.Node, step: Step) -> None:
        self._slots[node] = (len(self._steps), step.shape)
        self._steps.append(step)

    def _batched(self, node: fx.Node, value: Any) -> Tensor:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape[:1] != (_COPIES,):
            self._refuse(f"{node.target}, which does not keep images apart")
        return cast(Tensor, value)

    def _refuse(self, what: str) -> None:
        allowed = ", ".join(sorted({str(packet).removeprefix("aten.").lstrip("_") for packet in TABLE}))
        raise LimenError(
            f"{self._where}, bounds: given the operation '{what.removeprefix('aten.')}', allowed are {allowed} with "
            "constant weights; a split after the operation bounds the rest."
        )


def _packet(node: Any) -> Any:
    return getattr(node.target, "overloadpacket", node.target)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    stack = [node]
    while stack:
        one = stack.pop()
        if one not in found:
            found.add(one)
            stack.extend(one.all_input_nodes)
    return found


def _bias(step: Affine, like: Tensor) -> Tensor | None:
    bias = step.run(*(like.new_zeros(1, *shape) for shape in step.shapes))
    return bias if bias.is_meta or bool(bias.any()) else None
