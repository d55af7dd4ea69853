"""How reliable the answers are, and who errs alike: split halves, agreement of observers, people against people and networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from bench.registry import LimenError, registered

from ..measures.agreement import Agreement, intraclass_correlations, krippendorff_alpha, split_half
from ..results import NAN, Estimate, Result

TITLE = "Reliability and consistency"
NETWORK = "network"
SHARED = 8
"""Items two observers must share for a kappa of their errors."""


@registered("analysis", version=1, citation="arXiv:2006.16736")
def consistency(
    trials: pd.DataFrame, *, networks: pd.DataFrame | None = None, halves: int = 500, seed: int = 0, level: float = 0.95
) -> Result:
    """Estimate how reliable people and items are measured, and how far observers err on the same items.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `item_id`, `condition`, `correct` (0/1); `response` for agreement beyond right and
        wrong. Rows whose `source` is 'network' are read as observers of their own kind.
    networks : DataFrame, optional
        Answers of networks in the same columns, where they are not among the trials.
    halves : random halves, and draws of the bootstrap
    seed : of both
    level : float
        Of the bootstrap over people; agreement coefficients have 95 %.

    Returns
    -------
    Result
        'split-half reliability' of people (halves of items) and of items (halves of people), Spearman-Brown, `extra['null']`
        with one half shuffled; 'Krippendorff alpha' of right and wrong and of responses by condition; 'intraclass correlation'
        where every person answered every item; 'error consistency' (mean kappa over pairs, null 0) of people with people, with
        networks, and of networks.

    Raises
    ------
    LimenError
        If a column is missing.
    """
    lacking = [name for name in ("participant_id", "item_id", "condition", "correct") if name not in trials.columns]
    if lacking:
        raise LimenError(
            f"consistency: column '{lacking[0]}' is missing; there are {', '.join(map(str, trials.columns))}."
        )
    whole = trials if networks is None else pd.concat([trials, networks.assign(source=NETWORK)], ignore_index=True)
    whole = whole[whole["correct"].notna()]
    machine = whole["source"] == NETWORK if "source" in whole.columns else pd.Series(False, index=whole.index)
    people = whole[~machine]
    estimates = [*_halves(people, halves, seed), *_alphas(people, halves, seed), *_intraclass(people)]
    estimates += _errors(people, whole[machine], halves, seed, level)
    facts = {"people": int(people["participant_id"].nunique()), "networks": int(whole[machine]["participant_id"].nunique()),
             "items": int(people["item_id"].nunique()), "shared_items": SHARED}  # fmt: skip
    return Result(name="consistency", title=TITLE, role="secondary", method=_method(halves, seed, level), facts=facts,
                  estimates=tuple(estimates), flags=() if estimates else ("undefined",))  # fmt: skip


def _table(data: pd.DataFrame) -> pd.DataFrame:
    """Return mean correctness, a row an observer, a column an item."""
    return data.pivot_table(index="participant_id", columns="item_id", values="correct", aggfunc="mean")


def _halves(people: pd.DataFrame, halves: int, seed: int) -> list[Estimate]:
    """Split within condition: differences of conditions are no reliability of people."""
    found = []
    for name, part in people.groupby("condition", sort=True):
        table = _table(part).to_numpy()
        for kind, scores, unit in (("people", table, "participants"), ("items", table.T, "items")):
            if scores.shape[0] < 3 or scores.shape[1] < 2:
                continue
            one = split_half(scores, halves=halves, seed=seed)
            found.append(_estimate(one, "split-half reliability", f"{kind}, {name}", unit))
    return found


def _alphas(people: pd.DataFrame, resamples: int, seed: int) -> list[Estimate]:
    columns = {"right and wrong": "correct", "responses": "response"}
    found = []
    for kind, column in columns.items():
        if column not in people.columns or people[column].nunique() < 2:
            continue
        codes = people.assign(code=pd.factorize(people[column].astype(str), sort=True)[0].astype(float))
        codes = codes[people[column].notna() & (people[column].astype(str) != "")]
        if codes["code"].nunique() > 50:
            continue
        for name, part in codes.groupby("condition", sort=True):
            table = part.pivot_table(
                index="item_id", columns="participant_id", values="code", aggfunc="first"
            ).to_numpy()
            if (np.isfinite(table).sum(axis=1) >= 2).sum() < 2:
                continue
            one = krippendorff_alpha(table, "nominal", resamples=min(resamples, 300), seed=seed)
            item = _estimate(one, "Krippendorff alpha", f"{kind}, {name}", "items")
            found.append(replace(item, extra={**item.extra, "null": 0.0}))
    return found


def _intraclass(people: pd.DataFrame) -> list[Estimate]:
    found = []
    for name, part in people.groupby("condition", sort=True):
        table = _table(part)
        if min(table.shape) < 3 or table.isna().any().any():
            continue
        values = table.T.to_numpy()
        if np.ptp(values.mean(axis=1)) < 1e-12 or (
            (values - values.mean(axis=0) - values.mean(axis=1)[:, None]).var() < 1e-12
        ):
            continue
        forms = intraclass_correlations(values)
        for form in ("ICC(2)", "ICC(2,k)"):
            row = {str(key): float(number) for key, number in forms.loc[form].to_dict().items()}
            found.append(
                Estimate(
                    quantity="intraclass correlation", label=f"{form} of items, {name}", value=row["value"],
                    low=row["low"], high=row["high"], interval="F (McGraw and Wong)", statistic="F",
                    statistic_value=row["F"], df=(row["df1"], row["df2"]), p=row["p"],
                    n=len(values), unit="items", extra={"null": 0.0, "raters": values.shape[1]},
                )
            )  # fmt: skip
    return found


def _errors(people: pd.DataFrame, machines: pd.DataFrame, draws: int, seed: int, level: float) -> list[Estimate]:
    """Average kappa over pairs of observers of one condition; the interval resamples observers and items."""
    found: list[Estimate] = []
    ours = [(str(name), _table(part)) for name, part in people.groupby("condition", sort=True)]
    theirs = _table(machines) if len(machines) else pd.DataFrame()
    for name, table in ours:
        found += _mean_kappa(f"people, {name}", table, None, draws, seed, level)
        if len(theirs):
            found += _mean_kappa(f"people and networks, {name}", table, theirs, draws, seed, level)
    return found + (_mean_kappa("networks", theirs, None, draws, seed, level) if len(theirs) > 1 else [])


def _mean_kappa(
    label: str, one: pd.DataFrame, other: pd.DataFrame | None, draws: int, seed: int, level: float
) -> list[Estimate]:
    both = one if other is None else other
    items = one.columns.intersection(both.columns)
    first, second = (_right(table[items]) for table in (one, both))
    kappas = kappa_matrix(first, second)
    if other is None:
        np.fill_diagonal(kappas, np.nan)
    known = np.isfinite(kappas)
    pairs = int(known.sum()) // (2 if other is None else 1)
    if not pairs:
        return []
    value = float(kappas[known].mean())
    rng, made = np.random.default_rng(seed), []
    for _ in range(draws):
        a = _drawn(len(kappas), rng)
        b = a if other is None else _drawn(kappas.shape[1], rng)
        again = kappa_matrix(first, second, _drawn(len(items), rng))
        weight = np.outer(a, b) * known * np.isfinite(again)
        if weight.sum() > 0:
            made.append(float((weight * np.nan_to_num(again)).sum() / weight.sum()))
    wide = pairs > 1 and len(made) > draws / 2
    low, high = np.quantile(made, [(1 - level) / 2, (1 + level) / 2]) if wide else (NAN, NAN)
    return [
        Estimate(
            quantity="error consistency", label=label, value=value, low=float(low), high=float(high), level=level, n=len(kappas),
            interval="bootstrap over observers and items" if wide else "", flags=() if wide else ("undefined",), unit="observers",
            extra={"null": 0.0, "pairs": pairs},
        )
    ]  # fmt: skip


def _drawn(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of n is drawn in a bootstrap, (n,)."""
    return rng.multinomial(n, np.full(n, 1 / n)).astype(float)


