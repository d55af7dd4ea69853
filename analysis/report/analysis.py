"""Everything a report shows, before it is drawn: the analyses of a study, its sample flow, and what must be warned of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from .. import format as write
from ..answers import answer
from ..battery import UTILITY, Battery, analysis_of, flagged, primary_results, run_battery
from ..battery.utility import FORMULA, link_scores
from ..exclusions import flow, with_and_without
from ..load.study import Study
from ..results import Result

FEW = 10


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """Everything a report shows, before it is drawn.

    Attributes
    ----------
    exclusions : DataFrame
        Of a study of Utility: each condition after the exclusions and without any; else empty.
    everyone : Result or None
        The primary analysis with the excluded people back in; None if nobody was excluded.
    """

    study: Study
    battery: Battery
    results: Mapping[str, Result]
    flow: pd.DataFrame
    exclusions: pd.DataFrame
    everyone: Result | None
    scores: pd.DataFrame | None
    warnings: tuple[str, ...]
    answer: str
    further: str

    @property
    def utility(self) -> bool:
        """Whether the study asks how useful explanations are."""
        return "utility" in self.results

    @property
    def excluded(self) -> int:
        """How many people were excluded, a person who failed two checks counted twice."""
        return int(self.flow.loc[self.flow["step"].str.startswith("excluded"), "all"].sum())

    @property
    def shown(self) -> list[str]:
        """Conditions with somebody to analyse, in the order of the report."""
        present = set(self.study.answers()["condition"])
        return [name for name in self.study.conditions if name in present]


def analyse(study: Study, scores: pd.DataFrame | None = None) -> Analysed:
    """Run every analysis of a study; nothing is drawn or written.

    Parameters
    ----------
    study : Study
    scores : DataFrame, optional
        Bench score table, to be linked to Utility.

    Raises
    ------
    LimenError
        If the primary analysis refuses the table.
    """
    battery = run_battery(study)
    results, warnings = dict(battery.results), _warnings(study, battery)
    if scores is not None:
        linked, reason = link_scores(scores, study, results)
        if linked is not None:
            results["link"] = linked
        if reason:
            warnings.append(reason)
    told = answer(study, battery)
    return Analysed(
        study=study,
        battery=battery,
        results=results,
        flow=flow(study),
        exclusions=with_and_without(study, FORMULA) if "utility" in results else pd.DataFrame(),
        everyone=_everyone(study),
        scores=scores,
        warnings=tuple(warnings),
        answer=told.sentence,
        further=told.further,
    )


def _everyone(study: Study) -> Result | None:
    trials = study.answers(exclusions=False)
    if trials["participant_id"].nunique() == study.answers()["participant_id"].nunique():
        return None
    return next(iter(primary_results(study, exclusions=False)[0].values()))


def _warnings(study: Study, battery: Battery) -> list[str]:
    found = list(study.warnings)
    if study.simulated:
        found.insert(0, "These responses come from simulated observers, not from people.")
    found += flagged(battery.results.values())
    trials = study.answers()
    if study.groups:
        sizes = trials.groupby("condition")["participant_id"].nunique()
        small = [f"{name} ({sizes[name]})" for name in study.groups if name in sizes and sizes[name] < FEW]
        if small:
            found.append(
                f"Fewer than {FEW} participants in {write.listing(small)}: every interval there is a rough one."
            )
        empty = [name for name in study.groups if name not in sizes]
        if empty:
            found.append(f"No participant is left to analyse in {write.listing(empty)}.")
    elif trials["participant_id"].nunique() < FEW:
        found.append(f"Fewer than {FEW} participants: every interval is a rough one.")
    if study.card.get("analysis") == UTILITY and analysis_of(study) != UTILITY:
        found.append(
            "Only one condition has people, so accuracy is compared with chance alone and there is no Utility."
        )
    return [*found, *battery.warnings]
