"""Sensitivity and psychometric functions: d' and criterion, m-alternative forced choice, thresholds with a lapse rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import integrate, optimize, special, stats

from bench.registry import LimenError

MOST_LAPSES = 0.06
ROOT = math.sqrt(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """d' with what lies beside it: the criterion (0: no bias), the correction that was applied, and its standard error.

    `standard_error` is NaN where no closed form is used.
    """

    d_prime: float
    criterion: float
    standard_error: float
    n: int
    correction: str
    note: str = ""


def yes_no(hits: int, signals: int, false_alarms: int, noises: int) -> Sensitivity:
    """Return d' = z(H) - z(F) and the criterion of a yes-no task, every rate corrected log-linearly.

    Parameters
    ----------
    hits, signals : 'yes' answers on signal trials, and those trials
    false_alarms, noises : 'yes' answers on noise trials, and those trials

    Raises
    ------
    LimenError
        If a count is impossible.

    References
    ----------
    Hautus 1995, doi:10.3758/BF03203619, for the correction; Gourevitch and Galanter 1967 for the standard error.
    """
    h, f = _rate("hits", hits, signals), _rate("false alarms", false_alarms, noises)
    z_h, z_f = stats.norm.ppf(h), stats.norm.ppf(f)
    variance = h * (1 - h) / (signals * stats.norm.pdf(z_h) ** 2) + f * (1 - f) / (noises * stats.norm.pdf(z_f) ** 2)
    return Sensitivity(
        d_prime=float(z_h - z_f), criterion=float(-(z_h + z_f) / 2), standard_error=float(np.sqrt(variance)),
        n=signals + noises, correction="log-linear: (count + 1/2) / (n + 1)",
    )  # fmt: skip


def two_afc(left_on_left: int, lefts: int, left_on_right: int, rights: int) -> Sensitivity:
    """Return d' and the side bias of a two-alternative forced choice.

    Parameters
    ----------
    left_on_left, lefts : 'left' answers where left was correct, and those trials
    left_on_right, rights : 'left' answers where right was correct, and those trials
    """
    found = yes_no(left_on_left, lefts, left_on_right, rights)
    return Sensitivity(
        d_prime=found.d_prime / np.sqrt(2), criterion=found.criterion, standard_error=found.standard_error / np.sqrt(2),
        n=found.n, correction=found.correction,
    )  # fmt: skip


def _rate(what: str, count: int, trials: int) -> float:
    if trials < 1 or not 0 <= count <= trials:
        raise LimenError(f"sensitivity, {what}: given {count} of {trials}, allowed are 0 to all of one or more trials.")
    return (count + 0.5) / (trials + 1)


def m_afc_accuracy(d_prime: float, alternatives: int) -> float:
    """Return the accuracy of an unbiased observer of sensitivity d' among m alternatives."""
    return float(
        integrate.quad(
            lambda x: math.exp(-((x - d_prime) ** 2) / 2) / ROOT * special.ndtr(x) ** (alternatives - 1),
            d_prime - 9, d_prime + 9, epsabs=1e-11, limit=200,
        )[0]
    )  # fmt: skip


