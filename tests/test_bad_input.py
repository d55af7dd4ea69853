"""Bad input meets the whole command line: one clear sentence, a non-zero exit, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from bench.cli import limen
from bench.images import encode_png

PLAN = """
name: faulty
network: NETWORK
images: {set: "IMAGES", n: 4}
attributions: [saliency]
metrics: [sparseness]
"""
MODULE = """
import torch

class Poisoned(torch.nn.Module):
    def __init__(self, bad):
        super().__init__()
        self.bad = bad
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, images):
        logits = self.linear(images.mean((2, 3)))
        return logits * float("nan") if self.bad else logits

def poisoned():
    return Poisoned(True)

def sound():
    torch.manual_seed(0)
    return Poisoned(False)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_network.py").write_text(MODULE)
    for name in ("left", "right"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(8):
            pixels = np.full((16, 16, 3), 30 * index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path


def run(place, network="my_network:sound", images="folder:pictures", change=("", "")):
    text = PLAN.replace("NETWORK", network).replace("IMAGES", images)
    (place / "plan.yaml").write_text(text.replace(*change) if change[0] else text)
    return CliRunner().invoke(limen, ["bench", "run", "plan.yaml", "--store", "store", "--device", "cpu"])


def refused(done, *parts):
    sentences = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.exit_code == 1, done.output
    assert len(sentences) == 1
    assert "Traceback" not in done.output
    for part in parts:
        assert part in sentences[0]


def kept(store):
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_the_sound_case_runs(place):
    done = run(place)
    assert done.exit_code == 0, done.output
    assert "saliency" in done.output


def test_unknown_method(place):
    refused(run(place, change=("saliency", "salliency")), "plan.yaml", "salliency", "did you mean 'saliency'?")
    assert not (place / "store").exists()


def test_yaml_typo(place):
    refused(run(place, change=("metrics:", "metric:")), "plan.yaml, key 'metric'", "did you mean 'metrics'?")
    refused(run(place, change=("[saliency]", "[saliency")), "plan.yaml, line", "not valid YAML")


def test_unreadable_image_is_named_and_earlier_work_stays(place):
    run(place)
    before = kept(place / "store")
    for picture in (place / "pictures" / "left").iterdir():
        picture.write_bytes(encode_png(np.zeros((16, 16, 3), np.uint8))[:50])
    refused(run(place), "left/", ".png: cannot be read as a picture")
    assert kept(place / "store") == before


def test_network_that_answers_nan_is_named_and_earlier_work_stays(place):
    run(place)
    before = kept(place / "store")
    refused(run(place, network="my_network:poisoned"), "my_network:poisoned", "not finite")
    after = kept(place / "store")
    assert {name: after[name] for name in before} == before
    assert not [name for name in set(after) - set(before) if name.startswith(("scores", "runs"))]


def test_checkpoint_of_the_wrong_shape(place):
    save_file({"linear.weight": torch.zeros(5, 3), "linear.bias": torch.zeros(5)}, place / "weights.safetensors")
    refused(
        run(place, network="my_network:sound:weights.safetensors"),
        "weights.safetensors",
        "do not fit",
        "'linear.bias' is (5,) where the network has (2,)",
    )


def test_missing_function_in_a_module(place):
    refused(run(place, network="my_network:sund"), "sund", "did you mean 'sound'?")


def test_export_with_a_missing_column(place):
    (place / "answers.csv").write_text("participant_id,condition\np1,baseline\np2,grad_cam\n")
    done = CliRunner().invoke(limen, ["analyze", "report", "answers.csv", "-o", "report"])
    refused(done, "answers.csv", "correct")
    assert not (place / "report").exists()


def test_nothing_is_overwritten_by_a_picture_or_a_report(place):
    run(place)
    (place / "map.png").write_bytes(b"mine")
    explain = ["bench", "explain", "--network", "my_network:sound", "--images", "folder:pictures"]
    done = CliRunner().invoke(limen, [*explain, "--method", "saliency", "-o", "map.png"])
    refused(done, "map.png", "nothing is overwritten")
    assert (place / "map.png").read_bytes() == b"mine"
    (place / "page").mkdir()
    (place / "page" / "notes.txt").write_text("mine")
    done = CliRunner().invoke(limen, ["bench", "report", "plan.yaml", "--store", "store", "-o", "page"])
    refused(done, "page", "nothing is overwritten")
