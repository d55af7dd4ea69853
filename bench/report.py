"""What a person looks at after a run: one page with the leaderboards, the figures and the concepts."""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from . import concept_page, figures
from .comparisons import rank_rows
from .leaderboard import ARROWS, boards, format_table, number, print_leaderboard, span_of
from .picture import anchor
from .plan import registered_name
from .registry import METRICS, LimenError, unknown
from .run_pictures import Shown, fits, pictures_of, rankings
from .store import Artifact, Store, latest

__all__ = [
    "draw_explanations",
    "draw_visualizations",
    "find_run",
    "format_table",
    "number",
    "print_leaderboard",
    "write_report",
]


def find_run(plan_path: Path, store: Path) -> Artifact:
    """Return the newest run of a plan file.

    Raises
    ------
    LimenError
        If the plan was never run in this store.
    """
    from .plan import load_plan

    return latest(Store(store), "runs", name=load_plan(plan_path).name)


def breakable(name: str) -> Markup:
    """Let a long name break after its underscores and opening brackets."""
    return Markup(escape(name).replace("_", Markup("_<wbr>")).replace("(", Markup("<wbr>(")))


def write_report(run: Artifact, store: Store, output: Path) -> Path:
    """Write the leaderboard page, its figures and the tidy table into a new folder; return the page.

    Raises
    ------
    LimenError
        If the folder exists and is not empty: nothing is overwritten.
    """
    if output.exists() and any(output.iterdir()):
        raise LimenError(f"{output}: is not empty; nothing is overwritten, give a new folder with -o.")
    table = run.rows("table.parquet")
    ranked = rankings(run, store, table)
    pictures = pictures_of(run, store, table, ranked)
    output.mkdir(parents=True, exist_ok=True)
    (output / "figures").mkdir(exist_ok=True)
    for shown in pictures:
        file = output / "figures" / shown.picture.name
        file.with_name(f"{file.name}.png").write_bytes(shown.picture.png)
        if not shown.pixels:
            file.with_name(f"{file.name}.svg").write_text(shown.picture.svg, encoding="utf-8")
    if ranked:
        for name_of, rows in zip(("ranks", "pairs"), rank_rows(ranked), strict=True):
            rows.to_csv(output / f"{name_of}.csv", index=False)
    (output / "table.csv").write_text(format_table(table, "csv"), encoding="utf-8")
    (output / "table.tex").write_text(format_table(table, "latex"), encoding="utf-8")
    page = output / "report.html"
    page.write_text(_page(run, store, table, pictures), encoding="utf-8")
    return page


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    return stream.getvalue()


def _page(run: Artifact, store: Store, table: pd.DataFrame, pictures: Sequence[Shown]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bench"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "number": number,
        "breakable": breakable,
        "base64": _base64,
        "anchor": anchor,
        "svg": lambda picture: Markup(picture.inline),
    }
    cards = {name: METRICS.card(registered_name(name)) for name in dict.fromkeys(table["metric"])}
    blank = concept_page.blank_networks(run)
    conventions = table.drop_duplicates("metric")[["metric", "convention"]].to_dict("records")
    return environment.get_template("report.html").render(
        run=run,
        networks=list(
            dict.fromkeys([*(run.config["network"] if run.config["attributions"] else ()), *_concept_networks(run)])
        ),
        boards=[_board_rows(title, part) for title, part in boards(table[~table["network"].isin(blank)])],
        pictures=pictures,
        concepts=concept_page.cards(fits(run, store)),
        controls=concept_page.controls(run, table),
        cards=cards,
        conventions=conventions,
        arrows=ARROWS,
    )


def _concept_networks(run: Artifact) -> Sequence[str]:
    concepts = run.config.get("concepts")
    return (concepts["network"] or run.config["network"]) if concepts else ()


