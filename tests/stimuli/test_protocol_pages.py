"""The pages of the protocols: what the repository holds is what the command writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from stimuli.protocol import DESIGNS
from stimuli.study import load_study

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "protocols"
SIMULATED = "validity.md"
"""Written by `docs/protocols_validity.py`, from simulations that no test repeats."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("protocol_pages", ROOT / "docs" / "protocols.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(script: ModuleType) -> dict[str, str]:
    found: dict[str, str] = script.pages()
    return found


def test_the_pages_are_those_that_the_command_writes(pages: dict[str, str]) -> None:
    held = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md") if path.name != SIMULATED}
    assert sorted(held) == sorted(pages)
    stale = [name for name, text in pages.items() if held[name] != text]
    assert stale == [], "run `python docs/protocols.py`"


def test_every_protocol_has_a_study_file_and_a_page(pages: dict[str, str]) -> None:
    assert {f"{name}.md" for name in DESIGNS.names()} <= set(pages)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_page_holds_its_study_files_whole_and_every_option(path: Path, pages: dict[str, str]) -> None:
    study = load_study(path)
    text = pages[f"{study.protocol}.md"]
    assert path.read_text(encoding="utf-8").rstrip() in text
    card = DESIGNS.card(study.protocol)
    assert card.citation in text
    assert all(f"| `{name}` |" in text for name in study.design)


def test_a_page_says_so_if_its_rules_were_drawn_from_another_file(script: ModuleType) -> None:
    drawn = {"cells": 2, "trials_per_cell": 3, "file": {"protocol": "intruder"}, "version": 0, "rules": ["One rule."]}
    text = "\n".join(script.rules(drawn, {"protocol": "intruder", "seed": 1}, "##"))
    assert "an earlier state of this file" in text
    assert "- One rule." in text


def test_every_picture_of_a_page_is_small_and_there(pages: dict[str, str]) -> None:
    for path in (FOLDER / "drawn").glob("*.json"):
        for screen in json.loads(path.read_text(encoding="utf-8"))["screens"]:
            picture = FOLDER / "images" / screen["file"]
            assert picture.stat().st_size <= 130_000, picture.name
            assert any(f"images/{screen['file']}" in text for text in pages.values())
