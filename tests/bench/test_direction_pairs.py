"""Direction pairs: detectors and signal vectors found without labels, judged on the generator that planted them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bench.api import fit_dictionary
from bench.dictionaries import _pair_losses as losses
from bench.dictionaries._directions import logistic_filters, oracle_filters, positive_signals
from bench.dictionaries.direction_pairs import REFERENCE, WEIGHTS
from bench.engine import Draws
from bench.engine.activations import Activations
from bench.engine.minimise import Schedule, minimise
from bench.registry import DICTIONARIES, LimenError, resolve_options
from bench.spaces.dictionary import Dictionary
from bench.zoo.direction_pairs import COSINES, DirectionPairs, direction_pairs

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))
import planted_pairs

QUICK = {"starts": 2, "epochs": (3, 2, 2)}


@pytest.fixture(scope="module", params=["paper", "isotropic"])
def planted(request: pytest.FixtureRequest) -> DirectionPairs:
    return direction_pairs(0, geometry=request.param)


@pytest.fixture(scope="module")
def found(planted: DirectionPairs) -> Dictionary:
    return fit_dictionary("direction_pairs", planted.train_maps, 3, head=planted.head)


def partners(found: Dictionary, planted: DirectionPairs) -> list[int]:
    """The atom of each true signal."""
    cosines = (planted.planted.atoms @ found.atoms.T).abs().numpy()
    return linear_sum_assignment(cosines, maximize=True)[1].tolist()


def small(seed: int = 0) -> DirectionPairs:
    return direction_pairs(seed, images=40, test_images=20)


def test_the_generator_has_the_published_geometry() -> None:
    planted = direction_pairs(3).planted
    directions = torch.cat([planted.atoms, planted.extra["distractors"]])
    torch.testing.assert_close(directions @ directions.T, torch.tensor(COSINES), atol=1e-5, rtol=0)


def test_each_position_shows_one_concept_and_each_image_the_pair_of_its_class() -> None:
    pairs = small()
    assert (pairs.train_labels.sum(dim=2) == 1).all()
    held = pairs.train_labels.any(dim=1)
    assert (held.sum(dim=1) == 2).all()
    absent = (~held).int().argmax(dim=1)
    torch.testing.assert_close(absent, 2 - pairs.train_classes)
    torch.testing.assert_close(pairs.planted.truth().train_support, pairs.train_labels.flatten(0, 1))
    assert pairs.train_classes.bincount().tolist() == [40, 40, 40]


def test_the_amounts_are_what_filters_that_see_nothing_else_read() -> None:
    planted = small().planted
    filters = oracle_filters(torch.cat([planted.atoms, planted.extra["distractors"]]), 3)
    read = (planted.train - planted.offset) @ filters.T
    torch.testing.assert_close(read, planted.train_codes, atol=1e-4, rtol=0)


def test_a_seed_fixes_the_truth_and_a_sample_the_training_images() -> None:
    first, second, other = small(1), direction_pairs(1, 1, images=40, test_images=20), small(2)
    assert torch.equal(first.planted.atoms, second.planted.atoms)
    assert torch.equal(first.test_maps, second.test_maps)
    assert not torch.equal(first.train_maps, second.train_maps)
    assert not torch.equal(first.planted.atoms, other.planted.atoms)


def test_the_head_reaches_what_a_linear_head_can(planted: DirectionPairs) -> None:
    # With the true pooled amounts, the absent concept is the smallest: 92.5 % is right, not the 99 % that were published.
    amounts = planted.planted.test_codes.reshape(-1, 2, 3).mean(dim=1)
    best = float(((2 - amounts.argmin(dim=1)) == planted.test_classes).float().mean())
    assert planted.head_accuracy == pytest.approx(best, abs=0.02)
    assert 0.9 < planted.head_accuracy < 0.95


def test_images_of_the_generator_are_concept_data() -> None:
    data = small().concept_data()
    assert data.test_position_labels.shape == (60, 2, 3)
    torch.testing.assert_close(data.test_position_labels.any(dim=1), data.test_labels)
    torch.testing.assert_close(data.head(data.test_maps).argmax(dim=1), data.targets)


@pytest.mark.parametrize(("option", "value"), [("d", 4), ("images", 1), ("test_images", 0)])
def test_the_generator_refuses_sizes_out_of_range(option: str, value: int) -> None:
    with pytest.raises(LimenError, match=f"option '{option}': given {value}, allowed is"):
        direction_pairs(0, **{option: value})


def test_the_generator_refuses_another_geometry() -> None:
    with pytest.raises(LimenError, match="did you mean 'paper'"):
        direction_pairs(0, geometry="papre")  # type: ignore[arg-type]


@pytest.mark.long
def test_signal_vectors_are_found_without_labels(planted: DirectionPairs, found: Dictionary) -> None:
    """One fit, on whatever processor; docs/planted.md has the mean over seeds."""
    assert planted_pairs.matched(found.atoms, planted.planted.atoms) >= 0.98


def test_detectors_mark_their_concept_and_no_other(planted: DirectionPairs, found: Dictionary) -> None:
    says = found.encode(planted.planted.test)[:, partners(found, planted)] > 0
    truth = planted.test_labels.flatten(0, 1)
    both = says.float().T @ truth.float()
    union = says.sum(dim=0)[:, None] + truth.sum(dim=0) - both
    overlap = both / union
    assert overlap.diagonal().min() > 0.9
    assert (overlap - overlap.diagonal().diag()).max() < 0.05


def test_codes_are_the_amount_above_the_boundary(planted: DirectionPairs, found: Dictionary) -> None:
    codes = found.encode(planted.planted.test)[:, partners(found, planted)]
    amounts = (planted.planted.test_codes - 2.5).clamp_min(0)
    assert float((codes - amounts).abs().mean()) < 0.1


def test_the_sigmoid_of_the_detectors_crosses_one_half_where_codes_begin(found: Dictionary) -> None:
    rows = 10 + 3 * Draws(0).normal(500, 16)
    answers = (rows - found.mean) @ found.parameters["filters"].T + found.parameters["bias"]
    assert torch.equal(found.encode(rows) > 0, answers.sigmoid() > 0.5)


def test_labels_do_not_give_cavs_the_signals_that_regression_on_positives_gives(planted: DirectionPairs) -> None:
    score = {
        name: planted_pairs.matched(v, planted.planted.atoms) for name, v in planted_pairs.supervised(planted).items()
    }
    assert score["signals, oracle filters"] > 0.99
    assert score["signals, logistic filters"] > 0.98
    for name in ("CAV (logistic filters)", "Pattern-CAV", "pattern of the filters, all rows"):
        assert score[name] < 0.95


def test_other_dictionaries_do_not_find_the_signals(planted: DirectionPairs) -> None:
    for name, atoms in planted_pairs.unsupervised(planted, 0).items():
        assert planted_pairs.matched(atoms, planted.planted.atoms) < 0.9, name


def test_positive_signals_are_the_regression_over_positives() -> None:
    rows, answers = Draws(0).normal(200, 4).double() + 100, Draws(1).normal(200, 2).double()
    present = answers > 0.3
    expected = []
    for one in range(2):
        kept = present[:, one]
        design = torch.stack([torch.ones(int(kept.sum())).double(), answers[kept, one]], dim=1)
        expected.append(torch.linalg.lstsq(design, rows[kept]).solution[1])
    torch.testing.assert_close(positive_signals(rows, answers, present), torch.stack(expected))


def test_a_concept_without_two_positives_has_no_signal() -> None:
    present = torch.zeros(10, 2, dtype=torch.bool)
    present[3, 1] = True
    assert (positive_signals(Draws(0).normal(10, 4), Draws(1).normal(10, 2), present) == 0).all()


def test_logistic_filters_part_their_concepts(planted: DirectionPairs) -> None:
    rows, labels = planted.planted.train, planted.train_labels.flatten(0, 1)
    filters, intercepts = logistic_filters(rows, labels)
    assert (((rows @ filters.T + intercepts > 0) == labels).float().mean(dim=0) > 0.97).all()


def answers(k: int = 3, d: int = 5) -> tuple[Tensor, losses.Answers]:
    maps = Draws(0).normal(20, 2, d)
    filters, thresholds = Draws(1).normal(2, k, d), 0.3 * Draws(2).normal(2, k)
    return maps, losses.detect(maps, filters, thresholds, Draws(3).normal(2, k))


def test_sets_of_detectors_do_not_see_each_other() -> None:
    maps, both = answers()
    alone = losses.detect(maps, both.filters[1:], Draws(2).normal(2, 3)[1:] * 0.3, both.margins[1:].log())
    torch.testing.assert_close(alone.detections, both.detections[1:])
    torch.testing.assert_close(losses.binary(alone), losses.binary(both)[1:])


def test_losses_are_those_of_the_plain_loop() -> None:
    _, said = answers()
    for index in range(2):
        y = said.detections[index].double()
        q = y / y.sum(dim=1, keepdim=True)
        h = torch.stack([-sum(v * v.log2() for v in row) for row in q])
        activity = torch.stack([(y[:, i] ** 1.1).mean() for i in range(3)])
        over = ((activity - 0.2).clamp_min(0) / 0.8).tolist()
        expected = {
            losses.sparsity: h.mean(),
            losses.sparsity_bound: (h**5).sum() / (h**4).sum(),
            losses.binary: -(q * y.log2()).sum(dim=1).mean(),
            losses.margin: (1 / said.margins[index]).mean(),
        }
        for loss, value in expected.items():
            assert float(loss(said)[index]) == pytest.approx(float(value), rel=1e-4)
        shortfall = [max(0.0, 0.6 - float(a)) / 0.6 for a in activity]
        assert float(losses.inactive(said, 0.6)[index]) == pytest.approx(sum(shortfall) / 3, rel=1e-4)
        soft = sum(v**5 for v in over) / max(sum(v**4 for v in over), 1e-12)
        assert float(losses.too_active(said, 0.2)[index]) == pytest.approx(soft, rel=1e-3)


def test_orthogonality_is_the_root_mean_square_cosine_off_the_diagonal() -> None:
    _, said = answers()
    signals = Draws(4).normal(2, 3, 5)
    w, s = said.filters[0], torch.nn.functional.normalize(signals[0], dim=1)
    squares = [float(w[i] @ s[j]) ** 2 for i in range(3) for j in range(3) if i != j]
    assert float(losses.orthogonality(said, signals)[0]) == pytest.approx((sum(squares) / 6) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("along_signals", [False, True])
def test_the_whole_move_leaves_every_detector_undecided(along_signals: bool) -> None:
    maps, said = answers()
    move = losses.to_boundary_along(said, Draws(4).normal(2, 3, 5)) if along_signals else losses.to_boundary(said)
    left = torch.einsum("rntd,rkd->rntk", maps - move, said.filters) - 0.3 * Draws(2).normal(2, 3)[:, None, None]
    torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-4, rtol=0)


def test_without_a_head_its_losses_are_left_out_and_provenance_says_so() -> None:
    pairs = small()
    deaf = fit_dictionary("direction_pairs", pairs.train_maps, 3, **QUICK)
    told = fit_dictionary("direction_pairs", pairs.train_maps, 3, head=pairs.head, **QUICK)
    assert deaf.provenance["uncertainty"] == "left out: no head was given"
    assert told.provenance["uncertainty"] == "of the given head"
    assert not torch.equal(deaf.atoms, told.atoms)


@pytest.mark.parametrize("form", ["maps", "tokens", "stream"])
def test_a_head_is_given_activations_in_the_shape_of_the_layer(form: str) -> None:
    tokens = small().train_maps[:, :, :6]
    maps = tokens.mT.unflatten(2, (1, 2))
    given = {"maps": maps, "tokens": tokens, "stream": Activations.of(maps)}[form]
    seen = []

    def head(layer: Tensor) -> Tensor:
        seen.append(tuple(layer.shape[1:]))
        return layer.flatten(1)[:, :3]

    fit_dictionary("direction_pairs", given, 3, head=head, **QUICK)
    assert set(seen) == {(2, 6) if form == "tokens" else (6, 1, 2)}


def test_a_fit_that_was_stopped_ends_as_the_whole_one(tmp_path: Path) -> None:
    pairs = small()
    arguments = {"head": pairs.head, **QUICK}

    def stop(done: int, steps: int) -> None:
        assert steps == 7
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_dictionary(
            "direction_pairs", pairs.train_maps, 3, checkpoint=tmp_path / "pairs", progress=stop, **arguments
        )
    calls: list[int] = []
    again = fit_dictionary(
        "direction_pairs",
        pairs.train_maps,
        3,
        checkpoint=tmp_path / "pairs",
        progress=lambda done, _: calls.append(done),
        **arguments,
    )
    whole = fit_dictionary("direction_pairs", pairs.train_maps, 3, **arguments)
    assert calls == [5, 6, 7]
    assert torch.equal(again.atoms, whole.atoms)
    assert torch.equal(again.parameters["filters"], whole.parameters["filters"])


def test_the_preset_has_the_published_weights_and_schedule() -> None:
    fitter = DICTIONARIES.load("direction_pairs")
    options = resolve_options(fitter, {"preset": "eddp"}, "test")
    assert options["weights"] == dict(REFERENCE)
    assert (options["starts"], options["epochs"]) == (1, (800, 2000, 2000))
    assert WEIGHTS["margin"] != REFERENCE["margin"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": {"margn": (1, 1, 1)}}, "unknown name 'margn'.*did you mean 'margin'"),
        ({"starts": 0}, "option 'starts': given 0, allowed is 1 or more"),
        ({"epochs": (1, -1, 1)}, "option 'epochs': given -1, allowed is 0 or more"),
        ({"batch": 0}, "option 'batch': given 0, allowed is 1 or more"),
        ({"learning_rates": (0, 1, 1)}, "option 'learning_rates': given 0.0, allowed is above 0"),
        ({"least_active": (1.5, 0.2, 0.2)}, "option 'least_active': given .*, allowed is above 0 and below 1"),
        ({"most_active": (0.5, 2, 2)}, "option 'most_active': given .*, allowed is 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(LimenError, match=said):
        fit_dictionary("direction_pairs", small().train_maps, 3, **options)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (lambda maps: maps.mean(dim=1)[:, :1], r"it returned \(2, 1\), allowed are logits"),
        (lambda maps: maps @ torch.ones(3, 3), "it failed"),
    ],
)
def test_a_head_that_does_not_fit_the_layer_is_refused(head: object, said: str) -> None:
    with pytest.raises(LimenError, match=said):
        fit_dictionary("direction_pairs", small().train_maps, 3, head=head, **QUICK)


def bowl(parameters: dict[str, Tensor], items: Tensor, draws: Draws) -> Tensor:
    return (parameters["x"] - items.float().mean()).square().sum()


def test_minimise_finds_the_minimum_and_halves_the_rate_on_plateaus() -> None:
    ended = minimise(
        bowl,
        {"x": torch.tensor([9.0])},
        5,
        Schedule(epochs=600, batch=5, learning_rate=0.1, patience=20),
        draws=Draws(0),
    )
    assert float(ended.parameters["x"]) == pytest.approx(2.0, abs=1e-2)
    assert ended.learning_rate < 0.1
    assert ended.losses[-1] < ended.losses[0]


def test_minimise_lowers_the_rate_by_half_a_cosine() -> None:
    """A step never shrinks on |x| but by its rate."""
    schedule = Schedule(epochs=200, batch=1, learning_rate=0.2, patience=1000, decay="cosine")
    assert [schedule.rate(epoch) for epoch in (0, 100, 200)] == pytest.approx([0.2, 0.1, 0.0])

    def left(schedule: Schedule) -> float:
        ended = minimise(
            lambda parameters, items, draws: parameters["x"].abs().sum(),
            {"x": torch.tensor([0.37])},
            1,
            schedule,
            draws=Draws(0),
        )
        assert ended.learning_rate == pytest.approx(0.2 if schedule.decay == "plateau" else schedule.rate(199))
        return abs(float(ended.parameters["x"]))

    assert left(schedule) < 1e-3 < left(dataclasses.replace(schedule, decay="plateau"))


def test_minimise_keeps_parameters_on_their_constraint() -> None:
    ended = minimise(
        lambda parameters, items, draws: parameters["x"].sum(),
        {"x": torch.tensor([0.0, 1.0])},
        1,
        Schedule(epochs=200, batch=1, learning_rate=0.1),
        draws=Draws(0),
        retract=lambda parameters: {"x": parameters["x"] / parameters["x"].norm()},
    )
    torch.testing.assert_close(ended.parameters["x"], -torch.ones(2) / 2**0.5, atol=1e-2, rtol=0)


def test_minimise_refuses_the_checkpoint_of_another_run(tmp_path: Path) -> None:
    schedule = Schedule(epochs=2, batch=5, learning_rate=0.1)
    minimise(bowl, {"x": torch.zeros(1)}, 5, schedule, draws=Draws(0), checkpoint=tmp_path / "x")
    with pytest.raises(LimenError, match="given that of a run with another start, schedule or draws"):
        minimise(
            bowl,
            {"x": torch.zeros(1)},
            5,
            dataclasses.replace(schedule, epochs=3),
            draws=Draws(0),
            checkpoint=tmp_path / "x",
        )
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(LimenError, match="not a checkpoint"):
        minimise(bowl, {"x": torch.zeros(1)}, 5, schedule, draws=Draws(0), checkpoint=tmp_path / "x")


def test_minimise_tells_of_a_loss_that_is_not_finite() -> None:
    with pytest.raises(LimenError, match="no longer finite at a learning rate of"):
        minimise(
            lambda parameters, items, draws: parameters["x"].log().sum(),
            {"x": torch.zeros(1)},
            1,
            Schedule(epochs=1, batch=1, learning_rate=0.1),
            draws=Draws(0),
        )


def test_the_section_is_a_table_of_both_geometries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted_pairs, "_signals", lambda pairs, seed, **options: pairs.planted.atoms)
    text = planted_pairs.section(seeds=2, variant_seeds=1)
    line = next(line for line in text.splitlines() if line.startswith("| direction_pairs |"))
    assert line.count("1.000 (1.000 to 1.000)") == 2
    assert "| CAV (logistic filters) | yes | 2 |" in text
