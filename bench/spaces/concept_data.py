"""What a dictionary is judged on: activations of two splits, and what is known of the images and the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..registry import LimenError


@dataclass(frozen=True, eq=False)
class Truth:
    """The dictionary that planted activations were made of.

    Attributes
    ----------
    atoms : float (k, d)
        Unit length: what a code adds to the activation.
    train_codes, test_codes : float (n, k), (m, k)
    present_above : float
        An atom is present in a row where its code is larger than this.
    """

    atoms: Tensor
    train_codes: Tensor
    test_codes: Tensor
    present_above: float = 0.0

    @property
    def train_support(self) -> Tensor:
        """Which atoms are present in each training row, bool (n, k)."""
        return self.train_codes > self.present_above

    @property
    def test_support(self) -> Tensor:
        """Which atoms are present in each test row, bool (m, k)."""
        return self.test_codes > self.present_above


@dataclass(frozen=True, eq=False)
class ConceptData:
    """What a dictionary is judged on; a metric that needs a part that is None says so in one sentence.

    Attributes
    ----------
    train, test : float (n, d), (m, d)
        One row an image.
    train_labels, test_labels : bool (n, C), (m, C) or None
        Multi-hot: which concepts an image holds.
    label_names : C names, or () without labels.
    train_maps, test_maps : float (n, T, d), (m, T, d) or None
        The same images' activations at every position of the layer; their mean over positions is `train`, `test`.
    test_position_labels : bool (m, T, C) or None
        At which positions of each test image each labelled concept is; `spaces.position_labels` reads masks.
    grid : (H, W) with H * W = T where positions are places of a map, else None
    head : callable or None
        Differentiable: activations at all positions (n, T, d) to logits (n, K).
    head_weights, head_bias : float (K, d), (K,) or None
        Where the head is affine in the activations averaged over positions: logits = mean @ weights.T + bias.
    targets : int64 (m,) or None
        The class the network predicts for each test image.
    class_names : K names, or ()
    layers : mapping of layer name to (train (n, d_l), test (m, d_l))
        Pooled activations of the network's layers in the order they run, for feature complexity.
    embeddings : float (m, e) or None
        Test images as another network sees them, for monosemanticity.
    noisy : callable or None
        `noisy(level, draw)` returns the pooled activations (m, d) of the test images with Gaussian noise of that
        standard deviation (in units of pictures in [0, 1]) added.
    truth : Truth or None
        The dictionary that the activations were made of; `bench.zoo.planted` makes such data.

    Raises
    ------
    LimenError
        If shapes disagree or a number is not finite.
    """

    train: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    label_names: tuple[str, ...] = ()
    train_maps: Tensor | None = None
    test_maps: Tensor | None = None
    test_position_labels: Tensor | None = None
    grid: tuple[int, int] | None = None
    head: Callable[[Tensor], Tensor] | None = None
    head_weights: Tensor | None = None
    head_bias: Tensor | None = None
    targets: Tensor | None = None
    class_names: tuple[str, ...] = ()
    layers: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    embeddings: Tensor | None = None
    noisy: Callable[[float, int], Tensor] | None = None
    truth: Truth | None = None

    def __post_init__(self) -> None:
        if self.train.ndim != 2 or self.test.ndim != 2 or self.train.shape[1] != self.test.shape[1]:
            raise LimenError(
                f"concept data: given train {tuple(self.train.shape)} and test {tuple(self.test.shape)}, "
                "allowed are (n, d) and (m, d)."
            )
        if not bool(torch.isfinite(self.train).all() and torch.isfinite(self.test).all()):
            raise LimenError("concept data: an activation is not finite; allowed are finite numbers only.")
        if (self.train_labels is None) != (self.test_labels is None):
            raise LimenError("concept data: labels were given for one split only; allowed are both or none.")
        object.__setattr__(self, "label_names", tuple(self.label_names))
        for split, rows, labels in (
            ("train", self.train, self.train_labels),
            ("test", self.test, self.test_labels),
        ):
            self._check_labels(split, len(rows), labels)
        self._check_truth()
        self._check_parts()

    def _check_truth(self) -> None:
        if self.truth is None:
            return
        count, atoms = len(self.truth.atoms), tuple(self.truth.atoms.shape)
        codes = tuple(self.truth.train_codes.shape), tuple(self.truth.test_codes.shape)
        wanted = (len(self.train), count), (len(self.test), count)
        if len(atoms) != 2 or atoms[1] != self.train.shape[1] or codes != wanted:
            raise LimenError(
                f"concept data, truth: given atoms {atoms} and codes {codes[0]} and {codes[1]}, allowed are atoms "
                f"(k, {self.train.shape[1]}) and codes ({len(self.train)}, k) and ({len(self.test)}, k)."
            )

    def require(self, metric: str, *parts: str) -> None:
        """Refuse to be measured by a metric that reads a part which is missing.

        Raises
        ------
        LimenError
            Names the metric, the part, and where it comes from.
        """
        for part in parts:
            value = getattr(self, part)
            if value is None or (isinstance(value, Mapping) and not value):
                raise LimenError(
                    f"metric '{metric}': it reads '{part}', which these concept data lack; "
                    f"bench.spaces.gather.concept_data gathers it {_HOW[part]}."
                )

    def _check_parts(self) -> None:
        """Compare the shapes of the optional parts with those of the rows."""
        n, m, d = len(self.train), len(self.test), self.train.shape[1]
        wanted = {
            "train_maps": (self.train_maps, (n, None, d)),
            "test_maps": (self.test_maps, (m, None, d)),
            "test_position_labels": (self.test_position_labels, (m, None, len(self.label_names))),
            "head_weights": (self.head_weights, (None, d)),
            "targets": (self.targets, (m,)),
            "embeddings": (self.embeddings, (m, None)),
        }
        for name, (train, test) in self.layers.items():
            wanted |= {f"layer '{name}' on train": (train, (n, None)), f"layer '{name}' on test": (test, (m, None))}
        for name, (part, shape) in wanted.items():
            if part is not None and not _fits(tuple(part.shape), shape):
                allowed = ", ".join("any" if size is None else str(size) for size in shape)
                raise LimenError(f"concept data, {name}: given {tuple(part.shape)}, allowed is ({allowed}).")
        if (
            self.grid is not None
            and self.test_maps is not None
            and self.grid[0] * self.grid[1] != self.test_maps.shape[1]
        ):
            raise LimenError(
                f"concept data, grid: given {self.grid} for {self.test_maps.shape[1]} positions; they must agree."
            )

    def _check_labels(self, split: str, count: int, labels: Tensor | None) -> None:
        if labels is None:
            return
        if labels.dtype != torch.bool or labels.shape != (count, len(self.label_names)):
            raise LimenError(
                f"concept data, {split} labels: given {labels.dtype} {tuple(labels.shape)} and {len(self.label_names)} "
                f"names, allowed is torch.bool ({count}, number of names)."
            )


_HOW = {
    "train_labels": "from the labels it is given",
    "test_labels": "from the labels it is given",
    "train_maps": "with maps=True",
    "test_maps": "with maps=True",
    "test_position_labels": "from masks of each concept with maps=True",
    "grid": "at a layer with height and width",
    "head": "at a layer that everything passes through, such as the end of a stage",
    "head_weights": "at a layer that averaging and a linear map follow, such as the last stage of a ResNet",
    "head_bias": "at a layer that averaging and a linear map follow, such as the last stage of a ResNet",
    "targets": "from the network",
    "layers": "with layers='auto' or the names of layers",
    "embeddings": "from an evaluator, an engine on another network",
    "noisy": "from the network",
}
"""Where `bench.spaces.gather.concept_data` takes each optional part from."""


def _fits(given: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(given) == len(wanted) and all(b is None or a == b for a, b in zip(given, wanted, strict=True))
