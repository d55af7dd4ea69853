"""A recruiter for rehearsals and tests: entry links like Prolific's, with nobody behind them."""

from __future__ import annotations

from collections.abc import Mapping

from bench.registry import registered

from ..recruiter import Recruiter


@registered("recruiter", version=1, citation="")
def mock(environment: Mapping[str, str]) -> Recruiter:
    """Pretend to be a recruiter: ids come by `PROLIFIC_PID`, codes are drawn, nobody is paid."""
    return Recruiter(
        name="mock",
        parameter="PROLIFIC_PID",
        visit="SESSION_ID",
        query="?PROLIFIC_PID=anyone",
        environment=environment,
    )
