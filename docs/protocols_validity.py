"""Judge each protocol's own analysis on its frozen schedule by simulation, and write docs/protocols/validity.md.

python docs/protocols_validity.py --store STORE               # a store with the runs that the study files name: minutes a study
python docs/protocols_validity.py --store STORE configs/studies/basis.yaml     # its rows anew, the others stay as they are

Sets that the store does not hold yet are built in it. What each study gave is kept under .limen/protocols_validity, by the set, the
code of the simulation and the version of the analysis: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from protocols_simulated import SLOPE, Contrast, Varied, at_chance, simulate, steady, truth, without
from scipy import stats

from analysis.battery import analysis_of, primary_results
from analysis.load.study import Study
from analysis.models import ANALYSES
from analysis.models.oddone import oddone
from analysis.power.assume import decision, named
from analysis.power.shape import ANALYSES as OF_PAIRS
from analysis.power.shape import shape_of
from analysis.results import Estimate
from bench.registry import LimenError
from bench.store import Artifact, Store, sha256_bytes
from psychophysics_server.study.frozen import FrozenStudy, open_frozen
from stimuli.build import build
from stimuli.records import Bots
from stimuli.study import load_study, resolve

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "configs" / "studies"
PAGE = ROOT / "docs" / "protocols" / "validity.md"
KEPT = ROOT / ".limen" / "protocols_validity"
HEAD = "<!-- Written by `python docs/protocols_validity.py`; change that script, not this page. -->"
INTRO = """# Validity of each protocol's analysis

Every study file of `configs/studies` that compares levels by a test is judged on its own frozen schedule: people of its quota are
simulated in process by the model that its bots follow (`bots:` of the file: accuracies, standard deviations of people and items,
lapses; nobody careless, nobody leaves), and their answers go through the analysis that its card names. Items are drawn anew each
time, as people are.

- *given*: the contrast in the population, by integration over people and items, a difference of accuracies (of a preference:
  of log-odds of being chosen).
- *simulated*: studies without an effect (all levels as the reference; for a level against chance: everybody at chance) + studies
  with the effect that the file gives its bots.
- *rejected without an effect*: p below .05, before the adjustment over a study's comparisons; *interval holds the effect*: the
  nominal 95 % interval. Behind each rate stands its own 95 % interval (Wilson), in bold where that leaves out 5 % or 95 %. Of 100
  studies a right test rejects in {few[0]:.0f} to {few[1]:.0f}, of 200 in {many[0]:.0f} to {many[1]:.0f}, 19 times in 20.
- *effect found*: the share of studies of this size that find the given effect, the power of the file as it stands.

The test of `oddone` over rules (Welch) rejects too rarely: everybody meets elementary and composed rules alike, so that what people
differ by goes out of the difference, but not out of the rules' means that it is judged by. It errs on the careful side.

The recommended mixed model is judged at several sizes, beside other methods, in [validity.md](../validity.md). `utility_bias`
gives its bots a fact of each item (how much of the explanation lies on the background) rather than an accuracy.
"""
TITLES = {
    "People and items differ, the effect is the same for all": (
        "Random intercepts of people and items alone, as in the model of the bots."
    ),
    "The effect differs too": (
        "The same with a random deviation of each level in each item, and in each person who meets several levels: the "
        f"standard deviation of the difference of two levels is {SLOPE:g} in log-odds."
    ),
}
"""The page's tables: without a slope, and with one."""
COLUMNS = (
    "| study | contrast | people | items | given | simulated | rejected without an effect | interval holds the effect "
    "| effect found | fits without an answer |",
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
)
AGAINST_CHANCE = ("agreement", "distinction", "intruder", "subcluster")
"""Protocols whose question is whether people are better than guessing."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What many simulated studies gave for one contrast: rejections without an effect, and intervals that held the effect given."""

    study: str
    protocol: str
    contrast: str
    people: int
    items: int
    given: float
    nulls: int
    rejected: int
    studies: int
    held: int
    found: int
    failed: int


def contrasts(study: FrozenStudy, path: Path) -> list[Contrast]:
    """List what is judged of a study: each level of its primary factor against the reference, and levels against chance."""
    resolved = resolve(load_study(path))
    card = resolved.design.card
    if card.analysis == "oddone":
        told = Contrast(quantity="accuracy difference of composition over rules, people", label="elementary - composed",
                        factor="composition", level="elementary", reference="composed")  # fmt: skip
        return [told]
    if card.analysis not in OF_PAIRS:
        return []
    shape = shape_of(resolved, study.artifact)
    first = decision(study.file, shape).contrast
    found = []
    for level in (name for name in shape.levels if name != first.reference):
        asked = type(first)(level=level, reference=first.reference)
        quantity, label = named(shape, asked)
        held = Contrast(quantity=quantity, label=label, factor=shape.factor, level=level, reference=first.reference,
                        log_odds=card.analysis == "preference")  # fmt: skip
        found.append(held)
    if study.file.protocol in AGAINST_CHANCE:
        for level in shape.levels:
            quantity, label = named(shape, type(first)(level=level, reference=None))
            found.append(Contrast(quantity=quantity, label=label, factor=shape.factor, level=level, reference=None))
    return found


