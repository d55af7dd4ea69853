"""A network in the form that LRP rules are stated for: each step a module of its own, used once, BatchNorm merged."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ..engine import copied
from ..registry import LimenError

Add = Callable[["Canonical", fx.Node, fx.Node], fx.Node]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = {nn.BatchNorm1d: nn.Conv1d, nn.BatchNorm2d: nn.Conv2d, nn.BatchNorm3d: nn.Conv3d}
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_ABSENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_PADS = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Sigmoid)
_AS_MODULES: dict[Any, Callable[..., nn.Module]] = {
    torch.relu: nn.ReLU,
    torch.relu_: nn.ReLU,
    functional.relu: nn.ReLU,
    functional.relu_: nn.ReLU,
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    functional.relu6: nn.ReLU6,
    functional.gelu: nn.GELU,
    functional.silu: nn.SiLU,
    torch.tanh: nn.Tanh,
    "tanh": nn.Tanh,
}
_POOL_FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    functional.max_pool2d: nn.MaxPool2d,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}
_LAYER_FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    functional.conv1d: nn.Conv1d,
    functional.conv2d: nn.Conv2d,
    functional.conv3d: nn.Conv3d,
    functional.linear: nn.Linear,
}
_OPTIONS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_MEANS = (torch.mean, "mean")
_DROPS = (functional.dropout, functional.dropout2d)
_MOVES = (
    *(torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.transpose, torch.permute, torch.cat),
    *("flatten", "reshape", "view", "squeeze", "unsqueeze", "transpose", "permute", "contiguous", "size"),
    *(getattr, operator.getitem),
)
"""Steps that move numbers without changing them: relevance goes the way of the gradient."""


class Canonical:
    """Rewrites a module step by step.

    Parameters
    ----------
    module : nn.Module
        Left as it is; what is kept of it is copied.
    add : callable
        `add(canonical, first, second) -> node`: how the library wants a sum of two tensors.
    where : str
        Start of the errors.

    Attributes
    ----------
    graph, modules : the new graph, and its modules by name
    """

    def __init__(self, module: nn.Module, add: Add, where: str) -> None:
        self.graph, self.modules = fx.Graph(), dict[str, nn.Module]()
        self._add, self._where = add, where
        self._source = copied(module)
        self._new: dict[fx.Node, Any] = {}

    def build(self) -> fx.GraphModule:
        """Return the rewritten module.

        Raises
        ------
        LimenError
            If the module cannot be traced, or has a step that LRP has no rule for.
        """
        try:
            traced = fx.Tracer().trace(self._source)
        except Exception as error:
            raise LimenError(
                f"{self._where}: its steps cannot be traced ({str(error).splitlines()[0]}); allowed is a network "
                "without branches that depend on its input."
            ) from None
        for node in traced.nodes:
            self._new[node] = self._rewritten(node)
        self.graph.lint()
        return fx.GraphModule(nn.ModuleDict(self.modules), self.graph).eval()

    def call(self, module: nn.Module, given: Any) -> fx.Node:
        """Append a call of a module of its own."""
        name = f"step{len(self.modules)}"
        self.modules[name] = module.eval()
        return self.graph.call_module(name, (given,))

    def _rewritten(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.graph.placeholder(node.name) if not self._new else None
        if node.op == "get_attr":
            return None
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise self._fault("an output that is no tensor")
            return self.graph.output(self._new[node.args[0]])
        if node.op == "call_module":
            return self._module(node, self._source.get_submodule(str(node.target)))
        return self._function(node)

    def _module(self, node: fx.Node, module: nn.Module) -> Any:
        given = self._new[node.all_input_nodes[0]]
        if isinstance(module, _ABSENT):
            return given
        if isinstance(module, _PADS) and not getattr(module, "value", 0.0):
            return self.graph.call_function(functional.pad, (given, [int(side) for side in module.padding]))
        if isinstance(module, nn.Flatten):
            return self.graph.call_function(torch.flatten, (given, module.start_dim, module.end_dim))
        if type(module) in _NORMS:
            return self._norm(node, module, given)
        if not isinstance(module, (*CONVOLUTIONS, nn.Linear, *_POOLS, *_ACTIVATIONS)):
            raise self._fault(f"the layer '{node.target}' of type {type(module).__name__}")
        own: Any = copied(module)
        if hasattr(own, "inplace"):
            own.inplace = False
        return self.call(own, given)

    def _norm(self, node: fx.Node, norm: Any, given: fx.Node) -> fx.Node:
        """Merge a BatchNorm into the layer before it; where there is none, it stands as a convolution of one place."""
        if norm.running_mean is None:
            raise self._fault(f"the layer '{node.target}' without running statistics")
        before = self.modules.get(str(given.target)) if given.op == "call_module" else None
        alone = len(node.all_input_nodes[0].users) == 1
        if alone and isinstance(before, CONVOLUTIONS):
            self.modules[str(given.target)] = fuse_conv_bn_eval(before, norm)
            return given
        if alone and isinstance(before, nn.Linear):
            self.modules[str(given.target)] = fuse_linear_bn_eval(before, norm)
            return given
        if isinstance(norm, nn.BatchNorm1d):
            raise self._fault(f"the layer '{node.target}' with no layer before it to merge with")
        scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
        shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
        count = norm.num_features
        # Without initial weights: drawing them would move the global generator on.
        own = nn.utils.skip_init(_NORMS[type(norm)], count, count, 1, groups=count)
        own.weight = nn.Parameter(scale.detach().reshape(own.weight.shape).clone(), requires_grad=False)
        own.bias = nn.Parameter(shift.detach().clone(), requires_grad=False)
        return self.call(own, given)

    def _function(self, node: fx.Node) -> Any:
        step: Any = node.target
        if step in _LAYER_FUNCTIONS:
            return self._layer(node, _LAYER_FUNCTIONS[step])
        given: list[Any] = [self._new[one] for one in node.all_input_nodes]
        if not given or any(one is None for one in given):
            raise self._fault(f"the operation '{node.name}' with a constant")
        if step in _AS_MODULES:
            return self.call(_AS_MODULES[step](), given[0])
        if step in _DROPS:
            return given[0]
        if step in _POOL_FUNCTIONS and len(given) == 1:
            return self.call(_POOL_FUNCTIONS[step](*node.args[1:], **node.kwargs), given[0])
        if step in _SUMS and len(given) == len(node.args) == 2 and not node.kwargs:
            return self._add(self, given[0], given[1])
        if step in _MEANS:
            return self._mean(node, given[0])
        if step in _MOVES or (step is functional.pad and _with_zeros(*node.args, **node.kwargs)):
            return self.graph.node_copy(node, lambda old: self._new[old])
        raise self._fault(f"the operation '{node.name}'")

    def _layer(self, node: fx.Node, kind: Callable[..., nn.Module]) -> fx.Node:
        """Make a layer of an operation on the network's own weights."""
        options: dict[str, Any] = dict(zip(_OPTIONS, node.args, strict=False)) | dict(node.kwargs)
        given, weight, bias = (options.pop(name, None) for name in _OPTIONS[:3])
        if self._new.get(given) is None or not _is_own(weight) or not (bias is None or _is_own(bias)):
            raise self._fault(f"the operation '{node.name}' with weights that are not the network's own")
        values = self._own(weight)
        sizes = [
            values.shape[1] * options.get("groups", 1),
            len(values),
            *([values.shape[2:]] if values.ndim > 2 else []),
        ]
        # Without initial weights: drawing them would move the global generator on.
        own: Any = nn.utils.skip_init(kind, *sizes, bias=bias is not None, **options)
        own.weight = nn.Parameter(values.detach().clone(), requires_grad=False)
        if bias is not None:
            own.bias = nn.Parameter(self._own(bias).detach().clone(), requires_grad=False)
        return self.call(own, self._new[given])

    def _own(self, node: fx.Node) -> Tensor:
        part, _, name = str(node.target).rpartition(".")
        return cast(Tensor, getattr(self._source.get_submodule(part), name))

    def _mean(self, node: fx.Node, given: fx.Node) -> fx.Node:
        dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        places = sorted(dims) if isinstance(dims, (tuple, list)) else None
        if places not in ([2, 3], [-2, -1]):
            raise self._fault(f"the operation '{node.name}' over other axes than height and width")
        pooled = self.call(nn.AdaptiveAvgPool2d(1), given)
        keep = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
        return pooled if keep else self.graph.call_function(torch.flatten, (pooled, 1))

    def _fault(self, what: str) -> LimenError:
        return LimenError(
            f"{self._where}: it has {what}, for which LRP has no rule here; allowed are convolutions, linear layers, "
            "BatchNorm, pooling, activations, sums of two tensors and changes of shape."
        )


def _is_own(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op == "get_attr"


def _with_zeros(given: Any, pad: Any, mode: Any = "constant", value: Any = None) -> bool:
    return mode == "constant" and not value
