"""The scenarios, concepts and regions of the utility protocol: rules that follow from the run, and an audit that finds them broken."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.registry import LimenError
from bench.store import Artifact, Store
from stimuli.build import build, draw, plan, verify
from stimuli.designs._utility_regions import excess
from stimuli.designs._utility_scenarios import choose, evidence
from stimuli.designs.utility import utility
from stimuli.protocol import Drawn, Tables
from stimuli.records import StudyFile
from stimuli.study import load_study

DESIGN: dict[str, Any] = {"scenario": "bias", "size": 64, "lists": 2, "concepts": 3, "crops": 2}
CONDITIONS = ("baseline", "control", "grad_cam", "craft")


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "scenario", "version": 1, "protocol": "utility", "title": "Scenario", "run": "demo", "quota": 4,
        "conditions": CONDITIONS, "contact": "study@example.org", "design": DESIGN,
    }  # fmt: skip
    return StudyFile(**{**facts, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("scenarios")
    fake_run(root, n=160, craft=True)
    return Store(root)


@pytest.fixture(scope="module")
def artifact(store: Store) -> Artifact:
    return build(_file(), store)


@pytest.fixture(scope="module")
def tables(artifact: Artifact) -> Tables:
    pool = json.loads(artifact.file("protocol.json").read_text(encoding="utf-8"))["pool"]
    return Tables(
        StudyFile.model_validate(artifact.config["file"]),
        artifact.config["design"]["options"],
        artifact.rows("trials.parquet"),
        artifact.rows("cells.parquet"),
        artifact.rows("items.parquet"),
        pool,
    )


def _items(tables: Tables) -> pd.DataFrame:
    return tables.items[tables.items["role"] == "main"]


def _facts(tables: Tables) -> dict[str, dict[str, Any]]:
    main = _items(tables)
    return dict(zip(main["item_id"], main["facts"].map(json.loads), strict=True))


def _material(store: Store) -> Any:
    return plan(_file(), store).material


def _audit(tables: Tables) -> list[str]:
    return utility.audit(tables)  # type: ignore[attr-defined,no-any-return]


def _answers(shares: dict[tuple[str, str], int]) -> pd.DataFrame:
    """Return images of given (true class, answer) counts."""
    rows = [pair for pair, count in shares.items() for _ in range(count)]
    table = pd.DataFrame(rows, columns=["class_name", "predicted_class"])
    return table.assign(correct=table["class_name"] == table["predicted_class"], group="", index=range(len(table)))


class _Grey:
    """A material of grey pictures: all a rule without a look at pictures needs."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures = pictures


def _blank(n: int) -> Any:
    return _Grey(np.zeros((n, 8, 8, 3), dtype=np.uint8))


def test_the_confusable_pair_is_the_one_that_exchanges_the_largest_share() -> None:
    images = _answers(
        {("a", "a"): 90, ("a", "b"): 4, ("b", "b"): 90, ("b", "a"): 4, ("c", "c"): 30, ("c", "a"): 7, ("c", "b"): 2}
    )
    rows = evidence(_blank(len(images)), images, "confusable")
    assert {(row["first"], row["second"]): row["exchanged"] for row in rows} == {
        ("a", "b"): 8,
        ("a", "c"): 7,
        ("b", "c"): 2,
    }
    # 8 of 188, 7 of 133, 2 of 133: the pair a, c although a, b exchange more images.
    assert choose(rows, "confusable", {}) == ("a", "c")


def test_equal_pairs_are_chosen_by_name() -> None:
    images = _answers({("b", "c"): 1, ("b", "b"): 9, ("c", "c"): 10, ("a", "c"): 1, ("a", "a"): 9})
    assert choose(evidence(_blank(len(images)), images, "confusable"), "confusable", {}) == ("a", "c")


def test_no_pair_is_confusable_where_nothing_is_exchanged() -> None:
    images = _answers({("a", "a"): 5, ("b", "b"): 5})
    assert choose(evidence(_blank(len(images)), images, "confusable"), "confusable", {}) is None


def test_a_thousand_classes_are_searched_for_the_confusable_pair_alone() -> None:
    names = [f"class-{i:04d}" for i in range(1000)]
    images = _answers({**{(name, name): 1 for name in names}, ("class-0007", "class-0500"): 1})
    rows = evidence(_blank(1), images, "confusable")
    assert [(row["first"], row["second"], row["images"], row["right"]) for row in rows] == [
        ("class-0007", "class-0500", 3, 2)
    ]
    material = _blank(1)
    material.study = _file()
    with pytest.raises(LimenError, match="images of 1000 classes, allowed are 64 at most"):
        evidence(material, images, "expert_strategy")


