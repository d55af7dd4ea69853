"""The engine: every forward and every gradient of the bench goes through here, batched, metered and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from .answers import Answers
from .ascent import Aim, Ascended, Ascent
from .bounds import Bound, Boxes, Relaxation
from .boxed import Boxed
from .coordinates import Asked, Coordinates, Mode
from .copies import Alter, Altered, Copies
from .cost import Cost
from .device import resolve_device
from .frozen import Graphs
from .given import Given
from .host import readable
from .lent import Lent
from .masks import Masks, Within
from .network import Network
from .precision import ForwardPrecision
from .random import Draws, Key
from .relu import ReluRule
from .slopes import Slopes
from .sweeps import ScoreType, Sweeps
from .taps import Taps

TOLERANCE = 1e-4
"""Most that batch size, order, batch mates and the device change a float32 answer, relative to its largest value."""

_REHEARSED = 4096
"""Copies at once where none is computed."""

Images = Tensor | np.ndarray
Progress = Callable[[int, int], None]


class Space(Coordinates, Protocol):
    """What the engine asks of a space: the coordinates of images, and how they become what the network eats."""

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor: ...


class Engine:
    """Answers what methods and metrics ask of one network; an output that is not finite is refused by a `LimenError`.

    Parameters
    ----------
    network : Network or nn.Module
        A plain module is wrapped: no normalisation, any input size. The module is taken over, as `Network` says:
        moved to the device, in float32 (copied first on the meta device, which holds no weights).
    device : str
        'auto' = CUDA where there is one; 'cpu', 'cuda', 'cuda:1' ...; 'meta' computes shapes only.
    precision : {'auto', 'fp32', 'bf16', 'fp16'}
        Number format of forwards without gradients. 'auto' takes a short one where the hardware multiplies it and an
        audit allows it: with one cell hidden after another, the score of each of the first images must move as it does
        in float32 (Pearson >= .99); `audit` tells. Where float16 leaves its range, those answers are computed again in
        float32. Gradients and taps are always float32.
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
        precision: ForwardPrecision = "auto",
        batch_size: int = 64,
        graphs: Graphs = "auto",
    ) -> None:
        if not isinstance(network, Network):
            network = Network(name=type(network).__name__, module=network)
        self.network, self.device = network, resolve_device(device)
        self._graphs: Graphs = graphs
        self._sweeps = Sweeps(network, self.device, precision, batch_size, graphs)
        self.audit = self._sweeps.forward.audit
        self._given = Given(network, self.device, self._sweeps.where)
        self._answers = Answers(self._given, self._sweeps)
        self._slopes = Slopes(self._sweeps, batch_size)
        self._ascent = Ascent(self._sweeps, batch_size)
        self._taps = Taps(self._given, self._sweeps, self._slopes)
        self._boxed = Boxed(self._sweeps, network.name)
        self._lent = Lent(self._sweeps.batches.where, self.device, batch_size)

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

    def rehearsal(self) -> Engine:
        """Return an engine that goes through the same motions without numbers, whose meters tell what they would cost."""
        return Engine(self.network, device="meta", precision="fp32", batch_size=_REHEARSED, graphs="never")

    def inputs(self, pictures: np.ndarray) -> Tensor:
        """Turn pictures uint8 (N, H, W, 3) into what the network eats: float32 (N, 3, size, size), normalised.

        They are cropped centrally to a square and resized to the network's size, where it has one and they differ.
        """
        return self._given.inputs(pictures)

    def prepare(self, images: Images) -> Tensor:
        """Put network inputs, floats (N, ...) already normalised, on the device as contiguous float32.

        Inputs that are so already are returned as they are; `inputs` takes pictures.
        """
        return self._given.prepare(images)

    def place(self, values: Tensor | np.ndarray) -> Tensor:
        """Put any numbers on the device, as they are: labels, atoms, weights."""
        return self._given.place(values)

    def targets(self, images: Images, targets: Any = None) -> Tensor:
        """Return target classes int64 (N,) on the device; None = the class the network predicts for each image.

        Raises
        ------
        LimenError
            If they are not one class index an image.
        """
        return self._answers.targets(images, targets)

    def numpy(self, tensor: Tensor) -> np.ndarray:
        """Return a tensor as an array on the CPU; on the meta device, zeros of its shape."""
        return readable(tensor)

    def draws(self, seed: int, *key: Key) -> Draws:
        """Return seeded random numbers that are put on this device."""
        return Draws(seed, *key, device=self.device)

    def meter(self) -> AbstractContextManager[Cost]:
        """Meter what is done inside the context; meters nest."""
        return self._sweeps.meters.run()

    @property
    def passes(self) -> int:
        """Images that went forwards and back so far, each way counted."""
        return self._sweeps.meters.passes

    def scores(self, images: Images, score: ScoreType = "logit") -> Tensor:
        """Return the scores float32 (N, K) of images; the network's answers are remembered by content."""
        return self._answers.scores(images, score)

    def perturbed_scores(
        self,
        images: Images,
        masks: Masks,
        targets: Tensor | None,
        *,
        space: Space,
        score: ScoreType = "logit",
        side: int | None = None,
        mode: Mode = "nearest",
    ) -> Tensor:
        """Return the scores float32 (N, M) of masked copies `m x + (1 - m) x0`; (N, M, K) without targets.

        They run in full batches that span images.

        Parameters
        ----------
        images : float (N, C, H, W)
        masks : Masks, M an image, in [0, 1], 1 = keep; made on the device batch by batch
        targets : int64 (N,); None keeps the scores of all K classes
        space : Space, gives the coordinates `x`, the baseline `x0` and the way (B, d) masks are spread
        side, mode : how (B, d) masks are spread: cells a side (None = what d says), nearest or bilinear
        """
        images = self.prepare(images)
        copies = Copies(space.coordinates(self, images), masks, space, side=side, mode=mode)
        return self._answers.copies(images, copies, targets, space, score)

    def altered_scores(
        self,
        images: Images,
        count: int,
        alter: Alter,
        targets: Tensor | None,
        *,
        space: Space,
        score: ScoreType = "logit",
        key: str | None = None,
        within: Within | None = None,
    ) -> Tensor:
        """Return the scores float32 (N, M) of copies that a function changes; (N, M, K) without targets.

        Parameters
        ----------
        images, targets, space, score : as for `perturbed_scores`
        count : M, copies an image
        alter : `alter(coordinates (B, *S), image_index (B,), copy_index (B,)) -> (B, *S)`
            A function of its arguments alone (draw beforehand), which it does not write to.
        key : str or None
            Names all that `alter` does, its draws included: the same question, asked again, is answered from memory.
        within : Within or None
            Boxes outside of which `alter` changes nothing.
        """
        images = self.prepare(images)
        copies = Altered(space.coordinates(self, images), count, alter, key=key, within=within)
        return self._answers.copies(images, copies, targets, space, score)

    def gradients(self, images: Images, targets: Tensor | None, *, space: Space, rule: ReluRule = "plain") -> Tensor:
        """Return d logit / d coordinates, float32 (N, *coordinates); each image's own, whatever its batch mates.

        Parameters
        ----------
        images : float (N, C, H, W)
        targets : int64 (N,); None takes the predicted classes
        space : Space
        rule : {'plain', 'guided', 'deconvnet'}, how gradients pass every ReLU operation of the network

        Raises
        ------
        LimenError
            If a gradient is not finite, the network has no gradient, or a rule but no ReLU.
        """
        return self._slopes.plain(self._asked(images, targets, space), rule)

    def gradient_moments(
        self, images: Images, count: int, alter: Alter, targets: Tensor | None, *, space: Space
    ) -> tuple[Tensor, Tensor]:
        """Return mean and sum of squared deviations of d logit / d coordinates over altered copies, (N, *coordinates) each.

        With M copies the mean square is `mean^2 + deviations / M`, the unbiased variance `deviations / (M - 1)`. What is
        given is as for `altered_scores`.
        """
        return self._slopes.moments(self._asked(images, targets, space), count, alter)

    def path_gradients(
        self, images: Images, nodes: Any, weights: Any, targets: Tensor | None, *, space: Space
    ) -> Tensor:
        """Return `sum_i w_i grad f(x0 + a_i (x - x0))`, float32 (N, *coordinates), in batches over images x nodes.

        Parameters
        ----------
        nodes, weights : float (T,)
            Positions `a_i` on the straight path from the baseline (0) to the image (1), and their weights `w_i`.
        """
        asked = self._asked(images, targets, space)
        return self._slopes.path(asked, *self._given.nodes(nodes, weights))

    def margin_bounds(
        self,
        images: Images,
        boxes: Boxes,
        targets: Tensor | None,
        *,
        space: Space,
        rivals: Tensor | None = None,
        relaxation: Relaxation = "crown_ibp",
        bound: Bound = "margin",
    ) -> Tensor:
        """Return upper bounds (N, M) of how far another class's logit rises over the target's while the input is in a box.

        Below 0 the decision cannot change in the box. Sound up to float32 rounding, for which bounds are moved
        outwards a little; no bound where `boxes` looks at samples of a layer.

        Parameters
        ----------
        images, targets, space : as for `gradients`
        boxes : Boxes, M an image, in the coordinates of the space
        rivals : int64 (N,), the other class of each image; None takes the largest bound over all others
        relaxation, bound : as for `bounds.Margins`

        Raises
        ------
        LimenError
            If the network holds an operation that bounds cannot go through.
        """
        asked = self._asked(images, targets, space)
        versus = None if rivals is None else self.targets(asked.images, rivals)
        make = boxes.of(asked.coordinates, lambda points: self.tap(space.inputs(points), boxes.layer))
        return self._boxed.margins(asked, boxes, make, versus, relaxation, bound)

    def ascend(
        self, start: Mapping[str, Tensor], targets: Tensor, aim: Aim, *, progress: Progress | None = None
    ) -> Ascended:
        """Move rendered pictures up their targets' logits, each on its own.

        Parameters
        ----------
        start : name -> float tensor (n, ...), copied
        targets : int64 (n,), the class each picture is made for
        aim : Aim, how parameters are rendered and seen, how far to climb, what holds the pictures near the start
        progress : `progress(pictures done, pictures)`
        """
        placed = {name: self.place(value).float() for name, value in start.items()}
        return self._ascent.run(placed, self.place(targets), aim, progress=progress)

    def lend(self, images: Tensor, targets: Tensor, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return what anyone's `run(images (B, ...), targets (B,)) -> (B, ...)` gives, in batches of its own.

        It gets copies, since it may write to them, and gradients are on; what it costs is not metered.
        """
        return self._lent.run(images, targets, run)

    def layers(self) -> list[str]:
        """List the names of layers that can be tapped."""
        return self._taps.names()

    def default_layer(self, images: Images | None = None) -> str:
        """Return the network's default layer; where it names none, the last module with a spatial output.

        Raises
        ------
        LimenError
            If the network has no spatial layer, or names no layer and there are no images to find it with.
        """
        return self._taps.default(images)

    def tap(self, images: Images, layer: str | None = None) -> Tensor:
        """Return the activations float32 (N, ...) of a layer (None = the default layer).

        Raises
        ------
        LimenError
            If the network has no such layer, or the layer does not run.
        """
        return self._taps.activations(images, layer)

    def tap_gradients(self, images: Images, layer: str | None, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the activations of a layer and d logit / d activations, both float32 (N, ...)."""
        images = self.prepare(images)
        return self._taps.gradients(images, layer, self.targets(images, targets))

    def head(self, layer: str) -> Callable[[Tensor], Tensor]:
        """Return the part of the network after a layer: activations (n, ...) to logits float32 (n, K).

        Where the activations require gradients it runs at once and is differentiable; else it is `head_scores`.

        Raises
        ------
        LimenError
            If the layer is no cut point: the logits also depend on tensors computed before it.
        """
        return self._taps.head(layer)

    def head_scores(self, activations: Tensor | np.ndarray, layer: str) -> Tensor:
        """Return the logits float32 (n, K) of activations of a layer, in batches, without gradients."""
        return self._taps.logits(activations, layer)

    def _asked(self, images: Images, targets: Tensor | None, space: Space) -> Asked:
        images = self.prepare(images)
        chosen = self.targets(images, targets)
        return Asked(images, chosen, space.coordinates(self, images), space)
