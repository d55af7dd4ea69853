"""Forward passes over many inputs: batches, splits at a layer, scores of copies, and the check of every output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ..registry import LimenError, unknown
from .batching import Batches
from .coordinates import Coordinates
from .copies import Altered, Copies
from .cost import Meters
from .forward import Forward, Run
from .frozen import Graphs
from .network import Network
from .precision import AUDITED, ForwardPrecision, Number, with_cells_hidden
from .split import Split, split
from .ways import Way, Whole, Windowed

ScoreType = Literal["logit", "probability"]


class Sweeps:
    """Runs a network, or its head, without gradients, in full batches that are metered and checked.

    Parameters
    ----------
    network, device, precision, batch_size, graphs : as `Engine` says

    Attributes
    ----------
    where : opens the error sentences
    forward : Forward, one batch at a time
    batches : Batches of forwards without gradients
    normalisation : mean and standard deviation of each channel, for pictures in 0 .. 1
    meters : Meters, shared by engines beside each other
    """

    def __init__(
        self, network: Network, device: torch.device, precision: ForwardPrecision, batch_size: int, graphs: Graphs
    ) -> None:
        if precision not in get_args(ForwardPrecision):
            raise unknown("engine, precision", precision, get_args(ForwardPrecision))
        if graphs not in get_args(Graphs):
            raise unknown("engine, graphs", graphs, get_args(Graphs))
        self.where = f"network '{network.name}'"
        self.device = device
        self.forward = Forward(network, device, precision, graphs)
        self.meters = Meters(device)
        self.batches = Batches(f"{self.where} on {device}", batch_size)
        self.normalisation = (network.mean, network.std)
        self._name = network.name
        self._splits: dict[str, Split] = {}

    def runner(self, layer: str | None) -> Run:
        """Return the network after `layer`; all of it for None."""
        if layer is None:
            return self.forward.plain
        if layer not in self._splits:
            self._splits[layer] = split(self.forward.module, layer, network=self._name, blank=self._blank)
        return self._splits[layer].run

    def logits(
        self, run: Run, inputs: Tensor, *, names: Sequence[int] | None = None, number: Number | None = None
    ) -> Tensor:
        """Return the logits float32 (n, K) of inputs; `names` are what an error calls them."""
        logits = self._swept(run, inputs, number)
        good = finite(logits)
        if number is None and self._beyond_range(good):
            logits[~good] = self._swept(run, inputs[~good], "fp32")
            good = finite(logits)
        self.check(good, names)
        return logits

    def _swept(self, run: Run, inputs: Tensor, number: Number | None) -> Tensor:
        parts = []
        with torch.no_grad():
            for start, stop, logits in self.batches.sweep(
                len(inputs),
                lambda start, stop: self.forward(run, inputs[start:stop], number),
                self.forward.most(inputs),
            ):
                self.meters.count(forwards=stop - start)
                parts.append(logits)
        return torch.cat(parts)

    def _beyond_range(self, good: Tensor) -> bool:
        """Tell whether float16, whose range is short, may be why some answers (N,) are not finite."""
        return self.forward.number == "fp16" and good.device.type != "meta" and not bool(good.all())

    def copies(
        self,
        copies: Copies | Altered,
        images: int,
        chosen: Tensor | None,
        space: Coordinates,
        score: ScoreType,
    ) -> Tensor:
        """Return the scores of copies of `images` images: (N, M), or (N, M, K) where no class is chosen."""
        way = self._way(copies, space)

        def scores(logits: Tensor, image_index: Tensor) -> Tensor:
            found = as_score(logits, score)
            return found if chosen is None else found.gather(1, chosen[image_index][:, None])[:, 0]

        # One tensor for all answers: small ones kept from each batch would scatter over the heap and hold it.
        values = torch.empty(0, device=self.device)
        good = torch.ones(len(copies), dtype=torch.bool, device=self.device)
        with torch.no_grad():
            for start, stop, logits, image_index in way.pieces(self.batches, self.meters):
                part = scores(logits, image_index)
                if start == 0:
                    values = part.new_empty((len(copies), *part.shape[1:]))
                values[start:stop], good[start:stop] = part, finite(logits)
            if self._beyond_range(good):
                for index in (~good).nonzero()[:, 0].tolist():
                    coordinates, image_index = copies.build(index, index + 1)
                    logits = self.forward(self.runner(space.layer), space.inputs(coordinates), "fp32")
                    self.meters.count(forwards=1)
                    values[index], good[index] = scores(logits, image_index)[0], finite(logits)[0]
        count = len(copies) // images
        self.check(good.unflatten(0, (images, count)).all(dim=1))
        return values.unflatten(0, (images, count))

    def _way(self, copies: Copies | Altered, space: Coordinates) -> Way:
        """Choose windows where copies keep to boxes of the network's own input, and that saves work."""
        first, within = copies.image(0), copies.within
        if within is not None and space.layer is None and space.inputs(first) is first:
            local = self.forward.local(first, within.sides, within.run or len(within.starts))
            if local is not None:
                return Windowed(self.forward, local, copies, within, self.batches.size)
        return Whole(self.forward, self.runner(space.layer), copies, space, self.batches.size)

    def settle_precision(self, images: Tensor) -> None:
        """Compare short formats with float32 on the first images of the run, with cells hidden, and choose one of them."""
        formats = self.forward.unsettled
        if not formats:
            return
        copies = with_cells_hidden(images[:AUDITED])

        def scores(number: Number) -> Tensor | None:
            try:
                found = self.logits(self.forward.plain, copies.flatten(0, 1), number=number)
            except LimenError:
                return None
            return found.unflatten(0, copies.shape[:2])

        high = scores("fp32")
        # What is wrong with the network is told by the call that asked, of its own images.
        if high is not None:
            self.forward.settle(high, ((number, scores(number)) for number in formats))

    def check(self, good: Tensor, names: Sequence[int] | None = None) -> None:
        """Refuse answers of which some (N,) are not finite.

        Raises
        ------
        LimenError
            Names the network and the images.
        """
        if good.device.type == "meta" or bool(good.all()):
            return
        bad = [index if names is None else names[index] for index in (~good).nonzero()[:, 0].tolist()]
        shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise LimenError(
            f"{self.where}: its output or gradient is not finite for {len(bad)} of {len(good)} images (index "
            f"{shown}); allowed are finite numbers, so look at the weights and the normalisation."
        )

    def _blank(self, activations: Tensor) -> Tensor:
        if self.forward.shape is None:
            raise LimenError(
                f"{self.where}: it cannot be split, since its input size is unknown; run it on an image first, "
                "or give `size`."
            )
        return torch.zeros(len(activations), *self.forward.shape, device=self.device)


def finite(values: Tensor) -> Tensor:
    """Tell of each row (n, ...) whether all its numbers are finite, (n,)."""
    return torch.isfinite(values).flatten(1).all(dim=1)


def check_score(score: str) -> None:
    """Refuse a score that is none of `ScoreType`."""
    if score not in get_args(ScoreType):
        raise unknown("score", score, get_args(ScoreType))


def as_score(logits: Tensor, score: ScoreType) -> Tensor:
    """Return logits as they are or as probabilities."""
    return logits.softmax(dim=-1) if score == "probability" else logits
