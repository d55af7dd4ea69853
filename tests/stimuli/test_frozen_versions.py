"""What a version of a study froze stays: another stimulus, text or rule under the same version is refused, whatever the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.registry import LimenError
from bench.store import Artifact, Store
from stimuli.build import KIND, Plan, confirm
from stimuli.protocol import Material
from stimuli.records import Page, Texts
from stimuli.study import load_study, resolve

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))
WORDS = Page(title="Thank you", body="This was the last question.")


def _plan(path: Path) -> Plan:
    """Return the plan of an example study on a run whose artifacts are named only; nothing is drawn."""
    resolved = resolve(load_study(path))
    texts = Texts(consent=WORDS, instructions=(WORDS,), debrief=WORDS, contact="study@example.org")
    study = resolved.study.model_copy(update={"design": dict(resolved.options), "texts": texts})
    return Plan(study, resolved.options, resolved.design, _material(study, "0" * 24))


def _material(study: Any, key: str) -> Material:
    return Material(study, None, {"images": cast(Artifact, SimpleNamespace(key=key))})


def _other_stimulus(made: Plan) -> Plan:
    return replace(made, material=_material(made.study, "1" * 24))


def _other_text(made: Plan) -> Plan:
    texts = made.study.texts.model_copy(update={"debrief": Page(title="Thank you", body="Bye.")})  # type: ignore[union-attr]
    return replace(made, study=made.study.model_copy(update={"texts": texts}))


def _other_check(made: Plan) -> Plan:
    checks = made.study.checks.model_copy(update={"min_median_rt_ms": 1.0})
    return replace(made, study=made.study.model_copy(update={"checks": checks}))


def _other_option(made: Plan) -> Plan:
    name = next(iter(made.options))
    return replace(made, options={**made.options, name: "something else"})


CHANGES: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "stimulus": (_other_stimulus, "images"),
    "text": (_other_text, "file.texts"),
    "check": (_other_check, "file.checks"),
    "rule of choice": (_other_option, "design."),
}


@pytest.fixture
def frozen(tmp_path: Path) -> Callable[[Plan], Store]:
    def freeze(made: Plan) -> Store:
        store = Store(tmp_path)
        with store.write(KIND, made.config, parents=made.material.parents, seed=0) as draft:
            draft.write_json({}, "study.json")
        return store

    return freeze


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_change_under_the_same_version_is_refused(path: Path, change: str, frozen: Callable[[Plan], Store]) -> None:
    made = _plan(path)
    store = frozen(made)
    assert confirm(made, store) is not None
    alter, named = CHANGES[change]
    with pytest.raises(LimenError, match="with other content") as refused:
        confirm(alter(made), store)
    assert named in str(refused.value)
    assert str(refused.value).endswith("raise the version.")
