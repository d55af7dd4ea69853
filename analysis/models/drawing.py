"""One-shot drawings in the plane of diversity and recognisability: people, controls, and models on the same exemplars."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError, registered

from ..measures.drawings import Parts, Spread, parts, pooled_spread
from ..results import NAN, Estimate, Result
from ._drawing_groups import (
    DIVERSITY,
    RECOGNISABILITY,
    REFERENCES,
    Critic,
    Group,
    Samples,
    make_critic,
    others_of,
    people_of,
)

TITLE = "Recognisability and diversity of one-shot drawings"


@registered("analysis", version=1, citation="arXiv:2205.10370")
def drawing(
    trials: pd.DataFrame,
    *,
    samples: Samples | None = None,
    ways: int = 20,
    episodes: int = 20,
    permutations: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> Result:
    """Measure how well drawings are recognised by a frozen critic and how much those of one category differ.

    Parameters
    ----------
    trials : DataFrame
        One row a drawing: the columns of an export's drawings, as `analysis.drawings.read_drawings` gives them.
    samples : mapping, optional
        Model -> item id -> pictures uint8 (N, H, W), as `analysis.drawings.read_samples` gives them.
    ways
        Categories that the critic chooses between; at most those of the study.
    episodes
        Draws of the critic's example of each category.
    permutations, seed
        Shuffles of the categories within each person for the null, and the seed of every draw.
    level : float
        Level of the intervals.

    Returns
    -------
    Result
        Quantities 'recognisability', 'diversity', 'recognisability above null', 'diversity below null', their
        'difference' for each pair of conditions and of a condition and a model, 'distance to people', and
        'recognisability at originality 1' to '4'.

    Raises
    ------
    LimenError
        If an exemplar is no sketch of `stimuli.sketches`, or a model has no samples for one.
    """
    if "strokes" not in trials.columns or "mode" in trials.columns:
        return Result(
            name="drawing", title=TITLE, role="secondary", flags=("undefined",),
            method="No drawings were given: this analysis reads an export's drawings. Uncovered sketches are analysed by 'clickme'.",
        )  # fmt: skip
    trials = trials.drop_duplicates(["participant_id", "item_id"])
    critic = make_critic(tuple(sorted(trials["item_id"].unique())), ways, episodes, seed)
    for name, held in (samples or {}).items():
        missing = [item for item in critic.items if item not in held]
        if missing:
            raise LimenError(f"samples '{name}': no samples for exemplar '{missing[0]}' (and {len(missing) - 1} more).")
    people = list(people_of(trials, critic))
    size = round(float(np.median([np.bincount(group.category).max() for group in people])))
    others = list(others_of(critic, samples or {}, max(size, 3)))
    estimates: list[Estimate] = []
    for group in (*people, *others):
        for quantity in (RECOGNISABILITY, DIVERSITY):
            estimates += _absolute(group, quantity, permutations, seed, level, critic)
        estimates += _curve(group, level, critic.ways)
    pairs = [*combinations(people, 2), *((one, other) for one in people for other in others)]
    estimates += [_difference(one, other, q, level) for q in (RECOGNISABILITY, DIVERSITY) for one, other in pairs]
    estimates += _distances(people, others, seed, level)
    return Result(
        name="drawing", title=TITLE, role="primary", method=_method(critic, permutations, size, level),
        estimates=tuple(estimates), points=_points((*people, *others), critic.items),
        facts={"categories": len(critic.items), "ways": critic.ways, "chance": 1 / critic.ways, "samples": max(size, 3),
               "people": {group.label: len(np.unique(group.person)) for group in people}},
        flags=("few_levels",) if min(len(critic.items), *(len(np.unique(g.person)) for g in people)) < 30 else (),
    )  # fmt: skip


def _parts(group: Group, found: Spread) -> Parts:
    whole = parts(found, group.category, group.person)
    # A model's samples are draws of their own: all that varies beside the categories is within them.
    return whole if group.people else Parts(whole.drawings, whole.categories, whole.drawings, whole.participants)


def _t(group: Group, categories: int, level: float) -> tuple[float, float]:
    """Return the quantile of t and its degrees of freedom: the fewer of people and categories, less one."""
    units = min(len(np.unique(group.person)), categories) if group.people else categories
    return float(stats.t.ppf(0.5 + level / 2, max(units - 1, 1))), float(max(units - 1, 1))


def _absolute(
    group: Group, quantity: str, permutations: int, seed: int, level: float, critic: Critic
) -> Iterator[Estimate]:
    found = group.found(quantity)
    names = (quantity, f"{quantity} {'above' if quantity == RECOGNISABILITY else 'below'} null")
    if np.isnan(found.values).any() or np.isnan(found.without).any():
        for name in names:
            yield Estimate(quantity=name, label=group.label, value=NAN, unit="drawings", flags=("undefined",))
        return
    value, error = float(found.values.mean()), np.sqrt(_parts(group, found).total)
    quantile, df = _t(group, len(found.values), level)
    null = _null(group, quantity, permutations, seed)
    sign = 1 if quantity == RECOGNISABILITY else -1
    p = (1 + int((sign * null >= sign * value).sum())) / (1 + len(null))
    tail = (1 - level) / 2
    extra = {"null": float(null.mean()), "null_low": float(np.quantile(null, tail)),
             "null_high": float(np.quantile(null, 1 - tail)), "chance": 1 / critic.ways,
             "categories": len(found.values)}  # fmt: skip
    low, high = max(0.0, value - quantile * error), value + quantile * error
    high = min(1.0, high) if quantity == RECOGNISABILITY else high
    flags = () if error > 0 else ("no_spread",)
    common = {"label": group.label, "level": level, "interval": "t, two-way jackknife", "n": len(group.category),
              "unit": "drawings", "flags": flags}  # fmt: skip
    yield Estimate(quantity=names[0], value=value, low=low, high=high, df=(df,), extra=extra, **common)  # type: ignore[arg-type]
    shift = float(null.mean())
    ends = sorted((sign * (low - shift), sign * (high - shift)))
    yield Estimate(quantity=names[1], value=sign * (value - shift), low=ends[0], high=ends[1], df=(df,),
                   statistic="permutation", p=p, **common)  # type: ignore[arg-type]  # fmt: skip


def _null(group: Group, quantity: str, permutations: int, seed: int) -> np.ndarray:
    """Return the quantity with categories shuffled: within each person, or over all samples of a model."""
    draws = np.random.default_rng([seed, 1])
    block = group.person if group.people else np.zeros_like(group.person)
    by_block = np.argsort(block, kind="stable")
    size = np.bincount(group.category, minlength=group.chances.shape[1])
    found = np.empty(permutations)
    for number in range(permutations):
        labels = np.empty_like(group.category)
        labels[by_block] = group.category[np.lexsort((draws.random(len(block)), block))]
        if quantity == RECOGNISABILITY:
            taken = group.chances[np.arange(len(labels)), labels]
            found[number] = (np.bincount(labels, taken, minlength=len(size)) / size).mean()
        else:
            found[number] = pooled_spread(group.places, labels, size)
    return found


def _difference(one: Group, other: Group, quantity: str, level: float) -> Estimate:
    label, name = f"{one.label} − {other.label}", f"{quantity} difference"
    left, right = one.found(quantity), other.found(quantity)
    change = left.values - right.values
    if np.isnan(change).any() or np.isnan(left.without).any() or np.isnan(right.without).any():
        return Estimate(quantity=name, label=label, value=NAN, unit="categories", flags=("undefined",))
    halves = [_parts(one, left), _parts(other, right)]
    within = sum(half.people - half.drawings for half in halves)
    categories = float(np.var(change, ddof=1)) / len(change)
    variance = max(within + categories, sum(half.people for half in halves), categories)
    units = [
        len(change),
        *(half.participants for half, group in zip(halves, (one, other), strict=True) if group.people),
    ]
    df = max(min(units) - 1, 1)
    error = float(np.sqrt(variance))
    value = float(change.mean())
    statistic = value / error if error > 0 else NAN
    reach = float(stats.t.ppf(0.5 + level / 2, df)) * error
    return Estimate(
        quantity=name, label=label, value=value, low=value - reach, high=value + reach, level=level,
        interval="t, two-way jackknife", statistic="t", statistic_value=statistic, df=(float(df),),
        p=float(2 * stats.t.sf(abs(statistic), df)) if error > 0 else NAN, n=len(one.category) + len(other.category),
        unit="drawings", flags=() if error > 0 else ("no_spread",),
    )  # fmt: skip


def _distances(people: list[Group], others: list[Group], seed: int, level: float) -> Iterator[Estimate]:
    """Distance of each model from the people of the first condition, both axes z-scored over all groups."""
    groups = [*people, *others]
    found = [(group.found(RECOGNISABILITY), group.found(DIVERSITY)) for group in groups]
    if any(np.isnan(one.without).any() for pair in found for one in pair):
        return
    centre = np.array([[one.values.mean() for one in pair] for pair in found])
    errors = np.array([[np.sqrt(_parts(g, one).total) for one in pair] for g, pair in zip(groups, found, strict=True)])
    draws = np.random.default_rng([seed, 2]).normal(size=(2000, *centre.shape)) * errors + centre
    truth, drawn = _far(centre[None])[0], _far(draws)
    tail = (1 - level) / 2
    for place in range(len(people), len(groups)):
        low, high = np.quantile(drawn[:, place], [tail, 1 - tail])
        yield Estimate(
            quantity="distance to people", label=groups[place].label, value=float(truth[place]), low=float(low),
            high=float(high), level=level, interval="simulated from the two standard errors", n=len(groups[place].category),
            unit="drawings", extra={"people": people[0].label, "groups": len(groups)},
        )  # fmt: skip


def _far(points: np.ndarray) -> np.ndarray:
    """Return L2 to the first of the groups (m, groups, 2) after z-scoring each axis over the groups."""
    spread = points.std(axis=1, ddof=1, keepdims=True)
    z = (points - points.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    return np.asarray(np.linalg.norm(z - z[:, :1], axis=2))


def _curve(group: Group, level: float, ways: int, bins: int = 4) -> Iterator[Estimate]:
    """Recognisability in quarters of the distance from the exemplar; intervals over people, or over categories of a model."""
    edges = np.quantile(group.far, np.linspace(0, 1, bins + 1)[1:-1])
    quarter = np.searchsorted(edges, group.far, side="right")
    unit = group.person if group.people else group.category
    for number in range(bins):
        mine = quarter == number
        each = pd.Series(group.own[mine]).groupby(unit[mine]).mean() if mine.any() else pd.Series(dtype=float)
        name = f"recognisability at originality {number + 1}"
        if len(each) < 3:
            yield Estimate(quantity=name, label=group.label, value=NAN, unit="drawings", flags=("undefined",))
            continue
        reach = float(stats.t.ppf(0.5 + level / 2, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
        value = float(each.mean())
        low, high = (max(0.0, value - reach), min(1.0, value + reach)) if reach > 0 else (NAN, NAN)
        yield Estimate(
            quantity=name, label=group.label, value=value, low=low, high=high, level=level,
            flags=() if reach > 0 else ("no_spread",),
            interval=f"t over {'people' if group.people else 'categories'}", n=int(mine.sum()), unit="drawings",
            extra={"distance": float(group.far[mine].mean()), "null": 1 / ways},
        )  # fmt: skip


def _points(groups: tuple[Group, ...], items: tuple[str, ...]) -> pd.DataFrame:
    """One row a group and category: its place in the plane."""
    return pd.concat(
        [
            pd.DataFrame(
                {"condition": group.label, "item_id": items, RECOGNISABILITY: group.found(RECOGNISABILITY).values,
                 DIVERSITY: group.found(DIVERSITY).values,
                 "drawings": np.bincount(group.category, minlength=len(items)), "people": group.people}
            )
            for group in groups
        ],
        ignore_index=True,
    )  # fmt: skip


def _method(critic: Critic, permutations: int, samples: int, level: float) -> str:
    return (
        f"Two critics are frozen: neither learns anything from the drawings. Drawings are centred and scaled to one size. "
        f"Recognisability is the probability that a drawing is nearer to a drawing of its own category than to those of "
        f"{critic.ways - 1} others (one example each, {critic.episodes} draws of {REFERENCES[1]} that nobody was shown), in features "
        f"of contours by orientation and place; chance is 1/{critic.ways}. Diversity is the standard deviation with Bessel's "
        f"correction of a category's drawings in features of where their ink lies. Both are averaged over {len(critic.items)} "
        f"categories. The null shuffles categories within each person (over the samples of a model), {permutations} times, seed "
        f"{critic.seed}. Intervals of {level:.0%} are t intervals with variances over people and over categories by a two-way "
        f"jackknife; a model's are over categories and samples. Controls are made by rule, {samples} samples an exemplar, and are "
        f"marks in the plane, not models: the copier draws the exemplar again, the bender varies it as categories vary, the wild "
        f"bender three times as much, the stranger draws another category, the generator draws the category itself. The distance to "
        f"people (of the first condition) is taken after z-scoring both axes over all groups. Originality is the distance from the "
        f"exemplar in the features of diversity, in quarters."
    )
