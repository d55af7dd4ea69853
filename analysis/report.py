"""Write a study's report: one self-contained page that answers first, and its numbers, tables and figures beside it."""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from bench.registry import LimenError
from bench.store import sha256_file

from . import figures, tables
from . import format as write
from .exclusions import flow, with_and_without
from .load import ColumnMap, InputFile, Study, load, read_scores
from .models.anova import anova
from .models.cluster_glm import cluster_glm
from .models.item_means import item_means
from .models.link import link
from .models.model_split import model_split
from .models.participant_means import participant_means
from .models.utility import bootstrap_utilities, groups_of, utility
from .results import FLAGS, Estimate, Result, plain

SCHEMA = 1
FORMULA = "ratio_of_means"
PACKAGES = ("limen", "numpy", "scipy", "pandas", "matplotlib", "jinja2")
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """Everything a report shows, before it is drawn."""

    study: Study
    results: Mapping[str, Result]
    flow: pd.DataFrame
    exclusions: pd.DataFrame
    scores: pd.DataFrame | None
    warnings: tuple[str, ...]
    answer: str
    further: str
    files: tuple[InputFile, ...] = field(default=())


def write_report(
    export: str | Path,
    out: str | Path,
    scores: str | Path | None = None,
    *,
    columns: str | Path | ColumnMap | None = None,
    baseline: str | None = None,
    timestamp: str | None = None,
    command: str = "",
) -> Path:
    """Analyse the responses of a study and write the report folder.

    Parameters
    ----------
    export : path
        Folder written by `limen study export`, or a tidy CSV.
    out : path
        Folder to make; it must not exist.
    scores : path, optional
        Bench score table, for the leaderboard and the link between scores and Utility.
    columns : path or ColumnMap, optional
        Column map of a tidy CSV.
    baseline : str, optional
        The condition others are compared with.
    timestamp : str, optional
        Printed as the time of writing; the only part of a report that the input does not determine.
    command : str
        Printed under provenance.

    Returns
    -------
    Path
        The page, `out/report.html`; beside it `results.json`, `tables/*.csv`, `figures/*.svg` and `*.png`.

    Raises
    ------
    LimenError
        If the folder exists, or for any fault of the input.
    """
    out = Path(out)
    if out.exists():
        raise LimenError(f"{out}: already exists, and a report overwrites nothing; give a new folder.")
    analysed = analyse(load(export, columns=columns, baseline=baseline), _scores(scores))
    stamp = timestamp if timestamp is not None else datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    provenance = _provenance(analysed, scores, stamp, command)
    draft = out.parent / f".{out.name}.partial"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    pictures, sheets = _pictures(analysed), _tables(analysed)
    _write_beside(draft, analysed, pictures, sheets, provenance)
    page = _page(analysed, pictures, sheets, provenance, stamp)
    (draft / "report.html").write_text(page, encoding="utf-8")
    draft.rename(out)
    return out / "report.html"


def analyse(study: Study, scores: pd.DataFrame | None = None) -> Analysed:
    """Run every analysis of a utility study; nothing is drawn or written."""
    trials, base = study.answers(), study.baseline
    results = {
        "participant_means": participant_means(trials, baseline=base),
        "cluster_glm": cluster_glm(trials, baseline=base),
        "utility": utility(trials, baseline=base, bootstrap=RESAMPLES),
        "model_split": model_split(trials, baseline=base),
        "anova": anova(trials, baseline=base),
        "item_means": item_means(trials),
    }
    warnings = _warnings(study, results)
    if scores is not None:
        linked, reason = _link(scores, results["utility"], trials, base)
        if linked is not None:
            results["link"] = linked
        if reason:
            warnings.append(reason)
    answer, further = _answer(study, results)
    return Analysed(
        study=study,
        results=results,
        flow=flow(study),
        exclusions=with_and_without(study, FORMULA),
        scores=scores,
        warnings=tuple(warnings),
        answer=answer,
        further=further,
    )


def _scores(path: str | Path | None) -> pd.DataFrame | None:
    return None if path is None else read_scores(path)


def default_utilities(result: Result) -> list[Estimate]:
    """Return the Utilities of the default formula with their log-delta intervals."""
    return [item for item in result.of(f"utility ({FORMULA})") if item.interval == "log-delta"]


