"""A plan is checked whole before any work starts, and its lists multiply into cells."""

from __future__ import annotations

import pytest

from bench.plan import expand, load_plan
from bench.registry import ATTRIBUTIONS, LimenError

GOOD = """
name: small
network: tiny@digits
images: {set: digits, n: 4}
attributions: [saliency, {rise: {masks: [20, 30], side: 4}}]
metrics: [deletion]
"""


def load(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return load_plan(path)


def test_one_network_may_be_given_as_text(tmp_path):
    assert load(tmp_path, GOOD).network == ("tiny@digits",)


def test_a_list_of_values_multiplies_into_methods(tmp_path):
    methods = expand(load(tmp_path, GOOD).attributions, ATTRIBUTIONS, "here")
    assert [method.label for method in methods] == ["saliency", "rise (masks=20, side=4)", "rise (masks=30, side=4)"]
    assert methods[1].options["p"] == 0.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("saliency", "salience"),
            r"key 'attributions'\[0\], attribution: unknown name 'salience'; .*did you mean 'saliency'\?",
        ),
        (("masks", "maks"), r"key 'attributions'\[1\], rise, option: unknown name 'maks'; .*did you mean 'masks'\?"),
        (("[20, 30]", "many"), r"key 'attributions'\[1\], rise, option 'masks': given 'many'"),
        (
            ("[deletion]", "[delection]"),
            r"key 'metrics'\[0\], metric: unknown name 'delection'; .*did you mean 'deletion'\?",
        ),
        (
            ("[deletion]", "[identifiability]"),
            r"'identifiability' is a metric of dictionary; allowed here are metrics of maps",
        ),
        (("metrics:", "metricks:"), r"key 'metricks': unknown name 'metricks'; .*did you mean 'metrics'\?"),
        (("name: small", "name: Small Plan"), r"key 'name': given 'Small Plan'"),
        (("[saliency,", "[saliency, saliency,"), r"'saliency' is listed twice"),
        (("n: 4", "n: 0"), r"key 'images.n': given 0"),
        (("name: small", "name: small\nspace: pixles"), r"key 'space', space: unknown name 'pixles'; .*'pixels'\?"),
        (("side: 4", "preset: xplik"), r"rise, option 'preset': unknown name 'xplik'; .*did you mean 'xplique'\?"),
    ],
)
def test_each_typo_is_one_sentence_before_any_work(tmp_path, change, sentence):
    with pytest.raises(LimenError, match=sentence) as caught:
        load(tmp_path, GOOD.replace(*change))
    assert "\n" not in str(caught.value)
