"""CloudResearch Connect: one code or redirect for those who finish, another for partial ones.

Verified (November 2026) in connect-researcher-help.cloudresearch.com, "Project Completion": a project has either an end-of-study
redirect, whose address Connect shows, or a completion code; the completion redirect is not for screen-outs, which have
"partial completes" with a redirect or code of their own. "Manage Participants": approvals, rejections with a message, and bonuses
can be uploaded as CSV files.

Not verified in Connect's own pages, but in the public code of several studies: the parameters `participantId`, `assignmentId`
and `projectId`, and addresses of the form `https://connect.cloudresearch.com/participant/project/PROJECT/complete`. Not
verified at all: the column names of its CSV uploads; copy the ids into the template that Connect offers. Its API is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from bench.registry import LimenError, registered

from ..recruiter import OUTCOMES, RECRUITED, Recruiter, Secret, outcome_codes, outcome_needs

HOST = "connect.cloudresearch.com"


class Connect(Recruiter):
    """https://connect.cloudresearch.com."""

    def completion_url(self, source: str, code: str) -> str | None:
        """Return the redirect that was set for this code's outcome, or None: then the person types the code."""
        if source not in RECRUITED:
            return None
        outcomes = [outcome for outcome, known in self.codes.items() if known == code]
        return self.environment.get(f"LIMEN_CONNECT_{outcomes[0].upper()}_URL") if outcomes else None


def _check(environment: Mapping[str, str]) -> None:
    for outcome in OUTCOMES:
        name = f"LIMEN_CONNECT_{outcome.upper()}_URL"
        found = urlsplit(environment.get(name, f"https://{HOST}/"))
        if found.scheme != "https" or found.hostname != HOST:
            raise LimenError(f"environment, {name}: is not an address at https://{HOST}/.")


@registered("recruiter", version=1, citation="connect-researcher-help.cloudresearch.com")
def connect(environment: Mapping[str, str]) -> Recruiter:
    """Take participants of a Connect project; its codes and redirects come from the environment."""
    _check(environment)
    redirects = tuple(
        Secret(
            name=f"LIMEN_CONNECT_{outcome.upper()}_URL",
            what=f"Connect's redirect for the outcome {outcome}",
            required=False,
        )
        for outcome in OUTCOMES
    )
    return Connect(
        name="connect",
        parameter="participantId",
        visit="assignmentId",
        query="",
        needs=(*outcome_needs("LIMEN_CONNECT", "completion code at Connect"), *redirects),
        environment=environment,
        codes=outcome_codes("LIMEN_CONNECT", environment),
    )