def estimated(study: Study) -> dict[tuple[str, str], Estimate]:
    """Run the study's own primary analysis; return its estimates by quantity and label."""
    if analysis_of(study) == "oddone":
        # Without the bootstrap over rules, which is of other numbers.
        result = oddone(study.answers(scored=True), formula=None, draws=1)
    else:
        result = next(iter(primary_results(study, exclusions=False)[0].values()))
    found: dict[tuple[str, str], Estimate] = {}
    for one in result.estimates:
        found.setdefault((one.quantity, one.label), one)
    return found


@dataclass(frozen=True)
class World:
    """A model that people are simulated by, and the contrasts that are judged in it; `null`: there is none of their effects."""

    bots: Bots
    judged: Sequence[Contrast]
    null: bool


def worlds(study: FrozenStudy, bots: Bots, asked: Sequence[Contrast]) -> list[World]:
    """Return the worlds of a study: nothing between levels, everybody at chance where that is asked, and what the file gives."""
    pairs = [one for one in asked if one.reference is not None]
    levels = [one for one in asked if one.reference is None]
    found = [World(without(bots, pairs[0]), pairs, True)] if pairs else []
    found += [World(at_chance(study, bots, _chance(study)), levels, True)] if levels else []
    return [*found, World(steady(bots), asked, False)]


def judged(path: Path, artifact: Artifact, n: int, slope: float) -> list[Tally]:
    """Simulate what is not kept yet, and count: rejections without an effect, intervals that hold the one given."""
    study = open_frozen(artifact)
    asked, bots = contrasts(study, path), study.file.bots
    if bots is None or not asked:
        return []
    if asked[0].log_odds:
        bots, slope = bots.model_copy(update={"lapse": 0.0}), 0.0  # the truth is in log-odds, of everyone alike
    all_worlds, place = worlds(study, bots, asked), kept(path, artifact, slope)
    known = {(row["world"], row["seed"]): row["found"] for row in read(place)}
    for seed, (number, world) in ((seed, one) for seed in range(n) for one in enumerate(all_worlds)):
        if (number, seed) in known:
            continue
        mind = Varied(study, seed=1000 * number + seed, bots=world.bots, contrast=asked[0], slope=slope)
        with catch_warnings():
            simplefilter("ignore")
            found = estimated(simulate(study, mind))
        known[number, seed] = {shown(one): ends(found.get((one.quantity, one.label))) for one in world.judged}
        with place.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"world": number, "seed": seed, "found": known[number, seed]}) + "\n")
    people = sum(cell.quota for cell in study.cells)
    items = len({t.item_id for c in study.cells for t in study.trials[c.cell] if t.phase == "test" and not t.is_catch})
    facts = {"study": path.stem, "protocol": study.file.protocol, "people": people, "items": items}
    return [
        Tally(**facts, contrast=shown(one), given=(given := truth(study, steady(bots), one, slope=slope)),
              **counted(known, all_worlds, one, given))  # type: ignore[arg-type]
        for one in asked
    ]  # fmt: skip


def read(place: Path) -> list[dict[str, Any]]:
    """Read what is kept of earlier runs."""
    return [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines()] if place.exists() else []


def ends(one: Estimate | None) -> list[float] | None:
    """Return p, low and high of an estimate, of a level against chance less its null; None where there is no test."""
    if one is None or not math.isfinite(one.p) or not math.isfinite(one.low):
        return None
    base = one.extra.get("null", 0.0) if one.quantity == "accuracy" else 0.0
    return [one.p, one.low - base, one.high - base]


def counted(
    known: Mapping[tuple[int, int], Any], all_worlds: Sequence[World], one: Contrast, given: float
) -> dict[str, int]:
    """Count over the simulated studies of one contrast."""
    sums = dict.fromkeys(("nulls", "rejected", "studies", "held", "found", "failed"), 0)
    for (number, _), found in known.items():
        world = all_worlds[number]
        if one not in world.judged:
            continue
        told = found[shown(one)]
        if told is None:
            sums["failed"] += 1
            continue
        p, low, high = told
        sums["nulls" if world.null else "studies"] += 1
        sums["rejected" if world.null else "found"] += p < 0.05
        sums["held"] += not world.null and low <= given <= high
    return sums


def shown(one: Contrast) -> str:
    """Name a contrast."""
    return f"{one.factor}: {one.level} - {one.reference or 'chance'}"


def _chance(study: FrozenStudy) -> float:
    card = json.loads(study.artifact.file("protocol.json").read_text(encoding="utf-8"))["card"]
    return float(card["chance"])


