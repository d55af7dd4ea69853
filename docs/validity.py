"""Measure coverage and false positives of the recommended analysis by simulation, and write docs/validity.md (`make validity`).

python docs/validity.py                       # 500 data sets a row: minutes on two cores
python docs/validity.py --secondary 200       # fewer of the secondary analyses: the page as it stands
python docs/validity.py --sets 20 --output x.md
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import validity_measures
from scipy import special, stats

from analysis.mixed_models import mixedlm

PAGE = Path(__file__).with_name("validity.md")
INTERCEPTS = "correct ~ condition * (first + second) + (1 | participant) + (1 | item)"
SLOPE = INTERCEPTS + " + (0 + condition | item)"
SIZES = {"60 participants, 24 items": (60, 24), "160 participants, 60 items": (160, 60)}
SDS = (0.6, 0.7, 0.4)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
EFFECTS = {
    "condition": "condition (between participants, within items)",
    "first": "layer (within participants, between items)",
    "condition:first": "condition x layer",
    "difference": "accuracy difference between conditions",
}
METHODS = {
    "mixed": "mixed model, by-item slope",
    "intercepts": "mixed model, intercepts only",
    "two-way": "GLM, two-way cluster-robust",
}
INTRO = """# Validity of the recommended analysis

Written by `make validity`: {sets} simulated data sets a row. Each person answers 40 two-alternative trials about a part of the
items; condition differs between participants and within items, layer (three) within participants and between items. Standard
deviations on the log-odds scale: participant 0.6, item 0.7, condition by item 0.4. The mixed model has the slope that the rule of
`limen analyze` starts from, never dropped, and unit-based degrees of freedom; the GLM is written out here; the intervals are nominal 95 %, the tests at 5 %. Behind each rate stands
its own 95 % interval (Wilson): with {sets} data sets, rates in this range cannot be told from each other.

The GLM's log-odds are marginal and are held against the marginal truth; the accuracy difference is the same for all.
"""


def simulate(people: int, items: int, effects: np.ndarray, seed: int) -> pd.DataFrame:
    """Make one data set; `effects` are intercept, condition, two layers against the first, and their interactions."""
    draws = np.random.default_rng(seed)
    u, v, s = (sd * draws.normal(size=n) for sd, n in zip(SDS, (people, items, items), strict=True))
    rows = []
    for person in range(people):
        # Every layer as often as 40 trials allow, each item at most once more than another of its layer.
        order = np.concatenate([draws.permutation(items) for _ in range(-(-40 // items))])[:40]
        rows.append(pd.DataFrame({"participant": person, "item": order}))
    data = pd.concat(rows, ignore_index=True)
    data["condition"] = np.where(data["participant"] % 2 == 1, 0.5, -0.5)
    # Centred contrasts of three layers: each effect is the average over the other factor.
    layer = data["item"].to_numpy() % 3
    data["first"], data["second"] = contrasts()[layer].T
    linear = design(data) @ effects + u[data["participant"]] + v[data["item"]] + s[data["item"]] * data["condition"]
    data["correct"] = (draws.uniform(size=len(data)) < special.expit(linear)).astype(int)
    return data


def contrasts() -> np.ndarray:
    """Return two centred contrasts of three layers, (3, 2): the second and the third against the first."""
    return np.array([[-1, -1], [2, -1], [-1, 2]]) / 3


def design(data: pd.DataFrame) -> np.ndarray:
    """Return the fixed columns (N, 6) in the order of the formula."""
    c, a, b = (data[name].to_numpy() for name in ("condition", "first", "second"))
    return np.column_stack([np.ones(len(data)), c, a, b, c * a, c * b])


def truths(effects: np.ndarray) -> dict[str, dict[str, float]]:
    """Return what each method estimates: conditional log-odds, marginal log-odds, and the accuracy difference."""
    cells = pd.DataFrame(
        [(c, *contrasts()[layer]) for c in (-0.5, 0.5) for layer in range(3)], columns=["condition", "first", "second"]
    )
    linear = design(cells) @ effects
    spread = np.sqrt(SDS[0] ** 2 + SDS[1] ** 2 + 0.25 * SDS[2] ** 2)
    shares = WEIGHTS / WEIGHTS.sum()
    accuracy = special.expit(linear[:, None] + spread * NODES) @ shares
    marginal = np.linalg.solve(design(cells), special.logit(accuracy))
    gap = float(accuracy[3:].mean() - accuracy[:3].mean())
    names = ["intercept", "condition", "first", "second", "condition:first", "condition:second"]
    conditional = dict(zip(names, effects, strict=True)) | {"difference": gap}
    return {
        "mixed": conditional,
        "intercepts": conditional,
        "two-way": dict(zip(names, marginal, strict=True)) | {"difference": gap},
    }


def intervals(data: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return low, high and p of each method and effect; nothing where a fit failed."""
    found: dict[tuple[str, str], tuple[float, float, float]] = {}
    for method, formula in (("mixed", SLOPE), ("intercepts", INTERCEPTS)):
        results = mixedlm(formula, data, family="binomial").fit()
        if not results.converged:
            continue
        for effect in ("condition", "first", "condition:first"):
            one = results.t_test(effect)
            found[method, effect] = one.low, one.high, one.p
        gap = results.margins("condition").contrast({-0.5: -1, 0.5: 1})
        found[method, "difference"] = gap["low"], gap["high"], gap["p"]
    found |= two_way(data)
    return found


