"""Networks retrained without one part of their training pictures each: what algorithmic stability is measured with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from ..engine.host import host
from ..engine.network import Network
from ..images import ImageSet
from ..registry import LimenError, unknown
from ..store import Store, artifact_key
from .pictures import load_images
from .recipes import RECIPES
from .training import Training, cache_folder, trained

KIND = "folds"


@dataclass(frozen=True, eq=False)
class Folds:
    """k networks, and which of them has not seen a picture.

    Attributes
    ----------
    name : what was retrained
    networks : k of them; the i-th was trained without the pictures of fold i
    held_out : digest of a picture's content -> (its fold, its label)
    hint : how to get pictures that are in a fold, for the error when one is not
    """

    name: str
    networks: tuple[Network, ...]
    held_out: Mapping[str, tuple[int, int]]
    hint: str = "those the networks were trained on"

    @staticmethod
    def of_pictures(
        name: str, networks: Sequence[Network], pictures: np.ndarray, folds: Sequence[int], labels: Sequence[int]
    ) -> Folds:
        """Return the folds of networks of your own.

        Parameters
        ----------
        name : what was retrained
        networks : k of them, alike in size and normalisation
        pictures : uint8 (N, H, W, 3), of the networks' input size
        folds : N numbers, 0 to k - 1: the network that has not seen the picture
        labels : N classes

        Raises
        ------
        LimenError
            If a fold has no network.
        """
        if len(networks) < 2 or min(folds) < 0 or max(folds) >= len(networks):
            raise LimenError(
                f"folds of '{name}': given {len(networks)} networks and folds {min(folds)} to {max(folds)}, allowed are "
                "two or more networks and folds from 0 to one less than their number."
            )
        rows = zip(digests(pictures), folds, labels, strict=True)
        return Folds(name, tuple(networks), {key: (int(fold), int(label)) for key, fold, label in rows})

    def of(self, images: Tensor | np.ndarray) -> np.ndarray:
        """Return the fold of each image, int64 (N,): the network that has not seen it.

        Parameters
        ----------
        images : uint8 pictures (N, H, W, 3), or floats (N, 3, H, W) normalised for the networks

        Raises
        ------
        LimenError
            If an image is in no fold.
        """
        return self._rows(images)[:, 0]

    def labels(self, images: Tensor | np.ndarray) -> np.ndarray:
        """Return the true class of each image, int64 (N,); raises as `of` does."""
        return self._rows(images)[:, 1]

    def _rows(self, images: Tensor | np.ndarray) -> np.ndarray:
        plain = host(images) if isinstance(images, Tensor) else images
        keys = digests(plain if plain.dtype == np.uint8 else self._pictures(plain))
        missing = [index for index, key in enumerate(keys) if key not in self.held_out]
        if missing:
            shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise LimenError(
                f"folds of '{self.name}': {len(missing)} of {len(keys)} images (index {shown}) are in no fold; allowed "
                f"are {self.hint}."
            )
        return np.array([self.held_out[key] for key in keys], dtype=np.int64)

    def _pictures(self, inputs: np.ndarray) -> np.ndarray:
        """Undo the normalisation: the rounding to 8 bits forgives what a device changes in the last digits."""
        mean, std = (np.asarray(values)[:, None, None] for values in (self.networks[0].mean, self.networks[0].std))
        return np.rint(255 * (inputs * std + mean)).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def load_folds(
    name: str,
    k: int = 4,
    *,
    seed: int = 0,
    cache: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Folds:
    """Retrain one of the zoo's networks k times, each time without one fold of its training pictures.

    Only the pictures differ: initial weights and all else are the recipe's. Folds are balanced over classes, and equal
    pictures share one. Networks and folds are kept in the cache, under keys of the recipe, k, the fold and the seed.

    Parameters
    ----------
    name : a network that the zoo trains, such as 'tiny@digits'
    k : number of folds
    seed : of the folds
    cache, device, progress : as for `load_network`

    Returns
    -------
    Folds
        The images to score are drawn from the training split: each has been held out by exactly one network.

    Raises
    ------
    LimenError
        If the zoo does not train that network, or k is out of range.
    """
    trainable = [key for key, recipe in RECIPES.items() if recipe.epochs]
    if name not in trainable:
        raise unknown("folds of a network of the zoo", name, trainable)
    if k < 2:
        raise LimenError(f"folds of '{name}': given k={k}, allowed is 2 or more.")
    recipe = RECIPES[name]
    held_out = _assignment(Training(name=name, facts={"folds": k, "fold_seed": seed}), Store(cache_folder(cache)))
    networks = []
    for fold in range(k):

        def keep(images: ImageSet, fold: int = fold) -> np.ndarray:
            return np.array([held_out[key][0] != fold for key in digests(images.pictures)])

        training = Training(
            name=name,
            facts={"folds": k, "fold_seed": seed, "fold": fold},
            keep=keep,
            title=f"{name} without fold {fold + 1} of {k}",
        )
        networks.append(trained(training, cache=cache, device=device, progress=progress))
    hint = f"pictures of load_images('{recipe.images}', 'train', {recipe.train or 'n'}, size={recipe.size})"
    return Folds(name, tuple(networks), held_out, hint)


def digests(pictures: np.ndarray) -> list[str]:
    """Return one SHA-256 a picture uint8 (N, H, W, 3), of its shape and numbers."""
    head = f"{pictures.shape[1:]}|".encode()
    return [hashlib.sha256(head + np.ascontiguousarray(one).tobytes()).hexdigest() for one in pictures]


def _assignment(training: Training, store: Store) -> dict[str, tuple[int, int]]:
    """Return digest -> (fold, label) of every training picture, from the cache or drawn now."""
    artifact = store.get(KIND, artifact_key(KIND, training.config))
    if artifact is not None and not artifact.verify():
        rows = artifact.rows()
    else:
        rows = _drawn(training)
        if artifact is None:
            _remember(rows, training, store)
    numbers = zip(rows["fold"].tolist(), rows["label"].tolist(), strict=True)
    return dict(zip(rows["digest"].tolist(), numbers, strict=True))


def _drawn(training: Training) -> pd.DataFrame:
    """Deal the training pictures to folds, class by class in a seeded order."""
    recipe = training.recipe
    images = load_images(recipe.images, "train", recipe.train, size=recipe.size)
    rows = pd.DataFrame({"digest": digests(images.pictures), "label": images.labels}).drop_duplicates("digest")
    k = training.facts["folds"]
    if len(rows) < k:
        raise LimenError(f"folds of '{training}': given k={k}, allowed is 2 to {len(rows)}, the number of pictures.")
    order = np.random.default_rng([training.facts["fold_seed"], 0xF01D]).permutation(len(rows))
    dealt = rows.iloc[order].sort_values("label", kind="stable")
    return dealt.assign(fold=np.arange(len(dealt)) % k)


def _remember(rows: pd.DataFrame, training: Training, store: Store) -> None:
    try:
        with store.write(KIND, training.config, seed=training.facts["fold_seed"]) as draft:
            draft.write_rows(rows)
    except (LimenError, OSError):
        # The cache saves time only: `trained` tells of one that cannot be written.
        return
