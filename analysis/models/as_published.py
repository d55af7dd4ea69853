"""The tests that papers print, in one block, for comparison with earlier work and not as the recommended analysis."""

from __future__ import annotations

import pandas as pd

from bench.registry import LimenError, registered

from ..people import conditions_of
from ..results import Estimate, Result
from ..separation import separated_conditions
from ._classical_tests import (
    DENOMINATORS,
    against_chance,
    anovas,
    correlations,
    kappas,
    kruskal,
    nested_models,
    odds_ratios,
    pairwise,
)
from .anova import anova
from .utility import utility

TITLE = "As published: the classical tests"


@registered("analysis", version=1, citation="arXiv:2112.04417")
def as_published(
    trials: pd.DataFrame,
    *,
    baseline: str = "baseline",
    chance: float | None = None,
    margin: float = 0.05,
    seed: int = 0,
    level: float = 0.95,
) -> Result:
    """Run the classical tests on participants' means and on answers, each named with what it takes as fixed.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `item_id`, `condition`, `correct` (0/1); `session`, `rt_ms`, `confidence`,
        `response` and `expected` where there are such.
    baseline : str
        The condition others are compared with; the first by name if it does not occur.
    chance : float, optional
        Accuracy of guessing.
    margin : float
        Half-width of the region of equivalence, on the scale of accuracy; from the plan.
    seed : of Dunnett's integral
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        Quantities as the tests are named; people who met several conditions are compared within themselves. Effect sizes of
        ANOVAs are in `extra`, their denominators in `facts`; `facts['models']` holds AIC and BIC of nested mixed models.

    Raises
    ------
    LimenError
        If a column is missing or the margin is not positive.
    """
    lacking = [name for name in ("participant_id", "item_id", "condition", "correct") if name not in trials.columns]
    if lacking:
        raise LimenError(
            f"as published: column '{lacking[0]}' is missing; there are {', '.join(map(str, trials.columns))}."
        )
    if not margin > 0:
        raise LimenError(f"as published, margin: given {margin:g}, allowed is a positive difference of accuracies.")
    data = trials[trials["correct"].notna()]
    names = [name for name in conditions_of(data, baseline) if name in set(data["condition"])]
    if len(data) < 2 or data["participant_id"].nunique() < 2:
        return Result(name="as_published", title=TITLE, role="as published", flags=("one_participant",),
                      method="No classical test was possible: there are answers of fewer than two people.")  # fmt: skip
    table = data.groupby(["participant_id", "condition"])["correct"].mean().unstack().reindex(columns=names)
    within = bool((table.notna().sum(axis=1) > 1).any())
    estimates: list[Estimate] = []
    flags: list[str] = []
    if len(names) > 1:
        if not within:
            between = anova(data, baseline=names[0], level=level, seed=seed)
            estimates += between.estimates
            flags += between.flags
            estimates += kruskal({name: table[name].dropna().to_numpy() for name in names if table[name].count() > 1})
        estimates += anovas(data, within=within)
        estimates += pairwise(table, names, margin, level, within=within)
    estimates += against_chance(table, data, names, chance, level) if chance is not None else []
    separated = separated_conditions(data, names)
    open_ = [name for name in names if name not in separated]
    models: list[dict[str, float | str]] = []
    if len(open_) > 1 and open_[0] == names[0]:
        kept = data[data["condition"].isin(open_)]
        estimates += odds_ratios(kept, open_, level)
        tests, models = nested_models(kept)
        estimates += tests
    estimates += correlations(data, level) + kappas(data, names, level)
    if not within and len(names) > 1 and {"session", "k_seen"} <= set(data.columns):
        ratios = utility(data, baseline=names[0], level=level)
        estimates += ratios.estimates
        flags += ratios.flags
    flags += ["separation"] if separated else []
    facts = {"denominators": DENOMINATORS, "models": models, "margin": margin, "within": within, "chance": chance}
    return Result(name="as_published", title=TITLE, role="as published", method=_method(within, margin, chance, level),
                  estimates=tuple(estimates), facts=facts, flags=tuple(dict.fromkeys(flags)))  # fmt: skip


def _method(within: bool, margin: float, chance: float | None, level: float) -> str:
    groups = (
        "People met several conditions: repeated-measures ANOVA of their means (p also with Greenhouse-Geisser's and "
        "Huynh-Feldt's correction), paired t and Wilcoxon tests against the baseline, d_z."
        if within
        else "People met one condition each: one-way, Welch's and (condition x session) mixed ANOVA of their means, Tukey, Dunnett, "
        "Welch's t, Cliff's delta with Brunner and Munzel's test, Kruskal-Wallis with Conover's comparisons."
    )
    against = (
        f" Each condition is held against chance ({chance:g}) by t, signed ranks and a binomial test." if chance else ""
    )
    return (
        f"For comparison with earlier work, not the recommended analysis: these tests take the items as fixed. {groups}{against} "
        "Logistic odds ratios, the binomial test and Cohen's kappa also take a person's answers as independent, so their "
        "intervals are too narrow. Nested mixed models with participants and items crossed are compared by likelihood ratios, "
        f"AIC and BIC. Equivalence is two one-sided t tests with a margin of {margin:g} (the 90 % interval inside it). Utility is "
        "given by three formulas where there are sessions. Adjustments are named with each test, others are not adjusted; "
        f"intervals are {level:.0%}."
    )