def test_the_expert_pair_is_right_and_looks_alike() -> None:
    images = _answers({("a", "a"): 40, ("b", "b"): 40, ("c", "c"): 40, ("d", "d"): 30, ("d", "c"): 10})
    draws = np.random.default_rng(0)
    grey = images["class_name"].map({"a": 60, "b": 62, "c": 200, "d": 200}).to_numpy()
    pictures = np.clip(grey[:, None, None, None] + draws.normal(0, 9, (len(images), 16, 16, 3)), 0, 255).astype(
        np.uint8
    )
    rows = evidence(_Grey(pictures), images, "expert_strategy")  # type: ignore[arg-type]
    told = {(row["first"], row["second"]): row["naive"] for row in rows}
    assert told["a", "c"] == 1.0
    # c and d look the same, but the model does not tell them apart; a and b nearly the same, and it does.
    assert choose(rows, "expert_strategy", {"expert_accuracy": 0.95}) == ("a", "b")


def test_the_naive_look_leaves_the_image_out_of_its_own_mean() -> None:
    images = _answers({("a", "a"): 2, ("b", "b"): 2})
    values = np.array([0, 100, 40, 50], dtype=np.uint8)
    pictures = np.broadcast_to(values[:, None, None, None], (4, 8, 8, 3))
    row = evidence(_Grey(pictures), images, "expert_strategy")[0]  # type: ignore[arg-type]
    # 0: 100 away from the other a, 45 from the mean of b. 100: 100 against 55. 40: 10 against 10. 50: 10 against 0.
    assert row["naive"] == 0.0
    apart = np.broadcast_to(np.array([0, 10, 90, 100], dtype=np.uint8)[:, None, None, None], (4, 8, 8, 3))
    assert evidence(_Grey(apart), images, "expert_strategy")[0]["naive"] == 1.0  # type: ignore[arg-type]


def test_the_bias_scenario_shows_images_whose_answer_the_cue_accounts_for(tables: Tables) -> None:
    main = _items(tables)
    assert set(zip(main["group"], main["model_correct"], strict=True)) == {("congruent", True), ("conflict", False)}
    pairs = tables.pool["pairs"]
    assert [(row["congruent_right"], row["conflict_right"]) for row in pairs] == [(pairs[0]["congruent"], 0)]


def test_a_network_without_the_bias_is_refused(tmp_path: Any, fake_run: Callable[..., Artifact]) -> None:
    fake_run(tmp_path, n=160, conflicts=0)
    with pytest.raises(LimenError, match="given 'bias', and no pair of classes of run 'demo' fits \\(1 looked at\\)"):
        build(_file(conditions=("baseline", "grad_cam")), Store(tmp_path))


@pytest.mark.parametrize(
    ("design", "sentence"),
    [
        (
            {"classes": ["boat", "kite"]},
            "key 'design.classes': given boat, kite; in the scenario 'bias' a rule chooses",
        ),
        (
            {"scenario": "expert_strategy"},
            "'design.wrong_share': given 0.5; allowed in the scenario 'expert_strategy' is 0",
        ),
        (
            {"scenario": "expert_strategy", "wrong_share": 0},
            "given 'expert_strategy', and no pair of classes of run 'demo' fits",
        ),
        (
            {"region": "sky"},
            "key 'design.region', masks of run 'demo': unknown name 'sky'; allowed are background, object",
        ),
        ({"concepts": 5}, "given 4 concepts that 2 images outside the study hold, allowed are 5 or more"),
        ({"scenario": "biass"}, "biass"),
    ],
)
def test_options_that_do_not_fit_the_scenario_are_refused(store: Store, design: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LimenError) as refused:
        build(_file(study="refused", design={**DESIGN, **design}), store)
    assert sentence in str(refused.value)


def test_concepts_stand_in_the_order_of_their_weight_and_crops_are_of_other_images(tables: Tables) -> None:
    facts = _facts(tables)
    for held in facts.values():
        assert held["concepts"] == {"craft": [0, 1, 2]}
        for sources in held["crops_of"]["craft"]:
            assert len(set(sources)) == 2
            assert not set(sources) & set(facts)