def kept(path: Path, artifact: Artifact, slope: float) -> Path:
    """Return where the studies simulated so far lie: named by the set, the simulation's code and the analysis' version."""
    card = json.loads(artifact.file("protocol.json").read_text(encoding="utf-8"))["card"]
    version = ANALYSES.card(card["analysis"]).version
    code = sha256_bytes(Path(__file__).with_name("protocols_simulated.py").read_bytes())
    KEPT.mkdir(parents=True, exist_ok=True)
    return KEPT / f"{path.stem}-{artifact.key[:12]}-{code[:8]}-v{version}-{slope:g}.jsonl"


def tallies(paths: Sequence[Path], store: Store, n: int, slope: float) -> Iterator[Tally]:
    """Yield what each study gave; one whose set cannot be drawn from the store is told and left out."""
    for path in paths:
        try:
            artifact = build(load_study(path), store)
        except LimenError as error:
            print(f"{path.stem}: left out, {error}", flush=True)
            continue
        yield from judged(path, artifact, n, slope)
        print(f"{path.stem}: done, slope {slope:g}", flush=True)


def rate(hits: int, n: int, nominal: float) -> str:
    """Write a rate with its 95 % interval (Wilson), bold where that leaves out the nominal value."""
    if not n:
        return "-"
    low, high = stats.binomtest(hits, n).proportion_ci(method="wilson")
    text = f"{hits / n:.3f} [{low:.3f}, {high:.3f}]"
    return text if math.isnan(nominal) or low <= nominal <= high else f"**{text}**"


def lines(rows: Sequence[Tally]) -> dict[str, list[str]]:
    """Write the lines of a table, by study."""
    found: dict[str, list[str]] = {}
    for one in rows:
        cells = (
            f"[{one.study}]({one.protocol}.md)", one.contrast, f"{one.people}", f"{one.items}", f"{one.given:+.3f}", f"{one.nulls} + {one.studies}",
            rate(one.rejected, one.nulls, 0.05), rate(one.held, one.studies, 0.95), rate(one.found, one.studies, math.nan),
            f"{one.failed} of {one.failed + one.nulls + one.studies}",
        )  # fmt: skip
        found.setdefault(one.study, []).append(f"| {' | '.join(cells)} |")
    return found


def written(text: str) -> dict[str, dict[str, list[str]]]:
    """Read a page back: the lines of its tables, by title and study."""
    found: dict[str, dict[str, list[str]]] = {}
    for part in text.split("\n## ")[1:]:
        own = found.setdefault(part.splitlines()[0], {})
        for line in part.splitlines():
            if line.startswith("| ["):
                own.setdefault(line.removeprefix("| [").partition("]")[0], []).append(line)
    return found


def page(tables: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Return the page of tables, given as lines by title and study."""
    parts = [HEAD, INTRO.format(few=stats.binom.interval(0.95, 100, 0.05), many=stats.binom.interval(0.95, 200, 0.05))]
    for title, told in TITLES.items():
        rows = [line for _, own in sorted(tables.get(title, {}).items()) for line in own]
        if not rows:
            continue
        rates = [cell for line in rows for cell in line.split(" | ")[6:8] if cell != "-"]
        out = sum(cell.startswith("**") for cell in rates)
        count = f"{out} of {len(rates)} rates lie so far from the nominal one that their interval leaves it out."
        parts += [f"## {title}", "", told, "", count, "", *COLUMNS, *rows, ""]
    judged_ones = {study for own in tables.values() for study in own}
    rest = [path.stem for path in sorted(STUDIES.glob("*.yaml")) if path.stem not in judged_ones]
    if rest:
        told = "They have no contrast with a p value, or were left out of the runs that wrote this page"
        parts += [f"Study files without a row: {', '.join(rest)}. {told}.", ""]
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    """Read the command line, simulate what is not kept, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        help="study files, whose rows are written anew; all of configs/studies if left out",
    )
    parser.add_argument("--store", type=Path, required=True, help="store with the runs; sets are built in it")
    parser.add_argument(
        "--studies", type=int, default=200, help="simulated studies of each kind; 0 writes the page of what is kept"
    )
    parser.add_argument(
        "--slope",
        type=float,
        action="append",
        choices=[0.0, SLOPE],
        help="standard deviation of the effect; default both",
    )
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    given = parser.parse_args()
    paths = given.files or sorted(STUDIES.glob("*.yaml"))
    store = Store(given.store)
    tables = written(given.output.read_text(encoding="utf-8")) if given.files and given.output.exists() else {}
    for slope in given.slope or [0.0, SLOPE]:
        own = tables.setdefault(list(TITLES)[slope > 0], {})
        for path in paths:
            own.pop(path.stem, None)
        own.update(lines(list(tallies(paths, store, given.studies, slope))))
    given.output.write_text(page(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