def _link(scores: pd.DataFrame, utilities: Result, trials: pd.DataFrame, baseline: str) -> tuple[Result | None, str]:
    sets = scores[["network", "images"]].drop_duplicates()
    if len(sets) > 1:
        names = "; ".join(f"{row.network} on {row.images}" for row in sets.itertuples())
        return (
            None,
            f"The score table holds {len(sets)} pairs of network and images ({names}), so scores were not linked to Utility.",
        )
    known = [item for item in default_utilities(utilities) if math.isfinite(item.value)]
    frame = pd.DataFrame({"condition": [i.label for i in known], "utility": [i.value for i in known]})
    if not set(frame["condition"]) & set(scores["label"]):
        return None, "No method of the score table is a condition of the study, so scores were not linked to Utility."
    groups, k_seen, _ = groups_of(trials, baseline)
    samples: dict[str, np.ndarray] = {}
    if min(group.n for group in groups.values()) > 1:
        samples = bootstrap_utilities(groups, baseline, FORMULA, k_seen, draws=RESAMPLES, seed=0)
    result = link(scores, frame, samples=samples)
    few = result.facts["methods"]
    return result, (
        f"Scores and Utility meet in only {few} methods: the smallest p an exact test can reach is "
        f"{write.p_value(result.facts['smallest_p'] or math.nan)}, and intervals over methods are wide."
        if few < 8
        else ""
    )


def _warnings(study: Study, results: Mapping[str, Result]) -> list[str]:
    found = list(study.warnings)
    if study.simulated:
        found.insert(0, "These responses come from simulated observers, not from people.")
    for result in results.values():
        for flag in result.all_flags():
            labels = [item.label for item in result.estimates if flag in item.flags]
            where = f" ({', '.join(dict.fromkeys(labels))})" if labels else ""
            found.append(f"{result.title}{where}: {FLAGS[flag]}.")
    sizes = study.answers().groupby("condition")["participant_id"].nunique()
    small = [f"{name} ({sizes[name]})" for name in study.conditions if name in sizes and sizes[name] < 10]
    if small:
        found.append(f"Fewer than 10 participants in {write.listing(small)}: every interval there is a rough one.")
    empty = [name for name in study.conditions if name not in sizes]
    if empty:
        found.append(f"No participant is left to analyse in {write.listing(empty)}.")
    return found


def _answer(study: Study, results: Mapping[str, Result]) -> tuple[str, str]:
    glm = results["cluster_glm"]
    contrasts = glm.of("accuracy difference")
    who = "simulated observers" if study.simulated else "people"
    if not contrasts:
        reasons = "; ".join(FLAGS[flag] for flag in glm.all_flags())
        return f"No condition could be compared with the {study.baseline} condition: {reasons}.", ""
    better = [item for item in contrasts if item.p_adjusted < 0.05 and item.value > 0]
    worse = [item for item in contrasts if item.p_adjusted < 0.05 and item.value < 0]
    best = max(better or contrasts, key=lambda item: item.value)
    if better:
        rest = write.listing([item.label for item in sorted(better, key=lambda item: -item.value) if item is not best])
        sentence = (
            f"Explanations helped {who} predict the model: {best.label} most, with {_gap(best)} against {study.baseline}"
            + (f"; {rest} also helped." if rest else "; no other condition helped reliably.")
        )
    else:
        sentence = (
            f"No explanation could be shown to help {who} predict the model: the largest difference from {study.baseline} "
            f"is {_gap(best)}, for {best.label}."
        )
    return sentence, _further(study, results, [item.label for item in better], [item.label for item in worse])


def _gap(item: Estimate) -> str:
    bounds = write.interval(item.low, item.high, 1, scale=100)
    return f"{write.points(item.value)} percentage points {bounds} of accuracy ({write.p_equation(item.p_adjusted)})"


def _further(study: Study, results: Mapping[str, Result], better: Sequence[str], worse: Sequence[str]) -> str:
    parts = []
    if worse:
        parts.append(f"Below the baseline: {write.listing(list(worse))}.")
    if not better:
        parts.append("That is not evidence of no effect: an equivalence test needs a margin stated beforehand.")
    if "control" in better:
        parts.append(
            "The uninformative control helped too, so part of the gain need not come from what explanations say."
        )
    elif "control" in study.conditions and better:
        parts.append("The uninformative control did not help reliably.")
    n, items = study.answers()["participant_id"].nunique(), study.answers()["item_id"].nunique()
    kind = "simulated observer" if study.simulated else "participant"
    parts.append(f"{write.count(n, kind)}, {write.count(items, 'image')}; p adjusted by Holm's rule, intervals 95 %.")
    return " ".join(parts)


def _seen(study: Study) -> bool:
    trials = study.answers()
    return bool(trials["k_seen"].notna().all()) and bool(
        (trials.groupby("session")["k_seen"].max() != trials.groupby("session")["session"].max()).any()
    )


def _shown(analysed: Analysed) -> list[str]:
    present = set(analysed.study.answers()["condition"])
    return [name for name in analysed.study.conditions if name in present]


