"""What a user would otherwise run: captum, Quantus, and the methods' original loops in plain torch."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import numpy as np
import torch
from captum import attr
from captum import metrics as captum_metrics
from torch import Tensor, nn
from torch.nn.functional import interpolate

CELLS = 8
"""Cells a side of the methods on cells."""


def look_beside() -> None:
    """Let packages in the folders of `$LIMEN_PEERS` be imported, after the installed ones."""
    for folder in os.environ.get("LIMEN_PEERS", "").split(os.pathsep):
        if folder and folder not in sys.path:
            sys.path.append(folder)


def quantus() -> Any:
    """Return the Quantus package, found beside the installed ones or in `$LIMEN_PEERS`; None where there is none."""
    look_beside()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import quantus as found
    except ImportError:
        return None
    return found


def versions() -> dict[str, str]:
    """Return the versions of the peers at hand."""
    import captum

    found = quantus()
    return {
        "captum": captum.__version__,
        "Quantus": getattr(found, "__version__", "none") if found else "not installed",
    }


def cells(size: int, images: Tensor) -> Tensor:
    """Return the cell (1, 1, H, W) each pixel belongs to, as captum's feature masks want it."""
    line = torch.arange(size, device=images.device) * CELLS // size
    return (line[:, None] * CELLS + line[None, :])[None, None]


