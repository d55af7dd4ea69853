"""Degenerate tables: each gives the right answer or one clear sentence, never a traceback and never a made-up number."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.load import ColumnMap, load
from analysis.report import Analysed, analyse, write_report
from bench.registry import LimenError

CROSSED = ColumnMap(columns={}, formula="correct ~ condition + (1|participant) + (1|item)")
GRID = ColumnMap(columns={}, formula="correct ~ a * b + (1|participant) + (1|item)")
Analysis = Callable[..., Analysed]


def table(
    *,
    people: int = 12,
    items: int = 10,
    accuracy: tuple[float, ...] = (0.5, 0.8),
    names: tuple[str, ...] = ("baseline", "map"),
) -> pd.DataFrame:
    """Simulate a between-people table with a person's answer to each item."""
    rng = np.random.default_rng(0)
    rows = [
        {"participant_id": f"{name}{i}", "condition": name, "item_id": f"im{j}", "correct": int(rng.random() < p), "trial_id": j}
        for name, p in zip(names, accuracy, strict=True) for i in range(people) for j in range(items)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def analysed(tmp_path: Path) -> Analysis:
    """Return a function that writes a table, reads it and analyses it."""

    def run(frame: pd.DataFrame, columns: ColumnMap | None = None) -> Analysed:
        frame.to_csv(tmp_path / "table.csv", index=False)
        return analyse(load(tmp_path / "table.csv", columns=columns))

    return run


def fails(analysed: Analysis, match: str, frame: pd.DataFrame, columns: ColumnMap | None = None) -> None:
    with pytest.raises(LimenError, match=match) as caught:
        analysed(frame, columns)
    assert "\n" not in str(caught.value)


def test_one_participant_is_refused_in_a_sentence(analysed: Analysis) -> None:
    fails(analysed, "only one participant is left", table().query("participant_id == 'map0'"))


@pytest.mark.parametrize("columns", [None, CROSSED])
def test_one_item_gives_no_estimate_and_says_so(analysed: Analysis, columns: ColumnMap | None) -> None:
    found = analysed(table(items=1), columns)
    assert not any(math.isfinite(item.value) for item in found.battery.primary.estimates)
    assert "the data do not define this quantity" in found.answer
    assert "1 item" in found.answer


@pytest.mark.parametrize("columns", [None, CROSSED])
@pytest.mark.parametrize("accuracy", [(1.0, 1.0), (0.5, 1.0)])
def test_a_condition_all_right_has_no_log_odds_and_no_p(
    analysed: Analysis, accuracy: tuple[float, float], columns: ColumnMap | None
) -> None:
    found = analysed(table(accuracy=accuracy), columns)
    assert "every answer is right" in found.answer
    assert not any(math.isfinite(item.p) for item in found.battery.primary.estimates if item.label == "map")


def test_an_empty_cell_leaves_the_interaction_out_and_says_so(analysed: Analysis) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"participant_id": f"p{i}", "a": a, "b": b, "item_id": f"{a}{b}{j}", "correct": int(rng.random() < 0.7)}
        for i in range(12) for a, b in (("x", "u"), ("x", "v"), ("y", "u")) for j in range(6)
    ]  # fmt: skip
    found = analysed(pd.DataFrame(rows).assign(trial_id=range(len(rows))), GRID)
    assert "No answer has a = y and b = v" in " ".join(found.warnings)
    assert {item.quantity for item in found.battery.primary.estimates} >= {"accuracy of a", "accuracy of b"}
    assert not found.battery.primary.of("accuracy of a x b")


def test_duplicated_rows_are_counted(analysed: Analysis) -> None:
    frame = table()
    fails(analysed, "3 duplicated in all", pd.concat([frame, frame.iloc[:3]]))


@pytest.mark.parametrize(
    ("column", "match"), [("correct", "'correct' is empty in 1 test row"), ("condition", "'condition' is empty")]
)
def test_a_missing_key_is_named(analysed: Analysis, column: str, match: str) -> None:
    frame = table().astype({column: object})
    frame.loc[5, column] = np.nan
    fails(analysed, match, frame)


