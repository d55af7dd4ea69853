"""The engine: every forward and every gradient of the bench goes through here, batched, metered and checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..registry import LimenError, unknown
from .batching import Batches
from .content import digests
from .cost import Cost, Meters
from .hooks import find_layer, last_spatial, layer_names, leaf, tapped
from .masks import Masks
from .network import Network, logits_of
from .precision import ENOUGH, Precision, bfloat16, compare, exact, has_bfloat16_units, memory_format
from .random import Draws, Key
from .split import Split, split

ScoreType = Literal["logit", "probability"]
Mode = Literal["nearest", "bilinear"]
TOLERANCE = 1e-4
"""Most that batch size, order, batch mates and the device change a float32 answer, relative to its largest value."""
_CACHED_SCORES = 65_536
_AUDITED = 8
_FADES = (1.0, 0.75, 0.5, 0.25)


class Coordinates(Protocol):
    """What the engine asks of a space; `bench.spaces.space.Space` says what each member means."""

    layer: str | None

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor: ...

    def baseline(self, coordinates: Tensor) -> Tensor: ...

    def inputs(self, coordinates: Tensor) -> Tensor: ...

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: Mode = "nearest") -> Tensor: ...


class Engine:
    """Answers what methods and metrics ask of one network.

    Parameters
    ----------
    network : Network or nn.Module
        A plain module is wrapped: no normalisation, any input size, and taken over as `Network` says.
    device : str
        'auto' = CUDA where there is one; 'cpu', 'cuda', 'cuda:1' ...; 'meta' computes shapes only.
    precision : {'auto', 'fp32', 'bf16'}
        Number format of forwards without gradients. 'auto' takes bfloat16 where the hardware multiplies it and an
        audit on the first images allows it; `audit` tells. Gradients and taps are float32 always.
    batch_size : int
        Most images in one pass; halved when memory runs out.

    Attributes
    ----------
    network : Network
    device : torch.device
    audit : dict
        Precision asked for and used, and the comparison behind it; for the manifest.
    """

    def __init__(
        self, network: Network | nn.Module, *, device: str = "auto", precision: Precision = "auto", batch_size: int = 64
    ) -> None:
        if isinstance(network, nn.Module):
            network = Network(name=type(network).__name__, module=network)
        if precision not in get_args(Precision):
            raise unknown("engine, precision", precision, get_args(Precision))
        self.network = network
        self.device = resolve_device(device)
        self._format = memory_format(network.module)
        self._module = network.module.to(self.device, memory_format=self._format)
        self._meters = Meters(self.device)
        where = f"network '{network.name}' on {self.device}"
        self._forwards, self._backwards = Batches(where, batch_size), Batches(where, batch_size)
        self._cache: dict[tuple[str, ScoreType], Tensor] = {}
        self._splits: dict[str, Split] = {}
        self._shape: tuple[int, ...] | None = (3, network.size, network.size) if network.size else None
        self._layer = network.layer
        used = {"fp32": "fp32", "bf16": "bf16", "auto": None if has_bfloat16_units(self.device) else "fp32"}[precision]
        self.audit: dict[str, Any] = {"requested": precision, "used": used}

    # Data in and out

    def inputs(self, pictures: np.ndarray) -> Tensor:
        """Turn pictures into what the network eats.

        Parameters
        ----------
        pictures : uint8 (N, H, W, 3)
            Centre-cropped to a square and resized to the network's size where they differ.

        Returns
        -------
        Tensor float32 (N, 3, size, size)
            Normalised, on the device.
        """
        pictures = np.asarray(pictures)
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
            raise LimenError(
                f"pictures for network '{self.network.name}': given {pictures.dtype} {pictures.shape}, "
                "allowed is uint8 (N, H, W, 3)."
            )
        host = torch.from_numpy(np.array(pictures, order="C"))
        if self.device.type == "cuda":
            host = host.pin_memory()
        images = host.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
        size = self.network.size
        if size is not None and tuple(images.shape[2:]) != (size, size):
            images = _resize(images, size)
        return normalise(images, self.network.mean, self.network.std).contiguous()

    def prepare(self, images: Tensor | np.ndarray) -> Tensor:
        """Put network inputs on the device as contiguous float32; an input that is so already is returned as it is.

        Parameters
        ----------
        images : float (N, ...)
            Already normalised; `inputs` takes pictures.
        """
        given = torch.as_tensor(images)
        if not given.is_floating_point() or given.ndim < 2 or not len(given):
            raise LimenError(
                f"images for network '{self.network.name}': given {given.dtype} {tuple(given.shape)}, allowed is at "
                "least one normalised float image (N, C, H, W); `Engine.inputs` makes them from uint8 pictures."
            )
        return given.detach().to(self.device, torch.float32).contiguous()

    def targets(self, images: Tensor | np.ndarray, targets: Any = None) -> Tensor:
        """Return int64 (N,) target classes on the device; None = the class the network predicts for each image."""
        images = self.prepare(images)
        if targets is None:
            return self.scores(images).argmax(dim=1)
        chosen = torch.as_tensor(targets)
        if chosen.ndim != 1 or len(chosen) != len(images) or chosen.is_floating_point():
            raise LimenError(
                f"targets for network '{self.network.name}': given {chosen.dtype} {tuple(chosen.shape)} for "
                f"{len(images)} images, allowed is one class index an image."
            )
        return chosen.to(self.device, torch.int64)

    def numpy(self, tensor: Tensor) -> np.ndarray:
        """Return a tensor as an array on the CPU; on the meta device, zeros of its shape."""
        if tensor.device.type == "meta":
            tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()

    def draws(self, seed: int, *key: Key) -> Draws:
        """Return seeded random numbers that are put on this device."""
        return Draws(seed, *key, device=self.device)

    def meter(self) -> AbstractContextManager[Cost]:
        """Meter what is done inside the context; meters nest."""
        return self._meters.run()

    # Scores

    def scores(self, images: Tensor | np.ndarray, score: ScoreType = "logit") -> Tensor:
        """Return the scores float32 (N, K) of images; remembered by content.

        Raises
        ------
        LimenError
            If an output is not finite.
        """
        images = self.prepare(images)
        _check_score(score)
        self._settle_precision(images)
        if self.device.type == "meta":
            return self._sweep_scores(images, score)
        keys = [(digest, score) for digest in digests(images)]
        missing = {key: index for index, key in reversed(list(enumerate(keys))) if key not in self._cache}
        rows = {key: self._cache[key] for key in keys if key in self._cache}
        if missing:
            wanted = sorted(missing.items(), key=lambda item: item[1])
            index = [position for _, position in wanted]
            fresh = self._sweep_scores(images if len(index) == len(images) else images[index], score, index)
            rows.update({key: row for (key, _), row in zip(wanted, fresh, strict=True)})
            self._remember(rows, list(missing))
        return torch.stack([rows[key] for key in keys])

    def perturbed_scores(
        self,
        images: Tensor | np.ndarray,
        masks: Masks,
        targets: Tensor | None,
        *,
        space: Coordinates,
        score: ScoreType = "logit",
        side: int | None = None,
        mode: Mode = "nearest",
    ) -> Tensor:
        """Return the scores of masked copies `m x + (1 - m) x0`, in full batches that span images.

        Parameters
        ----------
        images : float (N, C, H, W)
        masks : Masks
            `count` = M masks an image, in [0, 1], 1 = keep; made on the device batch by batch.
        targets : int64 (N,) or None
            None keeps the scores of all K classes.
        space : Space
            Gives the coordinates `x`, the baseline `x0` and the way (B, d) weights are spread.
        side, mode
            How (B, d) masks are spread: cells a side (None = what d says), nearest or bilinear.

        Returns
        -------
        Tensor float32 (N, M), or (N, M, K) without targets
        """
        images = self.prepare(images)
        _check_score(score)
        self._settle_precision(images)
        if targets is not None:
            targets = self.targets(images, targets)
        copies = _Copies(self, images, masks, space, side, mode)
        run = self._runner(space.layer)

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            perturbed, image_index = copies.build(start, stop)
            logits = self._forward(run, space.inputs(perturbed))
            values = _as_score(logits, score)
            chosen = values if targets is None else values.gather(1, targets[image_index][:, None])[:, 0]
            return chosen, torch.isfinite(logits).all(dim=1)

        found, finite = [], []
        with torch.no_grad():
            for start, stop, (values, good) in self._forwards.sweep(len(images) * masks.count, work):
                self._meters.count(forwards=stop - start)
                found.append(values)
                finite.append(good)
        if not found:
            return images.new_zeros((len(images), 0))
        values = torch.cat(found)
        self._check_finite(torch.cat(finite).reshape(len(images), masks.count).all(dim=1))
        return values.reshape(len(images), masks.count, *values.shape[1:])

    # Gradients

    def gradients(self, images: Tensor | np.ndarray, targets: Tensor | None, *, space: Coordinates) -> Tensor:
        """Return d logit / d coordinates, float32 (N, *coordinates); each image's own, whatever its batch mates."""
        images = self.prepare(images)
        targets = self.targets(images, targets)
        coordinates = space.coordinates(self, images)

        def work(start: int, stop: int) -> Tensor:
            return self._gradient(coordinates[start:stop], targets[start:stop], space)

        parts = []
        for start, stop, part in self._backwards.sweep(len(images), work):
            self._meters.count(forwards=stop - start, backwards=stop - start)
            parts.append(part)
        return torch.cat(parts)

    def path_gradients(
        self, images: Tensor | np.ndarray, nodes: Any, weights: Any, targets: Tensor | None, *, space: Coordinates
    ) -> Tensor:
        """Return `sum_i w_i grad f(x0 + a_i (x - x0))`, float32 (N, *coordinates), in batches over images x nodes.

        Parameters
        ----------
        nodes, weights : float (T,)
            Positions `a_i` on the straight path from the baseline (0) to the image (1), and their weights `w_i`.
        """
        images = self.prepare(images)
        targets = self.targets(images, targets)
        steps, shares = (torch.as_tensor(line, dtype=torch.float64).to(self.device) for line in (nodes, weights))
        if steps.ndim != 1 or steps.shape != shares.shape or not len(steps):
            raise LimenError(
                f"path gradients: given nodes {tuple(steps.shape)} and weights {tuple(shares.shape)}, "
                "allowed are two lines (T,) of equal length."
            )
        coordinates = space.coordinates(self, images)
        baseline = space.baseline(coordinates)
        count, shape = len(steps), coordinates.shape[1:]

        def work(start: int, stop: int) -> list[tuple[int, Tensor]]:
            flat = torch.arange(start, stop, device=self.device)
            image, step = flat // count, flat % count
            place = steps[step].float().reshape(-1, *[1] * len(shape))
            points = torch.lerp(baseline[image], coordinates[image], place)
            slopes = self._gradient(points, targets[image], space).double()
            slopes = slopes * shares[step].reshape(-1, *[1] * len(shape))
            return [
                (index, slopes[max(index * count - start, 0) : (index + 1) * count - start].sum(dim=0))
                for index in range(start // count, (stop - 1) // count + 1)
            ]

        total = torch.zeros(len(images), *shape, dtype=torch.float64, device=self.device)
        for start, stop, sums in self._backwards.sweep(len(images) * count, work):
            self._meters.count(forwards=stop - start, backwards=stop - start)
            for index, part in sums:
                total[index] += part
        return total.float()

    # Layers

    def layers(self) -> list[str]:
        """List the names of layers that can be tapped."""
        return layer_names(self._module)

    def default_layer(self, images: Tensor | np.ndarray | None = None) -> str:
        """Return the network's default layer; where it names none, the last module with a spatial output.

        Raises
        ------
        LimenError
            If the network has no spatial layer, or names none and no images are given to find it with.
        """
        if self._layer is None:
            if images is None:
                raise LimenError(f"network '{self.network.name}': it names no default layer; give one, or images.")
            with last_spatial(self._module) as found, torch.no_grad():
                self._forward(self._plain(), self.prepare(images)[:1])
            self._layer = found()
        if self._layer is None:
            raise LimenError(
                f"network '{self.network.name}': no layer has a spatial output (N, C, H, W); "
                f"allowed are the layers {', '.join(self.layers())}, given by name."
            )
        return self._layer

    def tap(self, images: Tensor | np.ndarray, layer: str | None = None) -> Tensor:
        """Return the activations float32 (N, ...) of a layer (None = the default layer)."""
        images = self.prepare(images)
        layer = layer or self.default_layer(images)
        part = find_layer(self._module, layer, self.network.name)

        def work(start: int, stop: int) -> Tensor:
            with tapped(part, layer) as last:
                self._forward(self._plain(), images[start:stop])
            return last().float()

        parts = []
        with torch.no_grad():
            for start, stop, activations in self._forwards.sweep(len(images), work):
                self._meters.count(forwards=stop - start)
                parts.append(activations)
        return torch.cat(parts).contiguous()

    def tap_gradients(
        self, images: Tensor | np.ndarray, layer: str | None, targets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the activations of a layer and d logit / d activations, both float32 (N, ...)."""
        images = self.prepare(images)
        targets = self.targets(images, targets)
        layer = layer or self.default_layer(images)
        part = find_layer(self._module, layer, self.network.name)

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            with torch.enable_grad(), leaf(part, layer) as last:
                logits = self._forward(self._plain(), images[start:stop])
                slope = self._derive(logits, targets[start:stop], last())
            return last().detach(), slope

        pairs = []
        for start, stop, pair in self._backwards.sweep(len(images), work):
            self._meters.count(forwards=stop - start, backwards=stop - start)
            pairs.append(pair)
        activations, slopes = (torch.cat(parts).contiguous() for parts in zip(*pairs, strict=True))
        return activations, slopes

    def head(self, layer: str) -> Callable[[Tensor], Tensor]:
        """Return the part of the network after a layer: activations (n, ...) to logits float32 (n, K).

        Where the activations require gradients it runs at once and is differentiable; else it is `head_scores`.

        Raises
        ------
        LimenError
            If the layer is no cut point: the logits also depend on tensors computed before it.
        """
        run = self._runner(layer)

        def head(activations: Tensor) -> Tensor:
            if torch.is_grad_enabled() and activations.requires_grad:
                self._meters.count(forwards=len(activations))
                with exact(self.device):
                    return logits_of(run(activations), self.network.name)
            return self.head_scores(activations, layer)

        return head

    def head_scores(self, activations: Tensor | np.ndarray, layer: str) -> Tensor:
        """Return the logits float32 (n, K) of activations of a layer, in batches, without gradients."""
        activations = self.prepare(activations)
        return self._sweep_scores(activations, "logit", run=self._runner(layer))

    # Inside

    def _plain(self) -> Callable[[Tensor], Any]:
        return cast(Callable[[Tensor], Any], self._module)

    def _runner(self, layer: str | None) -> Callable[[Tensor], Any]:
        if layer is None:
            return self._plain()
        if layer not in self._splits:
            self._splits[layer] = split(self._module, layer, network=self.network.name, blank=self._blank)
        return self._splits[layer].run

    def _blank(self, activations: Tensor) -> Tensor:
        if self._shape is None:
            raise LimenError(
                f"network '{self.network.name}': its input size is unknown, so it cannot be split; "
                "run it on an image first, or give `size`."
            )
        return torch.zeros(len(activations), *self._shape, device=self.device)

    def _forward(self, run: Callable[[Tensor], Any], inputs: Tensor, low: bool | None = None) -> Tensor:
        """Run a batch and return float32 logits; the inputs are copied, since a module may work in place."""
        if run is self._module:
            self._shape = tuple(inputs.shape[1:])
        if low is None:
            low = self.audit["used"] == "bf16"
        low = low and not torch.is_grad_enabled()
        fresh = inputs.clone(memory_format=self._format if inputs.ndim == 4 else torch.contiguous_format)
        with exact(self.device), bfloat16(self.device) if low else nullcontext():
            return logits_of(run(fresh), self.network.name).float()

    def _gradient(self, points: Tensor, targets: Tensor, space: Coordinates) -> Tensor:
        with torch.enable_grad():
            leaves = points.detach().clone().requires_grad_()
            logits = self._forward(self._runner(space.layer), space.inputs(leaves))
            return self._derive(logits, targets, leaves)

    def _derive(self, logits: Tensor, targets: Tensor, leaves: Tensor) -> Tensor:
        self._check_finite(torch.isfinite(logits).all(dim=1))
        if not logits.requires_grad:
            raise LimenError(
                f"network '{self.network.name}': its output has no gradient; allowed is a differentiable module."
            )
        total = logits.gather(1, targets[:, None]).sum()
        with exact(self.device):
            (slope,) = torch.autograd.grad(total, leaves, materialize_grads=True)
        return slope.contiguous()

    def _sweep_scores(
        self,
        inputs: Tensor,
        score: ScoreType,
        names: list[int] | None = None,
        *,
        run: Callable[[Tensor], Any] | None = None,
        low: bool | None = None,
    ) -> Tensor:
        def work(start: int, stop: int) -> Tensor:
            return self._forward(run or self._plain(), inputs[start:stop], low)

        parts = []
        with torch.no_grad():
            for start, stop, logits in self._forwards.sweep(len(inputs), work):
                self._meters.count(forwards=stop - start)
                parts.append(logits)
        logits = torch.cat(parts)
        self._check_finite(torch.isfinite(logits).all(dim=1), names)
        return _as_score(logits, score)

    def _settle_precision(self, images: Tensor) -> None:
        """Compare both precisions on the first images of the run, and fall back where they rank differently."""
        wanted = self.audit["requested"] == "bf16" or self.audit["used"] is None
        if not wanted or "spearman" in self.audit or self.device.type == "meta":
            return
        sample = images[:_AUDITED]
        copies = torch.cat([sample * fade for fade in _FADES])
        exact_scores = self._sweep_scores(copies, "logit", low=False)
        self.audit.update(compare(exact_scores, self._sweep_scores(copies, "logit", low=True)))
        if self.audit["used"] is None:
            correlation = self.audit["spearman"]
            self.audit["used"] = "bf16" if correlation is not None and correlation >= ENOUGH else "fp32"

    def _remember(self, rows: dict[tuple[str, ScoreType], Tensor], keys: list[tuple[str, ScoreType]]) -> None:
        self._cache.update({key: rows[key].clone() for key in keys})
        while len(self._cache) > _CACHED_SCORES:
            del self._cache[next(iter(self._cache))]

    def _check_finite(self, good: Tensor, names: list[int] | None = None) -> None:
        if good.device.type == "meta" or bool(good.all()):
            return
        bad = [index if names is None else names[index] for index in (~good).nonzero()[:, 0].tolist()]
        shown = ", ".join(map(str, bad[:5])) + (" ..." if len(bad) > 5 else "")
        raise LimenError(
            f"network '{self.network.name}': the output is not finite for {len(bad)} of {len(good)} images "
            f"(at {shown}); allowed are finite scores, so look at the weights and the normalisation."
        )


class _Copies:
    """The masked copies of images, built batch by batch: item `i` is copy `i % M` of image `i // M`."""

    def __init__(
        self, engine: Engine, images: Tensor, masks: Masks, space: Coordinates, side: int | None, mode: Mode
    ) -> None:
        self._engine, self._masks, self._space, self._side, self._mode = engine, masks, space, side, mode
        self._coordinates = space.coordinates(engine, images)
        self._baseline = space.baseline(self._coordinates)

    def build(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the coordinates (B, *S) of the copies start .. stop, and the index (B,) of the image of each."""
        count, device = self._masks.count, self._engine.device
        flat = torch.arange(start, stop, device=device)
        image_index = flat // count
        values = self._masks.build(image_index, flat % count).to(device, torch.float32)
        if len(values) != stop - start:
            raise LimenError(f"masks: given {len(values)} for {stop - start} copies, allowed is one mask a copy.")
        first, last = start // count, (stop - 1) // count
        # Copies of one image are broadcast; gathering would copy the image B times.
        chosen: Any = slice(first, first + 1) if first == last else image_index
        kept, replaced = self._coordinates[chosen], self._baseline[chosen]
        if values.ndim == 2:
            values = self._space.spread(values, kept.expand(len(values), *kept.shape[1:]), self._side, self._mode)
        return torch.lerp(replaced, kept, values), image_index


def resolve_device(device: str) -> torch.device:
    """Return the device meant by a name; 'auto' is CUDA where there is one.

    Raises
    ------
    LimenError
        If the name means nothing, or this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise unknown("device", device, ("auto", "cpu", "cuda", "cuda:0", "meta")) from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise LimenError(f"device: given '{device}', this machine has {torch.cuda.device_count()} CUDA devices.")
    if found.type not in ("cpu", "cuda", "meta"):
        raise unknown("device", device, ("auto", "cpu", "cuda", "meta"))
    return found


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return `(images - mean) / std` per channel, for float (N, C, H, W)."""
    centre, spread = (images.new_tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
    return (images - centre) / spread


def _resize(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[:, :, top : top + side, left : left + side]
    if side == size:
        return square
    return functional.interpolate(square, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def _check_score(score: str) -> None:
    if score not in get_args(ScoreType):
        raise unknown("score", score, get_args(ScoreType))


def _as_score(logits: Tensor, score: ScoreType) -> Tensor:
    return logits.softmax(dim=1) if score == "probability" else logits
