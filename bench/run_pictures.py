"""Which pictures the page of a run gets, in the order of the page: explanations, costs, ranks, curves, concepts, scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from . import comparisons, concept_page, figures
from .picture import RC, Picture, render
from .store import Artifact, Store

LARGEST_DRAWING = 300_000
"""Bytes of a drawing above which the page shows its pixels."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture with its caption; `pixels` where the page shows the PNG: photographs, and drawings of many points."""

    picture: Picture
    caption: str
    pixels: bool


def pictures_of(run: Artifact, store: Store, table: pd.DataFrame, ranked: list[comparisons.Ranking]) -> list[Shown]:
    """Draw every picture of a run.

    Parameters
    ----------
    table : DataFrame of the run's scores
    ranked : of `rankings`
    """
    shown = []
    with matplotlib.rc_context(RC):
        for name, title, caption, figure in _drawings(run, store, table, ranked):
            photographs = any(axis.images for axis in figure.axes)
            picture = render(figure, name, title, f"{title}. {caption}")
            pixels = photographs or len(picture.inline) > LARGEST_DRAWING
            shown.append(Shown(picture=picture, caption=caption, pixels=pixels))
    return shown


def rankings(run: Artifact, store: Store, table: pd.DataFrame) -> list[comparisons.Ranking]:
    """Rank the methods of maps on each image, a ranking for each metric that has a direction."""
    parents: Mapping[str, str] = run.manifest["parents"]
    maps = table[(table["subject"] == "attribution") & (table["direction"] != "none")]
    found = []
    for metric, direction in dict(zip(maps["metric"], maps["direction"], strict=True)).items():
        samples = {
            name: artifact.rows().drop_duplicates("sample").set_index("sample")["value"]
            for name, artifact in _of_metric(parents, store, str(metric), exact=True).items()
        }
        one = comparisons.rank(str(metric), str(direction), samples) if samples else None
        found += [one] if one is not None else []
    return found


def fits(run: Artifact, store: Store) -> list[concept_page.Fit]:
    """Return the dictionaries that were fitted on trained weights."""
    return concept_page.trained(concept_page.fits_of(run, store), run)


Drawing = tuple[str, str, str, Figure]


def _drawings(run: Artifact, store: Store, table: pd.DataFrame, ranked: list[comparisons.Ranking]) -> Iterator[Drawing]:
    if run.config["attributions"]:
        yield _explanations(run, store)
    kept = table[~table["network"].isin(concept_page.blank_networks(run))]
    yield from _costs(kept)
    if ranked:
        yield (
            "ranks", "Which methods can be told apart",
            "Each image ranks the methods on a metric; shown is the mean rank over images. A bar joins neighbours of which no pair "
            "is told apart (Wilcoxon signed-rank tests of all pairs, Holm, .05). Friedman's test asks whether any differ. n is the "
            "images for which every method has a value; the tests speak of new images of this set and this network.",
            comparisons.critical_differences(ranked),
        )  # fmt: skip
    if run.config["attributions"]:
        yield from _map_figures(run, store)
    yield from concept_page.drawings(fits(run, store))
    yield (
        "scores", "Scores against their null",
        "Mean over samples with a 95 % bootstrap interval; the band is the interval of the null (random maps or "
        "random dictionaries); hollow markers cannot be told from it. Green: the ceiling, where there is one.",
        figures.scores(kept),
    )  # fmt: skip
    crops = {
        fit.label: fit.dictionary
        for fit in fits(run, store)
        if fit.importance is None and "crops.safetensors" in fit.dictionary.manifest["files"]
    }
    if crops:
        yield (
            "concepts", "Concepts", "For each dictionary, the image regions that activate an atom most, one row an atom.",
            figures.concepts(crops),
        )  # fmt: skip


def _costs(table: pd.DataFrame) -> Iterator[Drawing]:
    """Draw cost against score for each subject, network and layer with at least three methods to compare."""
    groups = [
        (keys, part[part["direction"] != "none"])
        for keys, part in table.groupby(["subject", "network", "layer"], sort=False)
    ]
    groups = [(keys, part) for keys, part in groups if part["method"].nunique() > 2]
    for index, ((subject, network, layer), part) in enumerate(groups):
        place = f"{network}, {layer}" if layer else str(network)
        what = "making the explanations of all images" if subject == "attribution" else "fitting one dictionary"
        yield (
            "costs" if index == 0 else f"costs_{index + 1}",
            f"Cost against score: {subject} methods, {place}" if len(groups) > 1 else "Cost against score",
            f"The cost is that of {what}. Bars: 95 % bootstrap interval over samples; dashed: the null in its band, or a dash for "
            "each method that has its own. The thin line joins the methods that no cheaper one beats.",
            comparisons.cost_against_score(part),
        )  # fmt: skip


def _explanations(run: Artifact, store: Store) -> Drawing:
    parents: Mapping[str, str] = run.manifest["parents"]
    maps = {
        role.split("/", 1)[1]: store.open("explanations", key)
        for role, key in parents.items()
        if role.startswith("explanations/")
    }
    images = store.open("images", parents["images"])
    predictions = next(
        store.open("predictions", key) for role, key in parents.items() if role.startswith("predictions")
    )
    return (
        "explanations", "Explanations side by side",
        "Each row is one image with the class the network answered; each column a method. Credit for "
        "the answer, each map on its own scale from its 1st to its 99th percentile; light is strong.",
        figures.explanations(images, predictions, maps),
    )  # fmt: skip


def _map_figures(run: Artifact, store: Store) -> Iterator[Drawing]:
    parents: Mapping[str, str] = run.manifest["parents"]
    images = store.open("images", parents["images"])
    located = _of_metric(parents, store, "energy_in_mask")
    if located:
        convention = next(iter(located.values())).summary["convention"]
        yield (
            "credit", "Where the credit lies",
            f"Energy in mask ({convention}): mean over images with a 95 % bootstrap interval; the dashed line is what "
            "random maps get.",
            figures.by_group(images, located, "share of positive credit in the region", "null"),
        )  # fmt: skip
    for metric in ("deletion", "insertion"):
        curves = _of_metric(parents, store, metric)
        if curves:
            yield (
                metric, f"{metric.capitalize()} curves",
                "Mean probability of the answered class over images; lower is better for deletion, higher for insertion.",
                figures.curves(curves, metric),
            )  # fmt: skip


def _of_metric(parents: Mapping[str, str], store: Store, metric: str, *, exact: bool = False) -> dict[str, Artifact]:
    """Return method -> scores artifact for one metric of maps, whatever its options unless `exact`."""
    return {
        parts[1]: store.open("scores", key)
        for role, key in parents.items()
        if (parts := role.split("/"))[0] == "scores"
        and len(parts) == 3
        and (parts[2] if exact else parts[2].split(" (")[0]) == metric
    }
