"""A plain link: invitations by mail or in a class, with or without an id in the link."""

from __future__ import annotations

from collections.abc import Mapping

from bench.registry import registered

from ..recruiter import Identity, Recruiter, whole


class Link(Recruiter):
    """Someone with the parameter `participant` is that person; anyone else is known by their browser."""

    def identify(self, parameters: Mapping[str, str], client_id: str) -> Identity:
        """Read the id, or fall back to the browser's own."""
        if self.parameter not in parameters:
            return Identity(recruiter=self.name, recruiter_id=f"client:{client_id}")
        return Identity(recruiter=self.name, recruiter_id=whole(parameters[self.parameter], self.parameter))


@registered("recruiter", version=1, citation="")
def link(environment: Mapping[str, str]) -> Recruiter:
    """Take whoever has the address; a code is drawn for each person and nobody is sent anywhere."""
    return Link(name="link", parameter="participant", query="", guessable=True, environment=environment)
