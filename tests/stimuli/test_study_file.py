"""Study files: the commented template, the protocol's options, and one-sentence faults."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.registry import LimenError
from stimuli.protocol import DESIGNS
from stimuli.records import Bots, Checks, Recruitment, StudyFile
from stimuli.study import init_study, load_study, protocols, resolve

ROOT = Path(__file__).resolve().parents[2]


def _write(folder: Path, **changes: object) -> Path:
    facts = {
        "study": "words",
        "version": 1,
        "protocol": "utility",
        "title": "Words",
        "run": "demo",
        "contact": "study@example.org",
        "conditions": ["baseline", "grad_cam"],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**facts, **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize("protocol", [card.name for card in protocols()])
def test_the_template_of_every_protocol_is_a_valid_study(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(init_study(protocol), encoding="utf-8")
    study = load_study(path)
    assert study.protocol == protocol
    shown = dict(DESIGNS.card(protocol).example.get("design", {}))  # type: ignore[attr-defined]
    assert resolve(study).options == resolve(study.model_copy(update={"design": shown})).options


@pytest.mark.parametrize("protocol", [card.name for card in protocols()])
def test_the_template_has_every_key_and_option_with_a_comment_above_its_group(protocol: str) -> None:
    text = init_study(protocol)
    given = yaml.safe_load(text)
    assert set(given) == set(StudyFile.model_fields)
    assert set(given["checks"]) == set(Checks.model_fields)
    assert set(given["recruitment"]) == set(Recruitment.model_fields)
    assert set(given["bots"]) == set(Bots.model_fields)
    lines = text.splitlines()
    top = [number for number, line in enumerate(lines) if line.split(":")[0] in StudyFile.model_fields]
    assert all(lines[number - 1].lstrip().startswith("#") for number in top)


def test_an_unknown_protocol_has_a_nearest_match(tmp_path: Path) -> None:
    with pytest.raises(
        LimenError, match=r"study\.yaml, key 'protocol': unknown name 'utilty'; .* did you mean 'utility'\?"
    ):
        load_study(_write(tmp_path, protocol="utilty"))
    with pytest.raises(LimenError, match=r"protocol: unknown name 'utilty'"):
        init_study("utilty")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"design": {"session": 3}}, r"key 'design', option: unknown name 'session'; .* did you mean 'sessions'\?"),
        ({"design": {"sessions": 0}}, r"key 'design', option 'sessions': given 0"),
        ({"design": {"wrong_share": 1.5}}, r"option 'wrong_share': given 1\.5"),
        ({"design": {"normalisation": "images"}}, r"option 'normalisation': given 'images'"),
        ({"contact": None}, r"key 'contact': nothing was given"),
        ({"conditions": ["baseline", "grad_cam", "grad_cam"]}, r"key 'conditions': 'grad_cam' is given twice"),
        (
            {"bots": {"accuracy": {"baseline": [0.5] * 3, "gradcam": [0.5] * 3}}},
            r"unknown name 'gradcam'.*'grad_cam'\?",
        ),
        ({"bots": {"accuracy": {"baseline": [0.5] * 3}}}, r"nothing was given for condition 'grad_cam'"),
        (
            {"bots": {"accuracy": {"baseline": [0.5], "grad_cam": [0.5] * 3}}},
            r"key 'bots\.accuracy\.baseline': given 0\.5; allowed are 3 values between 0 and 1",
        ),
        ({"quotas": 3}, r"key 'quotas': unknown name 'quotas'; .* did you mean 'quota'\?"),
    ],
)
def test_a_fault_is_one_sentence_that_names_the_file(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(LimenError, match=rf"study\.yaml, .*{sentence}") as refused:
        load_study(_write(tmp_path, **changes))
    assert "\n" not in str(refused.value)


def test_own_texts_bring_their_own_contact(tmp_path: Path) -> None:
    page = {"title": "t", "body": "b"}
    texts = {"consent": page, "instructions": [page], "debrief": page, "contact": "me@example.org"}
    assert resolve(load_study(_write(tmp_path, contact=None, texts=texts))).study.texts is not None


def test_every_protocol_says_what_a_reader_needs() -> None:
    for card in protocols():
        assert card.kind == "design"
        assert card.citation.startswith(("arXiv:", "doi:"))
        assert card.summary
        assert card.trial_type
        assert card.analysis
        assert "participant" in card.random


def test_the_demo_study_is_valid_and_has_the_published_shape() -> None:
    study = load_study(ROOT / "configs" / "studies" / "utility.yaml")
    options = resolve(study).options
    assert (options["sessions"], options["train"], options["test"], options["wrong_share"]) == (3, 5, 7, 0.5)
    assert study.conditions[:2] == ("baseline", "control")
    assert study.bots is not None
