"""LRP: the logit handed down layer by layer, to each input in the share it had; computed by zennit or captum."""

from __future__ import annotations

import warnings
from functools import partial
from types import ModuleType
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, fx

from ..engine import Engine
from ..registry import LimenError, attribution
from ..zoo.extras import import_extra
from . import _lrp_captum, _lrp_zennit

Library = Literal["auto", "zennit", "captum"]
Composite = Literal[
    "epsilon_plus",
    "epsilon",
    "epsilon_plus_flat",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
]
_TOLERANCE = 1e-3


@attribution(
    version=1,
    citation="doi:10.1371/journal.pone.0130140",
    cost="1 forward + up to 5 modified backwards (3 forwards + 1 backward with captum)",
    presets={"zennit": {"library": "zennit"}, "captum": {"library": "captum", "composite": "epsilon", "epsilon": 1e-9}},
)
def lrp(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    library: Library = "auto",
    composite: Composite = "epsilon_plus",
    epsilon: PositiveFloat = 1e-6,
    gamma: PositiveFloat = 0.25,
) -> Tensor:
    """Propagate the target's logit back to the pixels by the rules of a composite, and sum over channels.

    The network is copied and brought to a canonical form first: functions become modules, reused modules are parted,
    BatchNorm is merged into the layer before it, sums of branches get the rule of a sum. The copy must give the same
    logits.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    library : 'zennit', 'captum', or 'auto': zennit where it is installed, else captum
    composite : which rule for which layer. 'epsilon_plus': z+ for convolutions, epsilon for linear layers; 'epsilon':
        epsilon for all; 'epsilon_alpha2_beta1': alpha 2, beta 1 for convolutions; 'epsilon_gamma_box': gamma for
        convolutions, the box of pixel values for the first; '..._flat': the first layer spreads evenly. Captum has
        the first two
    epsilon : what the epsilon rule adds to its denominators, with their sign
    gamma : how much the gamma rule favours positive weights

    Returns
    -------
    (N, 1, H, W), signed; sums to about the logit where biases take no share

    Raises
    ------
    LimenError
        If the library is not installed, has no such composite, or the network has a step without a rule.

    References
    ----------
    Bach et al. 2015, doi:10.1371/journal.pone.0130140; Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10.
    """
    where = f"attribution 'lrp' on network '{engine.network.name}'"
    module = engine.network.module
    if choose(library, composite) == "zennit":
        made = _lrp_zennit.build(module, where)
        rules = _lrp_zennit.rules(composite, images, engine.network, epsilon, gamma)
        run = partial(_lrp_zennit.relevance, made, rules)
    else:
        made = _lrp_captum.build(module, where, composite)
        run = partial(_lrp_captum.relevance, made, composite, epsilon)
    _check_same(made, engine, images, where)
    return engine.lend(images, targets, run).sum(dim=1, keepdim=True)


def choose(library: Library, composite: Composite) -> Literal["zennit", "captum"]:
    """Return the library that can be imported and has the composite.

    Raises
    ------
    LimenError
        If there is none.
    """
    if library == "captum" and composite not in _lrp_captum.COMPOSITES:
        raise LimenError(
            f"attribution 'lrp', option 'composite': given '{composite}' with captum, allowed there is "
            f"{' or '.join(_lrp_captum.COMPOSITES)}; zennit has it."
        )
    if library == "auto" and composite in _lrp_captum.COMPOSITES:
        return "zennit" if installed("zennit") else choose("captum", composite)
    wanted: Literal["zennit", "captum"] = "captum" if library == "captum" else "zennit"
    load(wanted)
    return wanted


def load(name: str) -> ModuleType:
    """Import a library, quietly: captum warns of its own dependencies.

    Raises
    ------
    LimenError
        If it cannot be imported; names the line that installs it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_extra(
            "captum.attr" if name == "captum" else name, extra="lrp", where=f"attribution 'lrp', library '{name}'"
        )


def installed(name: str) -> bool:
    """Tell whether a library can be imported; zennit needs torchvision."""
    try:
        load(name)
    except LimenError:
        return False
    return True


def _check_same(module: fx.GraphModule, engine: Engine, images: Tensor, where: str) -> None:
    # The engine's own scores may be of lower precision.
    expected, found = (run(images[:1].clone()).detach() for run in (engine.network.module, module))
    scale = float(expected.abs().max())
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0, atol=_TOLERANCE * scale + 1e-6):
        raise LimenError(
            f"{where}: its canonical form gives other logits, so its steps were not understood; allowed is a network "
            "of modules, sums and changes of shape."
        )
