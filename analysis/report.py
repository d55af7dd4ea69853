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
from .models.link import EXACT_UP_TO, FEWEST, link, smallest_p
from .models.mixed_model import flag_disagreement, mixed_model
from .models.model_split import model_split
from .models.participant_means import participant_means
from .models.utility import Formula, bootstrap_utilities, groups_of, utility
from .people import session_ends
from .results import FLAGS, Estimate, Result, plain

SCHEMA = 1
FORMULA: Formula = "ratio_of_means"
PACKAGES = ("limen", "numpy", "scipy", "pandas", "matplotlib", "jinja2")
RESAMPLES = 2000
ALPHA = 0.05
LONG = ("study_file", "protocol", "files", "flow", "checks", "conditions", "study", "study_version", "title", "stimuli")
"""Parts of the export's provenance that stand in results.json or elsewhere on the page."""
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """Everything a report shows, before it is drawn."""

    study: Study
    results: Mapping[str, Result]
    flow: pd.DataFrame
    exclusions: pd.DataFrame
    everyone: Result | None
    """The primary analysis with the excluded people back in; None if nobody was excluded."""
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
        **_primary_and_companion(trials, base),
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
        everyone=_everyone(study),
        scores=scores,
        warnings=tuple(warnings),
        answer=answer,
        further=further,
    )


def _primary_and_companion(trials: pd.DataFrame, baseline: str) -> dict[str, Result]:
    """Run the mixed model and, beside it, the clustered regression, which is primary where the mixed model failed."""
    mixed = mixed_model(trials, baseline=baseline)
    if not mixed.of("accuracy difference"):
        return {"mixed_model": mixed, "cluster_glm": cluster_glm(trials, baseline=baseline, role="primary")}
    companion = cluster_glm(trials, baseline=baseline, role="companion")
    return {"mixed_model": flag_disagreement(mixed, companion), "cluster_glm": companion}


def _everyone(study: Study) -> Result | None:
    trials = study.answers(exclusions=False)
    if trials["participant_id"].nunique() == study.answers()["participant_id"].nunique():
        return None
    return primary_of(_primary_and_companion(trials, study.baseline))


def primary_of(results: Mapping[str, Result]) -> Result:
    """Return the analysis that answers the study's question: the mixed model, or its companion where that failed."""
    mixed = results["mixed_model"]
    return mixed if mixed.of("accuracy difference") else results["cluster_glm"]


def _scores(path: str | Path | None) -> pd.DataFrame | None:
    return None if path is None else read_scores(path)


def default_utilities(result: Result) -> list[Estimate]:
    """Return the Utilities of the default formula with their log-delta intervals."""
    return [item for item in result.of(f"utility ({FORMULA})") if item.interval == "log-delta"]


def _link(scores: pd.DataFrame, utilities: Result, trials: pd.DataFrame, baseline: str) -> tuple[Result | None, str]:
    scores = scores[scores["label"].isin({item.label for item in utilities.estimates})]
    sets = scores[["network", "images"]].drop_duplicates()
    if scores.duplicated(["network", "images", "label", "metric"]).any():
        return None, "The score table has several rows of one method and metric, so scores were not linked to Utility."
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
    return result, _few_methods(result.facts["methods"])


def _few_methods(n: int) -> str:
    if n < FEWEST:
        return f"Scores and Utility meet in only {write.count(n, 'method')}, so no coefficient is given."
    if n <= EXACT_UP_TO:
        return (
            f"Scores and Utility meet in only {n} methods: the smallest p an exact test can reach is "
            f"{write.p_value(smallest_p(n))}, and intervals over methods are wide."
        )
    return ""


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
    primary = primary_of(results)
    contrasts = primary.of("accuracy difference")
    who = "simulated observers" if study.simulated else "people"
    if not contrasts:
        reasons = "; ".join(FLAGS[flag] for flag in primary.all_flags())
        return f"No condition could be compared with the {study.baseline} condition: {reasons}.", ""
    reliable = [item for item in contrasts if item.p_adjusted < ALPHA]
    methods = [item for item in contrasts if item.label != "control"] or list(contrasts)
    better = [item for item in methods if item in reliable and item.value > 0]
    best = max(better or methods, key=lambda item: item.value)
    if better:
        rest = [item.label for item in sorted(better, key=lambda item: -item.value) if item is not best]
        sentence = f"Explanations helped {who} predict the model: {best.label} most, with {_gap(best)} against {study.baseline}"
        sentence += f"; {write.listing(rest)} also helped." if rest else "; no other helped reliably."
    else:
        sentence = (
            f"No explanation could be shown to help {who} predict the model: the largest difference from {study.baseline} "
            f"is {_gap(best)}, for {best.label}."
        )
    return sentence, _further(study, reliable, bool(better))


