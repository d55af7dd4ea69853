"""The command line: what a user types wrongly is one sentence, what they type rightly works on a real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bench.registry import LimenError
from psychophysics_server.cli import study as group
from psychophysics_server.export.codebook import describe
from psychophysics_server.records import ResponseRow
from psychophysics_server.serve import serve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def typed(build, tmp_path):
    """Return (path of a study file, its store)."""
    study = build()
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.file.model_dump(mode="json")))
    return path, study.artifact.path.parent.parent


def call(*arguments):
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def sentence(*arguments):
    result = call(*arguments)
    assert isinstance(result.exception, LimenError), result.output
    text = str(result.exception)
    assert "\n" not in text
    return text


def test_a_study_that_was_not_built_is_told_how(typed, tmp_path):
    path, _ = typed
    for command in ("serve", "bots", "verify", "monitor"):
        assert "run `limen stimuli build STUDY.yaml` first" in sentence(command, path, "--store", tmp_path / "empty")


def test_a_study_file_that_changed_after_its_build_is_refused(typed):
    path, store = typed
    facts = yaml.safe_load(path.read_text()) | {"quota": 99}
    path.write_text(yaml.safe_dump(facts))
    assert "'quota' differs from the stimulus set built for version 1; raise `version`" in sentence(
        "serve", path, "--store", store
    )


def test_another_model_of_bots_needs_no_new_version(typed):
    path, store = typed
    facts = yaml.safe_load(path.read_text())
    facts["bots"]["lapse"] = 0.3
    path.write_text(yaml.safe_dump(facts))
    assert "no such file" in sentence("monitor", path, "--store", store)


def test_a_missing_or_misspelt_study_file_is_one_sentence(typed, tmp_path):
    path, store = typed
    assert "no such file" in sentence("serve", tmp_path / "none.yaml", "--store", store)
    path.write_text(path.read_text().replace("quota:", "qouta:"))
    assert "did you mean 'quota'" in sentence("serve", path, "--store", store)


def test_exporting_before_anyone_came_is_one_sentence(typed, tmp_path):
    path, store = typed
    assert "no such file" in sentence("export", path, "--store", store, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bots_without_a_server_are_told_to_start_one(typed, monkeypatch):
    import psychophysics_server.bots.fleet as fleet

    path, store = typed
    monkeypatch.setattr(fleet.wait_until_ready, "__kwdefaults__", {"patience_s": 0.0})
    assert "start `limen study serve" in sentence("bots", path, "--store", store, "--url", "http://127.0.0.1:9")


def test_dev_never_faces_a_network(launch):
    config = launch().app.extensions["limen"].config
    from dataclasses import replace

    with pytest.raises(LimenError, match="--dev may never face a network"):
        serve(replace(config, dev=True), host="0.0.0.0", port=8000, announce=lambda: None)


def test_a_port_that_is_taken_is_one_sentence(served):
    running, url = served()
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(LimenError, match=f"address 127.0.0.1:{port}: cannot be used"):
        serve(running.app.extensions["limen"].config, host="127.0.0.1", port=port, announce=lambda: None)


def test_a_prolific_study_without_its_code_is_refused(build, tmp_path, monkeypatch):
    monkeypatch.delenv("LIMEN_PROLIFIC_CODE", raising=False)
    study = build(recruitment={"source": "prolific"})
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.file.model_dump(mode="json")))
    assert "set LIMEN_PROLIFIC_CODE" in sentence("serve", path, "--store", study.artifact.path.parent.parent)


def test_bots_export_verify_and_monitor_work_on_one_study(typed, served, tmp_path, build):
    path, store = typed
    running, url = served(build())
    database = running.database.url.render_as_string(hide_password=False)
    common = (path, "--store", store, "--db", database)
    bots = call("bots", *common, "--n", "4", "--url", url, "--seed", "2")
    assert bots.exit_code == 0, bots.output
    assert "0 conflicts" in " ".join(bots.output.split())
    verified = call("verify", *common)
    assert verified.exit_code == 0, verified.output
    assert "4 sessions" in verified.output
    done = call("export", *common, "-o", tmp_path / "out", "--include", "bots")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "provenance.json").is_file()
    shown = call("monitor", *common)
    assert shown.exit_code == 0, shown.output
    assert "0 alarms" in shown.output


def test_verify_ends_with_an_error_when_there_is_a_fault(typed, launch, build):
    from sqlalchemy import update

    from psychophysics_server.storage.tables import sessions

    path, store = typed
    running = launch(build())
    running.person().consent()
    running.database.write(lambda connection: connection.execute(update(sessions).values(high_water=7)).rowcount)
    text = sentence(
        "verify", path, "--store", store, "--db", running.database.url.render_as_string(hide_password=False)
    )
    assert "1 faults" in text or "faults" in text


def test_the_commands_load_nothing_heavy_until_they_run():
    code = (
        "import sys; import psychophysics_server.cli; "
        "print([n for n in ('flask', 'sqlalchemy', 'pandas', 'torch', 'rich') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_protocols_are_listed_with_their_source():
    import json

    shown = call("protocols", "--json")
    assert shown.exit_code == 0, shown.output
    assert {card["name"]: card["trial_type"] for card in json.loads(shown.output)}["utility"] == "predict"
    assert "utility" in call("protocols").output


def test_a_new_study_file_is_valid_and_never_overwritten(tmp_path):
    path = tmp_path / "study.yaml"
    assert call("init", "utility", "-o", path).exit_code == 0
    assert yaml.safe_load(path.read_text())["protocol"] == "utility"
    assert "nothing is overwritten" in sentence("init", "utility", "-o", path)
    assert "utility" in sentence("init", "utilty")


def test_every_column_of_the_rows_is_described():
    assert [column.name for column in describe(ResponseRow) if not column.meaning] == []
