"""The utility protocol's promises, read from the frozen tables of a study with three conditions and four lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from bench.registry import LimenError
from bench.store import Artifact, Store
from stimuli.build import build
from stimuli.designs.utility import utility
from stimuli.protocol import Tables
from stimuli.records import StudyFile

DESIGN = {"size": 32, "lists": 4}


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "rules",
        "version": 1,
        "protocol": "utility",
        "title": "Rules",
        "run": "demo",
        "conditions": ("baseline", "control", "grad_cam"),
        "contact": "study@example.org",
        "design": DESIGN,
        "quota": 10,
    }
    return StudyFile(**{**facts, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("rules")
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="module")
def artifact(store: Store) -> Artifact:
    return build(_file(), store)


@pytest.fixture(scope="module")
def trials(artifact: Artifact) -> pd.DataFrame:
    table = artifact.rows("trials.parquet")
    return table.assign(payload=table["payload"].map(json.loads), answer=table["answer"].map(json.loads))


@pytest.fixture(scope="module")
def items(artifact: Artifact) -> pd.DataFrame:
    return artifact.rows("items.parquet").set_index("item_id")


def test_the_flow_is_practice_then_three_times_training_and_test(trials: pd.DataFrame) -> None:
    flow = {"practice": 4}
    for session in (1, 2, 3):
        flow |= {f"session {session} train": 5, f"session {session} test": 8}
    for _, cell in trials.groupby("cell"):
        ordered = cell.sort_values("position")
        assert list(Counter(ordered["block"]).items()) == list(flow.items())
        assert ordered["position"].tolist() == list(range(43))


def test_no_test_payload_holds_an_explanation_or_an_answer(trials: pd.DataFrame) -> None:
    for payload in trials.loc[trials["phase"] != "train", "payload"]:
        assert payload["explanation"] is None
        assert payload["predicted"] is None


def test_the_ground_truth_is_in_no_payload(artifact: Artifact, trials: pd.DataFrame, items: pd.DataFrame) -> None:
    allowed = {
        "phase", "image", "explanation", "predicted", "options", "reservoir", "feedback",
        "lockout_ms", "session", "session_count", "index", "count",
    }  # fmt: skip
    for row in trials.itertuples():
        assert set(row.payload) == allowed
        assert {key for example in row.payload["reservoir"] for key in example} <= {"image", "explanation", "predicted"}
    truths = dict(zip(items["picture"], items["label"], strict=True))
    told = [(p["image"], p["predicted"]) for p in trials.loc[trials["phase"] == "train", "payload"]]
    assert sum(truths[image] == predicted for image, predicted in told) == round(len(told) * 8 / 15)


def test_training_tells_the_models_answer_and_asks_nothing(trials: pd.DataFrame, items: pd.DataFrame) -> None:
    for row in trials[trials["phase"] == "train"].itertuples():
        assert row.payload["predicted"] == items.loc[row.item_id, "predicted"]
        assert row.payload["options"] == []
        assert row.answer == {}


def test_the_expected_answer_is_the_models_not_the_truth(trials: pd.DataFrame, items: pd.DataFrame) -> None:
    asked = trials[trials["phase"] == "test"]
    for row in asked.itertuples():
        assert row.answer["expected"] == items.loc[row.item_id, "predicted"]
        assert row.answer["label"] == items.loc[row.item_id, "label"]
    assert any(row.answer["expected"] != row.answer["label"] for row in asked.itertuples())


def test_test_images_are_not_training_images_but_for_catch_trials(trials: pd.DataFrame) -> None:
    for _, cell in trials.groupby("cell"):
        images = cell["payload"].map(lambda payload: payload["image"])
        train = set(images[cell["phase"] == "train"])
        new = images[(cell["phase"] == "test") & ~cell["is_catch"]]
        assert not train & set(new)
        assert len(set(new)) == 21
        assert set(images[cell["is_catch"]]) <= train


def test_a_catch_image_stands_in_the_reservoir_with_its_answer(trials: pd.DataFrame) -> None:
    caught = trials[trials["is_catch"]]
    assert caught.groupby("cell").size().tolist() == [3] * 12
    for row in caught.itertuples():
        answers = [seen["predicted"] for seen in row.payload["reservoir"] if seen["image"] == row.payload["image"]]
        assert answers == [row.answer["expected"]]


def test_a_catch_trial_looks_like_any_other(trials: pd.DataFrame) -> None:
    asked = trials[trials["phase"] == "test"]
    shapes = {
        (is_catch, tuple(sorted(payload)))
        for is_catch, payload in zip(asked["is_catch"], asked["payload"], strict=True)
    }
    assert len({shape for _, shape in shapes}) == 1
    assert len({payload["index"] for payload in asked.loc[asked["is_catch"], "payload"]}) > 1


def test_half_of_the_images_of_every_list_are_model_wrong(trials: pd.DataFrame, items: pd.DataFrame) -> None:
    new = trials[(trials["phase"] != "practice") & ~trials["is_catch"]]
    wrong = ~new["item_id"].map(items["model_correct"]).astype(bool)
    assert wrong.groupby(new["cell"]).sum().tolist() == [18] * 12
    assert wrong[new["phase"] == "test"].groupby(new["cell"]).sum().tolist() == [11] * 12


@pytest.mark.parametrize(("share", "wrong"), [(0.0, 0), (0.25, 9), (0.4, 14), (0.625, 23)])
def test_another_wrong_share_is_kept_too(store: Store, share: float, wrong: int) -> None:
    study = _file(study=f"share-{wrong}", conditions=("baseline", "grad_cam"), design={**DESIGN, "wrong_share": share})
    made = build(study, store)
    table = made.rows("items.parquet")
    assert (~table.loc[table["role"] == "main", "model_correct"]).sum() == wrong


def test_all_conditions_of_a_list_show_the_same_images_in_the_same_order_and_sides(trials: pd.DataFrame) -> None:
    for _, rows in trials.groupby("list"):
        scripts = [
            [(row.item_id, row.is_catch, row.payload["image"], row.payload["options"]) for row in cell.itertuples()]
            for _, cell in rows.sort_values("position").groupby("condition")
        ]
        assert len(scripts) == 3
        assert scripts[0] == scripts[1] == scripts[2]


def test_explanations_differ_by_condition_and_the_baseline_has_none(trials: pd.DataFrame) -> None:
    train = trials[trials["phase"] == "train"]
    shown = {name: [p["explanation"] for p in part["payload"]] for name, part in train.groupby("condition")}
    assert set(shown["baseline"]) == {None}
    assert None not in shown["control"] + shown["grad_cam"]
    assert not set(shown["control"]) & set(shown["grad_cam"])


def test_the_reservoir_is_exactly_the_training_so_far(trials: pd.DataFrame) -> None:
    for _, cell in trials.groupby("cell"):
        seen: list[dict[str, Any]] = []
        sizes = []
        for row in cell.sort_values("position").itertuples():
            if row.phase == "train":
                assert row.payload["reservoir"] == []
                assert row.k_seen == len(seen)
                seen.append({name: row.payload[name] for name in ("image", "explanation", "predicted")})
            if row.phase == "test":
                assert row.payload["reservoir"] == seen
                assert row.k_seen == len(seen)
                sizes.append(len(seen))
        assert list(dict.fromkeys(sizes)) == [5, 10, 15]


def test_neither_class_nor_side_tells_the_answer(trials: pd.DataFrame) -> None:
    for (_, block), rows in trials.groupby(["cell", "block"]):
        if block.endswith("train"):
            counts = Counter(payload["predicted"] for payload in rows["payload"])
        else:
            counts = Counter(answer["expected"] for answer in rows["answer"])
            left = sum(p["options"][0] == a["expected"] for p, a in zip(rows["payload"], rows["answer"], strict=True))
            assert abs(2 * left - len(rows)) <= 1
        assert abs(counts.most_common(2)[0][1] - counts.most_common(2)[-1][1]) <= 1


def test_practice_is_about_other_pictures_and_other_classes_and_tells_the_answer(
    trials: pd.DataFrame, items: pd.DataFrame
) -> None:
    practice = trials[trials["phase"] == "practice"]
    main = set(items.loc[items["role"] == "main", "picture"])
    for payload in practice["payload"]:
        assert payload["feedback"] is True
        assert payload["image"] not in main
        assert payload["image"] not in {example["image"] for example in payload["reservoir"]}
        assert sorted(payload["options"]) == ["circle", "square"]
    assert not any(payload["feedback"] for payload in trials.loc[trials["phase"] != "practice", "payload"])


def test_the_truth_passes_half_of_practice_only(trials: pd.DataFrame) -> None:
    one = trials[(trials["phase"] == "practice") & (trials["cell"] == "baseline-1")]
    assert sum(answer["expected"] == answer["label"] for answer in one["answer"]) == 2


def test_trial_ids_are_unique_and_say_nothing(trials: pd.DataFrame) -> None:
    assert trials["trial_id"].is_unique
    assert trials["trial_id"].str.fullmatch("t[0-9a-f]{16}").all()


def test_quotas_add_up_to_the_conditions_quota(artifact: Artifact) -> None:
    cells = artifact.rows("cells.parquet")
    assert cells.groupby("condition")["quota"].sum().to_dict() == {"baseline": 10, "control": 10, "grad_cam": 10}
    assert cells["quota"].between(2, 3).all()


def test_the_manifest_reports_the_pool(artifact: Artifact) -> None:
    kinds = artifact.summary["pool"]["kinds"]
    assert [kind["available"] for kind in kinds] == [24] * 4
    assert [kind["chosen"] for kind in kinds] == [9] * 4


def _audit(artifact: Artifact, trials: pd.DataFrame) -> list[str]:
    study, options = StudyFile.model_validate(artifact.config["file"]), artifact.config["design"]["options"]
    return utility.audit(  # type: ignore[attr-defined,no-any-return]
        Tables(study, options, trials, artifact.rows("cells.parquet"), artifact.rows("items.parquet"))
    )


def _edited(table: pd.DataFrame, where: pd.Series, **changes: Any) -> pd.DataFrame:
    table = table.copy()
    row = table.index[where][0]
    table.loc[row, "payload"] = json.dumps({**json.loads(table.loc[row, "payload"]), **changes})
    return table


@pytest.mark.parametrize(
    ("phase", "changes", "fault"),
    [
        ("test", {"explanation": "0" * 64}, "sends an explanation"),
        ("test", {"predicted": "boat"}, "sends an explanation or the model's answer"),
        ("test", {"reservoir": []}, "the reservoir is not the 5 training examples"),
        ("test", {"label": "boat"}, "more or less than the payload allows"),
        ("test", {"options": ["x", "y"]}, "does not expect the model's answer"),
        ("train", {"predicted": "other"}, "does not tell the model's answer"),
        ("train", {"image": "0" * 64}, "another picture than its item's"),
    ],
)
def test_the_audit_finds_a_broken_trial(artifact: Artifact, phase: str, changes: dict[str, Any], fault: str) -> None:
    table = artifact.rows("trials.parquet")
    assert _audit(artifact, table) == []
    assert any(fault in one for one in _audit(artifact, _edited(table, table["phase"] == phase, **changes)))


def test_the_audit_finds_a_dropped_and_a_repeated_trial(artifact: Artifact) -> None:
    table = artifact.rows("trials.parquet")
    assert any("planned are" in fault for fault in _audit(artifact, table.drop(index=table.index[-1])))
    twice = pd.concat([table, table.iloc[[7]]])
    assert any("planned are" in fault for fault in _audit(artifact, twice))


def test_a_pool_without_enough_model_wrong_images_is_refused_in_one_sentence(
    tmp_path: Any, fake_run: Callable[..., Artifact]
) -> None:
    fake_run(tmp_path, conflicts=7)
    with pytest.raises(LimenError) as refused:
        build(_file(), Store(tmp_path))
    assert str(refused.value) == (
        "study 'rules', run 'demo': the design needs 18 images that the model gets wrong (9 answered 'boat', 9 answered "
        "'kite') but the run has 7 (3, 4); give the plan more images, or lower sessions, train or test, or change "
        "wrong_share."
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"conditions": ("control", "grad_cam")}, "'baseline' must be among them"),
        ({"conditions": ("baseline", "grad_cams")}, "unknown name 'grad_cams'.*did you mean 'grad_cam'?"),
        ({"design": {**DESIGN, "control": "image_gradients"}}, "design.control.*did you mean 'image_gradient'?"),
        ({"design": {**DESIGN, "catch": 5, "train": 4}}, "design.catch.*given 5, allowed is at most train = 4"),
        ({"quota": 3}, "key 'quota': given 3, allowed is at least lists = 4"),
        (
            {"design": {**DESIGN, "classes": ["boat", "ship"]}},
            "given boat, ship; allowed are two different ones of boat, kite",
        ),
        ({"run": "demos"}, "runs by name: unknown name 'demos'; allowed are demo; did you mean 'demo'?"),
    ],
)
def test_a_study_that_cannot_be_drawn_is_refused(store: Store, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LimenError, match=sentence):
        build(_file(study="refused", **changes), store)


def test_copies_of_one_picture_are_chosen_once(artifact: Artifact, store: Store) -> None:
    from stimuli.build import draw, plan

    made = plan(_file(study="copies"), store)
    # A cached property: what is in the instance's dictionary is what it gives.
    vars(made.material)["images"] = made.material.images.assign(sha256="same")
    with pytest.raises(LimenError, match=r"the run has 0"):
        draw(made)
