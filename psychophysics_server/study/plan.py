"""The frozen plan of a study: where it is kept, and whether its content is what its hash says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.registry import LimenError
from bench.store import Artifact, Store, canonical_json, sha256_bytes

KIND = "plans"
"""Kind of the artifact that `limen study freeze` puts beside the stimulus set."""
FILE = "plan.json"
HASH = "sha256"


def content_hash(plan: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a plan's content: JSON with sorted keys and no spaces, the hash itself left out."""
    content = {name: value for name, value in plan.items() if name != HASH}
    return sha256_bytes(canonical_json(content).encode())


def frozen_plan(stimuli: Artifact) -> dict[str, Any]:
    """Return the plan that was frozen for a stimulus set, {} if there is none.

    Raises
    ------
    LimenError
        If it is not what was frozen.
    """
    store = Store(stimuli.path.parents[1])
    found = [one for one in store.all(KIND) if one.manifest["parents"].get("stimuli") == stimuli.key]
    if not found:
        return {}
    plan: dict[str, Any] = json.loads(found[0].file(FILE).read_text(encoding="utf-8"))
    if plan.get(HASH) != content_hash(plan) or found[0].config["sha256"] != plan.get(HASH):
        raise LimenError(f"{found[0].path / FILE}: was changed after it was frozen; its SHA-256 is not its content's.")
    return plan
