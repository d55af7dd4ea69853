"""k-means: Lloyd's algorithm from k-means++ where the rows fit in memory, mini-batches and whole passes where not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine import Activations, Draws
from ..spaces.dictionary import FIT_NUMBERS

_PAIRS = 2**24
"""Distances held at once: 67 MB."""
_GREEDY = 256
"""Most clusters seeded one at a time; more are drawn in `_ROUNDS` rounds by the same law."""
_ROUNDS = 64
_SEEDING = 32
"""Rows a cluster among which a stream's first centroids are sought."""
_BATCH = 4096
_SWEEPS = 2
"""Whole passes over a stream after its mini-batches."""


@dataclass(frozen=True)
class Clusters:
    """What k-means found: centroids (k, d) in the units of the rows, mean squared distance, iterations, streamed."""

    centroids: Tensor
    inertia: float
    iterations: int
    streamed: bool


def unit_atoms(centroids: Tensor, rows: Activations) -> tuple[Tensor, Tensor]:
    """Return the directions from the mean to centroids (k, d), and the arrows there; zero for one at the mean."""
    mean, spread = rows.moments()
    arrows = centroids.double() - mean
    lengths = arrows.norm(dim=1, keepdim=True)
    away = lengths > 1e-5 * spread.norm()
    arrows = torch.where(away, arrows, 0.0)
    return torch.where(away, arrows / lengths, 0.0), arrows


def kmeans_centroids(
    activations: Tensor | Activations, k: int, *, draws: Draws, n_init: int = 1, iterations: int = 100
) -> Tensor:
    """Return the centroids float32 (k, d) of `clusters`."""
    return clusters(activations, k, draws=draws, n_init=n_init, iterations=iterations).centroids.float()