def two_way(data: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the same of the cluster-robust GLM, by its own formula: it must not lean on the code it is beside."""
    x, y = design(data), data["correct"].to_numpy(dtype=float)
    beta = np.zeros(x.shape[1])
    for _ in range(30):
        mean = special.expit(x @ beta)
        bread = np.linalg.inv((x * (mean * (1 - mean))[:, None]).T @ x)
        beta = beta + bread @ x.T @ (y - mean)
    scores = x * (y - mean)[:, None]
    pairs = data["participant"] * 10_000 + data["item"]
    meat = _meat(scores, data["participant"]) + _meat(scores, data["item"]) - _meat(scores, pairs)
    values, vectors = np.linalg.eigh(bread @ meat @ bread)
    covariance = vectors @ np.diag(np.maximum(values, 0)) @ vectors.T
    df = min(data["participant"].nunique(), data["item"].nunique()) - 1
    cells = pd.DataFrame(
        [(c, *contrasts()[layer]) for c in (-0.5, 0.5) for layer in range(3)], columns=["condition", "first", "second"]
    )
    accuracy = special.expit(design(cells) @ beta)
    slopes = (accuracy * (1 - accuracy))[:, None] * design(cells)
    gradient = slopes[3:].mean(axis=0) - slopes[:3].mean(axis=0)
    rows = {"condition": np.eye(6)[1], "first": np.eye(6)[2], "condition:first": np.eye(6)[4]}
    found = {}
    for effect, row in (*rows.items(), ("difference", gradient)):
        value = float(row @ beta) if effect != "difference" else float(accuracy[3:].mean() - accuracy[:3].mean())
        error = float(np.sqrt(row @ covariance @ row))
        half = float(stats.t.ppf(0.975, df)) * error
        found["two-way", effect] = value - half, value + half, float(2 * stats.t.sf(abs(value) / error, df))
    return found


def _meat(scores: np.ndarray, groups: pd.Series) -> np.ndarray:
    codes, levels = pd.factorize(groups)
    sums = np.array([np.bincount(codes, column, len(levels)) for column in scores.T]).T
    n, k, g = len(scores), scores.shape[1], len(levels)
    return g / (g - 1) * (n - 1) / (n - k) * sums.T @ sums


def one(size: tuple[int, int], effects: np.ndarray, seed: int) -> dict[tuple[str, str], tuple[float, float, float]]:
    return intervals(simulate(*size, effects, seed))


def rate(hits: int, n: int) -> str:
    """Write a rate with its Wilson interval."""
    if not n:
        return "-"
    low, high = stats.binomtest(hits, n).proportion_ci(method="wilson")
    return f"{hits / n:.3f} [{low:.3f}, {high:.3f}]"


def table(sets: int, pool: ProcessPoolExecutor) -> str:
    """Return the page's tables."""
    effect = np.array([0.65, 0.57, 0.2, 0.35, 0.15, 0.35])
    none = np.array([0.65, 0, 0, 0, 0, 0])
    text = ""
    for title, effects, judged in (
        ("Coverage of 95 % intervals", effect, "coverage"),
        ("False positives at 5 %", none, "false"),
    ):
        text += f"\n## {title}\n"
        for label, size in SIZES.items():
            found = list(pool.map(partial(one, size, effects), range(sets), chunksize=4))
            text += f"\n### {label}\n\n| method | {' | '.join(EFFECTS.values())} | fits |\n|---|" + "---:|" * 5 + "\n"
            for method, shown in METHODS.items():
                cells = [count(found, method, name, truths(effects)[method], judged) for name in EFFECTS]
                fits = sum((method, "condition") in row for row in found)
                text += f"| {shown} | {' | '.join(cells)} | {fits} of {sets} |\n"
    return text


def count(
    found: list[dict[tuple[str, str], tuple[float, float, float]]],
    method: str,
    effect: str,
    truth: Mapping[str, float],
    judged: str,
) -> str:
    rows = [row[method, effect] for row in found if (method, effect) in row]
    if judged == "coverage":
        return rate(sum(low <= truth[effect] <= high for low, high, _ in rows), len(rows))
    return rate(sum(p < 0.05 for _, _, p in rows), len(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument(
        "--secondary", type=int, help="data sets of the secondary analyses, which cost most; default --sets"
    )
    parser.add_argument(
        "--only-secondary", action="store_true", help="leave the tables above them on the page as they are"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=PAGE)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        secondary = validity_measures.page(given.secondary or given.sets, pool)
        if given.only_secondary:
            above = given.output.read_text(encoding="utf-8").partition(secondary.splitlines()[1])[0].rstrip("\n") + "\n"
        else:
            above = INTRO.format(sets=given.sets) + table(given.sets, pool)
        page = above + secondary
    given.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
