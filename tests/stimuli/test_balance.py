"""Counterbalancing holds for every size, not only for the demo's."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stimuli.balance import compose, rotations, round_half_up, seeded, sides, spread
from stimuli.designs._utility_script import KINDS, Script, plan

SIZES = st.integers(1, 12)
quick = settings(max_examples=60, deadline=None)


@quick
@given(st.integers(0, 500), SIZES)
def test_a_count_is_spread_within_one(total: int, parts: int) -> None:
    shares = spread(total, parts)
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@quick
@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.data())
def test_blocks_are_composed_as_asked_and_balanced(sizes: list[int], data: st.DataObject) -> None:
    special = data.draw(st.integers(0, sum(sizes)))
    blocks = compose(sizes, special)
    assert [int(block.sum()) for block in blocks] == sizes
    assert sum(int(block[1].sum()) for block in blocks) == special
    assert all((block >= 0).all() and abs(block[:, 0].sum() - block[:, 1].sum()) <= 1 for block in blocks)
    total = np.sum(blocks, axis=0)
    assert (np.abs(total[:, 0] - total[:, 1]) <= 1).all()


@quick
@given(st.lists(st.sampled_from("ab"), max_size=20), st.integers(0, 10**6))
def test_sides_differ_by_one_at_most_in_the_block_and_in_each_class(classes: list[str], seed: int) -> None:
    left = sides(classes, seeded(seed))
    for part in (left, *([side for side, name in zip(left, classes, strict=True) if name == one] for one in "ab")):
        assert abs(2 * sum(part) - len(part)) <= 1


@quick
@given(SIZES, SIZES, SIZES, st.floats(0, 1))
def test_a_plan_holds_its_wrong_share_whatever_the_sizes(sessions: int, train: int, test: int, share: float) -> None:
    made = plan(sessions, train, test, share)
    wrong = sum(int(counts[1].sum()) for counts in made.blocks.values())
    asked = sum(int(counts[1].sum()) for (phase, _), counts in made.blocks.items() if phase == "test")
    assert wrong == round_half_up(share * sessions * (train + test))
    assert asked == round_half_up(share * sessions * test)
    sizes = {"train": train, "test": test}
    assert all(int(counts.sum()) == sizes[phase] for (phase, _), counts in made.blocks.items())


def _script(lists: int, seed: int = 0, catch: int = 1) -> Script:
    made = plan(3, 5, 7, 0.5)
    chosen = {kind: [f"{kind[0]}{kind[1]}-{i}" for i in range(made.needs[kind])] for kind in KINDS}
    answers = {item: "ab"[kind[1]] for kind, items in chosen.items() for item in items}
    return Script(made, chosen, answers, lists, catch, seed)


@quick
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_every_list_uses_every_item_once(lists: int, seed: int) -> None:
    script = _script(lists, seed)
    whole = sorted(item for items in script.chosen.values() for item in items)
    for number in range(1, lists + 1):
        assert sorted(item for items in script.roles(number).values() for item in items) == whole


def test_lists_turn_the_items_through_training_and_test() -> None:
    script = _script(4)
    trained = Counter(
        item
        for number in range(1, 5)
        for (phase, _), items in script.roles(number).items()
        if phase == "train"
        for item in items
    )
    counts = [trained[item] for items in script.chosen.values() for item in items]
    assert min(counts) >= 1
    assert max(counts) <= 2


def test_rotations_are_spread_over_the_ring() -> None:
    assert rotations(9, 4) == [0, 2, 5, 7]
    assert rotations(0, 3) == [0, 0, 0]


def test_a_seeded_generator_depends_on_its_key_alone() -> None:
    first = seeded(1, "a", 2).integers(10**9, size=4)
    assert (seeded(1, "a", 2).integers(10**9, size=4) == first).all()
    assert (seeded(1, "a", 3).integers(10**9, size=4) != first).any()
    assert (seeded(1, "a2").integers(10**9, size=4) != first).any()
