"""The command line as a user meets it, typos included: one sentence, exit status 1, nothing lost."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from bench.cli import limen


def call(*arguments):
    return CliRunner().invoke(limen, [str(argument) for argument in arguments])


def test_help_names_every_command():
    done = call("--help")
    assert done.exit_code == 0
    for name in ("demo", "bench", "stimuli", "study", "analyze"):
        assert name in done.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["benhc"],
            "error: limen, command: unknown name 'benhc'; allowed are demo, bench, stimuli, study, analyze; did you mean 'bench'?",
        ),
        (["bench", "list", "metrix"], "error: limen bench list, kind: unknown name 'metrix'"),
        (["bench", "run", "none.yaml"], "error: none.yaml: no such file."),
        (["bench", "forecast", "none.yaml"], "error: none.yaml: no such file."),
        (
            ["bench", "explain", "--network", "tiny@digits", "--images", "digits", "--method", "salency"],
            "did you mean 'saliency'?",
        ),
        (
            ["bench", "explain", "--network", "tiny@digits", "--images", "digts", "--method", "saliency"],
            "did you mean 'digits'?",
        ),
        (
            ["bench", "explain", "--network", "tiny@digits", "--images", "digits", "--method", "rise", "-O", "mask=3"],
            "error: attribution 'rise', option: unknown name 'mask'; ",
        ),
        (
            ["bench", "explain", "--network", "tiny@digits", "--images", "digits", "--method", "rise", "-O", "masks"],
            "error: option -O: given 'masks', allowed is NAME=VALUE.",
        ),
        (
            [
                "bench",
                "explain",
                "--network",
                "tiny@digits",
                "--images",
                "digits",
                "--method",
                "rise",
                "--space",
                "wavelet",
            ],
            "did you mean 'wavelets'?",
        ),
        (["stimuli", "build", "none.yaml"], "error: none.yaml: no such file."),
        (["analyze", "report", "nowhere", "-o", "out"], "error: nowhere"),
    ],
)
def test_a_typo_is_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_list_prints_cards_as_json():
    cards = json.loads(call("bench", "list", "metric", "--json").output)
    deletion = next(card for card in cards if card["name"] == "deletion")
    assert deletion["direction"] == "down"
    assert deletion["group"] == "faithfulness"
    assert deletion["null"]


def test_list_names_every_method():
    done = call("bench", "list")
    assert done.exit_code == 0
    for name in ("saliency", "deletion", "nmf"):
        assert name in done.output


def test_list_names_the_presets_of_a_method():
    assert "presets: rise, xplique" in " ".join(call("bench", "list", "attribution").output.split())
    cards = {card["name"]: card for card in json.loads(call("bench", "list", "attribution", "--json").output)}
    assert cards["integrated_gradients"]["presets"]["xplique"]["rule"] == "trapezoid"


def test_schema_is_json_schema():
    assert "properties" in json.loads(call("bench", "schema").output)
