"""How much each concept of a dictionary adds to a class: image by image, as a share of the logit, and as strategies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from . import api
from .adapters import finite
from .engine import Draws, Engine
from .engine.host import host
from .registry import ATTRIBUTIONS, LimenError, unknown
from .spaces import Concepts, Dictionary
from .spaces.affine import AffineHead, affine_head

SAMPLES = 64
"""Rows of the Sobol design that 'auto' takes at a head that is not affine."""
CONTRIBUTION = "contribution"
"""The closed form at an affine head, beside the registered attributions."""
_IMPORTANT = 10
"""Images whose first concept a concept must be to count as important, as the Lens project has it."""
_PERPLEXITY = 30.0


def importance(
    engine: Engine,
    images: api.Pictures,
    targets: api.Classes,
    dictionary: Dictionary,
    layer: str,
    *,
    method: str = "auto",
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """Return how important each concept is for the score of each image's class.

    Parameters
    ----------
    engine : Engine
    images, targets : as for `bench.api.explain`
    dictionary : Dictionary, fitted on activations of the layer
    layer : a layer that everything passes through
    method : str
        'contribution' is the closed form at an affine head, signed and in logits: `c_i = mean_t(u_ti) <D_i, v_c>` where
        the head averages positions. Any registered attribution may be named; it runs in the space `Concepts`. 'auto'
        takes 'contribution' where the head is affine (`affine_head` tells), else the total Sobol indices of a scrambled
        design of 64 rows, which are shares of variance without sign; `method_of` says which.
    seed : int
    **options
        The attribution's own options.

    Returns
    -------
    float32 (N, k)

    Raises
    ------
    LimenError
        For an unknown method or option, or 'contribution' at a head that is not affine.

    References
    ----------
    Fel et al. 2023, arXiv:2306.07304; Fel et al. 2023 (CRAFT), arXiv:2211.10154.
    """
    inputs, classes = api.prepare(engine, images, targets)
    space = Concepts(dictionary, layer)
    if method in ("auto", CONTRIBUTION):
        if options:
            raise LimenError(
                f"importance, method '{method}': given the option '{next(iter(options))}', allowed is none; name an "
                "attribution to set its options."
            )
        head = affine_head(engine, inputs, layer, tuple(int(one) for one in classes.unique()))
        if head is not None:
            return _contributions(head, space.coordinates(engine, inputs), classes, space.dictionary)
        if method == CONTRIBUTION:
            raise LimenError(
                f"importance, method '{CONTRIBUTION}': given layer '{layer}' of network '{engine.network.name}', whose head "
                "is not affine; allowed there is any attribution, such as 'sobol'."
            )
        method, options = "sobol", {"samples": SAMPLES}
    elif method not in ATTRIBUTIONS.names():
        raise unknown("importance, method", method, ["auto", CONTRIBUTION, *ATTRIBUTIONS.names()])
    return api.explain(method, engine, inputs, classes, space=space, seed=seed, **options)[:, 0]


def method_of(engine: Engine, images: api.Pictures, layer: str) -> Literal["contribution", "sobol"]:
    """Say which method 'auto' takes at a layer."""
    inputs, _ = api.prepare(engine, images[:4], None)
    return "sobol" if affine_head(engine, inputs, layer, (0,)) is None else "contribution"


@dataclass(frozen=True, eq=False)
class Share:
    """What each concept adds to a class over its images, as a share of what all add; bootstrap over images.

    Attributes
    ----------
    value, low, high : float64 (k,)
        `mean_n c_ni / |sum_j mean_n c_nj|` with its percentile interval. The sign is that of what the concept adds, so
        the shares sum to 1, or to -1 where all concepts together lower the logit; NaN where they add nothing. Limits
        are NaN below two images.
    first : int64 (k,)
        Images in which the concept is the most important one.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    first: np.ndarray


