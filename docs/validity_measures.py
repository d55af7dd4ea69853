"""Coverage and false positives of the secondary analyses by simulation: part of docs/validity.py, which writes the page."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.measures.clustered import superiority
from analysis.measures.cumulative import cumulative_logit
from analysis.models.calibration import calibration
from analysis.models.detection import detection
from analysis.models.learning import learning
from analysis.models.ordinal import ordinal
from analysis.models.reaction_time import reaction_time

Interval = tuple[float, float, float]
Found = dict[str, tuple[Interval, float]]
"""Quantity -> its interval and p, and the truth."""
CUTS = np.array([-1.0, 0.0, 0.8, 2.0])
SURE = np.array([0.55, 0.65, 0.75, 0.85, 0.95])
INTRO = """
## Secondary analyses

{sets} data sets a row, each analysed by the registered analysis as a report does. Response times: 24 people and 20 items,
everyone in both conditions, SDs of log time .3 and .2, of a person's own effect .1, ratio 1.2. Learning: 40 people between two
conditions, 24 items in three sessions, log-odds that rise by .4 and 1.2. Sensitivity: 24 people in both conditions, 120
yes-no trials each, d' of 1 and 1.5 (SD .3, of its change .2). Ratings: 40 people between two conditions, 12 items, five
levels, log-odds .6 apart (SDs .7 and .5); superiority and the marginal odds ratio are held against what 100,000 people would
give, the items drawn anew, the mixed model's against the log-odds themselves. Confidence: 30
people, 40 answers each, .08 overconfident (SD .05). A false positive is p < .05 where the effect is 0; of the calibration
error it is that of the floor (answers right exactly as often as the confidence says).
"""


def times(seed: int, effect: float) -> Found:
    """Ratio of response times; effect 1 is a ratio of 1.2."""
    draws = np.random.default_rng(seed)
    people, items = 24, 20
    truth = effect * np.log(1.2)
    own, ease, slope = draws.normal(0, 0.3, people), draws.normal(0, 0.2, items), draws.normal(0, 0.1, people)
    rows = [(f"p{p}", f"i{i}", "ab"[k], 7 + own[p] + ease[i] + (truth + slope[p]) * (k - 0.5))
            for p in range(people) for i in range(items) for k in (0, 1)]  # fmt: skip
    data = pd.DataFrame(rows, columns=["participant_id", "item_id", "condition", "log"])
    data["rt_ms"] = np.exp(data["log"] + draws.normal(0, 0.35, len(data)))
    item = reaction_time(data).of("response time ratio of condition")[0]
    return {"response time ratio": ((item.low, item.high, item.p), float(np.exp(truth)))}


def rises(seed: int, effect: float) -> Found:
    """Difference of gains over sessions."""
    draws = np.random.default_rng(seed)
    own, ease = draws.normal(0, 0.5, 40), draws.normal(0, 0.4, 24)
    rise = np.array([0.4, 0.4 + 0.8 * effect])
    rows = [(f"p{p}", f"i{i}", ("baseline", "maps")[p % 2], 1 + i % 3, 0.3 + own[p] + ease[i] + rise[p % 2] * (i % 3 - 1) / 2)
            for p in range(40) for i in range(24)]  # fmt: skip
    data = pd.DataFrame(rows, columns=["participant_id", "item_id", "condition", "session", "logit"])
    data["correct"] = (draws.random(len(data)) < special.expit(data["logit"])) * 1.0
    item = learning(data).of("accuracy gain difference")[0]
    gains = [_population(0.3 + r / 2) - _population(0.3 - r / 2) for r in rise]
    return {"difference of accuracy gains": ((item.low, item.high, item.p), gains[1] - gains[0])}


def _population(linear: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    return float(special.expit(linear + np.hypot(0.5, 0.4) * nodes) @ weights / weights.sum())


def sensitivity(seed: int, effect: float) -> Found:
    """Difference of d' within people."""
    draws = np.random.default_rng(seed)
    rows = []
    for p in range(24):
        own, change = draws.normal(1, 0.3), 0.5 * effect + draws.normal(0, 0.2)
        for name, d in (("baseline", own), ("maps", own + change)):
            there = draws.integers(0, 2, 120)
            said = d * (there - 0.5) + draws.normal(size=120) > 0.2
            rows.append(pd.DataFrame({"participant_id": f"p{p}", "condition": name, "expected": np.where(there, "yes", "no"),
                                      "response": np.where(said, "yes", "no")}))  # fmt: skip
    item = detection(pd.concat(rows, ignore_index=True), signal="yes").of("d prime difference")[0]
    return {"difference of d'": ((item.low, item.high, item.p), 0.5 * effect)}


