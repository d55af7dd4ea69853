"""A stimulus set made by `stimuli` itself, from a bench run to an export."""

from __future__ import annotations

import yaml

from psychophysics_server.bots.fleet import run_bots
from psychophysics_server.export.folder import export
from psychophysics_server.export.people import people
from psychophysics_server.study.frozen import Library, load_study, open_frozen


def test_bots_take_a_built_study_to_an_export(served, small_study, tmp_path):
    study = open_frozen(small_study)
    running, url = served(study)
    journeys = run_bots(study, url=url, n=8, seed=1)
    assert {journey.outcome for journey in journeys} <= {"complete", "left"}
    done = export(running.database, study, tmp_path / "out", sources=["bot"], stale_s=60.0)
    assert done.people == 8
    with running.database.read() as connection:
        found = list(people(connection, study, sources=["bot"], stale_s=60.0))
    for person in found:
        if person.session.finished:
            assert person.session.trials_held == person.session.trials_planned
            asked = [row for row in person.responses if row.phase == "test"]
            assert {row.expected for row in asked} <= {"boat", "kite"}
            assert all(row.correct in (0.0, 1.0) and row.model_correct in (0.0, 1.0) for row in asked)


def test_the_study_file_as_written_fits_the_set_as_built(small_study, small_store, small_study_file, tmp_path):
    path = tmp_path / "study.yaml"
    given = small_study_file.model_dump(mode="json", exclude_unset=True)
    for more in ({}, {"texts": None}):  # `limen study init` writes `texts: null`
        path.write_text(yaml.safe_dump({**given, **more}))
        assert load_study(path, Library(small_store)).key == small_study.key