def _board_rows(title: str, part: pd.DataFrame) -> dict[str, Any]:
    metrics = list(dict.fromkeys(part["metric"]))
    first = {metric: part[part["metric"] == metric].iloc[0].to_dict() for metric in metrics}
    methods = []
    for method in dict.fromkeys(part["method"]):
        rows = part[part["method"] == method].set_index("metric")
        cells = [{**rows.loc[metric], "metric": metric} if metric in rows.index else None for metric in metrics]
        methods.append(
            {"name": method, "cells": cells, **rows.iloc[0][["rank", "seconds", "forwards", "backwards"]].to_dict()}
        )
    references = {
        metric: {
            "shared": part.loc[part["metric"] == metric, "null"].nunique() == 1,
            **{name: span_of(part.loc[part["metric"] == metric, name]) for name in ("null", "ceiling")},
        }
        for metric in metrics
    }
    return {
        "title": title,
        "metrics": metrics,
        "first": first,
        "methods": methods,
        "references": references,
        "has_ceiling": bool(part["ceiling"].notna().any()),
    }


def draw_explanations(
    *,
    network: str,
    images: str,
    method: str,
    split: str,
    n: int,
    seed: int,
    device: str,
    output: Path,
    space: str = "pixels",
    settings: Mapping[str, str] | None = None,
) -> None:
    """Explain a few images with one method and write one PNG.

    Raises
    ------
    LimenError
        If the output exists already, or a name or an option is unknown.
    """
    from . import api, spaces, zoo
    from .engine import Engine
    from .registry import ATTRIBUTIONS, resolve_options
    from .runner import answers

    if output.exists():
        raise LimenError(f"{output}: exists already; nothing is overwritten.")
    resolve_options(ATTRIBUTIONS.load(method), settings or {}, f"attribution '{method}'")
    coordinates = spaces.make(space)
    chosen = zoo.load_images(images, split, n, seed)
    engine = Engine(zoo.load_network(network, device=device), device=device)
    inputs = engine.inputs(chosen.pictures)
    scores = engine.scores(inputs, score="probability")
    credit = api.explain(method, engine, inputs, scores.argmax(1), space=coordinates, seed=seed, **dict(settings or {}))
    maps = engine.numpy(coordinates.map(credit, tuple(inputs.shape[2:])))[:, 0]
    name = answers(engine.network, chosen)
    answered = [name(int(index)) for index in engine.numpy(scores.argmax(1))]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(_png(figures.side_by_side(chosen.pictures, answered, {method: maps})))


def draw_visualizations(
    *,
    network: str,
    images: str,
    method: str,
    targets: Sequence[str],
    layer: str | None,
    n: int,
    size: int | None,
    seed: int,
    device: str,
    output: Path,
    settings: Mapping[str, str],
) -> None:
    """Make pictures for classes, or for the units of a layer, and write one PNG.

    Raises
    ------
    LimenError
        If the output exists already, or a name, a target or an option is unknown.
    """
    from . import api, zoo
    from .engine import Engine
    from .registry import VISUALIZATIONS, resolve_options
    from .spaces.readout import concept_engine
    from .synthesis import visualize

    if output.exists():
        raise LimenError(f"{output}: exists already; nothing is overwritten.")
    function = VISUALIZATIONS.load(method)
    resolve_options(function, settings, f"visualization '{method}'")
    chosen = zoo.load_images(images, "train", n, seed)
    engine = Engine(zoo.load_network(network, device=device), device=device)
    asked = engine
    if layer:
        units = api.fit_dictionary("neurons", engine.tap(engine.inputs(chosen.pictures[:2]), layer))
        asked = concept_engine(engine, units, layer)
    classes = asked.network.classes
    numbers = [_target(one, classes) for one in targets] or list(range(min(4, len(classes))))
    begin = "seeds" in inspect.signature(function).parameters
    found = visualize(
        function,
        asked,
        numbers,
        pictures=chosen.pictures,
        size=size,
        seeds=chosen.pictures[: len(numbers)] if begin else None,
        seed=seed,
        **settings,
    )
    reached, null = engine.numpy(found.reached), engine.numpy(found.null)
    captions = [
        f"{f'unit {number}' if layer else classes[number]}\nstart {low:.1f}, reached {high:.1f}"
        for number, low, high in zip(numbers, null, reached, strict=True)
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    pictures = engine.numpy(found.pictures.movedim(1, -1))
    output.write_bytes(_png(figures.visuals(pictures, engine.numpy(found.opacity), captions)))


def _target(given: str, classes: Sequence[str]) -> int:
    """Read a class by its name or number."""
    if given in classes:
        return list(classes).index(given)
    if given.isdigit() and int(given) < len(classes):
        return int(given)
    raise unknown("option --target", given, classes)
