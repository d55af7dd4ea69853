"""Parametric bootstrap of a mixed model: the likelihood ratio of two fits, and intervals, from data the model makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import special

from bench.registry import LimenError

from .results import MixedResults
from .specification import Prepared, Specification
from .terms import Layout

MOST_FAILURES = 0.05


@dataclass(frozen=True)
class Bootstrap:
    """What a parametric bootstrap of a likelihood ratio found.

    Attributes
    ----------
    ratio : float, of the data
    ratios : array (B,), of the made data sets whose fits converged
    p : float, `(1 + #{ratios >= ratio}) / (1 + B)`
    failed : int, made data sets whose fits did not converge
    """

    ratio: float
    ratios: np.ndarray
    p: float
    failed: int


def bootstrap_test(
    full: MixedResults,
    null: MixedResults,
    *,
    draws: int = 500,
    seed: int = 0,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Bootstrap:
    """Test the fixed effects of `full` that `null` lacks, on data sets drawn from `null`.

    Parameters
    ----------
    full, null : fits by maximum likelihood of the same rows with the same random part
    draws : data sets
    seed : each data set has its own stream, so that the number of processes changes nothing
    processes : worker processes
    progress : `progress(done, draws)`

    Raises
    ------
    LimenError
        If the models do not fit together, or more than 5 % of the refits fail.

    References
    ----------
    Halekoh and Hojsgaard 2014, doi:10.18637/jss.v059.i09.
    """
    observed = full.lr_test(null)
    if len(full.fit.theta) != len(null.fit.theta):
        raise LimenError(
            "mixed model, bootstrap: given models with other random parts, allowed is one random part for both."
        )
    make = partial(_ratio, full.model, null.model, null)
    ratios = np.array(list(_map(make, draws, seed, processes, progress)))
    kept = ratios[np.isfinite(ratios)]
    _check_failures(draws - len(kept), draws)
    p = (1 + int((kept >= observed.statistic - 1e-8).sum())) / (1 + len(kept))
    return Bootstrap(observed.statistic, kept, p, draws - len(kept))


def bootstrap_intervals(
    results: MixedResults, *, draws: int = 500, seed: int = 0, alpha: float = 0.05, processes: int = 1
) -> pd.DataFrame:
    """Return percentile intervals of the fixed effects and of the random effects' SDs, from data the fit makes.

    Returns
    -------
    DataFrame
        One row a parameter: `estimate`, `low`, `high`, `n` (refits that converged).

    Raises
    ------
    LimenError
        If more than 5 % of the refits fail.
    """
    names, estimates = _parameters(results)
    found = np.array(list(_map(partial(_refit, results.model, results), draws, seed, processes, None)))
    kept = found[np.isfinite(found).all(axis=1)]
    _check_failures(draws - len(kept), draws)
    low, high = np.quantile(kept, [alpha / 2, 1 - alpha / 2], axis=0)
    return pd.DataFrame(
        {"estimate": estimates, "low": low, "high": high, "n": len(kept)}, index=pd.Index(names, name="parameter")
    )


def simulate(results: MixedResults, stream: np.random.Generator) -> np.ndarray:
    """Draw a response for the prepared rows from a fitted model, (rows,)."""
    rows = results.model.prepared
    layout = Layout(rows.terms)
    linear = rows.x[list(results.params.index)].to_numpy() @ results.params.to_numpy()
    linear = linear + (0.0 if rows.offset is None else rows.offset)
    for term, table in zip(layout.terms, results.fit.covariances, strict=True):
        codes, known = pd.factorize(np.asarray(term.codes, dtype=object), sort=True)
        # A covariance of less than full rank has no Cholesky factor.
        values, vectors = np.linalg.eigh(table.to_numpy())
        effects = stream.standard_normal((len(known), len(values))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
        linear = linear + (term.values * effects[codes]).sum(axis=1)
    if results.model.family == "gaussian":
        noise = stream.standard_normal(len(linear)) * results.fit.sigma
        return np.asarray(linear + (noise if rows.weights is None else noise / np.sqrt(rows.weights)))
    trials = np.ones(len(linear)) if rows.trials is None else rows.trials
    return stream.binomial(trials.astype(int), special.expit(linear)).astype(float)


def _ratio(full: Specification, null: Specification, fitted: MixedResults, stream: np.random.SeedSequence) -> float:
    y = simulate(fitted, np.random.default_rng(stream))
    try:
        large, small = (model.fitted(replace(_aligned(model, fitted), y=y), inference=False) for model in (full, null))
    except (LimenError, np.linalg.LinAlgError):
        return float("nan")
    ok = large.converged and small.converged
    return max(0.0, 2 * (large.log_likelihood - small.log_likelihood)) if ok else float("nan")


def _aligned(model: Specification, fitted: MixedResults) -> Prepared:
    rows = model.prepared
    if len(rows.y) != len(fitted.model.prepared.y):
        raise LimenError("mixed model, bootstrap: given models whose rows differ, allowed are those of the same rows.")
    return rows


def _refit(model: Specification, fitted: MixedResults, stream: np.random.SeedSequence) -> np.ndarray:
    y = simulate(fitted, np.random.default_rng(stream))
    names, _ = _parameters(fitted)
    try:
        fit = model.fitted(replace(model.prepared, y=y), inference=False)
    except (LimenError, np.linalg.LinAlgError):
        return np.full(len(names), np.nan)
    return _parameters(MixedResults(model, fit))[1] if fit.converged else np.full(len(names), np.nan)


def _parameters(results: MixedResults) -> tuple[list[str], np.ndarray]:
    sds = results.random_sds
    names = [*map(str, results.params.index), *(f"sd {row.group} {row.effect}".rstrip() for row in sds.itertuples())]
    return names, np.concatenate([results.params.to_numpy(), sds["sd"].to_numpy()])


def _map(
    work: Callable[[np.random.SeedSequence], object],
    draws: int,
    seed: int,
    processes: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[object]:
    if draws < 1:
        raise LimenError(f"mixed model, bootstrap: given {draws} draws, allowed is 1 or more.")
    streams = np.random.SeedSequence(seed).spawn(draws)
    if processes <= 1:
        for done, stream in enumerate(streams, start=1):
            yield work(stream)
            if progress:
                progress(done, draws)
        return
    with ProcessPoolExecutor(processes) as pool:
        for done, value in enumerate(pool.map(work, streams, chunksize=max(1, draws // (8 * processes))), start=1):
            yield value
            if progress:
                progress(done, draws)


def _check_failures(failed: int, draws: int) -> None:
    if failed > MOST_FAILURES * draws:
        raise LimenError(
            f"mixed model, bootstrap: {failed} of {draws} refits did not converge; allowed are at most "
            f"{MOST_FAILURES:.0%}, so use a simpler random part."
        )
