"""Methods compared over data sets: the statistics of `bench.rankings`, under the name that measures have here."""

from __future__ import annotations

from bench.rankings import FEWEST, CriticalDifference, Groups, critical_difference

__all__ = ["FEWEST", "CriticalDifference", "Groups", "critical_difference"]