def test_crops_are_the_parts_that_hold_the_concept_most(store: Store, tables: Tables) -> None:
    material = _material(store)
    tensors = material.artifact("concept_explanations/craft").tensors("concepts.safetensors")
    images = material.images.set_index("image_id")
    facts = _facts(tables)
    item = next(iter(facts))
    answered = images.loc[item, "predicted_class"]
    donors = [i for i in images.index if i not in facts and images.loc[i, "predicted_class"] == answered]
    best = sorted(donors, key=lambda name: -tensors["crop_codes"][images.loc[name, "index"], :, 1].max())[:2]
    assert facts[item]["crops_of"]["craft"][1] == best


def test_a_board_has_the_fixed_size_and_is_transparent_between_its_tiles(artifact: Artifact, tables: Tables) -> None:
    name = next(iter(_facts(tables).values()))["explanations"]["craft"]
    with Image.open(io.BytesIO(artifact.file(f"pictures/{name}.png").read_bytes())) as picture:
        assert picture.mode == "RGBA"
        pixels = np.asarray(picture)
    # Three columns of (64 - 2 x 2) / 3 = 20 pixels, two apart; three rows of the same.
    assert pixels.shape == (64, 64, 4)
    clear = np.zeros((64, 64), dtype=bool)
    for start in (20, 42):
        clear[start : start + 2] = clear[:, start : start + 2] = True
    assert np.array_equal(pixels[..., 3] == 0, clear)


@pytest.mark.parametrize("scope", ["image", "condition", "global"])
def test_every_scale_rule_draws_concepts_and_maps(store: Store, scope: str) -> None:
    design = {**DESIGN, "normalisation": scope, "train": 2, "test": 2, "sessions": 1, "lists": 1}
    drawn = draw(plan(_file(study=f"scope-{scope}", design=design), store))
    faces = [json.loads(item.facts)["explanations"] for item in drawn.items if item.role == "main"]
    assert all(set(face) == {"control", "grad_cam", "craft"} for face in faces)


def test_excess_is_nothing_for_an_even_map_and_the_rest_of_the_picture_for_a_map_inside() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4, :4] = True
    maps = np.stack([np.full((8, 8), 3.0), mask * -2.0, ~mask * 1.0, np.zeros((8, 8))])
    assert excess(maps, np.stack([mask] * 4)).tolist() == [0.0, 0.75, -0.25, 0.0]


def test_the_region_column_is_the_mean_of_the_examples_in_reach(store: Store, tables: Tables) -> None:
    material, facts = _material(store), _facts(tables)
    masks = material.artifact("images").tensors("masks.safetensors")["background"]
    maps = np.abs(material.maps("grad_cam", np.arange(len(masks))))
    order = dict(zip(material.images["image_id"], material.images["index"], strict=True))

    def share(item: str) -> float:
        one, mask = maps[order[item]], masks[order[item]] > 0
        return float(one[mask].sum() / one.sum() - mask.mean())

    trials = tables.trials[tables.trials["cell"] == "grad_cam-1"].sort_values("position")
    seen: list[str] = []
    for row in trials.to_dict("records"):
        if row["phase"] == "train":
            seen.append(row["item_id"])
        if row["phase"] == "test":
            assert json.loads(row["factors"])["region_mass"] == pytest.approx(
                np.mean([share(one) for one in seen]), abs=1e-5
            )
    assert facts[seen[0]]["region_mass"]["grad_cam"] == pytest.approx(share(seen[0]), abs=1e-5)
    bare = tables.trials[(tables.trials["condition"] == "baseline") & (tables.trials["phase"] == "test")]
    assert {json.loads(text)["region_mass"] for text in bare["factors"]} == {0.0}


def test_nothing_of_the_region_or_the_scenario_reaches_the_browser(tables: Tables) -> None:
    for payload in tables.trials["payload"]:
        assert not {"region_mass", "group", "scenario", "label"} & set(json.loads(payload))


def test_letters_hide_the_names_of_the_classes(store: Store) -> None:
    drawn = draw(plan(_file(study="letters", design={**DESIGN, "answers": "letters"}), store))
    main = [json.loads(row.payload) for row in drawn.trials if row.phase != "practice"]
    assert {option for payload in main for option in payload["options"]} == {"A", "B"}
    assert {example["predicted"] for payload in main for example in payload["reservoir"]} == {"A", "B"}
    text = json.dumps([json.loads(row.payload) for row in drawn.trials])
    assert "boat" not in text
    assert "kite" not in text


def test_the_pages_speak_of_concepts_only_where_some_are_shown(store: Store) -> None:
    bare = plan(_file(study="bare", conditions=("baseline", "grad_cam")), store).study.texts
    with_concepts = plan(_file(), store).study.texts
    assert "rows of small pictures" not in str(bare)
    assert "rows of small pictures" in str(with_concepts)


