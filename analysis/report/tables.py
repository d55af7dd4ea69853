"""The tables of a report: those of each result, and those of the sample, the items and the exclusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .. import tables
from ..battery.references import reference_condition
from ..results import Result
from ..tables import Table
from ..tables import results as tables_results
from ..tables import scores as tables_scores
from .analysis import Analysed
from .figures import seen

OWN = ("participant_means", "item_means", "mixed_model", "cluster_glm", "utility", "model_split", "anova", "link")
"""Results with tables of their own kind."""


def make_tables(analysed: Analysed) -> dict[str, tuple[Table, ...]]:
    """Make the tables of each part of the page.

    Returns
    -------
    dict
        'flow', 'exclusions', 'primary', 'companion', 'items', 'leaderboard' and the name of each result -> its tables; a
        table without rows is left out.
    """
    found: dict[str, list[Table]] = {
        "flow": [tables.flow_table(analysed.flow, analysed.study.groups)],
        "primary": _primary(analysed),
        "companion": _companion(analysed),
        "exclusions": _exclusions(analysed),
    }
    if "item_means" in analysed.results:
        found["items"] = [tables.item_table(analysed.results["item_means"])]
    if "participant_means" in analysed.results:
        found["participants"] = _participants(analysed)
    found |= _of_utility(analysed) if analysed.utility else {}
    if analysed.scores is not None:
        found["leaderboard"] = [tables_scores.leaderboard_table(analysed.scores)]
    primary = next(iter(analysed.results))
    for name, result in analysed.results.items():
        if name not in OWN and name != primary:
            found[name] = of_result(result, prefix=name)
    return {part: tuple(one for one in made if one.rows) for part, made in found.items()}


def unique(made: Mapping[str, Iterable[Table]]) -> list[Table]:
    """List every table once, in the order of the page."""
    return list({table.name: table for parts in made.values() for table in parts}.values())


def of_result(result: Result, *, prefix: str) -> list[Table]:
    """Make the tables of any result: what was tested, what was estimated, the terms."""
    title = result.title
    return [
        tables_results.estimate_table(tables_results.tested(result), name=f"{prefix}_tests", caption=f"{title}: tests"),
        tables_results.estimate_table(
            tables_results.described(result), name=f"{prefix}_estimates", caption=f"{title}: estimates"
        ),
        tables_results.term_table(result, name=f"{prefix}_terms"),
    ]


def _primary(analysed: Analysed) -> list[Table]:
    primary = analysed.battery.primary
    if analysed.utility:
        caption = f"Each condition against {_reference(analysed)} (primary)"
        return [
            tables.contrast_table(primary, name="contrasts", caption=caption),
            tables_results.dropped_table(primary),
        ]
    return [
        tables_results.estimate_table(
            tables_results.tested(primary), name="contrasts", caption="Planned contrasts (primary)"
        ),
        tables_results.estimate_table(
            tables_results.described(primary), name="estimates", caption="Estimates (primary)"
        ),
        tables_results.term_table(primary, name="terms"),
        tables_results.dropped_table(primary),
    ]


def _reference(analysed: Analysed) -> str:
    study = analysed.study
    name = reference_condition(study, study.answers())
    return "the baseline" if name == study.baseline else name


def _companion(analysed: Analysed) -> list[Table]:
    if analysed.battery.companion:
        caption = "The same contrasts by the clustered regression"
        found = analysed.results[analysed.battery.companion]
        return [tables.contrast_table(found, name="companion", caption=caption)]
    if analysed.utility:
        return []
    return [tables_results.companion_table(analysed.battery.primary)]


def _exclusions(analysed: Analysed) -> list[Table]:
    if analysed.everyone is None:
        return [tables.exclusion_table(analysed.exclusions)] if analysed.utility else []
    if not analysed.utility:
        return [tables_results.changed_table(analysed.battery.primary, analysed.everyone)]
    caption = f"Each condition against {_reference(analysed)}, nobody excluded"
    return [
        tables.exclusion_table(analysed.exclusions),
        tables.contrast_table(analysed.everyone, name="contrasts_everyone", caption=caption),
    ]


def _participants(analysed: Analysed) -> list[Table]:
    means = analysed.results["participant_means"]
    # A reveal round without an oracle has no right answer, so a condition may be without any.
    judged = {one.label for one in means.estimates if one.quantity == "accuracy"}
    order = tuple(name for name in analysed.shown if name in judged)
    found = [tables.accuracy_table(means, order)]
    if analysed.study.answers()["session"].nunique() > 1:
        found.append(tables.session_table(means, order, seen=seen(analysed)))
    return found


def _of_utility(analysed: Analysed) -> dict[str, list[Table]]:
    results, order = analysed.results, analysed.shown
    found = {
        "utility": [tables.utility_table(results["utility"], order, str(analysed.study.baseline))],
        "anova": [tables.omnibus_table(results["anova"]), tables.comparison_table(results["anova"])],
    }
    if results["model_split"].estimates:
        found["model_split"] = [tables.split_table(results["model_split"], order)]
    if "link" in results:
        linked = results["link"]
        found["link"] = [] if linked.flags else [tables_scores.link_table(linked)]
        found["link_points"] = [tables_scores.link_points_table(linked)]
    return found
