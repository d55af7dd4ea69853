"""What reading gives: the validated responses of one study, and what a tidy table may leave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from bench.config import Frozen
from psychophysics_server.records import SIMULATED

KEYS = ("participant_id", "condition", "item_id", "correct")
"""Columns that the usual analyses need."""
DEFAULTS: dict[str, Any] = {
    "session": 1,
    "phase": "test",
    "is_catch": False,
    "k_seen": np.nan,
    "model_correct": np.nan,
    "rt_ms": np.nan,
    "excluded": False,
    "exclusion_reason": "",
    "source": "unknown",
    "expected": "",
    "repeat_of": "",
    "study": "",
    "study_version": "",
    "stimuli": "",
}
"""What a tidy table may leave out, and what then stands in its place."""
IDENTITY = ("row_id", "trial_id", "seq", "attempt")
"""Columns that tell one answer from another; used to find duplicates."""
KNOWN = (
    "response",
    "option_position",
    "expected_position",
    "confidence",
    "number",
    "timed_out",
    "list",
    "block",
    "position",
)
"""Further columns of an export that an analysis may read from a tidy table."""
FIRST = ("baseline", "control")


class ColumnMap(Frozen):
    """What `--columns` holds: our column name -> the table's, and what the table cannot say."""

    columns: dict[str, str]
    conditions: tuple[str, ...] = ()
    """Every condition that may occur, in the order of the report; any if empty."""
    baseline: str | None = None
    study: str = ""
    chance: float | None = Field(default=None, gt=0, lt=1)
    analysis: str | None = None
    """Registered analysis that answers the question; `utility` by default where people were put in conditions."""
    formula: str | None = None
    """Its model, where the analysis is `crossed`: `response ~ factors + (1|participant) + (1|item)`."""
    hypothesis: str = ""
    within: bool | None = None
    """Whether each person met several conditions; told by the table if not said."""


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file that was read: provenance of the report."""

    name: str
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Study:
    """The validated responses of one version of one study.

    Attributes
    ----------
    trials : DataFrame
        Every row of the table with the columns of `KEYS` and `DEFAULTS`, and whatever else the table has (an export:
        all of `ResponseRow` and the design's factors under their own names); also rows of excluded people.
    sessions : DataFrame
        One row a participant: `participant_id, condition, source, state, consented, finished, excluded, exclusion_reason`.
    baseline : str or None
        The condition others are compared with; None where there is none.
    source : str
        The kind of observer that is analysed; kinds are never pooled.
    chance : float or None
        Accuracy of guessing among the answers, None if neither card nor table tells, or nothing is right or wrong.
    card : mapping
        The protocol's card, as the stimulus set froze it; of a tidy table what its column map says, else empty.
    plan : mapping
        The frozen pre-registration, empty if there is none.
    within : bool
        Whether people met several conditions, so that conditions do not divide people.
    folder : str
        Where an export lies; '' for a tidy table.
    samples : tuple of str
        Files of models' drawings that stand beside people's.
    """

    name: str
    version: str
    trials: pd.DataFrame
    sessions: pd.DataFrame
    conditions: tuple[str, ...]
    baseline: str | None
    source: str
    chance: float | None
    provenance: Mapping[str, Any]
    files: tuple[InputFile, ...]
    warnings: tuple[str, ...] = ()
    card: Mapping[str, Any]
    plan: Mapping[str, Any]
    within: bool = False
    folder: str = ""
    samples: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether the analysed answers come from simulated observers."""
        return self.source in SIMULATED

    @property
    def protocol(self) -> str:
        """Name of the protocol, '' if it is not known."""
        return str(self.card.get("name", ""))

    @property
    def scored(self) -> bool:
        """Whether answers are right or wrong; else every test answer counts."""
        return self._any_scored and not ("chance" in self.card and self.card["chance"] is None)

    @cached_property
    def _any_scored(self) -> bool:
        return bool(self.trials.loc[self.trials["phase"] == "test", "correct"].notna().any())

    @property
    def groups(self) -> tuple[str, ...]:
        """Conditions that divide people, in order; none where everyone met several."""
        return () if self.within else self.conditions

    def answers(
        self, *, exclusions: bool = True, scored: bool | None = None, source: str | None = None
    ) -> pd.DataFrame:
        """Return the test answers to analyse: one source, finished people, no catch trials, nothing shown again.

        Parameters
        ----------
        exclusions : bool
            False keeps the people whom the study's checks exclude.
        scored : bool, optional
            Whether to leave out answers that are neither right nor wrong (ratings, descriptions); by default they are
            left out where the study has answers that are right or wrong at all.
        source : str, optional
            The kind of observer; by default the one that is analysed.
        """
        people = self.sessions[(self.sessions["source"] == (source or self.source)) & self.sessions["finished"]]
        if exclusions:
            people = people[~people["excluded"]]
        trials = self.trials
        keep = trials["participant_id"].isin(people["participant_id"]) & (trials["phase"] == "test")
        keep &= ~trials["is_catch"] & (trials["repeat_of"] == "")
        if self.scored if scored is None else scored:
            keep &= trials["correct"].notna()
        return trials[keep].reset_index(drop=True)
