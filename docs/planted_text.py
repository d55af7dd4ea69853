"""What docs/planted.md says: intervals, tables, paired differences and the answer, all from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Arms = Mapping[str, Mapping[str, Sequence[float]]]
"""Arm, then number, then one value a truth."""
Tables = Mapping[tuple[str, str], Arms]

INTRO = """# Planted dictionaries: who finds the atoms that are really there?

Written by `make planted`. Activations are sums of known atoms, so that a dictionary can be judged by the truth and not only by
what it reconstructs. Each of {truths} planted truths has 128 atoms in 64 dimensions, 4 of them in a row, and 4,096 rows to
fit on; each method is fitted three times on each: two seeds on the same rows, and a third on fresh rows of the same truth.

- **R2** of held-out rows, **active** codes a row, **dead** atoms.
- **recovery**: found and true atoms are matched one to one (Hungarian), and the cosine is averaged over the true atoms (|cosine|
  where codes have a sign); **centred**: the same with each side's mean atom subtracted. **F1** of the partner's support on
  held-out rows.
- **stability**: the mean cosine of the atoms of two fits, matched one to one. *seeds*: same rows, other seed; *rows*: other seed
  and fresh rows. **centred** as above (seeds).
- In brackets the 95 % interval of the mean over the {truths} truths (Student's t, n = {truths}). The floor of a score is what
  random atoms, as many as there are live ones, get; the ceiling of recovery is the true dictionary, that of F1 a reader who was
  told it.

Two geometries. *Isotropic*: random directions, almost no common mean. *Correlated*: atoms without negative entries and with
a direction in common, on a large constant. Autoencoders keep 4 codes a row; {steps} steps of 256 rows at a rate of {rate:g} ("short"),
and the contested ones once more, 1,200 steps at 0.01 ("long"). `C` are 512 centroids. *Same* centroids: `C` by the same seed;
*refitted*: with the seed of each fit. *Eye* starts atom i on centroid i, and "TopK, same centroids" starts there too, without
the constraint; *random W* starts on random mixtures of all centroids, and so does "TopK, same mixtures".
"""

NAMES = {
    ("isotropic", "short"): "Isotropic",
    ("correlated", "short"): "Correlated, on a constant",
    ("isotropic", "long"): "Isotropic, trained longer",
}
COLUMNS = {
    "r2": "R2",
    "active": "active",
    "dead": "dead",
    "recovery": "recovery",
    "centred": "recovery, centred",
    "f1": "F1",
    "stability_seeds": "stability, seeds",
    "stability_seeds_centred": "centred",
    "stability_rows": "stability, rows",
}
JUDGED = {
    "r2": "R2",
    "recovery": "recovery",
    "stability_seeds": "stability over seeds",
    "stability_rows": "stability over fresh rows",
}


@dataclass(frozen=True)
class Contrast:
    """Two arms that differ in one thing, which `question` names."""

    question: str
    arm: str
    against: str


CONSTRAINT = (
    Contrast("the constraint, from the same centroids", "A-SAE, eye", "TopK, same centroids"),
    Contrast(
        "the constraint, from centroids refitted by each fit", "A-SAE, eye, C refitted", "TopK, centroids refitted"
    ),
    Contrast("the constraint, from the same mixtures", "A-SAE, random W", "TopK, same mixtures"),
)
OTHERS = (
    Contrast("as published: constraint and start together", "A-SAE, eye", "TopK, random start"),
    Contrast("the best of each: random W against a random start", "A-SAE, random W", "TopK, random start"),
    Contrast("the start on centroids alone", "TopK, same centroids", "TopK, random start"),
    Contrast("the relaxation", "RA-SAE, eye", "A-SAE, eye"),
)


@dataclass(frozen=True)
class Interval:
    """A mean over truths with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def interval(values: Sequence[float]) -> Interval:
    """Return the mean with its Student t interval."""
    array = np.asarray(values, dtype=np.float64)
    half = float(stats.t.ppf(0.975, len(array) - 1) * stats.sem(array)) if len(array) > 1 else float("nan")
    return Interval(float(array.mean()), float(array.mean()) - half, float(array.mean()) + half, len(array))


def difference(arms: Arms, contrast: Contrast, name: str) -> Interval | None:
    """Return the paired difference over truths, or None where an arm was not fitted."""
    if contrast.arm not in arms or contrast.against not in arms:
        return None
    pairs = zip(arms[contrast.arm][name], arms[contrast.against][name], strict=True)
    return interval([one - other for one, other in pairs])


def number(value: float, digits: int = 3) -> str:
    """Return a number without the leading zero, as the tables of this field are set."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def told(one: Interval, *, sign: bool = False) -> str:
    """Return mean and interval as text."""
    mark = "+" if sign and one.mean >= 0 else ""
    return f"{mark}{number(one.mean)} [{number(one.low)}, {number(one.high)}]"


def method_table(geometry: str, budget: str, arms: Arms) -> str:
    """Return one geometry's table of methods, with floor and ceiling in its last rows."""
    lines = [f"## {NAMES[geometry, budget]}\n", "| method | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("|---" * (len(COLUMNS) + 1) + "|")
    for label, numbers in arms.items():
        cells = []
        for name in COLUMNS:
            mean = float(np.mean(numbers[name]))
            cells.append(number(mean, 1) if name in ("active", "dead") else told(interval(numbers[name])))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    alike = [numbers for label, numbers in arms.items() if label.startswith(("TopK", "A-SAE", "RA-SAE"))]

    def mean_of(name: str) -> str:
        return number(float(np.mean([numbers[name] for numbers in alike])))

    floor = mean_of("recovery_null"), mean_of("centred_null"), mean_of("f1_null")
    chance = mean_of("stability_null")
    lines.append(
        f"| *floor, as many random atoms* | | | | {floor[0]} | {floor[1]} | {floor[2]} | {chance} | {chance} | {chance} |"
    )
    lines.append(f"| *ceiling* | 1 | | | 1 | 1 | {mean_of('f1_ceiling')} | 1 | 1 | 1 |")
    return "\n".join(lines)


def contrasts_table(tables: Tables) -> str:
    """Return the paired differences of arms that differ in one thing."""
    lines = [
        "## Paired differences\n",
        "Of the same truths, so that the difference between truths drops out; n as above.\n",
    ]
    lines.append("| what differs | arms | data | " + " | ".join(JUDGED.values()) + " |")
    lines.append("|---" * (len(JUDGED) + 3) + "|")
    for contrast in CONSTRAINT + OTHERS:
        for place, arms in tables.items():
            found = [difference(arms, contrast, name) for name in JUDGED]
            cells = [told(one, sign=True) for one in found if one is not None]
            if cells:
                what = f"{contrast.arm} − {contrast.against}"
                lines.append(f"| {contrast.question} | {what} | {NAMES[place].lower()} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def answer(tables: Tables, inside: Mapping[str, Mapping[str, Interval]]) -> str:
    """Return the answer to the contested question, whichever way it falls."""
    lines = [
        "## Does the archetypal constraint find more of the truth, and is it stabler, than TopK from the same start?\n"
    ]
    lines += [f"- **{JUDGED[name]}**: {_count(tables, name)}" for name in JUDGED]
    lines.append(f"\n**In short.** {_verdict(tables)}\n")
    lines.append(_published(tables))
    lines.append("\n" + _why(tables, inside))
    return "\n".join(lines)


def _differences(tables: Tables, name: str) -> list[tuple[str, Interval]]:
    found = []
    for place, arms in tables.items():
        for contrast in CONSTRAINT:
            one = difference(arms, contrast, name)
            if one is not None:
                found.append((f"{contrast.question.removeprefix('the constraint, ')}, {NAMES[place].lower()}", one))
    return found


def _count(tables: Tables, name: str) -> str:
    found = _differences(tables, name)
    parts = []
    for sign, word in ((1, "higher with the constraint"), (-1, "lower with it"), (0, "not told apart")):
        some = [f"{where} {told(one, sign=True)}" for where, one in found if one.sign == sign]
        if some:
            parts.append(f"{word} in {len(some)} of {len(found)} comparisons ({'; '.join(some)})")
    return "; ".join(parts) + "."


def _verdict(tables: Tables) -> str:
    said = []
    for name, text in JUDGED.items():
        signs = [one.sign for _, one in _differences(tables, name)]
        up, down, count = signs.count(1), signs.count(-1), len(signs)
        if up > count / 2 and not down:
            word = "yes"
        elif down > count / 2 and not up:
            word = "no, the constraint lowers it"
        elif up and down:
            word = "it depends on start, data and training: the sign changes"
        elif up or down:
            word = f"mostly not told apart, {'higher' if up else 'lower'} where it is"
        else:
            word = "cannot be told apart"
        said.append(f"{text}: {word} ({up} up, {down} down, {count - up - down} open)")
    return "Does the constraint itself raise each score? " + "; ".join(said) + "."


def _published(tables: Tables) -> str:
    arms = tables["isotropic", "short"]
    published, start = OTHERS[0], OTHERS[2]
    rows = []
    for name in ("stability_seeds", "stability_rows"):
        both, alone = difference(arms, published, name), difference(arms, start, name)
        assert both is not None
        assert alone is not None
        rows.append(
            f"A-SAE gains {told(both, sign=True)} in {JUDGED[name]} over TopK from a random start, and TopK that merely "
            f"starts on the same centroids gains {told(alone, sign=True)}"
        )
    frozen = {
        name: interval(arms["frozen centroids"][name])
        for name in ("stability_seeds", "stability_rows", "r2", "recovery")
    }
    return (
        "**What a comparison as published would have shown** (isotropic): "
        + "; ".join(rows)
        + f". Centroids that never learn reach a stability of {told(frozen['stability_seeds'])} over seeds, "
        f"{told(frozen['stability_rows'])} over fresh rows, with an R2 of {told(frozen['r2'])} and a recovery of "
        f"{told(frozen['recovery'])}: stability without the other two says little."
    )


def _why(tables: Tables, inside: Mapping[str, Mapping[str, Interval]]) -> str:
    seen = "; ".join(
        f"{NAMES[name, 'short'].lower()}: {100 * ones['mean'].mean:.0f} % of the true atoms from the mean, "
        f"{100 * ones['zero'].mean:.0f} % from 0"
        for name, ones in inside.items()
    )
    centred = interval(tables["correlated", "short"]["A-SAE, eye"]["r2"])
    conic = interval(tables["correlated", "short"]["A-SAE, eye, not centred"]["r2"])
    return (
        f"**What the constraint forbids.** Codes have any length, so a direction is allowed when it lies in the cone of the "
        f"centroids; that cone holds, {seen}. Where everything is allowed the constraint is no constraint on the answer but "
        "another parametrisation of the same atoms, and what it changes is how the optimiser gets there; where it does forbid, "
        f"it costs: on the correlated data R2 is {told(centred)} centred and {told(conic)} not centred."
    )
