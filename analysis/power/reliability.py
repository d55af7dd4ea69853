"""Players an image needs: the reliability of a map pooled over people, by Spearman and Brown's formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.registry import LimenError

AGREEMENTS = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Agreements of two players that are tabled where no pilot gives one."""


@dataclass(frozen=True, kw_only=True)
class Players:
    """How many players an image needs.

    Attributes
    ----------
    agreement : correlation of two single players' maps of one image
    target : reliability that the pooled map is to have
    needed : fewest players that reach it
    reached : reliability with as many
    planned : reliability with the players that the study file plans, NaN where it names none
    """

    agreement: float
    target: float
    needed: int
    reached: float
    planned: float


def pooled_reliability(agreement: float, players: float) -> float:
    """Return the correlation of the mean maps of two groups of as many players: n r / (1 + (n - 1) r).

    References
    ----------
    Spearman 1910, doi:10.1111/j.2044-8295.1910.tb00206.x; Brown 1910, doi:10.1111/j.2044-8295.1910.tb00207.x.
    """
    return players * agreement / (1 + (players - 1) * agreement)


def agreement_of(ceiling: float, players: float) -> float:
    """Return what two single players agree, from the split-half ceiling of a pilot with so many players an image.

    Raises
    ------
    LimenError
        If the ceiling is not between 0 and 1, or there are fewer than two players.
    """
    if not 0 < ceiling < 1 or players < 2:
        raise LimenError(
            f"power, reliability: given a ceiling of {ceiling:g} of {players:g} players; allowed are numbers between 0 and 1 "
            "of two players or more."
        )
    return ceiling / (players - (players - 1) * ceiling)


def players_for(target: float, agreement: float, *, planned: int | None = None) -> Players:
    """Return the fewest players whose pooled map reaches a reliability: n = t (1 - r) / (r (1 - t)), rounded up.

    Raises
    ------
    LimenError
        If target or agreement is not between 0 and 1.
    """
    for name, value in (("reliability", target), ("agreement", agreement)):
        if not 0 < value < 1:
            raise LimenError(f"power, {name}: given {value:g}; allowed are numbers between 0 and 1.")
    needed = max(1, math.ceil(target * (1 - agreement) / (agreement * (1 - target)) - 1e-9))
    return Players(
        agreement=agreement, target=target, needed=needed, reached=pooled_reliability(agreement, needed),
        planned=math.nan if planned is None else pooled_reliability(agreement, planned),
    )  # fmt: skip


def told(rows: Sequence[Players], *, planned: int | None) -> str:
    """Write the numbers as a table of plain text."""
    head = "  two players agree   players an image needs   reliability then"
    lines = [f"Players an image needs for a pooled map of reliability {rows[0].target:g} (Spearman-Brown)", ""]
    lines.append(head + (f"   with the {planned} planned" if planned else ""))
    for row in rows:
        line = f"  {row.agreement:>17.3f}   {row.needed:>22,}   {row.reached:>16.3f}"
        lines.append(line + (f"   {row.planned:>12.3f}" if planned else ""))
    return "\n".join(
        [
            *lines,
            "",
            "Two players agree: correlation of their maps of one image. A pilot's split-half ceiling and players an image give it "
            "(--ceiling); players are taken as exchangeable. What all images share (a bias to the centre) counts as agreement.",
        ]
    )