def _right(table: pd.DataFrame) -> np.ndarray:
    """Return 1, 0 or NaN; of answers to an item more than once, the more frequent kind, NaN where they are even."""
    values = table.to_numpy(dtype=float)
    return np.where(np.isnan(values) | (values == 0.5), np.nan, np.round(values))


def kappa_matrix(first: np.ndarray, second: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return Cohen's kappa of being right of every pair of observers over the items both answered.

    Parameters
    ----------
    first, second : 1, 0 or NaN (observers, items)
    weights : of the items (items,), 1 each by default

    Returns
    -------
    array (observers, observers)
        NaN where fewer than eight items are shared, or chance agreement is complete.
    """
    seen, met = np.isfinite(first).astype(float), np.isfinite(second).astype(float)
    enough = seen @ met.T >= SHARED
    seen = seen if weights is None else seen * weights
    x, y = np.nan_to_num(first) * (1 if weights is None else weights), np.nan_to_num(second)
    n = seen @ met.T
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q, both = (x @ met.T) / n, (seen @ y.T) / n, (x @ y.T) / n
        observed, chance = 1 - p - q + 2 * both, p * q + (1 - p) * (1 - q)
        kappa = (observed - chance) / (1 - chance)
    return np.where(enough & (chance < 1 - 1e-12), kappa, np.nan)


def _estimate(one: Agreement, quantity: str, label: str, unit: str) -> Estimate:
    known = bool(np.isfinite(one.low) and np.isfinite(one.value))
    extra = {} if np.isnan(one.null) else {"null": one.null}
    return Estimate(quantity=quantity, label=label, value=one.value, low=one.low if known else NAN, high=one.high if known else NAN,
                    interval=one.interval if known else "", n=one.n, unit=unit, extra=extra,
                    flags=() if known else ("undefined",))  # fmt: skip


def _method(halves: int, seed: int, level: float) -> str:
    return (
        f"Reliability is that of random halves within a condition ({halves} splits, seed {seed}): of people by halves of the items, "
        "of items by halves of the people, stepped up by Spearman and Brown's formula, with the 95 % range over splits, beside "
        "the mean with one half shuffled. Krippendorff's alpha (nominal) has a bootstrap over items. Intraclass correlations are "
        "of items with people as random raters, given where every person answered every item. Error consistency is Cohen's kappa "
        f"of being right, averaged over pairs of observers who share {SHARED} items or more: 0 is what independent observers of the "
        f"same accuracies give, 1 errors on the same items; its {level:.0%} interval resamples observers and items at once (rather wide)."
    )