def _gap(item: Estimate) -> str:
    bounds = write.interval(item.low, item.high, 1, scale=100)
    return f"{write.points(item.value)} percentage points {bounds} of accuracy ({write.p_equation(item.p_adjusted)})"


def _further(study: Study, reliable: Sequence[Estimate], helped: bool) -> str:
    parts = []
    worse = [item.label for item in reliable if item.value < 0]
    if worse:
        parts.append(f"Reliably below the baseline: {write.listing(worse)}.")
    if not helped:
        parts.append("That is not evidence of no effect: an equivalence test needs a margin stated beforehand.")
    if any(item.label == "control" and item.value > 0 for item in reliable):
        parts.append(
            "The uninformative control helped too, so part of a gain need not come from what explanations say."
        )
    elif "control" in study.conditions and helped:
        parts.append("The uninformative control did not help reliably.")
    n, items = study.answers()["participant_id"].nunique(), study.answers()["item_id"].nunique()
    kind = "simulated observer" if study.simulated else "participant"
    parts.append(
        f"{write.count(n, kind)}, {write.count(items, 'image')}; p by Holm's rule, intervals {LEVEL:.0%}, not adjusted."
    )
    return " ".join(parts)


def _seen(study: Study) -> bool:
    trials = study.answers()
    return session_ends(trials) != {float(s): float(s) for s in trials["session"].unique()}


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
        tables.contrast_table(
            primary_of(results), name="contrasts", caption="Each condition against the baseline (primary)"
        ),
        tables.contrast_table(
            results["cluster_glm"], name="companion", caption="The same contrasts by the clustered regression"
        ),
        tables.utility_table(results["utility"], order, study.baseline),
        tables.omnibus_table(results["anova"]),
        tables.comparison_table(results["anova"]),
        tables.item_table(results["item_means"]),
    ]
    if analysed.everyone is not None:
        caption = "Each condition against the baseline, nobody excluded"
        found.append(tables.contrast_table(analysed.everyone, name="contrasts_everyone", caption=caption))
    if results["model_split"].estimates:
        found.append(tables.split_table(results["model_split"], order))
    if "link" in results:
        found.append(tables.link_points_table(results["link"]))
        if not results["link"].flags:
            found.append(tables.link_table(results["link"]))
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


def utility_lines(results: Mapping[str, Any]) -> list[str]:
    """Render the content of `results.json` as lines for the terminal: the answer, then accuracy and Utility by condition."""
    analyses = results["analyses"]
    ratios = {
        item["label"]: item
        for item in analyses["utility"]["estimates"]
        if item["quantity"] == f"utility ({FORMULA})" and item["interval"] == "log-delta"
    }
    lines = ["", results["answer"], "", f"{'condition':24} {'n':>4} {'accuracy':>9}   utility [95 %]"]
    for item in analyses["participant_means"]["estimates"]:
        if item["quantity"] != "accuracy":
            continue
        value, low, high = (_number(ratios.get(item["label"], {}).get(key)) for key in ("value", "low", "high"))
        ratio = "1 by definition" if item["label"] == results["baseline"] else _ratio(value, low, high)
        lines.append(f"{item['label']:24} {item['n']:>4} {write.percent(_number(item['value'])):>9}   {ratio}")
    return lines


def _ratio(value: float, low: float, high: float) -> str:
    return f"{write.number(value)} {write.interval(low, high)}"


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


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
        "without_exclusions": None if analysed.everyone is None else analysed.everyone.json(),
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
    study = analysed.study
    return environment.get_template("report.html").render(
        study=study,
        answer=analysed.answer,
        further=analysed.further,
        results=analysed.results,
        primary=primary_of(analysed.results),
        pictures=pictures,
        tables=sheets,
        warnings=analysed.warnings,
        excluded=int(analysed.flow.loc[analysed.flow["step"].str.startswith("excluded"), "all"].sum()),
        provenance=provenance,
        export=_flatten({key: value for key, value in provenance["export"].items() if key not in LONG}),
        title=str(study.provenance.get("title") or study.name),
        checks=[(key, str(value)) for key, value in dict(study.provenance.get("checks") or {}).items()],
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
