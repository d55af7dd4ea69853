"""A frozen stimulus set: whole, reproducible, and refused when it would change silently."""

from __future__ import annotations

from bench.store import Artifact
from stimuli.build import verify


def test_a_built_set_verifies(small_study: Artifact) -> None:
    assert verify(small_study) == []
