"""The page of a report: one self-contained HTML file, made from what was analysed, drawn and tabled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ..battery import analysis_of
from ..figures import Picture
from ..results import Result
from ..tables import Table
from .analysis import Analysed
from .methods import fitted, limits, methods
from .plan import plan_facts

LONG = ("study_file", "protocol", "plan", "files", "flow", "checks", "conditions", "study", "study_version", "title", "stimuli",
        "factors", "categories", "excluded_means")  # fmt: skip
"""Parts of the export's provenance that stand in results.json or elsewhere on the page."""
SPECIAL = ("participant_means", "item_means", "utility", "model_split", "anova", "link")
"""Results with a section of their own."""
UTILITY = "Did explanations help {} predict the model?"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A report's parts: pictures and tables by part of the page, the codebook, the provenance and the time of writing."""

    pictures: Mapping[str, tuple[Picture, ...]]
    tables: Mapping[str, tuple[Table, ...]]
    provenance: Mapping[str, Any]
    stamp: str


def render_page(analysed: Analysed, drawn: Drawn) -> str:
    """Return the page as text."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("analysis", "templates"), PackageLoader("bench", "templates")]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = lambda picture: Markup(picture.inline)
    study, primary = analysed.study, analysed.battery.primary
    return environment.get_template("report.html").render(
        study=study,
        analysed=analysed,
        answer=analysed.answer,
        further=analysed.further,
        question=_question(analysed),
        results=analysed.results,
        primary=primary,
        failed=_failed(analysed),
        companion=analysed.results.get(analysed.battery.companion),
        secondary=[result for name, result in _secondary(analysed).items()],
        pictures=drawn.pictures,
        tables=drawn.tables,
        methods=methods(analysed),
        limits=limits(analysed),
        fitted=fitted(analysed),
        plan=plan_facts(analysed),
        warnings=analysed.warnings,
        provenance=drawn.provenance,
        parents=_flatten({"parents": drawn.provenance["export"].get("parents") or {}}),
        export=_flatten({k: v for k, v in drawn.provenance["export"].items() if k not in (*LONG, "parents")}),
        title=str(study.provenance.get("title") or study.name),
        checks=[(key, str(value)) for key, value in dict(study.provenance.get("checks") or {}).items()],
        stamp=drawn.stamp,
        level="95 %",
    )


def _question(analysed: Analysed) -> str:
    study = analysed.study
    if analysis_of(study) == "utility":
        return UTILITY.format("simulated observers" if study.simulated else "people")
    return f"Hypothesis: {study.card['hypothesis']}" if study.card.get("hypothesis") else ""


def _failed(analysed: Analysed) -> Result | None:
    """Return the mixed model whose place its companion took."""
    mixed = analysed.results.get("mixed_model")
    return mixed if mixed is not None and mixed is not analysed.battery.primary else None


def _secondary(analysed: Analysed) -> dict[str, Result]:
    taken = {next(iter(analysed.results)), analysed.battery.companion, "mixed_model", "cluster_glm", *SPECIAL}
    return {name: result for name, result in analysed.results.items() if name not in taken}


def _flatten(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [row for key in sorted(value) for row in _flatten(value[key], f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        return [row for i, item in enumerate(value) for row in _flatten(item, f"{path}.{i}")]
    if isinstance(value, list):
        return [(path, ", ".join(map(str, value)))]
    return [(path, "" if value is None else str(value))]
