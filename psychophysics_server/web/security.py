"""What every answer carries and every request must keep to: headers, sizes, hosts; and what a start refuses."""

from __future__ import annotations

import os

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from bench.registry import LimenError

from .cookies import DashboardCookie
from .server import ServerConfig

EXAMPLE_KEYS = frozenset(
    {
        "preview",
        "secret",
        "dev",
        "changeme",
        "change-me",
        "test",
        "example",
        "password",
        "secret-key",
        "your-secret-key",
    }
)
IMMUTABLE = "public, max-age=31536000, immutable"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
HSTS = "max-age=31536000"
"""Sent behind a proxy with TLS; sub-domains are the proxy's business."""
SMALL, EVENTS = 256 * 1024, 8 * 1024 * 1024
"""Largest bodies, in bytes: a batch of events may be large, nothing else is."""
LIMITS = {"participant.events_append": EVENTS}


def content_policy(*, form_action: str = "'none'", frame_ancestors: str = "'none'") -> str:
    """Return the content security policy: own files only, no inline code or style, no framing unless it is named."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        f"font-src 'self'; worker-src 'self'; base-uri 'none'; form-action {form_action}; "
        f"frame-ancestors {frame_ancestors}; object-src 'none'"
    )


def fixed_headers(*, tls: bool = False) -> list[tuple[str, str]]:
    """Return the headers of an answer in JSON that are the same for all of them."""
    more = {
        "Content-Type": "application/json",
        "Content-Security-Policy": content_policy(),
        "Cache-Control": "no-store",
    }
    return [*HEADERS.items(), *more.items(), *([("Strict-Transport-Security", HSTS)] if tls else [])]


def _weak(key: str, shortest: int) -> bool:
    return key.lower() in EXAMPLE_KEYS or len(key) < shortest or len(set(key)) < 6


def refuse_to_start(config: ServerConfig) -> None:
    """Refuse example and short secrets, and debugging, outside development.

    Raises
    ------
    LimenError
        Names what is weak, never its value.
    """
    if config.dev:
        return
    if _weak(config.preview_key, 12):
        raise LimenError(
            "server: the preview key is an example or shorter than 12 characters; allowed with --dev only."
        )
    if _weak(config.secret_key, 32):
        raise LimenError(
            "server: LIMEN_SECRET_KEY is an example or shorter than 32 characters; allowed with --dev only. "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` draws one."
        )
    if os.environ.get("FLASK_DEBUG", "").lower() not in {"", "0", "false", "no"}:
        raise LimenError("server: FLASK_DEBUG is set; allowed with --dev only.")


def own_address(location: str, host: str) -> str:
    """Take the host out of a redirect within this server: its name came with the request and may be anyone's."""
    return "/" + location.removeprefix(host).lstrip("/\\") if location.startswith(host) else location


def secure(app: Flask, config: ServerConfig) -> None:
    """Give an application its limits, its cookie, its hosts and its headers."""
    app.debug = False
    app.config.update(
        SECRET_KEY=config.secret_key,
        MAX_CONTENT_LENGTH=SMALL,
        TRUSTED_HOSTS=list(config.hosts) or None,
        SESSION_COOKIE_NAME="limen_admin",
        SESSION_COOKIE_PATH="/admin",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=not config.dev,
    )
    app.session_interface = DashboardCookie()
    if config.behind_proxy:
        # The scheme alone is believed: addresses are never asked for, and the proxy hands the host on as it is.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=0, x_proto=1, x_host=0, x_port=0, x_prefix=0)  # type: ignore[method-assign]

    @app.before_request
    def limit() -> None:
        request.max_content_length = LIMITS.get(request.endpoint or "", SMALL)

    @app.after_request
    def headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", content_policy())
        if "Location" in response.headers:
            response.headers["Location"] = own_address(response.headers["Location"], request.host_url)
        if config.behind_proxy and request.is_secure:
            response.headers["Strict-Transport-Security"] = HSTS
        if not request.path.startswith("/admin/assets/"):
            response.headers["Cache-Control"] = "no-store"
        return response
