"""Pictures and the built front-end, sent before Flask is asked: over twice as many a second, and immutable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.headers import Headers

from whitenoise import WhiteNoise

from ..study.frozen import Library
from .security import HEADERS, HSTS, IMMUTABLE, content_policy

_PICTURE = re.compile(r"/stimuli/([0-9a-f]{64})\.png")
_BUILT = re.compile(r"/static/dist/([A-Za-z0-9_-]+-[A-Za-z0-9]+\.(?:js|css))")
"""Hashed names: these bytes never change. Everything else under /static/ is Flask's."""


class Files(WhiteNoise):
    """A layer around the application that knows files by their exact address and nothing else.

    A file is looked up when it is first asked for: pictures among the hashes of the opened studies, the front-end
    among the names in its folder. No part of an address becomes a path.

    Parameters
    ----------
    application
        Answers everything else.
    library : Library
        Knows the pictures.
    dist : Path
        Folder of the built front-end.
    tls : bool
        Whether to ask browsers to stay with TLS.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], library: Library, dist: Path, *, tls: bool) -> None:
        self._library, self._dist, self._tls = library, dist, tls
        super().__init__(application, max_age=None, allow_all_origins=False, add_headers_function=self._head)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Send a file, or ask the application."""
        address = environ.get("PATH_INFO", "")
        if address not in self.files and (path := self._find(address)) is not None:
            self.add_file_to_dictionary(address, str(path))
        answer: Iterable[bytes] = super().__call__(environ, start_response)
        return answer

    def _find(self, address: str) -> Path | None:
        if found := _PICTURE.fullmatch(address):
            path = self._library.picture(found[1])
            return path.absolute() if path is not None and path.is_file() else None
        if found := _BUILT.fullmatch(address):
            try:
                names = os.listdir(self._dist)
            except OSError:
                return None
            return next((self._dist / name for name in names if name == found[1]), None)
        return None

    def _head(self, headers: Headers, path: str, address: str) -> None:
        del path
        headers["Cache-Control"] = IMMUTABLE
        headers["Content-Security-Policy"] = content_policy()
        for name, value in HEADERS.items():
            headers[name] = value
        if self._tls:
            headers["Strict-Transport-Security"] = HSTS
        if found := _PICTURE.fullmatch(address):
            headers["ETag"] = f'"{found[1]}"'
