"""`limen stimuli`: what a researcher types and reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.registry import LimenError
from bench.store import Artifact
from stimuli.cli import _described, stimuli
from stimuli.records import StudyFile


@pytest.fixture
def study_path(tmp_path: Path, fake_run: Callable[..., Artifact], small_study_file: StudyFile) -> Path:
    fake_run(tmp_path / "store")
    path = tmp_path / "small.yaml"
    path.write_text(small_study_file.model_dump_json(), encoding="utf-8")
    return path


def _call(command: str, study: Path, *more: str) -> Result:
    return CliRunner().invoke(stimuli, [command, str(study), "--store", str(study.parent / "store"), *more])


def test_build_says_what_was_frozen_and_from_how_many_images(study_path: Path) -> None:
    done = _call("build", study_path)
    assert done.exit_code == 0, done.output
    assert "small version 1 (utility), frozen as " in done.output
    assert "model wrong, answered kite: chose " in done.output
    assert " of 24 images" in done.output


def test_verify_is_silent_about_nothing_and_fails_on_a_fault(study_path: Path) -> None:
    _call("build", study_path)
    assert "files are whole" in _call("verify", study_path).output
    picture = next((study_path.parent / "store" / "stimuli").glob("*/pictures/*.png"))
    picture.write_bytes(b"not a picture")
    failed = _call("verify", study_path)
    assert failed.exit_code == 1
    assert str(picture) in failed.stderr
    assert isinstance(failed.exception, LimenError)
    assert "2 faults, listed above" in str(failed.exception)


def test_verify_of_a_study_that_is_not_frozen_names_the_command(study_path: Path) -> None:
    failed = _call("verify", study_path)
    assert "study 'small' version 1 is not frozen; run `limen stimuli build" in str(failed.exception)


def test_verify_refuses_a_study_file_that_asks_for_something_else(study_path: Path) -> None:
    _call("build", study_path)
    study_path.write_text(study_path.read_text(encoding="utf-8").replace("What will", "What did"), encoding="utf-8")
    assert "with other content (file.title)" in str(_call("verify", study_path).exception)


def test_preview_walks_through_every_cell_and_freezes_nothing(study_path: Path) -> None:
    folder = study_path.parent / "preview"
    done = _call("preview", study_path, "-o", str(folder))
    assert done.exit_code == 0, done.output
    page = (folder / "index.html").read_text(encoding="utf-8")
    for cell in ("baseline, list 1", "baseline, list 2", "grad_cam, list 1", "grad_cam, list 2"):
        assert cell in page
    assert page.count("<figure") == 4 * (2 + 2 * (2 + 3 + 1))
    assert page.count('class="catch"') == 8
    assert (folder / "contact-grad_cam.png").is_file()
    assert not (study_path.parent / "store" / "stimuli").exists()


def test_preview_links_only_pictures_that_are_there(study_path: Path) -> None:
    import re

    folder = study_path.parent / "preview"
    _call("preview", study_path, "-o", str(folder))
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert all((folder / name).is_file() for name in re.findall(r'src="([^"]+)"', page))


def test_a_preview_that_cannot_be_written_is_one_sentence(study_path: Path) -> None:
    (study_path.parent / "taken").write_text("a file", encoding="utf-8")
    failed = _call("preview", study_path, "-o", str(study_path.parent / "taken"))
    assert "the preview cannot be written" in str(failed.exception)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ({"condition": "nmf", "available": 17, "chosen": 12}, "condition nmf: chose 12 of 17"),
        ({"layer": "late", "units": 48, "pairs_alive": 16}, "layer late, units 48, pairs alive 16"),
        ({"model_correct": False, "available": 9, "chosen": 4}, "model wrong: chose 4 of 9 images"),
    ],
)
def test_a_pool_of_any_protocol_is_one_line(kind: dict[str, object], line: str) -> None:
    assert _described(kind) == line
