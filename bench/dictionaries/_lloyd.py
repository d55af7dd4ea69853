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
_OVERSAMPLE = 3
"""Candidates a cluster among which first centroids are sought, where there are more rows."""
_GREEDY = 256
"""Most clusters that are seeded among all rows in any case."""
_ROUNDS = 8
"""Rounds in which the candidates are drawn."""
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
    """Draw first centroids among the rows by k-means++: with a chance proportional to the squared distance.

    For many clusters the rows are first thinned out to candidates, each weighted by the rows it stands for (k-means||,
    Bahmani et al. 2012), as every centroid after the first takes a pass over what it is drawn from.
    """
    if k > _GREEDY and len(rows) > _OVERSAMPLE * k:
        candidates, weights = _candidates(rows, _OVERSAMPLE * k, draws)
        return _greedy(candidates, weights, k, draws)
    return _greedy(rows, torch.ones_like(rows[:, 0]), k, draws)


def _greedy(rows: Tensor, weights: Tensor, k: int, draws: Draws) -> Tensor:
    """Draw k rows one after another: of a few drawn by k-means++ the one that leaves the least, as scikit-learn does."""
    lengths, trials = rows.square().sum(dim=1), 2 + int(math.log(k))

    def squared(some: Tensor) -> Tensor:
        return torch.addmm(lengths, some, rows.T, alpha=-2).add_(some.square().sum(dim=1, keepdim=True)).clamp_min_(0)

    def drawn(mass: Tensor, count: int) -> Tensor:
        total = mass.double().cumsum(0)
        points = draws.uniform(count).double() * total[-1]
        return torch.searchsorted(total, points, right=True).clamp_max(len(rows) - 1)

    first = rows[drawn(weights, 1)]
    gaps, seeds = squared(first)[0], [first]
    for _ in range(k - 1):
        chosen = rows[drawn(weights * gaps, trials)]
        left = torch.minimum(gaps, squared(chosen))
        best = (left @ weights).argmin()
        gaps = left[best]
        seeds.append(chosen[best][None])
    return torch.cat(seeds)


def _candidates(rows: Tensor, count: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """Draw rows in rounds without replacement, by their squared distance to those of earlier rounds, and weigh them."""
    chosen = rows[draws.integers(len(rows), 1)]
    gaps, nearest = _nearest(rows, chosen)
    while len(chosen) < count:
        # An exponential race: the first to arrive are a draw without replacement by these weights.
        clocks = -torch.log1p(-draws.uniform(len(rows)).double()) / gaps.double().clamp_min(1e-30)
        fresh = rows[clocks.topk(min(-(-count // _ROUNDS), count - len(chosen)), largest=False).indices]
        parts = [_nearest(part, fresh) for part in rows.split(max(1, _PAIRS // len(fresh)))]
        near, which = (torch.cat(part) for part in zip(*parts, strict=True))
        nearest = torch.where(near < gaps, which + len(chosen), nearest)
        gaps, chosen = torch.minimum(gaps, near), torch.cat([chosen, fresh])
    return chosen, torch.bincount(nearest, minlength=count).type_as(rows)


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
