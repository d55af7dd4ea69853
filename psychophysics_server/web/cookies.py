"""The dashboard's cookie is looked at on the dashboard alone: what participants send costs no signature."""

from __future__ import annotations

from flask import Flask, Request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface


class DashboardCookie(SecureCookieSessionInterface):
    """Signed cookies within the cookie's own path; everywhere else an empty session."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Read the cookie of a request to the dashboard."""
        path = self.get_cookie_path(app).rstrip("/")
        if request.path != path and not request.path.startswith(f"{path}/"):
            return self.session_class()
        return super().open_session(app, request)
