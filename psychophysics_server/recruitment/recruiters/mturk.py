"""Amazon Mechanical Turk: an external question in a frame, handed back by a form.

Verified (November 2026) in docs.aws.amazon.com/AWSMechTurk, "ExternalQuestion" and "How Mechanical Turk tasks are rendered":
MTurk appends `assignmentId`, `hitId`, `turkSubmitTo` and `workerId` to the address; `assignmentId` is
`ASSIGNMENT_ID_NOT_AVAILABLE` while a HIT is only previewed; the form goes by POST to `TURKSUBMITTO/mturk/externalSubmit` with
`assignmentId` and at least one more field. Requester guide, "Review assignments offline": a results file with `x` in the
column Approve, or a reason in the column Reject. The sandbox is https://workersandbox.mturk.com.

Not verified: the address of the page that frames a HIT (worker.mturk.com here; www.mturk.com is allowed as well). The
requester's web site takes only the results file of a batch, which external questions made by the API lack; then review.csv
names assignments for `aws mturk approve-assignment` and `reject-assignment`, and bonus.csv for `send-bonus`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.registry import registered

from ..recruiter import (
    RECRUITED,
    BadIdentity,
    Form,
    Identity,
    Payable,
    Recruiter,
    Secret,
    as_csv,
    money,
    whole,
)

LIVE, SANDBOX = "https://www.mturk.com", "https://workersandbox.mturk.com"
FRAMES = {LIVE: "https://worker.mturk.com https://www.mturk.com", SANDBOX: SANDBOX}
PREVIEW = "ASSIGNMENT_ID_NOT_AVAILABLE"


class MTurk(Recruiter):
    """https://www.mturk.com."""

    @property
    def host(self) -> str:
        """The site this server hands people back to; the sandbox if LIMEN_MTURK_SANDBOX says so."""
        return SANDBOX if self.environment.get("LIMEN_MTURK_SANDBOX", "") in {"1", "true", "yes"} else LIVE

    @property
    def policy(self) -> Mapping[str, str]:
        """Let MTurk frame the study, and let its page post the form."""
        return {"form_action": self.host, "frame_ancestors": FRAMES[self.host]}

    def identify(self, parameters: Mapping[str, str], client_id: str) -> Identity:
        """Read worker and assignment; a preview of the HIT, and workers of the other site, are turned away.

        Raises
        ------
        BadIdentity
            If the HIT is not accepted yet, an id lacks, or `turkSubmitTo` is not the site this server works with.
        """
        del client_id
        assignment = parameters.get("assignmentId", "").strip()
        if assignment == PREVIEW:
            raise BadIdentity("This is a preview. Please accept the HIT; the study begins then.")
        given = parameters.get("turkSubmitTo", "").strip().rstrip("/")
        if given != self.host:
            raise BadIdentity("This link is not one of the Mechanical Turk site that this study works with.")
        return Identity(
            recruiter=self.name,
            recruiter_id=whole(parameters.get("workerId", ""), "workerId"),
            submission=whole(assignment, "assignmentId"),
        )

    def form(self, source: str, code: str, submission: str) -> Form | None:
        """Return the form that submits the assignment."""
        if source not in RECRUITED or not submission:
            return None
        return Form(action=f"{self.host}/mturk/externalSubmit", fields={"assignmentId": submission, "code": code})

    def payment_files(self, lists: Sequence[Payable]) -> dict[str, str]:
        """Name assignments beside workers, as the API asks for them."""
        review = [line for line in lists if line.item in {"approve", "reject"}]
        rows = [
            [line.submission, line.recruiter_id] + (["x", ""] if line.item == "approve" else ["", line.reason])
            for line in review
        ]
        bonus = [
            [line.recruiter_id, line.submission, money(line.amount), line.reason]
            for line in lists
            if line.item == "bonus"
        ]
        files = {}
        if rows:
            files["review.csv"] = as_csv([["AssignmentId", "WorkerId", "Approve", "Reject"], *rows])
        if bonus:
            files["bonus.csv"] = as_csv([["WorkerId", "AssignmentId", "BonusAmount", "Reason"], *bonus])
        return files


@registered("recruiter", version=1, citation="docs.aws.amazon.com/AWSMechTurk, API version 2017-01-17")
def mturk(environment: Mapping[str, str]) -> Recruiter:
    """Take workers of an MTurk external question; LIMEN_MTURK_SANDBOX=1 works with the sandbox instead."""
    sandbox = Secret(name="LIMEN_MTURK_SANDBOX", what="1 to work with the sandbox", required=False)
    return MTurk(name="mturk", parameter="workerId", visit="assignmentId", needs=(sandbox,), environment=environment)