def test_a_missing_factor_of_the_formula_is_named(analysed: Analysis) -> None:
    frame = table().assign(a="x", b="u")
    frame.loc[::2, "a"], frame.loc[::3, "b"], frame.loc[4, "a"] = "y", "v", np.nan
    fails(analysed, "column 'a' is empty in 1 of the 240 answers", frame, GRID)


def test_a_condition_typo_names_the_nearest(analysed: Analysis) -> None:
    frame = table()
    frame.loc[frame["participant_id"] == "map3", "condition"] = "mapp"
    fails(analysed, "did you mean 'map'", frame, ColumnMap(columns={}, conditions=("baseline", "map")))


def test_an_unknown_analysis_names_the_nearest(analysed: Analysis) -> None:
    fails(analysed, "did you mean 'crossed'", table(), ColumnMap(columns={}, analysis="crosssed"))


def test_one_condition_is_compared_with_chance(analysed: Analysis) -> None:
    found = analysed(table(accuracy=(0.8,), names=("map",)), ColumnMap(columns={}, chance=0.5))
    assert found.answer.startswith("Accuracy was above chance: ")
    assert "12 participants, 120 answers, 10 items; guessing gives 50.0 %" in found.answer


def test_a_table_of_numbers_is_a_linear_mixed_model(analysed: Analysis) -> None:
    frame = table()
    rating = np.random.default_rng(2).normal(size=len(frame)) + (frame["condition"] == "map")
    columns = ColumnMap(columns={}, formula="rating ~ condition + (1|participant) + (1|item)")
    found = analysed(frame.drop(columns="correct").assign(rating=rating), columns)
    gap = found.battery.primary.get("mean difference of condition", "map - baseline")
    assert gap.low < 1.0 < gap.high
    assert found.answer.startswith("The mean differed by condition: map - baseline ")


def test_everyone_in_every_condition_is_compared_within(analysed: Analysis) -> None:
    frame = table(items=20)
    frame["condition"] = np.where(frame["trial_id"] % 2, "baseline", "map")
    found = analysed(frame)
    assert found.study.within
    assert found.results["crossed"].of("accuracy difference of condition")
    assert list(found.flow.columns) == ["step", "kind", "all"]


def test_a_codebook_of_the_table_lies_beside_the_report(tmp_path: Path) -> None:
    frame = table(people=6, items=6).assign(shade=[0.25, 0.5, None] * 24)
    frame.to_csv(tmp_path / "table.csv", index=False)
    page = write_report(tmp_path / "table.csv", tmp_path / "out", columns=CROSSED, timestamp="T")
    book = pd.read_csv(page.parent / "codebook.csv").set_index("column")
    assert book.loc["condition", "values"] == "baseline, map"
    assert book.loc["shade", ["type", "values", "missing"]].tolist() == ["number", "0.25 to 0.5", 24]
    assert book.loc["participant_id", "values"] == "12 different values"
    assert "not in the table" in book.loc["rt_ms", "meaning"]
    assert set(frame.columns) <= set(book.index)


@pytest.mark.long
def test_ten_million_rows_are_refused_in_one_sentence_before_memory_is_spent(tmp_path: Path) -> None:
    line = b"p1,map,im1,1\n"
    with (tmp_path / "long.csv").open("wb") as stream:
        stream.write(b"participant_id,condition,item_id,correct\n")
        for _ in range(100):
            stream.write(line * 100_000)
    code = (
        "import resource, sys\nfrom analysis.load import load\nfrom bench.registry import LimenError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    load(sys.argv[1])\nexcept LimenError as error:\n"
        "    print(error)\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "long.csv")], capture_output=True, text=True, check=True
    )
    sentence, grown = done.stdout.splitlines()
    assert sentence.startswith("long.csv: 10,000,000 rows; a report reads 2,000,000 at most")
    assert int(grown) < 100_000