def m_afc(correct: int, trials: int, alternatives: int) -> Sensitivity:
    """Return the d' whose m-alternative accuracy is the observed one; NaN below chance.

    Raises
    ------
    LimenError
        If a count is impossible or there are fewer than two alternatives.
    """
    if alternatives < 2:
        raise LimenError(f"sensitivity, alternatives: given {alternatives}, allowed is 2 or more.")
    rate = _rate("correct answers", correct, trials)
    if rate < 1 / alternatives:
        return Sensitivity(
            d_prime=float("nan"), criterion=float("nan"), standard_error=float("nan"), n=trials, correction="log-linear",
            note=f"accuracy {correct / trials:.3f} is below chance 1/{alternatives}: undefined",
        )  # fmt: skip
    found = (
        optimize.brentq(lambda d: m_afc_accuracy(d, alternatives) - rate, 0, 8, xtol=1e-10)
        if rate < m_afc_accuracy(8, alternatives)
        else 8.0
    )
    slope = (m_afc_accuracy(found + 1e-4, alternatives) - m_afc_accuracy(found - 1e-4, alternatives)) / 2e-4
    error = np.sqrt(rate * (1 - rate) / trials) / slope
    return Sensitivity(
        d_prime=float(found), criterion=float("nan"), standard_error=float(error), n=trials,
        correction="log-linear: (count + 1/2) / (n + 1)",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Psychometric:
    """A fitted psychometric function `g + (1 - g - l) Phi(b0 + b1 x)`.

    Attributes
    ----------
    intercept, slope, lapse : float
    guess : float, 1 / m
    errors : array (2,), standard errors of intercept and slope, the lapse rate held
    deviance, deviance_p : of the fit, and how often data sets made from it have a larger one
    converged : False gives no threshold
    """

    intercept: float
    slope: float
    lapse: float
    guess: float
    errors: np.ndarray
    covariance: np.ndarray
    deviance: float
    deviance_p: float
    converged: bool

    def accuracy(self, x: np.ndarray) -> np.ndarray:
        """Return the accuracy at stimulus levels."""
        return np.asarray(
            self.guess + (1 - self.guess - self.lapse) * stats.norm.cdf(self.intercept + self.slope * np.asarray(x))
        )

    def threshold(self, target: float) -> tuple[float, float]:
        """Return the level at which accuracy is `target`, and its standard error by the delta method.

        Raises
        ------
        LimenError
            If the function never takes that value, or the fit did not converge.
        """
        share = (target - self.guess) / (1 - self.guess - self.lapse)
        if not self.converged or not 0 < share < 1 or self.slope == 0:
            raise LimenError(
                f"psychometric function, threshold: given accuracy {target}, allowed is a value between {self.guess:.3f} and "
                f"{1 - self.lapse:.3f} of a converged fit with a slope."
            )
        x = (stats.norm.ppf(share) - self.intercept) / self.slope
        gradient = np.array([-1 / self.slope, -x / self.slope])
        return float(x), float(np.sqrt(gradient @ self.covariance @ gradient))


def psychometric_function(
    levels: np.ndarray,
    correct: np.ndarray,
    trials: np.ndarray,
    *,
    alternatives: int = 2,
    lapses: bool = True,
    resamples: int = 1000,
    seed: int = 0,
) -> Psychometric:
    """Fit a psychometric function by maximum likelihood, the lapse rate between 0 and .06.

    Parameters
    ----------
    levels : float (n,), on the axis the slope is meant on (say so where it is logarithmic)
    correct, trials : int (n,)
    alternatives : m; the guess rate is 1 / m
    lapses : False fixes the lapse rate at 0
    resamples : data sets made from the fit, whose deviances the observed one is held against

    Raises
    ------
    LimenError
        If shapes disagree, a count is impossible, or there are fewer than two levels.

    References
    ----------
    Wichmann and Hill 2001, doi:10.3758/BF03194544.
    """
    x, y, n = (np.asarray(part, dtype=float) for part in (levels, correct, trials))
    if (
        not (x.shape == y.shape == n.shape)
        or x.ndim != 1
        or len(np.unique(x)) < 2
        or (y > n).any()
        or (y < 0).any()
        or (n < 1).any()
    ):
        raise LimenError(
            f"psychometric function: given levels {x.shape}, correct {y.shape} and trials {n.shape}, allowed are two or more "
            "different levels with 0 to all of one or more trials correct."
        )
    guess = 1 / alternatives
    values, converged = _fit(x, y, n, guess, lapses)
    covariance = _covariance(x, n, guess, values)
    deviance = _deviance(x, y, n, guess, values)
    draws = np.random.default_rng(seed)
    fitted = _curve(x, guess, values)
    made = []
    for _ in range(resamples if converged else 0):
        sample = draws.binomial(n.astype(int), fitted).astype(float)
        made.append(_deviance(x, sample, n, guess, _fit(x, sample, n, guess, lapses, start=values)[0]))
    p = float((1 + (np.array(made) >= deviance).sum()) / (1 + len(made))) if made else float("nan")
    return Psychometric(
        intercept=float(values[0]), slope=float(values[1]), lapse=float(values[2]), guess=guess,
        errors=np.sqrt(np.diag(covariance)), covariance=covariance, deviance=deviance, deviance_p=p, converged=converged,
    )  # fmt: skip


def _curve(x: np.ndarray, guess: float, values: np.ndarray) -> np.ndarray:
    return np.asarray(guess + (1 - guess - values[2]) * special.ndtr(values[0] + values[1] * x))


def _fit(
    x: np.ndarray, y: np.ndarray, n: np.ndarray, guess: float, lapses: bool, start: np.ndarray | None = None
) -> tuple[np.ndarray, bool]:
    middle, scale = x.mean(), x.std()
    z = (x - middle) / scale
    most = MOST_LAPSES if lapses else 0.0

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        eta = values[0] + values[1] * z
        share, density = special.ndtr(eta), np.exp(-eta * eta / 2) / np.sqrt(2 * np.pi)
        p = np.clip(guess + (1 - guess - values[2]) * share, 1e-12, 1 - 1e-12)
        slope = -(y / p - (n - y) / (1 - p))
        inner = slope * (1 - guess - values[2]) * density
        gradient = np.array([inner.sum(), (inner * z).sum(), -(slope * share).sum()])
        return float(-(y * np.log(p) + (n - y) * np.log(1 - p)).sum()), gradient

    first = np.array([0.5, 1.0, most / 2])
    if start is not None:
        first = np.array([start[0] + start[1] * middle, start[1] * scale, min(start[2], most)])
    found = optimize.minimize(
        loss,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-20, 20), (-50, 50), (0, most)],
        options={"ftol": 1e-14, "gtol": 1e-8},
    )
    b0, b1, lapse = found.x
    return np.array([b0 - b1 * middle / scale, b1 / scale, lapse]), bool(abs(b0) < 20 and abs(b1) < 50)


def _covariance(x: np.ndarray, n: np.ndarray, guess: float, values: np.ndarray) -> np.ndarray:
    """Return the inverse Fisher information of intercept and slope at the fitted lapse rate."""
    eta = values[0] + values[1] * x
    p = np.clip(_curve(x, guess, values), 1e-12, 1 - 1e-12)
    weight = n * ((1 - guess - values[2]) * stats.norm.pdf(eta)) ** 2 / (p * (1 - p))
    design = np.column_stack([np.ones_like(x), x])
    return np.asarray(np.linalg.pinv(design.T @ (weight[:, None] * design)))


def _deviance(x: np.ndarray, y: np.ndarray, n: np.ndarray, guess: float, values: np.ndarray) -> float:
    p = np.clip(_curve(x, guess, values), 1e-12, 1 - 1e-12)
    seen = y / n
    inside = np.where(y > 0, y * np.log(np.maximum(seen, 1e-300) / p), 0.0)
    inside += np.where(y < n, (n - y) * np.log(np.maximum(1 - seen, 1e-300) / (1 - p)), 0.0)
    return float(2 * inside.sum())
