"""A network cut in two at a layer: the head maps the layer's activations to the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..registry import LimenError
from .hooks import find_layer, replaced

Run = Callable[[Tensor], Any]
_SHAPE_METHODS = {"size", "dim", "ndimension", "numel"}
_SHAPE_ATTRIBUTES = {"shape", "ndim", "dtype", "device"}


@dataclass(frozen=True, eq=False)
class Split:
    """The head of a network.

    Attributes
    ----------
    layer : str
    run : callable
        Maps activations (N, ...) to what the module gives out; differentiable.
    traced : bool
        True: only the head runs. False: the module could not be traced, so the whole network runs each time with the
        layer's output replaced, which costs a full forward.
    """

    layer: str
    run: Run
    traced: bool


def split(module: nn.Module, layer: str, *, network: str, blank: Callable[[Tensor], Tensor]) -> Split:
    """Cut a module at a layer.

    Parameters
    ----------
    blank : callable
        Gives a batch of empty inputs as long as the activations passed, for a module that cannot be traced.

    Raises
    ------
    LimenError
        If the layer is no cut point: the logits also depend on what came before it by another way, or it runs more
        than once or never.
    """
    part = find_layer(module, layer, network)
    try:
        graph = _Tracer(layer).trace(module)
    except LimenError:
        raise
    except Exception:
        return Split(layer, _Replay(module, part, blank, f"network '{network}', layer '{layer}'"), traced=False)
    head = _head_graph(graph, layer, network)
    if head is None:
        return Split(layer, _Replay(module, part, blank, f"network '{network}', layer '{layer}'"), traced=False)
    return Split(layer, fx.GraphModule(module, head).eval(), traced=True)


class _Tracer(fx.Tracer):
    """Traces through everything above the layer and treats the layer itself as one step."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name == self._layer:
            return True
        if self._layer.startswith(f"{module_qualified_name}."):
            return False
        return super().is_leaf_module(m, module_qualified_name)


def _head_graph(graph: fx.Graph, layer: str, network: str) -> fx.Graph | None:
    """Return the graph after the layer, or None where it reads the shape of an earlier tensor."""
    cuts = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(cuts) != 1:
        times = "never" if not cuts else f"{len(cuts)} times"
        raise LimenError(
            f"network '{network}', layer '{layer}': given as a cut point, but it runs {times} in a forward pass; "
            "allowed is a layer that runs once."
        )
    needed, reads_shape = _needed(graph, cuts[0])
    if any(node.op == "placeholder" for node in needed):
        raise LimenError(
            f"network '{network}', layer '{layer}': given as a cut point, but the logits also depend on tensors "
            "computed before it; allowed is a layer that everything passes through, such as the end of a stage."
        )
    if reads_shape:
        return None
    head, copies = fx.Graph(), {}
    copies[cuts[0]] = head.placeholder("activations")
    for node in graph.nodes:
        if node in needed:
            copies[node] = head.node_copy(node, lambda old: copies[old])
    return head


def _needed(graph: fx.Graph, cut: fx.Node) -> tuple[set[fx.Node], bool]:
    """Walk back from the output to the cut: the nodes of the head, and whether one reads only an earlier shape."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    after = _descendants(cut)
    needed: set[fx.Node] = set()
    reads_shape = False
    stack = [output]
    while stack:
        node = stack.pop()
        if node is cut or node in needed:
            continue
        if _is_shape(node) and node not in after:
            reads_shape = True
            continue
        needed.add(node)
        stack.extend(node.all_input_nodes)
    return needed, reads_shape


def _descendants(start: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    stack: list[fx.Node] = [start]
    while stack:
        users: Iterable[fx.Node] = stack.pop().users
        for user in users:
            if user not in found:
                found.add(user)
                stack.append(user)
    return found


def _is_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    return node.op == "call_function" and node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES


class _Replay:
    """Runs the whole network on an empty input with the layer's output replaced."""

    def __init__(self, module: nn.Module, part: nn.Module, blank: Callable[[Tensor], Tensor], where: str) -> None:
        self._module, self._part, self._blank, self._where = module, part, blank, where
        self._checked = False

    def __call__(self, activations: Tensor) -> Any:
        if not self._checked:
            self._check(activations[:1].detach())
            self._checked = True
        return self._run(activations, self._blank(activations))

    def _run(self, activations: Tensor, inputs: Tensor) -> Any:
        with replaced(self._part, lambda output: activations.clone()):
            return self._module(inputs)

    def _check(self, activations: Tensor) -> None:
        """Run on two unlike inputs: a head that depends on the layer alone cannot tell them apart."""
        zeros = self._blank(activations)
        ramp = torch.linspace(-2, 2, zeros.numel(), device=zeros.device).reshape(zeros.shape)
        with torch.no_grad():
            first, second = (self._run(activations, inputs) for inputs in (zeros, ramp))
        first, second = (getattr(output, "logits", output) for output in (first, second))
        if not torch.allclose(first, second, rtol=1e-4, atol=1e-5):
            raise LimenError(
                f"{self._where}: given as a cut point, but the logits also depend on tensors computed before it; "
                "allowed is a layer that everything passes through, such as the end of a stage."
            )
