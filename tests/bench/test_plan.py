"""A plan is checked whole before any work starts, and its lists multiply into cells."""

from __future__ import annotations

import pytest

from bench.plan import expand, expand_dictionaries, load_plan, registered_name
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
    assert [method.label for method in methods] == ["saliency", "rise (masks=20)", "rise (masks=30)"]
    assert methods[1].changed == "masks=20, side=4"
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


CONCEPTS = """
name: small
network: tiny@digits
concepts:
  images: {set: collages, n: 4}
  layers: [stage4]
  k: [4, 8]
  dictionaries: [neurons, pca, {nmf: {k: [2, 3], iterations: 5}}, {random: {k: 6}}]
  metrics: [reconstruction_r2]
  attributions: [occlusion]
  attribution_metrics: [deletion]
  evaluator: tiny@digits_deletion
  positions: true
  untrained: true
"""


def test_a_plan_of_concepts_alone_is_valid(tmp_path):
    plan = load(tmp_path, CONCEPTS)
    assert plan.attributions == ()
    assert plan.images is None
    assert plan.concept_networks == ("tiny@digits",)


def test_several_k_multiply_and_an_entry_may_have_its_own(tmp_path):
    spec = load(tmp_path, CONCEPTS).concepts
    found = [(method.label, method.k) for method in expand_dictionaries(spec)]
    assert found == [
        ("neurons", None),
        ("pca (k=4)", 4),
        ("pca (k=8)", 8),
        ("nmf (k=2)", 2),
        ("nmf (k=3)", 3),
        ("random", 6),
    ]
    assert "k" not in expand_dictionaries(spec)[3].options


def test_one_k_leaves_names_bare(tmp_path):
    spec = load(
        tmp_path, CONCEPTS.replace("[4, 8]", "4").replace(", {nmf: {k: [2, 3], iterations: 5}}, {random: {k: 6}}", "")
    ).concepts
    assert spec.k == (4,)
    assert [method.label for method in expand_dictionaries(spec)] == ["neurons", "pca"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("positions:", "position:"),
            r"key 'concepts.position': unknown name 'position'; .*did you mean 'positions'\?",
        ),
        (("untrained:", "untrain:"), r"key 'concepts.untrain': .*did you mean 'untrained'\?"),
        (("evaluator:", "evaluater:"), r"key 'concepts.evaluater': .*did you mean 'evaluator'\?"),
        (
            ("attribution_metrics:", "attribution_metric:"),
            r"key 'concepts.attribution_metric': .*'attribution_metrics'\?",
        ),
        (("  attributions:", "  attribution:"), r"key 'concepts.attribution': .*did you mean 'attributions'\?"),
        (("[occlusion]", "[oclusion]"), r"key 'concepts.attributions'\[0\], attribution: .*did you mean 'occlusion'\?"),
        (("[deletion]", "[deletoin]"), r"key 'concepts.attribution_metrics'\[0\], metric: .*did you mean 'deletion'\?"),
        (("[deletion]", "[{deletion: {step: 3}}]"), r"attribution_metrics'\[0\], deletion, option: .*'steps'\?"),
        (
            ("[occlusion]", "[grad_cam]"),
            r"key 'concepts.attributions': 'grad_cam' knows pixels alone; allowed are .*saliency",
        ),
        (("[deletion]", "[pointing_game]"), r"attribution_metrics': 'pointing_game' knows pixels alone; .*deletion"),
        (("[deletion]", "[dictionary_stability]"), r"is a metric of dictionary; allowed here are metrics of maps"),
        (("[occlusion]", "[]"), r"key 'concepts.attributions': nothing was given; the attribution_metrics need one"),
        (("k: [4, 8]", "k: [4, 0]"), r"key 'concepts.k.1': given 0"),
        (("k: [4, 8]", "k: []"), r"key 'concepts.k': given \[\]"),
        (("k: [2, 3]", "k: [2, few]"), r"nmf, option 'k': given 'few', allowed is a whole number of 1 or more"),
        (("[neurons,", "[{neurons: {k: 3}},"), r"neurons, option: unknown name 'k'"),
        (
            ("[neurons,", "[neurons, pcca,"),
            r"dictionaries'\[1\], dictionary: unknown name 'pcca'; .*did you mean 'pca'\?",
        ),
        (("[neurons,", "[neurons, pca,"), r"'pca \(k=4\)' is listed twice"),
    ],
)
def test_each_typo_in_the_concepts_is_one_sentence(tmp_path, change, sentence):
    text = CONCEPTS
    assert change[0] in text
    with pytest.raises(LimenError, match=sentence) as caught:
        load(tmp_path, text.replace(*change))
    assert "\n" not in str(caught.value)


def test_attributions_need_images_and_a_plan_needs_something_to_do(tmp_path):
    with pytest.raises(LimenError, match="key 'images': nothing was given; the attributions need pictures"):
        load(tmp_path, GOOD.replace("images: {set: digits, n: 4}\n", ""))
    with pytest.raises(LimenError, match="key 'attributions': nothing was given; .* a plan of concepts"):
        load(tmp_path, "name: small\nnetwork: tiny@digits\n")


def test_the_name_behind_a_label_is_found():
    labels = ["deletion", "deletion (steps=8)", "C-deletion", "C-deletion (steps=8) by rise (masks=20)"]
    assert {registered_name(label) for label in labels} == {"deletion"}
