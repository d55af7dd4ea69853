"""The analyses of the utility protocol: primary, companion, Utility itself, the split by the model's answer, the link to scores."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from .. import format as write
from ..load.study import Study
from ..models.anova import anova
from ..models.cluster_glm import cluster_glm
from ..models.item_means import item_means
from ..models.link import EXACT_UP_TO, FEWEST, link, smallest_p
from ..models.mixed_model import flag_disagreement, mixed_model
from ..models.model_split import model_split
from ..models.participant_means import participant_means
from ..models.utility import Formula, bootstrap_utilities, groups_of, utility
from ..results import Estimate, Result

FORMULA: Formula = "ratio_of_means"
RESAMPLES = 2000


def primary_and_companion(trials: pd.DataFrame, baseline: str) -> tuple[dict[str, Result], str]:
    """Run the mixed model and, beside it, the clustered regression, which is primary where the mixed model failed.

    Returns
    -------
    dict, str
        Name -> result, the primary first, and the name of the companion, '' where it stands in for the primary.
    """
    mixed = mixed_model(trials, baseline=baseline)
    if not mixed.of("accuracy difference"):
        stand_in = cluster_glm(trials, baseline=baseline, role="primary")
        return {"cluster_glm": stand_in, "mixed_model": mixed}, ""
    companion = cluster_glm(trials, baseline=baseline, role="companion")
    return {"mixed_model": flag_disagreement(mixed, companion), "cluster_glm": companion}, "cluster_glm"


def utility_results(study: Study) -> dict[str, Result]:
    """Run what describes a utility study beside its primary test."""
    trials, base = study.answers(), str(study.baseline)
    return {
        "participant_means": participant_means(trials, baseline=base),
        "utility": utility(trials, baseline=base, bootstrap=RESAMPLES),
        "model_split": model_split(trials, baseline=base),
        "anova": anova(trials, baseline=base),
        "item_means": item_means(trials),
    }


def default_utilities(result: Result) -> list[Estimate]:
    """Return the Utilities of the default formula with their log-delta intervals."""
    return [item for item in result.of(f"utility ({FORMULA})") if item.interval == "log-delta"]


def link_scores(scores: pd.DataFrame, study: Study, results: Mapping[str, Result]) -> tuple[Result | None, str]:
    """Put scores beside Utility.

    Returns
    -------
    Result or None, str
        The link, and a sentence of what is to be known about it, '' if nothing is.
    """
    if "utility" not in results:
        return None, "The study has no Utility, so the score table was not linked to it."
    utilities, trials, baseline = results["utility"], study.answers(), str(study.baseline)
    scores = scores[scores["label"].isin({item.label for item in utilities.estimates})]
    sets = scores[["network", "images"]].drop_duplicates()
    if scores.duplicated(["network", "images", "label", "metric"]).any():
        return None, "The score table has several rows of one method and metric, so scores were not linked to Utility."
    if len(sets) > 1:
        names = "; ".join(f"{row.network} on {row.images}" for row in sets.itertuples())
        return (
            None,
            f"The score table holds {len(sets)} pairs of network and images ({names}), so scores were not linked to Utility.",
        )
    known = [item for item in default_utilities(utilities) if math.isfinite(item.value)]
    frame = pd.DataFrame({"condition": [i.label for i in known], "utility": [i.value for i in known]})
    if not set(frame["condition"]) & set(scores["label"]):
        return None, "No method of the score table is a condition of the study, so scores were not linked to Utility."
    groups, k_seen, _ = groups_of(trials, baseline)
    samples: dict[str, np.ndarray] = {}
    if min(group.n for group in groups.values()) > 1:
        samples = bootstrap_utilities(groups, baseline, FORMULA, k_seen, draws=RESAMPLES, seed=0)
    result = link(scores, frame, samples=samples)
    return result, _few_methods(result.facts["methods"])


def _few_methods(n: int) -> str:
    if n < FEWEST:
        return f"Scores and Utility meet in only {write.count(n, 'method')}, so no coefficient is given."
    if n <= EXACT_UP_TO:
        return (
            f"Scores and Utility meet in only {n} methods: the smallest p an exact test can reach is "
            f"{write.p_value(smallest_p(n))}, and intervals over methods are wide."
        )
    return ""