def by_captum(module: nn.Module, name: str, samples: int, at_once: int, **options: int) -> Callable[..., Tensor]:
    """Return an explainer of captum as `(images, targets) -> maps`, with `at_once` perturbations a pass."""

    def occlusion(images: Tensor, targets: Tensor) -> Tensor:
        patch, stride = (3, options["patch"], options["patch"]), (3, options["stride"], options["stride"])
        return attr.Occlusion(module).attribute(
            images, sliding_window_shapes=patch, strides=stride, target=targets, perturbations_per_eval=at_once
        )

    def surrogate(build: Any) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda images, targets: build(module).attribute(
            images, target=targets, feature_mask=cells(images.shape[-1], images), n_samples=samples,
            perturbations_per_eval=at_once,
        )  # fmt: skip

    def noisy(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda images, targets: attr.NoiseTunnel(attr.Saliency(module)).attribute(
            images, nt_type=kind, nt_samples=samples, nt_samples_batch_size=at_once, stdevs=0.3, target=targets,
            abs=False,
        )  # fmt: skip

    def cam(images: Tensor, targets: Tensor) -> Tensor:
        found = attr.LayerGradCam(module, module.get_submodule("stage4")).attribute(images, target=targets)
        return interpolate(found.relu(), size=images.shape[-2:], mode="bilinear", align_corners=False)

    def path(images: Tensor, targets: Tensor) -> Tensor:
        return attr.IntegratedGradients(module).attribute(
            images, target=targets, n_steps=samples, internal_batch_size=at_once * len(images)
        )

    calls: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "saliency": lambda images, targets: attr.Saliency(module).attribute(images, target=targets),
        "gradient_input": lambda images, targets: attr.InputXGradient(module).attribute(images, target=targets),
        "guided_backprop": lambda images, targets: attr.GuidedBackprop(module).attribute(images, target=targets),
        "deconvnet": lambda images, targets: attr.Deconvolution(module).attribute(images, target=targets),
        "integrated_gradients": path,
        "smoothgrad": noisy("smoothgrad"),
        "squaregrad": noisy("smoothgrad_sq"),
        "vargrad": noisy("vargrad"),
        "grad_cam": cam,
        "occlusion": occlusion,
        "lime": surrogate(attr.Lime),
        "kernel_shap": surrogate(attr.KernelShap),
    }

    def run(images: Tensor, targets: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return calls[name](images.clone(), targets).detach().sum(dim=1, keepdim=True)

    return run


def rise(module: nn.Module, masks: int, at_once: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return RISE as its authors' loop has it: all masks made first, then batches of one image at a time."""

    def draw(size: int, images: Tensor, side: int = 7) -> Tensor:
        cell = ceil(size / side)
        coarse = (torch.rand(masks, 1, side, side, device=images.device) < 0.5).float()
        large = interpolate(coarse, size=(side + 1) * cell, mode="bilinear", align_corners=False)
        down, right = torch.randint(cell, (2, masks)).tolist()
        return torch.stack([one[:, y : y + size, x : x + size] for one, y, x in zip(large, down, right, strict=True)])

    def run(images: Tensor, targets: Tensor) -> Tensor:
        drawn, maps = draw(images.shape[-1], images), []
        with torch.no_grad():
            for image, target in zip(images, targets, strict=True):
                weights = torch.cat([module(image * part).softmax(1)[:, target] for part in drawn.split(at_once)])
                maps.append((weights @ drawn.flatten(1)).reshape(1, *image.shape[1:]) / masks / 0.5)
        return torch.stack(maps)

    return run


def removal_curve(module: nn.Module, steps: int, at_once: int, *, insert: bool) -> Callable[..., Any]:
    """Return Deletion or Insertion as a plain loop: images one by one, copies of each in batches."""

    def run(images: Tensor, targets: Tensor, maps: Tensor) -> list[float]:
        areas = []
        with torch.no_grad():
            for image, target, credit in zip(images, targets, maps, strict=True):
                rank = credit.flatten().argsort(descending=True).argsort().reshape(credit.shape)
                edges = torch.linspace(0, rank.numel(), steps + 1, device=images.device)
                heights = []
                for part in edges.split(at_once):
                    chosen = (rank < part[:, None, None, None]) == insert
                    heights.append(module(image * chosen).softmax(1)[:, target])
                areas.append(float(torch.trapezoid(torch.cat(heights), edges / rank.numel())))
        return areas

    return run


def captum_infidelity(module: nn.Module, samples: int, at_once: int) -> Callable[..., Any]:
    """Return captum's infidelity under Gaussian noise, of maps given to all channels alike."""

    def perturb(images: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(images) * 0.3
        return noise, images - noise

    def run(images: Tensor, targets: Tensor, maps: Tensor) -> Tensor:
        return captum_metrics.infidelity(
            module, perturb, images, maps.expand_as(images).contiguous(), target=targets, n_perturb_samples=samples,
            max_examples_per_batch=at_once,
        )  # fmt: skip

    return run


def captum_sensitivity(module: nn.Module, samples: int, at_once: int) -> Callable[..., Any]:
    """Return captum's maximal sensitivity of saliency."""

    def run(images: Tensor, targets: Tensor, maps: Tensor) -> Tensor:
        return captum_metrics.sensitivity_max(
            attr.Saliency(module).attribute, images, perturb_radius=0.02, n_perturb_samples=samples,
            max_examples_per_batch=at_once, target=targets,
        )  # fmt: skip

    return run


def by_quantus(module: nn.Module, name: str, options: Mapping[str, Any], *, batch_size: int) -> Callable[..., Any]:
    """Return a metric of Quantus as `(images, targets, maps) -> values`; explainers it asks for are saliency."""
    package = quantus()

    def saliency(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        device = next(model.parameters()).device
        leaves = torch.as_tensor(np.asarray(inputs), dtype=torch.float32, device=device).requires_grad_()
        chosen = torch.as_tensor(np.asarray(targets), device=device)
        (slopes,) = torch.autograd.grad(model(leaves).gather(1, chosen[:, None]).sum(), leaves)
        return slopes.abs().amax(dim=1, keepdim=True).cpu().numpy()

    def run(images: Tensor, targets: Tensor, maps: Tensor) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = getattr(package, name)(
                **options, return_aggregate=False, disable_warnings=True, display_progressbar=False
            )
            return metric(
                model=module, x_batch=images.cpu().numpy(), y_batch=targets.cpu().numpy(), a_batch=maps.cpu().numpy(),
                device=str(images.device), softmax=True, channel_first=True, explain_func=saliency,
                batch_size=batch_size,
            )  # fmt: skip

    return run


def literal_hsic(masks: Tensor, scores: Tensor) -> Tensor:
    """Estimate HSIC of each mask column (n, d) with scores (n,) as it is written: `tr(K H L H) / n^2`, K a column's own."""
    count = len(scores)
    centring = torch.eye(count).type_as(scores) - 1 / count
    gaps = (scores[:, None] - scores[None, :]).abs()
    width = gaps[torch.triu_indices(count, count, 1).unbind()].quantile(0.5)
    outputs = torch.exp(-gaps.square() / (2 * width**2))
    found = []
    for column in masks.T:
        inputs = (column[:, None] == column[None, :]).type_as(scores)
        found.append(torch.trace(inputs @ centring @ outputs @ centring) / count**2)
    return torch.stack(found)