def share(values: Tensor, *, seed: int = 0, resamples: int = api.RESAMPLES, level: float = 0.95) -> Share:
    """Turn the importance of concepts in images of one class into shares of its logit.

    Means are taken before the ratio, so that an image whose contributions cancel does not outweigh the others.

    Parameters
    ----------
    values : (N, k), what `importance` gave for images of one class
    seed : int
    resamples : bootstrap resamples of images
    level : coverage of the interval
    """
    rows = _rows(values, "importance share")
    draws = np.random.default_rng(seed)
    value = _ratio(rows.mean(axis=0))
    first = np.bincount(rows.argmax(axis=1), minlength=rows.shape[1])
    if len(rows) < 2:
        return Share(value, np.full_like(value, np.nan), np.full_like(value, np.nan), first)
    weights = draws.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples) / len(rows)
    low, high = np.quantile(_ratio(weights @ rows), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Share(value, low, high, first)


class ClusterGraph(NamedTuple):
    """Images laid out by why they are classified as they are.

    Attributes
    ----------
    positions : float64 (N, 2)
    strategy : int64 (N,), the concept that adds most to the image
    important : bool (k,), the strategy of enough images
    """

    positions: np.ndarray
    strategy: np.ndarray
    important: np.ndarray


def cluster_graph(
    values: Tensor, *, draws: Draws, layout: Literal["tsne", "pca"] = "tsne", least: int = _IMPORTANT
) -> ClusterGraph:
    """Lay images out in the plane so that those with like importance of concepts lie close: a strategic cluster graph.

    An image's importance is scaled to unit length first: it is placed by the mix of its concepts, not by how sure the
    network is.

    Parameters
    ----------
    values : (N, k), what `importance` gave
    draws : Draws, the seed of 'tsne'
    layout : 'tsne' starts at the principal components and takes a perplexity of 30, or a third of the images if these
        are few: it keeps neighbours together, and distances between clusters say nothing; 'pca' is linear
    least : images whose first concept a concept must be to be important

    Raises
    ------
    LimenError
        If there are fewer than four images, or `layout` is unknown.

    References
    ----------
    Fel et al. 2023, arXiv:2306.07304.
    """
    rows = _rows(values, "cluster graph")
    if len(rows) < 4:
        raise LimenError(f"cluster graph: given {len(rows)} images, allowed are four or more.")
    strategy = rows.argmax(axis=1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    mixes = rows / np.where(lengths > 0, lengths, 1)
    if mixes.shape[1] < 2:
        mixes = np.hstack([mixes, np.zeros_like(mixes)])
    seed = int(draws.integers(2**31 - 1, 1)[0])
    # The sums of t-SNE depend on how many threads share them.
    with threadpool_limits(1):
        placed = _layout(layout, len(rows), seed).fit_transform(mixes)
    important = np.bincount(strategy, minlength=rows.shape[1]) >= least
    return ClusterGraph(placed.astype(np.float64) - placed.mean(axis=0), strategy, important)


def _layout(layout: str, count: int, seed: int) -> Any:
    if layout == "tsne":
        perplexity = min(_PERPLEXITY, (count - 1) / 3)
        return TSNE(n_components=2, init="pca", perplexity=perplexity, learning_rate="auto", random_state=seed)
    if layout == "pca":
        return PCA(n_components=2, svd_solver="full")
    raise unknown("cluster graph, layout", layout, ["tsne", "pca"])


def _rows(values: Tensor, where: str) -> np.ndarray:
    """Return importance as float64 on the host."""
    if values.ndim != 2 or not len(values) or not finite(values):
        raise LimenError(
            f"{where}: given importance {tuple(values.shape)}, allowed are finite numbers (images, concepts)."
        )
    return host(values.double())


def _ratio(means: np.ndarray) -> np.ndarray:
    total = np.abs(means.sum(axis=-1, keepdims=True))
    return np.divide(means, total, out=np.full_like(means, np.nan), where=total != 0)


def _contributions(head: AffineHead, codes: Tensor, targets: Tensor, dictionary: Dictionary) -> Tensor:
    """Return `sum_t u_ti <D_i, slope_t>` of each image's class, (N, k)."""
    atoms = dictionary.atoms.type_as(codes)
    found = torch.zeros_like(codes[:, 0])
    for index, one in enumerate(head.classes):
        chosen = targets == one
        found[chosen] = (codes[chosen] * (head.slopes[index] @ atoms.T)).sum(dim=1)
    return found
