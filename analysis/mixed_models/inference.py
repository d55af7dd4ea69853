"""Tests of a fitted mixed model: what one is, and the likelihood ratio of two nested models."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from bench.registry import LimenError

from .estimates import Estimates

HOW: dict[str, str] = {
    "units": "t or F with unit-based degrees of freedom",
    "satterthwaite": "t or F with Satterthwaite degrees of freedom",
    "normal": "normal or chi-squared reference",
}


@dataclass(frozen=True)
class Test:
    """A test of one contrast (t) or of several at once (F), or of two nested models (chi squared).

    Attributes
    ----------
    estimate, standard_error : float, NaN where several contrasts are tested at once
    statistic : float
    kind : 't', 'F' or 'chi2'
    df : degrees of freedom, numerator first
    p : float, two-sided
    low, high : 95 % interval of one contrast
    how : how the degrees of freedom and p were computed
    """

    __test__ = False

    estimate: float
    standard_error: float
    statistic: float
    kind: str
    df: tuple[float, ...]
    p: float
    low: float
    high: float
    how: str


def likelihood_ratio(larger: Estimates, smaller: Estimates) -> Test:
    """Compare two nested models of the same rows; see `MixedResults.lr_test`."""
    larger._require_convergence()
    smaller._require_convergence()
    fixed = len(larger.params) - len(smaller.params)
    random = len(larger.fit.theta) - len(smaller.fit.theta)
    if (
        larger.nobs != smaller.nobs
        or larger.model.family != smaller.model.family
        or min(fixed, random) < 0
        or fixed + random == 0
    ):
        raise LimenError(
            "mixed model, likelihood ratio: given models that are not nested; allowed is a smaller model of the same rows."
        )
    if larger.model.reml != smaller.model.reml or (fixed and larger.model.reml):
        raise LimenError(
            "mixed model, likelihood ratio: given REML fits with other fixed parts; allowed are fits with reml=False."
        )
    ratio = 2 * (larger.llf - smaller.llf)
    if ratio < -1e-4:
        raise LimenError(
            f"mixed model, likelihood ratio: the larger model fits worse by {-ratio:.3g}, so a fit has failed."
        )
    ratio = max(ratio, 0.0)
    p, how = _boundary_p(ratio, fixed, random)
    nan = float("nan")
    return Test(nan, nan, ratio, "chi2", (float(fixed + random),), p, nan, nan, how)


def _boundary_p(ratio: float, fixed: int, random: int) -> tuple[float, str]:
    if fixed == 0 and random == 1:
        return float(stats.chi2.sf(ratio, 1) / 2), "chi-squared on 1, halved: a variance on its boundary"
    if fixed == 0 and random == 2:
        p = float((stats.chi2.sf(ratio, 1) + stats.chi2.sf(ratio, 2)) / 2)
        return p, "even mixture of chi-squared on 1 and 2: a slope and its correlation"
    note = "; conservative, since variances lie on their boundary" if random else ""
    return float(stats.chi2.sf(ratio, fixed + random)), f"chi-squared on {fixed + random}{note}"