def test_the_set_names_its_scenario_and_holds(artifact: Artifact, tables: Tables) -> None:
    facts = json.loads(artifact.file("protocol.json").read_text(encoding="utf-8"))
    assert facts["rules"][0].startswith("Scenario 'bias': ")
    assert (facts["pool"]["scenario"], facts["pool"]["region"]) == ("bias", "background")
    assert _audit(tables) == []
    assert verify(artifact) == []


def test_the_same_seed_gives_the_same_pictures_and_another_one_others(store: Store) -> None:
    def made(seed: int) -> Drawn:
        design = {**DESIGN, "sessions": 1, "train": 2, "test": 2, "lists": 1}
        return draw(plan(_file(study="seed", seed=seed, design=design), store))

    one, again, other = made(3), made(3), made(4)
    assert one.pictures == again.pictures
    assert one.trials == again.trials
    assert one.pictures.keys() != other.pictures.keys()


def _edit_facts(tables: Tables, change: Callable[[dict[str, Any]], None]) -> Tables:
    items = tables.items.copy()
    row = items.index[items["role"] == "main"][0]
    facts = json.loads(items.loc[row, "facts"])
    change(facts)
    items.loc[row, "facts"] = json.dumps(facts)
    return replace(tables, items=items)


def _edit_items(tables: Tables, **values: Any) -> Tables:
    items = tables.items.copy()
    row = items.index[(items["role"] == "main") & items["model_correct"]][0]
    for name, value in values.items():
        items.loc[row, name] = value
    return replace(tables, items=items)


def _other_pair(tables: Tables) -> Tables:
    rival = {**tables.pool["pairs"][0], "first": "ant", "second": "bee"}
    return replace(tables, pool={**tables.pool, "pairs": [*tables.pool["pairs"], rival]})


def _factors(tables: Tables, **values: float) -> Tables:
    trials = tables.trials.copy()
    row = trials.index[(trials["phase"] == "test") & (trials["condition"] == "craft")][0]
    trials.loc[row, "factors"] = json.dumps(values)
    return replace(tables, trials=trials)


def _swapped(tables: Tables) -> Tables:
    trials = tables.trials.copy()
    row = trials.index[(trials["phase"] == "train") & (trials["condition"] == "craft")][0]
    facts = _facts(tables)[trials.loc[row, "item_id"]]
    payload = json.loads(trials.loc[row, "payload"]) | {"explanation": facts["explanations"]["grad_cam"]}
    trials.loc[row, "payload"] = json.dumps(payload)
    return replace(tables, trials=trials)


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        (_other_pair, "its rule gives ant, bee"),
        (lambda t: replace(t, pool={**t.pool, "pairs": []}), "its rule gives none"),
        (lambda t: _edit_items(t, group="conflict"), "the cue does not account for the answer"),
        (lambda t: _edit_items(t, label="ship"), "is of class 'ship'"),
        (lambda t: _edit_items(t, model_correct=False), "is marked as wrong and is not"),
        (lambda t: _edit_facts(t, lambda f: f["concepts"].update(craft=[0, 0, 1])), "not 3 different ones"),
        (lambda t: _edit_facts(t, lambda f: f["crops_of"]["craft"][0].append("more")), "not of 2 different images"),
        (
            lambda t: _edit_facts(t, lambda f: f["crops_of"].update(craft=[[n, "x"] for n in list(_facts(t))[:3]])),
            "a crop is cut from",
        ),
        (_swapped, "shows another explanation than its item's under 'craft'"),
        (lambda t: _factors(t, region_mass=0.9), "has region_mass 0.9"),
        (lambda t: _factors(t), "has region_mass None"),
        (lambda t: replace(t, pool={k: v for k, v in t.pool.items() if k != "region"}), "without the other"),
    ],
)
def test_the_audit_finds_each_planted_violation(
    tables: Tables, planted: Callable[[Tables], Tables], fault: str
) -> None:
    assert any(fault in one for one in _audit(planted(tables)))


@pytest.mark.parametrize("name", ["utility_bias", "utility_confusable", "utility_expert"])
def test_the_study_files_of_the_scenarios_are_read(name: str) -> None:
    assert load_study(f"configs/studies/{name}.yaml").protocol == "utility"


def test_the_scenarios_need_neither_torch_nor_flask() -> None:
    code = (
        "import sys, stimuli.designs.utility\n"
        "assert not {'torch', 'flask'} & set(sys.modules), sorted({'torch', 'flask'} & set(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