def _pictures(analysed: Analysed) -> dict[str, figures.Picture]:
    study, results, order = analysed.study, analysed.results, _shown(analysed)
    means = results["participant_means"]
    ratios = default_utilities(results["utility"])
    found = [
        figures.raincloud(means, order=order, baseline=study.baseline, chance=study.chance),
        figures.flow_chart(analysed.flow),
    ]
    if any(math.isfinite(item.value) for item in ratios):
        found.append(figures.utility_forest(ratios, order=order, baseline=study.baseline))
    if study.answers()["session"].nunique() > 1:
        found.append(
            figures.learning_curves(means, order=order, baseline=study.baseline, chance=study.chance, seen=_seen(study))
        )
    if results["model_split"].estimates:
        found.append(figures.model_split_figure(results["model_split"], order=order))
    linked = results.get("link")
    if linked is not None and linked.points is not None and len(linked.points):
        bars = {item.label: item for item in ratios}
        found.append(figures.link_figure(linked, order=order, baseline=study.baseline, intervals=bars))
    return {picture.name: picture for picture in found}


def _tables(analysed: Analysed) -> dict[str, tables.Table]:
    study, results, order = analysed.study, analysed.results, _shown(analysed)
    means = results["participant_means"]
    found = [
        tables.flow_table(analysed.flow, study.conditions),
        tables.exclusion_table(analysed.exclusions),
        tables.accuracy_table(means, order),
        tables.session_table(means, order, seen=_seen(study)),
        tables.glm_table(results["cluster_glm"]),
        tables.utility_table(results["utility"], order, study.baseline),
        tables.omnibus_table(results["anova"]),
        tables.comparison_table(results["anova"]),
        tables.item_table(results["item_means"]),
    ]
    if results["model_split"].estimates:
        found.append(tables.split_table(results["model_split"], order))
    if "link" in results:
        found += [tables.link_table(results["link"]), tables.link_points_table(results["link"])]
    if analysed.scores is not None:
        found.append(tables.leaderboard_table(analysed.scores))
    return {table.name: table for table in found}


def _provenance(analysed: Analysed, scores: str | Path | None, stamp: str, command: str) -> dict[str, Any]:
    study = analysed.study
    files = [{"file": item.name, "sha256": item.sha256, "rows": item.rows} for item in study.files]
    if scores is not None:
        path = Path(scores)
        rows = 0 if analysed.scores is None else len(analysed.scores)
        files.append({"file": path.name, "sha256": sha256_file(path), "rows": rows})
    return {
        "schema": SCHEMA,
        "study": study.name,
        "study_version": study.version,
        "stimuli": str(study.trials["stimuli"].iloc[0]),
        "observers": study.source,
        "written": stamp,
        "command": command,
        "software": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "files": files,
        "export": plain(study.provenance),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _write_beside(
    folder: Path,
    analysed: Analysed,
    pictures: Mapping[str, figures.Picture],
    sheets: Mapping[str, tables.Table],
    provenance: Mapping[str, Any],
) -> None:
    for name in ("figures", "tables"):
        (folder / name).mkdir()
    for picture in pictures.values():
        (folder / "figures" / f"{picture.name}.svg").write_text(picture.svg, encoding="utf-8")
        (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
    for sheet in sheets.values():
        sheet.frame.to_csv(folder / "tables" / f"{sheet.name}.csv", index=False)
    people = tables.participants_frame(analysed.results["participant_means"], analysed.study)
    people.to_csv(folder / "tables" / "participants.csv", index=False)
    content = {
        "schema": SCHEMA,
        "answer": analysed.answer,
        "simulated": analysed.study.simulated,
        "conditions": list(analysed.study.conditions),
        "baseline": analysed.study.baseline,
        "analyses": {name: result.json() for name, result in analysed.results.items()},
        "flow": plain(analysed.flow),
        "exclusions": plain(analysed.exclusions),
        "warnings": list(analysed.warnings),
        "provenance": provenance,
    }
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")


def _page(
    analysed: Analysed,
    pictures: Mapping[str, figures.Picture],
    sheets: Mapping[str, tables.Table],
    provenance: Mapping[str, Any],
    stamp: str,
) -> str:
    environment = Environment(
        loader=PackageLoader("analysis", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = lambda picture: Markup(picture.inline)
    return environment.get_template("report.html").render(
        study=analysed.study,
        answer=analysed.answer,
        further=analysed.further,
        results=analysed.results,
        pictures=pictures,
        tables=sheets,
        warnings=analysed.warnings,
        excluded=int(analysed.flow.loc[analysed.flow["step"].str.startswith("excluded"), "all"].sum()),
        provenance=provenance,
        export=_flatten(provenance["export"]),
        stamp=stamp,
        level="95 %",
    )


def _flatten(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [row for key in sorted(value) for row in _flatten(value[key], f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        return [row for i, item in enumerate(value) for row in _flatten(item, f"{path}.{i}")]
    if isinstance(value, list):
        return [(path, ", ".join(map(str, value)))]
    return [(path, "" if value is None else str(value))]
