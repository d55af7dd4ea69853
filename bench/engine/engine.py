"""The engine: every forward and every gradient of the bench goes through here, batched, metered and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..registry import LimenError, unknown
from . import pictures as conversion
from .ascent import Aim, Ascended, Ascent
from .batching import Batches
from .bounds import Bound, Boxes, Margins, Relaxation
from .content import combined, digests
from .copies import Alter, Altered, Coordinates, Copies, Mode
from .cost import Cost
from .device import resolve_device
from .frozen import Graphs
from .hooks import find_layer, last_spatial, layer_names, tapped
from .masks import Masks
from .memory import Memory
from .network import Network, logits_of
from .precision import Precision, exact
from .random import Draws, Key
from .relu import ReluRule
from .slopes import Slopes
from .sweeps import ScoreType, Sweeps, as_score, check_score, finite

TOLERANCE = 1e-4
"""Most that batch size, order, batch mates and the device change a float32 answer, relative to its largest value."""
_CACHED_SCORES = 65_536
_CLASSES = 1000
"""Classes of a network that does not say how many it has; it only decides what is worth remembering."""


class Engine:
    """Answers what methods and metrics ask of one network.

    Parameters
    ----------
    network : Network or nn.Module
        A plain module is wrapped: no normalisation, any input size. The module is taken over, as `Network` says:
        moved to the device, in float32 (copied first on the meta device, which holds no weights).
    device : str
        'auto' = CUDA where there is one; 'cpu', 'cuda', 'cuda:1' ...; 'meta' computes shapes only.
    precision : {'auto', 'fp32', 'bf16'}
        Number format of forwards without gradients. 'auto' takes bfloat16 where the hardware multiplies it and an
        audit on the first images allows it; `audit` tells. Gradients and taps are always float32.
    batch_size : int
        Most images in one pass; halved when memory runs out, fewer where a CPU is faster so.
    graphs : {'auto', 'always', 'never'}
        Whether the forwards of a long sweep of masked copies run as a compiled graph: 'auto' where it pays for the
        seconds that compiling takes. Where compiling fails the sweep runs as it would without; `audit` tells.

    Attributes
    ----------
    network : Network
    device : torch.device
    audit : dict
        Precision asked for and used, and the comparison behind it; for the manifest.
    """

    def __init__(
        self,
        network: Network | nn.Module,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int = 64,
        graphs: Graphs = "auto",
    ) -> None:
        if not isinstance(network, Network):
            network = Network(name=type(network).__name__, module=network)
        if precision not in get_args(Precision):
            raise unknown("engine, precision", precision, get_args(Precision))
        if graphs not in get_args(Graphs):
            raise unknown("engine, graphs", graphs, get_args(Graphs))
        self.network = network
        self.device = resolve_device(device)
        self._sweeps = Sweeps(network, self.device, precision, batch_size, graphs)
        self._slopes = Slopes(self._sweeps, batch_size)
        self._ascent = Ascent(self._sweeps, batch_size)
        self._where, self._forward = self._sweeps.where, self._sweeps.forward
        self.audit = self._forward.audit
        # Others' code may need far more memory an image, which must not shrink the engine's own batches.
        self._lent = Batches(self._sweeps.batches.where, batch_size)
        self._cache: dict[str, Tensor] = {}
        self._memory = Memory()
        self._layer = network.layer
        self._graphs: Graphs = graphs

    def beside(self, network: Network) -> Engine:
        """Return an engine for another network: same device, precision and batch size; its work counts here too."""
        other = Engine(
            network,
            device=str(self.device),
            precision=self.audit["requested"],
            batch_size=self._sweeps.batches.size,
            graphs=self._graphs,
        )
        other._sweeps.meters = self._sweeps.meters
        return other

    def inputs(self, pictures: np.ndarray) -> Tensor:
        """Turn pictures into what the network eats.

        Parameters
        ----------
        pictures : uint8 (N, H, W, 3)
            Cropped centrally to a square and resized to the network's size, where it has one and they differ.

        Returns
        -------
        Tensor float32 (N, 3, size, size)
            Normalised, on the device.
        """
        images = conversion.to_device(pictures, self.device, f"pictures for {self._where}")
        size = self.network.size
        if size is not None and tuple(images.shape[2:]) != (size, size):
            images = conversion.fit(images, size)
        return conversion.normalise(images, self.network.mean, self.network.std).contiguous()

    def prepare(self, images: Tensor | np.ndarray) -> Tensor:
        """Put network inputs on the device as contiguous float32; inputs that are so already are returned as they are.

        Parameters
        ----------
        images : float (N, ...)
            Already normalised; `inputs` takes pictures.
        """
        given = _tensor(images)
        if not given.is_floating_point() or given.ndim < 2 or not len(given):
            raise LimenError(
                f"images for {self._where}: given {given.dtype} {tuple(given.shape)}, allowed is at least one "
                "normalised float image (N, C, H, W); `Engine.inputs` makes them from uint8 pictures."
            )
        return given.detach().to(self.device, torch.float32).contiguous()

    def place(self, values: Tensor | np.ndarray) -> Tensor:
        """Put any numbers on the device, as they are: labels, atoms, weights."""
        return torch.as_tensor(values).detach().to(self.device)

    def targets(self, images: Tensor | np.ndarray, targets: Any = None) -> Tensor:
        """Return target classes int64 (N,) on the device; None = the class the network predicts for each image.

        Raises
        ------
        LimenError
            If they are not one class index an image.
        """
        images = self.prepare(images)
        if targets is None:
            return self.scores(images).argmax(dim=1)
        chosen = _tensor(targets)
        if chosen.ndim != 1 or len(chosen) != len(images) or chosen.is_floating_point() or chosen.is_complex():
            raise LimenError(
                f"targets for {self._where}: given {chosen.dtype} {tuple(chosen.shape)} for {len(images)} images, "
                "allowed is one class index an image."
            )
        chosen = chosen.to(self.device, torch.int64)
        if self.device.type != "meta":
            classes = len(self.network.classes) or self.scores(images[:1]).shape[1]
            low, high = (int(value) for value in chosen.aminmax())
            if low < 0 or high >= classes:
                raise LimenError(
                    f"targets for {self._where}: given classes from {low} to {high}, allowed is 0 to {classes - 1}."
                )
        return chosen

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
        return self._sweeps.meters.run()

    def scores(self, images: Tensor | np.ndarray, score: ScoreType = "logit") -> Tensor:
        """Return the scores float32 (N, K) of images; the network's answers are remembered by content.

        Raises
        ------
        LimenError
            If an output is not finite.
        """
        images = self.prepare(images)
        check_score(score)
        self._sweeps.settle_precision(images)
        if self.device.type == "meta":
            return as_score(self._sweeps.logits(self._forward.plain, images), score)
        keys = digests(images)
        # The first place of each image not seen before: equal images run once.
        missing = {key: keys.index(key) for key in dict.fromkeys(keys) if key not in self._cache}
        rows = {key: self._cache[key] for key in keys if key in self._cache}
        if missing:
            index = list(missing.values())
            fresh = self._sweeps.logits(
                self._forward.plain, images if len(index) == len(images) else images[index], names=index
            )
            rows.update(zip(missing, fresh, strict=True))
            self._remember({key: rows[key] for key in missing})
        return as_score(torch.stack([rows[key] for key in keys]), score)

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
        copies = Copies(space.coordinates(self, images), masks, space, side=side, mode=mode)
        told = None if masks.values is None else ("masks", masks.values, side, mode)
        return self._copy_scores(images, copies, masks.count, targets, space, score, told)

    def altered_scores(
        self,
        images: Tensor | np.ndarray,
        count: int,
        alter: Alter,
        targets: Tensor | None,
        *,
        space: Coordinates,
        score: ScoreType = "logit",
        key: str | None = None,
    ) -> Tensor:
        """Return the scores of copies that a function changes, in full batches that span images.

        Parameters
        ----------
        images : float (N, C, H, W)
        count : M, copies an image
        alter : callable
            `alter(coordinates (B, *S), image_index (B,), copy_index (B,)) -> (B, *S)`, a function of its arguments
            alone (draw beforehand), which it does not write to.
        targets : int64 (N,) or None
            None keeps the scores of all K classes.
        space, score : as for `perturbed_scores`
        key : str or None
            Names all that `alter` does, its draws included: the same question, asked again, is answered from memory.

        Returns
        -------
        Tensor float32 (N, M), or (N, M, K) without targets
        """
        images = self.prepare(images)
        copies = Altered(space.coordinates(self, images), count, alter)
        return self._copy_scores(images, copies, count, targets, space, score, None if key is None else (key,))

    def _copy_scores(
        self,
        images: Tensor,
        copies: Copies | Altered,
        count: int,
        targets: Tensor | None,
        space: Coordinates,
        score: ScoreType,
        told: tuple[object, ...] | None,
    ) -> Tensor:
        """Score copies; `told` says what they are, if they are to be remembered."""
        check_score(score)
        self._sweeps.settle_precision(images)
        chosen = None if targets is None else self.targets(images, targets)
        key = self._key(images, count, space, told)
        values = self._memory.get(key)
        if values is None:
            gathered = None if key else chosen
            values = self._sweeps.copies(copies, len(images), gathered, space, "logit" if key else score)
        if key is None:
            return values
        self._memory.put(key, values)
        values = as_score(values, score)
        if chosen is None:
            return values.clone()
        return values.gather(2, chosen[:, None, None].expand(-1, count, 1))[:, :, 0]

    def _key(self, images: Tensor, count: int, space: Coordinates, told: tuple[object, ...] | None) -> str | None:
        """Return what a question is remembered by; None where it is too large, or the space has no identity."""
        identity = getattr(space, "identity", None)
        if told is None or identity is None or self.device.type == "meta":
            return None
        if not count or not self._memory.takes(len(images) * count * (len(self.network.classes) or _CLASSES)):
            return None
        return combined(identity, count, *digests(images), *told)

    def gradients(
        self,
        images: Tensor | np.ndarray,
        targets: Tensor | None,
        *,
        space: Coordinates,
        rule: ReluRule = "plain",
    ) -> Tensor:
        """Return d logit / d coordinates, float32 (N, *coordinates); each image's own, whatever its batch mates.

        Parameters
        ----------
        rule : {'plain', 'guided', 'deconvnet'}
            How gradients pass a ReLU, at every ReLU operation of the network.

        Raises
        ------
        LimenError
            If an output or a gradient is not finite, the network has no gradient, or a rule but no ReLU.
        """
        images = self.prepare(images)
        chosen = self.targets(images, targets)
        coordinates = space.coordinates(self, images)

        return self._slopes.plain(coordinates, chosen, space, rule, images=images)

    def gradient_moments(
        self, images: Tensor | np.ndarray, count: int, alter: Alter, targets: Tensor | None, *, space: Coordinates
    ) -> tuple[Tensor, Tensor]:
        """Return mean and sum of squared deviations of d logit / d coordinates over altered copies, in one pass.

        Parameters
        ----------
        images, count, alter, targets, space : as for `altered_scores`

        Returns
        -------
        Tensor, Tensor float32 (N, *coordinates)
            With M copies the mean square is `mean^2 + deviations / M`, the unbiased variance `deviations / (M - 1)`.
        """
        images = self.prepare(images)
        chosen = self.targets(images, targets)
        coordinates = space.coordinates(self, images)
        copies = Altered(coordinates, count, alter)
        return self._slopes.moments(coordinates, copies, chosen, space, images=images)

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
        chosen = self.targets(images, targets)
        places, shares = (_tensor(line).to(self.device, torch.float64) for line in (nodes, weights))
        if places.ndim != 1 or places.shape != shares.shape or not len(places):
            raise LimenError(
                f"path gradients: given nodes {tuple(places.shape)} and weights {tuple(shares.shape)}, "
                "allowed are two lines (T,) of equal length."
            )
        coordinates = space.coordinates(self, images)
        return self._slopes.path(coordinates, places, shares, chosen, space, images=images)

    def margin_bounds(
        self,
        images: Tensor | np.ndarray,
        boxes: Boxes,
        targets: Tensor | None,
        *,
        space: Coordinates,
        rivals: Tensor | None = None,
        relaxation: Relaxation = "crown_ibp",
        bound: Bound = "margin",
    ) -> Tensor:
        """Return upper bounds of how far another class's logit rises over the target's while the input is in a box.

        Below 0 the decision cannot change in the box. Sound up to float32 rounding, for which bounds are moved
        outwards a little; no bound where `boxes` looks at samples of a layer.

        Parameters
        ----------
        images : float (N, C, H, W)
        boxes : Boxes, M an image, in the coordinates of the space
        targets : int64 (N,) or None
        space : Space
        rivals : int64 (N,), the other class of each image; None takes the largest bound over all others
        relaxation, bound : as for `bounds.Margins`

        Returns
        -------
        Tensor float32 (N, M)

        Raises
        ------
        LimenError
            If the network holds an operation that bounds cannot go through, or a bound is not finite.
        """
        images = self.prepare(images)
        chosen = self.targets(images, targets)
        versus = None if rivals is None else self.targets(images, rivals)
        make = boxes.of(space.coordinates(self, images), lambda points: self.tap(space.inputs(points), boxes.layer))
        run = self._sweeps.runner(boxes.layer or space.layer)
        where, size = self._sweeps.batches.where, self._sweeps.batches.size

        def network(inputs: Tensor) -> Tensor:
            return logits_of(run(inputs.clone() if boxes.layer else space.inputs(inputs.clone())), self.network.name)

        with torch.no_grad(), exact(self.device):
            first = make(0, 1)[0].centre
            # The engine's own forward goes first: it settles the memory layout that the traced one runs in.
            expected = self._forward(run, first if boxes.layer else space.inputs(first), low=False)
            margins = Margins.of(network, first, expected, relaxation=relaxation, bound=bound, where=self._where)

            def work(start: int, stop: int) -> tuple[Tensor, Cost]:
                box, image = make(start, stop)
                cost = Cost()
                return margins.overlap(box, chosen[image], None if versus is None else versus[image], cost), cost

            found = []
            for _, _, (values, cost) in Batches(where, min(size, margins.most)).sweep(len(images) * boxes.count, work):
                self._sweeps.meters.count(forwards=cost.forwards, backwards=cost.backwards)
                found.append(values)
        values = torch.cat(found).unflatten(0, (len(images), boxes.count))
        self._sweeps.check(finite(values))
        return values

    def ascend(
        self,
        start: Mapping[str, Tensor],
        targets: Tensor,
        aim: Aim,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Ascended:
        """Move rendered pictures up their targets' logits, each on its own.

        Parameters
        ----------
        start : name -> float tensor (n, ...), copied
        targets : int64 (n,), the class each picture is made for
        aim : Aim
            How parameters are rendered and seen, how far to climb, what holds the pictures near the start.
        progress : callable or None
            `progress(pictures done, pictures)`.

        Raises
        ------
        LimenError
            If a logit or a picture is not finite.
        """
        placed = {name: self.place(value).float() for name, value in start.items()}
        return self._ascent.run(placed, self.place(targets), aim, progress=progress)

    def lend(self, images: Tensor, targets: Tensor, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return what anyone's `run(images (B, ...), targets (B,)) -> (B, ...)` gives, in batches of its own.

        It gets copies, since it may write to them, and gradients are on; what it costs is not metered.
        """

        def work(start: int, stop: int) -> Tensor:
            with torch.enable_grad(), exact(self.device):
                return run(images[start:stop].clone(), targets[start:stop].clone()).detach()

        return torch.cat([result for _, _, result in self._lent.sweep(len(images), work)])

    def layers(self) -> list[str]:
        """List the names of layers that can be tapped."""
        return layer_names(self._forward.module)

    def default_layer(self, images: Tensor | np.ndarray | None = None) -> str:
        """Return the network's default layer; where it names none, the last module with a spatial output.

        Raises
        ------
        LimenError
            If the network has no spatial layer, or names no layer and there are no images to find it with.
        """
        if self._layer is None:
            if images is None:
                raise LimenError(f"{self._where}: it names no default layer; give a layer's name, or images.")
            with last_spatial(self._forward.module) as found, torch.no_grad():
                self._forward(self._forward.plain, self.prepare(images)[:1], low=False)
            self._layer = found()
        if self._layer is None:
            raise LimenError(
                f"{self._where}: no layer has a spatial output (N, C, H, W) to take by default; "
                f"allowed by name are {', '.join(self.layers())}."
            )
        return self._layer

    def tap(self, images: Tensor | np.ndarray, layer: str | None = None) -> Tensor:
        """Return the activations float32 (N, ...) of a layer (None = the default layer).

        Raises
        ------
        LimenError
            If the network has no such layer, or the layer does not run.
        """
        images = self.prepare(images)
        layer = layer or self.default_layer(images)
        part = find_layer(self._forward.module, layer, self.network.name)

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            with tapped(part, layer) as last:
                logits = self._forward(self._forward.plain, images[start:stop], low=False)
            return last().float(), finite(logits)

        found = []
        with torch.no_grad():
            for start, stop, result in self._sweeps.batches.sweep(len(images), work, self._forward.most(images)):
                self._sweeps.meters.count(forwards=stop - start)
                found.append(result)
        activations, good = (torch.cat(parts) for parts in zip(*found, strict=True))
        self._sweeps.check(good)
        return activations.contiguous()

    def tap_gradients(
        self, images: Tensor | np.ndarray, layer: str | None, targets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the activations of a layer and d logit / d activations, both float32 (N, ...)."""
        images = self.prepare(images)
        chosen = self.targets(images, targets)
        layer = layer or self.default_layer(images)
        return self._slopes.at_layer(images, layer, chosen, self.network.name)

    def head(self, layer: str) -> Callable[[Tensor], Tensor]:
        """Return the part of the network after a layer: activations (n, ...) to logits float32 (n, K).

        Where the activations require gradients it runs at once and is differentiable; else it is `head_scores`.

        Raises
        ------
        LimenError
            If the layer is no cut point: the logits also depend on tensors computed before it.
        """
        run = self._sweeps.runner(layer)

        def head(activations: Tensor) -> Tensor:
            if torch.is_grad_enabled() and activations.requires_grad:
                self._sweeps.meters.count(forwards=len(activations))
                return self._forward(run, activations)
            return self.head_scores(activations, layer)

        return head

    def head_scores(self, activations: Tensor | np.ndarray, layer: str) -> Tensor:
        """Return the logits float32 (n, K) of activations of a layer, in batches, without gradients."""
        return self._sweeps.logits(self._sweeps.runner(layer), self.prepare(activations))

    def _remember(self, rows: dict[str, Tensor]) -> None:
        self._cache.update(rows)
        while len(self._cache) > _CACHED_SCORES:
            del self._cache[next(iter(self._cache))]


def _tensor(values: Any) -> Tensor:
    """Return a tensor of what a caller gave; an array that torch cannot share (read-only, reversed) is copied."""
    if isinstance(values, np.ndarray) and not (values.flags.writeable and values.flags.c_contiguous):
        values = values.copy(order="C")
    return torch.as_tensor(values)