def clusters(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    n_init: int = 4,
    iterations: int = 300,
    tolerance: float = 1e-4,
) -> Clusters:
    """Cluster rows around `k` centroids.

    Up to `FIT_NUMBERS` numbers: the best of `n_init` runs of Lloyd's algorithm, each from k-means++ and until the
    centroids move by less than `tolerance` (squared, relative to the mean variance of a feature) or `iterations`.
    Above that: k-means++ on a sample, `iterations` mini-batches, and whole passes over the stream at the end.
    A cluster without a row takes over the row farthest from its centroid.

    Parameters
    ----------
    activations : float (n, d), (N, T, d), (N, C, H, W) or Activations, finite
    k : at most n
    """
    stream = Activations.of(activations)
    if len(stream) * stream.shape[1] > FIT_NUMBERS:
        return _streamed(stream, k, draws, max(iterations, -(-k * 10 // _BATCH)))
    rows = stream.all()
    mean = rows.double().mean(dim=0).float()
    centred = Activations.of(rows - mean)
    runs = [_lloyd(centred, k, draws.spawn("run", run), iterations, tolerance) for run in range(n_init)]
    best = min(runs, key=lambda run: run.inertia)
    return Clusters(best.centroids + mean, best.inertia, best.iterations, streamed=False)


def _lloyd(rows: Activations, k: int, draws: Draws, iterations: int, tolerance: float) -> Clusters:
    data = rows.all()
    limit = tolerance * float(rows.moments()[1].square().mean())
    centroids = _seeds(data, k, draws)
    taken, labels = 0, None
    for taken in range(1, iterations + 1):  # noqa: B007
        previous, held = labels, centroids
        labels, centroids, _ = _pass(rows, centroids)
        if previous is not None and torch.equal(labels, previous):
            break
        if float((centroids - held).square().sum()) <= limit:
            break
    _, _, inertia = _pass(rows, centroids)
    return Clusters(centroids, inertia, taken, streamed=False)


def _pass(rows: Activations, centroids: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor, float]:
    """Assign every row, less `shift`; return its cluster, the clusters' means, and the mean squared distance before."""
    k = len(centroids)
    sums, counts = torch.zeros_like(centroids, dtype=torch.float64), centroids.new_zeros(k).double()
    labels, total, far = [], 0.0, _Farthest(k)
    for plain in rows.chunks(max(1, _PAIRS // max(k, rows.shape[1]))):
        chunk = plain if shift is None else plain - shift
        gaps, nearest = _nearest(chunk, centroids)
        sums.index_add_(0, nearest, chunk.double())
        counts += torch.bincount(nearest, minlength=k)
        total += float(gaps.double().sum())
        far.add(chunk, gaps, nearest)
        labels.append(nearest)
    return torch.cat(labels), far.fill(sums, counts, centroids), total / len(rows)


class _Farthest:
    """The rows farthest from their centroids, for clusters that stay empty."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: tuple[Tensor, Tensor, Tensor] | None = None

    def add(self, rows: Tensor, gaps: Tensor, nearest: Tensor) -> None:
        kept = gaps.topk(min(self.most, len(gaps))).indices
        fresh = (rows[kept], gaps[kept], nearest[kept])
        if self.held is not None:
            joined = tuple(torch.cat(pair) for pair in zip(self.held, fresh, strict=True))
            kept = joined[1].topk(min(self.most, len(joined[1]))).indices
            fresh = (joined[0][kept], joined[1][kept], joined[2][kept])
        self.held = fresh

    def fill(self, sums: Tensor, counts: Tensor, centroids: Tensor) -> Tensor:
        """Return the means of the clusters, the empty ones moved to far rows, which leave their clusters."""
        empty = (counts == 0).nonzero()[:, 0].tolist()
        if empty and self.held is not None:
            for cluster, row, gap, owner in zip(empty, *self.held, strict=False):
                if float(gap) <= 0 or float(counts[owner]) <= 1:
                    continue
                sums[owner] -= row
                counts[owner] -= 1
                sums[cluster], counts[cluster] = row.double(), 1
        means = sums / counts.clamp_min(1)[:, None]
        return torch.where(counts[:, None] > 0, means.float(), centroids)


def _nearest(rows: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distance of each row to its nearest centroid, and which that is."""
    halves = centroids.square().sum(dim=1) / 2
    best, nearest = torch.addmm(-halves, rows, centroids.T).max(dim=1)
    return (rows.square().sum(dim=1) - 2 * best).clamp_min(0), nearest


def _seeds(rows: Tensor, k: int, draws: Draws) -> Tensor:
    """Draw first centroids among the rows by k-means++: with a chance proportional to the squared distance."""
    chosen = rows[draws.integers(len(rows), 1)]
    gaps = (rows - chosen).square().sum(dim=1)
    if k > _GREEDY:
        return _seeds_in_rounds(rows, chosen, gaps, k, draws)
    trials = 2 + int(math.log(k))
    seeds = [chosen]
    for _ in range(k - 1):
        # Of a few candidates the one that leaves the least: the greedy form that scikit-learn uses as well.
        mass = gaps.double().cumsum(0)
        points = draws.uniform(trials).double() * mass[-1]
        candidates = rows[torch.searchsorted(mass, points, right=True).clamp_max(len(rows) - 1)]
        left = torch.minimum(gaps, _squared(candidates, rows))
        best = left.double().sum(dim=1).argmin()
        gaps = left[best]
        seeds.append(candidates[best][None])
    return torch.cat(seeds)


def _seeds_in_rounds(rows: Tensor, chosen: Tensor, gaps: Tensor, k: int, draws: Draws) -> Tensor:
    """Draw many centroids a round, without replacement; distances are brought up to date between rounds."""
    while len(chosen) < k:
        count = min(-(-k // _ROUNDS), k - len(chosen))
        # An exponential race: the first `count` to arrive are a draw without replacement by these weights.
        clocks = -torch.log1p(-draws.uniform(len(rows)).double()) / gaps.double().clamp_min(1e-30)
        fresh = rows[clocks.topk(count, largest=False).indices]
        chosen = torch.cat([chosen, fresh])
        parts = [_nearest(part, fresh)[0] for part in rows.split(max(1, _PAIRS // count))]
        gaps = torch.minimum(gaps, torch.cat(parts))
    return chosen


def _squared(some: Tensor, rows: Tensor) -> Tensor:
    """Return squared distances (len(some), n)."""
    lengths = rows.square().sum(dim=1)
    return (lengths - 2 * some @ rows.T + some.square().sum(dim=1, keepdim=True)).clamp_min(0)


def _streamed(stream: Activations, k: int, draws: Draws, steps: int) -> Clusters:
    """Move each centroid to the running mean of the rows it was given (Sculley 2010), then pass over all rows."""
    most = max(k, min(_SEEDING * k, FIT_NUMBERS // stream.shape[1]), 2)
    sample = stream.sample(min(len(stream), most), draws.spawn("seeding"))
    # Distances are taken around a point near the mean, where float32 does not cancel.
    shift = sample.double().mean(dim=0).float()
    centroids = _seeds(sample - shift, k, draws.spawn("seeds"))
    counts = torch.zeros_like(centroids[:, 0])
    batches = stream.batches(min(_BATCH, len(stream)), draws=draws.spawn("mini-batches"))
    for _ in range(steps):
        batch = next(batches) - shift
        _, nearest = _nearest(batch, centroids)
        arrived = torch.bincount(nearest, minlength=k).float()
        counts += arrived
        sums = torch.zeros_like(centroids).index_add_(0, nearest, batch)
        centroids = centroids + (sums - arrived[:, None] * centroids) / counts.clamp_min(1)[:, None]
    inertia = math.inf
    for _ in range(_SWEEPS):
        _, centroids, inertia = _pass(stream, centroids, shift)
    return Clusters(centroids + shift, inertia, steps, streamed=True)
