"""`limen study bots` in its tiers, and `limen study observe`."""

from __future__ import annotations

import csv

import pytest
import yaml
from click.testing import CliRunner
from sqlalchemy import select

from bench.registry import LimenError
from psychophysics_server.cli import study as command
from psychophysics_server.storage.database import existing_database
from psychophysics_server.storage.tables import sessions


@pytest.fixture
def typed(tiny, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(tiny.file.model_dump(mode="json")))
    return (path, "--store", tiny.artifact.path.parent.parent, "--db", tmp_path / "held.sqlite")


def call(*words):
    return CliRunner().invoke(command, [str(word) for word in words])


def said(answer):
    assert answer.exit_code == 0, answer.output
    return " ".join(answer.output.split())


def sources(database):
    held = existing_database(database)
    with held.read() as connection:
        found = list(connection.execute(select(sessions.c.source, sessions.c.state)))
    held.close()
    return found


def test_the_model_tier_needs_no_server_and_its_rows_are_of_bots(typed):
    told = said(call("bots", *typed, "--tier", "model", "--n", "8", "--reloads", "0.5"))
    assert "dropped out as planned" in told
    found = sources(typed[-1])
    assert len(found) == 8
    assert {source for source, _ in found} == {"bot"}


def test_the_http_tier_misbehaves_as_asked(typed, served):
    _, url = served()
    told = said(call("bots", *typed, "--url", url, "--n", "3", "--tabs", "0.5", "--shuffled", "0.3", "--must-fail"))
    assert "races of two windows ended in a conflict" in told
    assert "submissions were refused as they must be" in told
    assert " 0 conflicts" in told


def test_the_browser_tier_needs_a_server(typed, monkeypatch):
    import psychophysics_server.bots.fleet as fleet

    monkeypatch.setattr(fleet.wait_until_ready, "__kwdefaults__", {"patience_s": 0.0})
    answer = call("bots", *typed, "--tier", "browser", "--url", "http://127.0.0.1:9")
    assert isinstance(answer.exception, LimenError)
    assert "start `limen study serve" in str(answer.exception)


def test_a_network_observes_from_a_file_of_answers(typed, tiny, tmp_path):
    path = tmp_path / "resnet.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial_id", "response"])
        trials = {trial.trial_id: trial for cell in tiny.trials.values() for trial in cell if trial.phase == "test"}
        writer.writerows([name, trial.expected] for name, trial in trials.items())
    told = said(call("observe", *typed, "--answers", path))
    assert "Network resnet" in told
    assert "4 finished" in told
    assert {source for source, _ in sources(typed[-1])} == {"network"}


def test_a_network_observes_as_a_function(typed, tmp_path, monkeypatch):
    (tmp_path / "network_that_observes.py").write_text("def see(seen):\n    return (seen.options or ('',))[0], 0.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    told = said(call("observe", *typed, "--observer", "network_that_observes:see", "--n", "2"))
    assert "2 finished" in told


@pytest.mark.parametrize("given", [(), ("--answers", "a.csv", "--observer", "m:f")])
def test_an_observer_is_given_once(typed, given):
    answer = call("observe", *typed, *given)
    assert "give one of --answers FILE and --observer" in str(answer.exception)
