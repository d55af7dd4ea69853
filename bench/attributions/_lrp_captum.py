"""LRP by captum, on a canonical copy of the network whose layers take positive and negative inputs apart."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..registry import LimenError
from ._lrp_graph import CONVOLUTIONS, Canonical

COMPOSITES = ("epsilon_plus", "epsilon")
"""What captum's rules can be made to compute exactly."""
_UNRULED = (nn.ReLU, nn.Tanh)
_KNOWN = (*_UNRULED, nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


def load() -> Any:
    """Return captum's LRP, its sum and its epsilon rule."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import captum.attr
        from captum.attr._utils import custom_modules, lrp_rules

    return captum.attr.LRP, custom_modules.Addition_Module, lrp_rules.EpsilonRule


def build(module: nn.Module, where: str, composite: str) -> fx.GraphModule:
    """Return the canonical copy with captum's sums.

    Raises
    ------
    LimenError
        If it has a layer that captum has no rule for.
    """
    _, addition, _ = load()

    def add(canonical: Canonical, first: fx.Node, second: fx.Node) -> fx.Node:
        name = f"step{len(canonical.modules)}"
        canonical.modules[name] = addition()
        return canonical.graph.call_module(name, (first, second))

    made = Canonical(module, add, where).build()
    for name, part in made.named_modules():
        if name and not isinstance(part, (*_KNOWN, addition)):
            raise LimenError(
                f"{where}: it has a {type(part).__name__}, for which captum has no rule; allowed there are convolutions "
                "of two axes, linear layers, BatchNorm, pooling, ReLU and Tanh, or `library='zennit'`."
            )
    return _apart(_parted(made) if composite == "epsilon_plus" else made)


def relevance(module: fx.GraphModule, composite: str, epsilon: float, images: Tensor, targets: Tensor) -> Tensor:
    """Return the relevance (N, C, H, W) of the target's logit."""
    lrp, _, rule = load()

    class Plus(rule):  # type: ignore[misc,valid-type]
        """z+ with the positive part of the bias: captum's own keeps the whole bias."""

        def _manipulate_weights(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.clamp(min=0)

    # Captum deletes a user's rules after each call, so they are set anew for each.
    for part in module.modules():
        if isinstance(part, CONVOLUTIONS) and composite == "epsilon_plus":
            part.rule = Plus(epsilon)
        elif not isinstance(part, (fx.GraphModule, *_UNRULED)):
            part.rule = rule(epsilon)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lrp(module).attribute(images, target=targets)
    return found.detach()


def _parted(module: fx.GraphModule) -> fx.GraphModule:
    """Give each convolution the positive parts of its input and the sizes of the negative ones as separate channels.

    Clamped weights are the z+ rule for inputs that are not negative only, which these never are.
    """
    for node in list(module.graph.nodes):
        part = module.get_submodule(node.target) if node.op == "call_module" else None
        if not isinstance(part, CONVOLUTIONS):
            continue
        own = copy.deepcopy(part)
        own.in_channels = 2 * part.in_channels
        own.weight = nn.Parameter(torch.cat([part.weight, -part.weight], dim=1), requires_grad=False)
        module.add_submodule(node.target, own)
        with module.graph.inserting_before(node):
            node.args = (module.graph.call_function(signed_parts, (node.args[0], part.groups)),)
    return module


def _apart(module: fx.GraphModule) -> fx.GraphModule:
    """Give each ruled layer a copy of its inputs.

    Captum's hook on an input multiplies all that comes back to it by its value, also what other branches have made
    relevance already.
    """
    for node in list(module.graph.nodes):
        if node.op != "call_module" or isinstance(module.get_submodule(node.target), _UNRULED):
            continue
        with module.graph.inserting_before(node):
            node.args = tuple(module.graph.call_function(torch.clone, (given,)) for given in node.args)
    module.recompile()
    return module.eval()


class _SignedParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, groups: int) -> Tensor:
        ctx.groups = groups
        grouped = values.unflatten(1, (groups, -1))
        return torch.cat([grouped.clamp(min=0), (-grouped).clamp(min=0)], dim=2).flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor, None]:
        # What arrives is relevance, not a slope: the parts of one number add up.
        return relevance[0].unflatten(1, (ctx.groups, 2, -1)).sum(dim=2).flatten(1, 2), None


def signed_parts(values: Tensor, groups: int) -> Tensor:
    """Return positive parts and sizes of negative parts (N, 2 C, ...), side by side in each group of channels."""
    return _SignedParts.apply(values, groups)
