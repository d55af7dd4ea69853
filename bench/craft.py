"""CRAFT: the concepts of a class, what each one weighs, where it is, and what it is made of at an earlier layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .api import Interval, bootstrap, explain, fit_dictionary
from .engine import Draws, Engine
from .registry import LimenError, unknown
from .spaces import Concepts, Dictionary
from .spaces.crops import Crops, grid, seen
from .spaces.dictionary import feature_maps, top_positions
from .spaces.readout import Pool, concept_engine

Importance = Literal["auto", "closed form", "sobol"]
PRESETS: Mapping[str, Mapping[str, Any]] = {"craft": {"k": 20, "samples": 32, "importance": "sobol"}}
"""Options of `craft` that reproduce a peer's convention: `craft(..., **PRESETS["craft"])`."""
_MASKS = 4
_AFFINE = 1e-3
"""Spread of the gradient over masked codes, in its own size, below which the score is affine in the masks."""
_SUBCONCEPTS = 10


@dataclass(frozen=True, eq=False, kw_only=True)
class Craft:
    """The concepts of one class at one layer.

    Attributes
    ----------
    engine : Engine, whose network they explain
    target_class : index of the class
    layer : name of the layer
    dictionary : Dictionary, the concept bank: k atoms
    crops : Crops, what it was fitted on: the pictures as the network sees them, and where they were cut
    crop_codes : float32 (crops, k), codes of the crops' pooled activations
    codes : float32 (N, k, h, w), codes of the whole pictures at every position; (N, k, T, 1) for tokens
    importance : float64 (N, k), total Sobol index of every concept's mask, a picture each
    contributions : float64 (N, k), gradient x input: with its sign, what the concept adds to the score where the
        score is affine in the masks (`estimator` 'closed form')
    estimator : how importance was found
    seed : int
    """

    engine: Engine = field(repr=False)
    target_class: int
    layer: str
    dictionary: Dictionary = field(repr=False)
    crops: Crops = field(repr=False)
    crop_codes: np.ndarray = field(repr=False)
    codes: np.ndarray = field(repr=False)
    importance: np.ndarray = field(repr=False)
    contributions: np.ndarray = field(repr=False)
    estimator: Literal["closed form", "sobol"]
    seed: int

    @property
    def k(self) -> int:
        """Number of concepts."""
        return self.dictionary.k

    @property
    def pictures(self) -> np.ndarray:
        """Pictures as the network sees them, uint8 (N, H, W, 3)."""
        return self.crops.pictures

    @property
    def order(self) -> np.ndarray:
        """Concepts from the most important to the least, int64 (k,)."""
        return np.argsort(-self.importance.mean(axis=0), kind="stable")

    def intervals(self) -> tuple[Interval, ...]:
        """Return each concept's mean importance with its 95 % bootstrap interval over pictures."""
        return tuple(bootstrap(column, seed=self.seed) for column in self.importance.T)

    def top_crops(self, m: int = 10) -> np.ndarray:
        """Return for each concept the crops that hold most of it, one a picture, strongest first.

        Returns
        -------
        uint8 (k, m, h, w, 3)

        Raises
        ------
        LimenError
            If there are fewer than `m` pictures.
        """
        each = len(self.crops) // len(self.pictures)
        best = top_positions(torch.from_numpy(self.crop_codes).reshape(-1, each, self.k), m).numpy()
        chosen = best[..., 0] * each + best[..., 1]
        return self.crops.cut(chosen.ravel()).reshape(*chosen.shape, *self.crops.size, 3)

    def maps(self, concept: int) -> np.ndarray:
        """Return where a concept is: its codes, enlarged bilinearly to the pictures, float32 (N, H, W).

        Raises
        ------
        LimenError
            If there is no such concept, or the layer has no places.
        """
        self._check(concept)
        coarse = torch.from_numpy(self.codes[:, concept : concept + 1])
        if coarse.shape[3] == 1 < coarse.shape[2]:
            raise LimenError(f"craft, maps: given tokens of the layer '{self.layer}', allowed is a layer (C, H, W).")
        size = self.pictures.shape[1:3]
        return functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[:, 0].numpy()

    def locate(
        self, concept: int, method: Any = "gradient_input", *, pool: Pool = "mean", **options: Any
    ) -> np.ndarray:
        """Return where a concept is, by any attribution of its score, float32 (N, H, W), signed.

        The score is the concept's pooled code; its gradient passes through the codes by implicit differentiation.

        Parameters
        ----------
        concept : int
        method, **options : as for `bench.api.explain`
        pool : 'mean' or 'max' over the positions of the layer
        """
        self._check(concept)
        network = concept_engine(self.engine, self.dictionary, self.layer, pool=pool)
        maps = explain(method, network, network.inputs(self.pictures), concept, seed=self.seed, **options)
        return self.engine.numpy(maps[:, 0])

    def recurse(
        self, concept: int, layer: str, *, k: int | None = None, percentile: float = 90.0, samples: int = 64
    ) -> Craft:
        """Take a concept apart: factorise the crops that hold most of it again, at an earlier layer.

        Parameters
        ----------
        concept : int
        layer : name of an earlier layer
        k : number of sub-concepts; None is 10, or half the crops where they are fewer than 20
        percentile : of the concept's codes; crops at or above it are taken
        samples : rows of the Sobol design, where importance has no closed form

        Returns
        -------
        Craft
            Its pictures are those crops, its class is the concept, and importance is that for the concept's code. It
            can be taken apart in turn.

        Raises
        ------
        LimenError
            If there is no such concept, the layer does not come before the concept's, it has activations that the
            method cannot take, or fewer than two crops hold the concept.
        """
        self._check(concept)
        if layer == self.layer:
            raise LimenError(f"craft, recursion: given the layer '{layer}' itself, allowed is an earlier one.")
        held = self.crop_codes[:, concept]
        chosen = np.flatnonzero((held >= np.percentile(held, percentile)) & (held > 0))
        if len(chosen) < 2:
            raise LimenError(
                f"craft, recursion: given concept {concept}, which {len(chosen)} of {len(held)} crops hold; "
                "allowed is one that two or more do."
            )
        engine = concept_engine(self.engine, self.dictionary, self.layer)
        pictures = self.crops.enlarged(engine, chosen)
        # From its first pass on the network stops at the concepts, so that no later layer can be asked for.
        engine.scores(engine.inputs(pictures[:1]))
        return _concepts(
            engine, grid(pictures, pictures.shape[1:3], 1.0),
            target_class=concept, layer=layer, k=k or max(1, min(_SUBCONCEPTS, len(chosen) // 2)),
            method=self.dictionary.name, fit=None, importance="auto", samples=samples, seed=self.seed,
        )  # fmt: skip

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, for storage; the dictionary saves itself."""
        return {
            "places": self.crops.places,
            "crop_codes": self.crop_codes,
            "codes": self.codes,
            "importance": self.importance,
            "contributions": self.contributions,
        }

    def _check(self, concept: int) -> None:
        if not 0 <= concept < self.k:
            raise LimenError(f"craft: given concept {concept}, allowed is 0 to {self.k - 1}.")


def craft(
    engine: Engine,
    images: np.ndarray,
    *,
    target_class: int,
    layer: str | None = None,
    k: int = 25,
    crop: int | None = None,
    stride: float = 0.8,
    method: str = "nmf",
    fit: Mapping[str, Any] | None = None,
    importance: Importance = "auto",
    samples: int = 64,
    seed: int = 0,
) -> Craft:
    """Find the concepts of a class, what each weighs in its score, and where they are.

    Crops of the pictures are enlarged to the network's input, their activations averaged over positions and
    factorised; the whole pictures are then coded at every position, and concepts masked there.

    Parameters
    ----------
    engine : Engine
    images : uint8 (N, H, W, 3)
        Pictures of the class, as a rule those the network assigns to it.
    target_class : int
    layer : name of a layer that everything passes through; None is the network's default
    k : number of concepts
    crop : side of a crop in pixels of the network's input; None is 2/7 of its shorter side, 64 at 224
    stride : step between crops, in sides of a crop
    method : a registered dictionary; 'nmf' needs a layer without negative activations, 'semi_nmf' does not
    fit : options of the dictionary
    importance : {'auto', 'closed form', 'sobol'}
        Total Sobol indices: in closed form where the score is affine in the masks (a pooled linear head; checked on
        the pictures' gradients), else estimated by scrambled Sobol points. 'auto' takes the first where it holds.
    samples : rows of the Sobol design; `samples x (k + 1)` runs of the head a picture
    seed : int

    Returns
    -------
    Craft

    Raises
    ------
    LimenError
        If activations are negative (for 'nmf'), the layer is no cut point, the class or an option is out of range, or
        the closed form is asked for where the score is not affine.

    References
    ----------
    Fel et al. 2023, arXiv:2211.10154; arXiv:2306.07304.
    """
    if importance not in ("auto", "closed form", "sobol"):
        raise unknown("craft, importance", importance, ("auto", "closed form", "sobol"))
    pictures = seen(engine, images)
    side = round(2 / 7 * min(pictures.shape[1:3])) if crop is None else crop
    return _concepts(
        engine, grid(pictures, side, stride),
        target_class=target_class, layer=layer or engine.default_layer(engine.inputs(pictures[:1])), k=k,
        method=method, fit=fit, importance=importance, samples=samples, seed=seed,
    )  # fmt: skip


def _concepts(
    engine: Engine,
    crops: Crops,
    *,
    target_class: int,
    layer: str,
    k: int,
    method: str,
    fit: Mapping[str, Any] | None,
    importance: Importance,
    samples: int,
    seed: int,
) -> Craft:
    pooled = crops.activations(engine, layer)
    dictionary = fit_dictionary(method, pooled, k, seed=seed, **(fit or {}))
    dictionary = dictionary.described(layer=layer, network=engine.network.name, target_class=target_class)
    inputs = engine.inputs(crops.pictures)
    space = Concepts(dictionary, layer)
    codes = space.coordinates(engine, inputs)
    shape = engine.tap(inputs[:1], layer).shape[2:]
    places = (shape[0], shape[1]) if len(shape) == 2 else (codes.shape[1], 1)
    contributions, affine = _contributions(engine, inputs, target_class, space, engine.draws(seed, "craft", "affine"))
    if importance == "closed form" and not affine:
        raise LimenError(
            f"craft, importance: given 'closed form' at the layer '{layer}', after which the score is not affine in "
            "the masks; allowed is 'sobol', or a layer with a pooled linear head."
        )
    closed = affine and importance != "sobol"
    if closed:
        squares = contributions.double().square()
        total = squares.sum(dim=1, keepdim=True)
        indices = squares / total.where(total > 0, 1)
    else:
        indices = explain("sobol", engine, inputs, target_class, space=space, seed=seed, samples=samples)[:, 0]
    return Craft(
        engine=engine,
        target_class=target_class,
        layer=layer,
        dictionary=dictionary,
        crops=crops,
        crop_codes=engine.numpy(dictionary.encode(pooled)),
        codes=engine.numpy(feature_maps(codes, *places)),
        importance=engine.numpy(indices).astype(np.float64),
        contributions=engine.numpy(contributions).astype(np.float64),
        estimator="closed form" if closed else "sobol",
        seed=seed,
    )


def _contributions(
    engine: Engine, inputs: Tensor, target_class: int, space: Concepts, draws: Draws
) -> tuple[Tensor, bool]:
    """Return gradient x input (N, k) of the codes, and whether the score is affine in masks of the concepts.

    It is where its gradient is the same at the codes, without any of them, and under masks between the two.
    """
    codes = space.coordinates(engine, inputs)
    masks = torch.cat([torch.ones(1, space.dictionary.k), torch.zeros(1, space.dictionary.k)]).type_as(codes)
    masks = torch.cat([masks, draws.uniform(_MASKS, space.dictionary.k).type_as(codes)])

    def masked(some: Tensor, image: Tensor, copy: Tensor) -> Tensor:
        return some * masks[copy].unsqueeze(1)

    targets = engine.targets(inputs, np.full(len(inputs), target_class))
    mean, deviations = engine.gradient_moments(inputs, len(masks), masked, targets, space=space)
    spread = (deviations / len(masks)).flatten(1).sum(dim=1).sqrt()
    affine = bool((spread <= _AFFINE * mean.flatten(1).norm(dim=1)).all())
    slopes = mean if affine else engine.gradients(inputs, targets, space=space)
    return (slopes * codes).sum(dim=1), affine
