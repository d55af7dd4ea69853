"""Forwards are shared: the same masks on the same images run once, for all who ask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.api import score
from bench.engine import Engine, Masks
from bench.engine.memory import Memory
from bench.spaces import Pixels

TARGETS = torch.tensor([3, 0, 1, 4])


def values(seed: int = 0) -> Tensor:
    return torch.rand(6, 16, generator=torch.Generator().manual_seed(seed))


def ask(engine: Engine, images: Tensor, seed: int = 0, **options: Any) -> tuple[Tensor, int]:
    given = {"targets": TARGETS, "space": Pixels(), "side": 4, **options}
    with engine.meter() as cost:
        found = engine.perturbed_scores(images, Masks.shared(values(seed)), **given)
    return found, cost.forwards


def test_a_question_asked_again_costs_nothing_and_is_answered_alike(engine: Engine, images: Tensor) -> None:
    first, cost = ask(engine, images)
    again, free = ask(engine, images)
    assert (cost, free) == (24, 0)
    assert torch.equal(first, again)


def test_other_targets_and_scores_are_answered_from_the_same_forwards(engine: Engine, images: Tensor) -> None:
    logits, _ = ask(engine, images, targets=None)
    found, cost = ask(engine, images, targets=torch.tensor([1, 1, 1, 1]))
    assert cost == 0
    assert torch.equal(found, logits[:, :, 1])
    chances, cost = ask(engine, images, score="probability")
    assert cost == 0
    expected = logits.softmax(-1)[torch.arange(4), :, TARGETS]
    torch.testing.assert_close(chances, expected)


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"space": Pixels("mean")}, {"side": None}, {"mode": "bilinear"}, {"images": True}]
)
def test_another_question_is_not_taken_for_the_first(engine: Engine, images: Tensor, changed: dict[str, Any]) -> None:
    first, _ = ask(engine, images)
    other = images.flip(0) if changed.pop("images", False) else images
    found, cost = ask(engine, other, **changed)
    assert cost == 24
    assert not torch.equal(found, first) or changed == {"side": None}


def test_what_a_caller_does_to_an_answer_changes_no_later_one(engine: Engine, images: Tensor) -> None:
    first, _ = ask(engine, images, targets=None)
    kept = first.clone()
    first.zero_()
    assert torch.equal(ask(engine, images, targets=None)[0], kept)


def test_altered_copies_are_remembered_by_the_key_they_are_given(engine: Engine, images: Tensor) -> None:
    def run(factor: float, key: str | None) -> tuple[Tensor, int]:
        with engine.meter() as cost:
            found = engine.altered_scores(
                images, 3, lambda x, image, copy: x * factor, TARGETS, space=Pixels(), key=key
            )
        return found, cost.forwards

    first, _ = run(0.5, "half")
    assert run(0.5, "half")[1] == 0
    assert torch.equal(run(0.5, None)[0], first)
    assert not torch.equal(run(0.25, "quarter")[0], first)


def test_a_metric_pays_its_forwards_once_for_all_methods_and_the_null(engine: Engine, images: Tensor) -> None:
    with engine.meter() as cost:
        for seed in range(3):
            maps = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
            score("mu_fidelity", engine, images, maps, TARGETS, subsets=30, side=4)
    assert cost.forwards <= 4 * 30 + 4


def test_the_oldest_answers_go_first_when_the_budget_is_spent() -> None:
    memory = Memory(budget=3 * 40)
    for key in "abc":
        memory.put(key, torch.zeros(10))
    memory.get("a")
    memory.put("d", torch.zeros(10))
    assert memory.get("b") is None
    assert memory.get("a") is not None
    assert memory.takes(7)
    assert not memory.takes(8)
