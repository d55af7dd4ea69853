"""The built front-end: where it lies, and which (hashed) files its build left."""

from __future__ import annotations

import json
from pathlib import Path

BUILD = "make frontend"
"""Builds the front-end in place."""
STATIC = Path(__file__).resolve().parents[1] / "static"


def built_files(folder: Path) -> dict[str, str] | None:
    """Read which (hashed) files the front-end's build left in `static/dist`, or None if it was not built."""
    try:
        named = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        files = {name: str(named[name]) for name in ("index.js", "index.css")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if all((folder / name).is_file() for name in files.values()) else None
