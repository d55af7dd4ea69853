"""What the views share: the configuration a server is started with, its studies and its data base."""

from __future__ import annotations

import math
import secrets
import shutil
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flask import current_app

from ..recruitment.recruiter import Recruiter, open_recruiter
from ..recruitment.signing import link_secret
from ..sessions.doors import Doors
from ..storage.database import Database
from ..study.frozen import FrozenStudy, Library
from .built import STATIC
from .oracle import Oracle
from .ratelimit import Limits


def new_preview_key() -> str:
    """Draw the secret that opens previews."""
    return secrets.token_urlsafe(16)


def new_secret_key() -> str:
    """Draw the secret that signs the dashboard's cookie."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Everything a server is started with.

    Attributes
    ----------
    library : the stimulus sets of a store
    study : the study version that newcomers take
    database : path or URL
    dev : local work only; the preview key may be an example
    pilot : mark newcomers as pilot instead of live
    preview_key : opens previews; drawn at random if not given
    secret_key : signs the dashboard's cookie; drawn at random if not given, which ends every login at a restart
    hosts : names this server answers to (the Host header); any if empty
    behind_proxy : a proxy with TLS stands in front and says so in X-Forwarded-Proto
    environment : variables that recruiters read their codes and secrets from
    stale_minutes : a silent session holds no place in the balance after this; default 3 times the study's length
    disk_limit_mb : below it, newcomers are refused
    capacity : writes that may wait
    static : folder whose `dist/` holds the built front-end
    oracle : who is asked what is recognised in reveal trials; None where no network is at hand
    """

    library: Library
    study: FrozenStudy
    database: str | Path
    dev: bool = False
    pilot: bool = False
    preview_key: str = field(default_factory=new_preview_key, repr=False)
    secret_key: str = field(default_factory=new_secret_key, repr=False)
    hosts: tuple[str, ...] = ()
    behind_proxy: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stale_minutes: float | None = None
    disk_limit_mb: float = 200.0
    capacity: int = 1024
    static: Path = STATIC
    oracle: Oracle | None = None

    @property
    def stale_s(self) -> float:
        """Seconds of silence after which a session is stale."""
        minutes = self.stale_minutes
        return 60.0 * (max(30.0, 3 * self.study.file.recruitment.minutes) if minutes is None else minutes)


@dataclass(frozen=True)
class Failure:
    """An error of ours while answering: when, and what kind where; never what was sent."""

    time: float
    text: str


class Server:
    """What the views share: configuration, studies and the data base."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.library = config.library
        self.study = config.study
        self.link_secret = link_secret(config.study.file, config.environment)
        self.database = Database(config.database, capacity=config.capacity)
        self.failures: deque[Failure] = deque(maxlen=20)
        self.doors = Doors()
        self.limits = Limits()
        self._recruiters: dict[str, Recruiter] = {}
        self.recruiter_of(self.study)

    def recruiter_of(self, study: FrozenStudy) -> Recruiter:
        """Return the recruiter of a study version."""
        source = study.file.recruitment.source
        if source not in self._recruiters:
            self._recruiters[source] = open_recruiter(source, self.config.environment)
        return self._recruiters[source]

    def free_mb(self) -> float:
        """Return the free space of the disk the answers are written to, in MB; 0 if it is gone, inf if elsewhere."""
        folder = self.database.folder
        try:
            return math.inf if folder is None else shutil.disk_usage(folder).free / 1e6
        except OSError:
            return 0.0

    @property
    def disk_mb(self) -> int | None:
        """Whole MB of free disk; None if the answers are written on another machine."""
        free = self.free_mb()
        return None if math.isinf(free) else int(free)

    @property
    def admits(self) -> bool:
        """Whether there is disk left for newcomers."""
        return self.free_mb() >= self.config.disk_limit_mb

    def close(self) -> None:
        """Drain and close."""
        self.database.close()


def server() -> Server:
    """Return the running application's server."""
    found: Server = current_app.extensions["limen"]
    return found
