"""A configuration fault is one sentence: file, key path, what was given, what is allowed, the nearest name."""

from __future__ import annotations

from typing import Literal

import pytest

from bench.config import Frozen, load_config
from bench.registry import LimenError


class Inner(Frozen):
    rule: Literal["zero", "mean"] = "zero"
    count: int = 1


class Outer(Frozen):
    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()


def load(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return load_config(path, Outer)


def test_a_good_file_becomes_a_frozen_model(tmp_path):
    plan = load(tmp_path, "name: a\ninner: {rule: mean}\nmany: [{count: 2}]\n")
    assert plan.inner.rule == "mean"
    assert plan.many[0].count == 2
    with pytest.raises(ValueError):
        plan.name = "b"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "nmae: a",
            r"plan.yaml, key 'nmae': unknown name 'nmae'; allowed are name, inner, many; did you mean 'name'\?",
        ),
        (
            "name: a\ninner: {cuont: 2}",
            r"key 'inner.cuont': unknown name 'cuont'; allowed are rule, count; did you mean 'count'\?",
        ),
        (
            "name: a\nmany: [{rule: zero}, {rulle: zero}]",
            r"key 'many.1.rulle': unknown name 'rulle'; .* did you mean 'rule'\?",
        ),
        (
            "name: a\ninner: {rule: zeros}",
            r"key 'inner.rule': unknown name 'zeros'; allowed are zero, mean; did you mean 'zero'\?",
        ),
        ("name: a\ninner: {count: lots}", r"key 'inner.count': given 'lots'; input should be a valid integer"),
        ("inner: {}", r"key 'name': nothing was given; it is required"),
        ("- a", r"plan.yaml: given list, allowed is a mapping with name, inner, many"),
        ("name: [a", r"plan.yaml, line \d: not valid YAML"),
    ],
)
def test_each_fault_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(LimenError, match=sentence) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(LimenError, match=r"none.yaml: no such file\."):
        load_config(tmp_path / "none.yaml", Outer)