def _ratings(draws: np.random.Generator, people: int, items: int, effect: float, each: int = 12) -> pd.DataFrame:
    who, what = np.repeat(np.arange(people), each), np.tile(np.arange(each), people) % items
    if items > each:
        what = draws.integers(0, items, people * each)
    latent = draws.normal(0, 0.7, people)[who] + draws.normal(0, 0.5, items)[what] + 0.6 * effect * (who % 2)
    return pd.DataFrame({"participant_id": who, "item_id": what, "condition": np.where(who % 2, "maps", "baseline"),
                         "rating": 1.0 + np.digitize(latent + draws.logistic(size=len(who)), CUTS)})  # fmt: skip


@cache
def _rating_truth(effect: float) -> tuple[float, float]:
    """Return the superiority and the odds ratio that 100,000 people and as many items would give."""
    data = _ratings(np.random.default_rng(1), 100_000, 100_000, effect, each=1)
    sides = [data[data["condition"] == name] for name in ("maps", "baseline")]
    above = superiority(
        *(side["rating"].to_numpy() for side in sides), *(side["participant_id"].to_numpy() for side in sides)
    )
    x = pd.DataFrame({"maps": (data["condition"] == "maps") * 1.0})
    fit = cumulative_logit(x, data["rating"].to_numpy(), [data["participant_id"].to_numpy()])
    return (above.value, float(np.exp(fit.effects["maps"]))) if effect else (0.5, 1.0)


def ratings(seed: int, effect: float) -> Found:
    """Superiority and cumulative odds ratios, of the mixed model and marginal, between people."""
    result = ordinal(_ratings(np.random.default_rng(seed), 40, 12, effect))
    above, odds = _rating_truth(effect)
    items = (
        ("probability of superiority", above), ("odds ratio", float(np.exp(0.6 * effect))), ("marginal odds ratio", odds)
    )  # fmt: skip
    return {f"ratings, {name}": ((one.low, one.high, one.p), truth) for name, truth in items for one in result.of(name)}


def confidence(seed: int, effect: float) -> Found:
    """Calibration error against its truth, its floor, overconfidence, and the type-2 AUC of confidence that tells nothing."""
    draws = np.random.default_rng(seed)
    who, sure = np.repeat(np.arange(30), 40), draws.choice(SURE, 1200)
    chance = np.clip(sure - effect * (0.08 + draws.normal(0, 0.05, 30)[who]), 0, 1)
    data = pd.DataFrame({"participant_id": who, "condition": "all", "confidence": 100 * sure})
    result = calibration(data.assign(correct=(draws.random(1200) < chance) * 1.0), resamples=199, seed=seed)
    error, over = result.of("calibration error")[0], result.of("overconfidence")[0]
    blind = calibration(data.assign(correct=(draws.random(1200) < 0.7) * 1.0), resamples=1, seed=seed).of("type-2 AUC")[
        0
    ]
    return {
        "calibration error": ((error.low, error.high, error.extra["floor_p"]), 0.08 * effect),
        "overconfidence": ((over.low, over.high, over.p), 0.08 * effect),
        "type-2 AUC of confidence that tells nothing": ((blind.low, blind.high, blind.p), 0.5),
    }


STUDIES: tuple[Callable[[int, float], Found], ...] = (times, rises, sensitivity, ratings, confidence)


def rate(hits: int, n: int) -> str:
    """Write a rate with its Wilson interval."""
    low, high = stats.binomtest(hits, n).proportion_ci(method="wilson")
    return f"{hits / n:.3f} [{low:.3f}, {high:.3f}]"


def page(sets: int, pool: ProcessPoolExecutor) -> str:
    """Return the section of the page."""
    text = (
        INTRO.format(sets=sets)
        + "\n| quantity | coverage with the effect | coverage without | false positives |\n|---|---:|---:|---:|\n"
    )
    for study in STUDIES:
        there = list(pool.map(partial(study, effect=1.0), range(sets), chunksize=4))
        none = list(pool.map(partial(study, effect=0.0), range(sets), chunksize=4))
        for name in there[0]:
            cells = []
            for rows in (there, none):
                kept = [row[name] for row in rows if name in row and np.isfinite(row[name][0][0])]
                cells.append(rate(sum(low <= truth <= high for (low, high, _), truth in kept), len(kept)))
            tests = [row[name][0][2] for row in none if name in row and np.isfinite(row[name][0][2])]
            cells.append(rate(sum(p < 0.05 for p in tests), len(tests)))
            text += f"| {name} | {' | '.join(cells)} |\n"
    return text
