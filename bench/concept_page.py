"""What a report shows of concepts: cards, fronts, decisions, strategies, and what untrained weights score."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from . import concept_figures
from .engine import Draws
from .images import encode_png
from .importance import Share, cluster_graph, share
from .plan import registered_name, untrained
from .store import Artifact, Store

CARDS = 4
"""Concepts shown of each dictionary."""
CLASSES = 3
"""Classes named on a card."""
GRAPHS = 9
"""Strategic cluster graphs a layer."""
_COMPLETE = 0.05
"""Gap between the summed credit and the logit, relative to the logit, below which a share is one of the logit."""
_GAP = 2


@dataclass(eq=False)
class Fit:
    """One dictionary of a run: its first replicate, the importance of its concepts, and its scores by metric."""

    label: str
    network: str
    layer: str
    dictionary: Artifact
    importance: Artifact | None = None
    scores: dict[str, Artifact] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return str(self.dictionary.config["method"])

    @cached_property
    def told(self) -> dict[str, np.ndarray]:
        """Credit (N, k), codes (N, k), logit, base and target (N,)."""
        assert self.importance is not None
        return self.importance.tensors("importances.safetensors")

    @cached_property
    def complete(self) -> bool:
        """Whether the credit of an image's concepts adds up to its logit above that of no concept."""
        gain = (self.told["logit"] - self.told["base"]).astype(np.float64)
        gap = self.told["credit"].astype(np.float64).sum(axis=1) - gain
        return bool(np.linalg.norm(gap) <= _COMPLETE * np.linalg.norm(gain))


def fits_of(run: Artifact, store: Store) -> list[Fit]:
    """Return the dictionaries of a run in the order of the plan; the first importance of each is kept."""
    parents: Mapping[str, str] = run.manifest["parents"]
    found: dict[str, Fit] = {}
    for role, key in parents.items():
        kind, _, rest = role.partition("/")
        place, _, last = rest.rpartition("/")
        if kind == "dictionaries" and rest.endswith(" seed 0"):
            artifact = store.open(kind, key)
            name = rest.removesuffix(" seed 0")
            found[name] = Fit(
                name.split(" @ ")[0], str(artifact.config["network"]), str(artifact.config["layer"]), artifact
            )
        elif kind == "importances" and found[place].importance is None:
            found[place].importance = store.open(kind, key)
        elif kind == "scores" and place in found:
            found[place].scores[last] = store.open(kind, key)
    table = run.rows("table.parquet")[["network", "layer", "method"]].drop_duplicates()
    order = {row: index for index, row in enumerate(table.itertuples(index=False, name=None))}
    return sorted(found.values(), key=lambda fit: order.get((fit.network, fit.layer, fit.label), len(order)))


def trained(fits: Sequence[Fit], run: Artifact) -> list[Fit]:
    """Leave out those of networks whose weights were drawn anew."""
    blank = blank_networks(run)
    return [fit for fit in fits if fit.network not in blank]


def blank_networks(run: Artifact) -> dict[str, str]:
    """Return name -> trained name of the networks of a run whose weights were drawn anew."""
    concepts = run.config.get("concepts") or {}
    if not concepts.get("untrained"):
        return {}
    return {untrained(name): name for name in concepts.get("network") or run.config["network"]}


def panels(fits: Sequence[Fit]) -> dict[str, list[Fit]]:
    """Group dictionaries by layer, with the network's name where there are several."""
    several = len({fit.network for fit in fits}) > 1
    found: dict[str, list[Fit]] = {}
    for fit in fits:
        found.setdefault(f"{fit.network}, {fit.layer}" if several else fit.layer, []).append(fit)
    return found


def one_a_method(fits: Sequence[Fit]) -> list[Fit]:
    """Keep the first dictionary of each method."""
    return list({fit.method: fit for fit in reversed(fits)}.values())[::-1]


def drawings(fits: Sequence[Fit]) -> Iterator[tuple[str, str, str, Figure]]:
    """Yield name, title, caption and figure of what the scores and importances allow to draw."""
    front = {layer: points for layer, some in panels(fits).items() if (points := _points(some))}
    if front:
        yield (
            "pareto",
            "Sparsity against reconstruction",
            "R2 on held-out rows (1 is perfect, 0 is each feature's mean) against the number of codes that are not zero in "
            "a row: up and to the left is better. Mean over the fits with a 95 % bootstrap interval over rows; points of "
            "one method, joined, differ in their size or sparsity. Short dashes, the floor: what as many random directions as the "
            "dictionary has atoms reach with the best possible code, which is dense.",
            concept_figures.pareto(front),
        )
    for wanted, title, caption, across, upwards in _DECISIONS:
        curves = {layer: found for layer, some in panels(fits).items() if (found := _curves(some, wanted))}
        if curves:
            yield wanted, title, caption, concept_figures.decision_curves(curves, across, upwards)
    for layer, some in panels(fits).items():
        graphs = {fit.label: _graph(fit) for fit in one_a_method(some)[:GRAPHS] if fit.importance}
        if graphs:
            yield (
                f"strategies_{layer}".replace(", ", "_").replace("/", "_"),
                f"Strategies at {layer}",
                "Each point is a test picture, placed by the mix of concepts that its answer rests on (t-SNE of importance "
                "scaled to unit length: neighbours share their reasons, distances between clusters say nothing). Colour and "
                f"shape: the concept that adds most, the {concept_figures.STRATEGIES} most frequent named with their number "
                "of pictures.",
                concept_figures.strategies(graphs),
            )


_DECISIONS = (
    (
        "energy_matched",
        "Decisions at equal energy",
        "How far the logit of the answered class falls when concepts are removed, most important first, against the share "
        "of the activation's energy that went with them: a dense direction carries more energy than a unit, so that "
        "numbers of concepts cannot be compared. Mean over test pictures with a 95 % interval; grey lines are the "
        "controls, random directions and PCA. Above them: the concepts matter more to the decision than their size explains.",
        "activation energy removed (%)",
        "fall of the answer's logit",
    ),
    (
        "C-deletion",
        "C-deletion",
        "Probability of the answered class while concepts are removed, most important first; mean over test pictures with "
        "a 95 % interval; lower is better. Dictionaries of different size have different steps: read beside the null.",
        "concepts removed, most important first (%)",
        "probability of the answer",
    ),
    (
        "C-insertion",
        "C-insertion",
        "Probability of the answered class while concepts are put back, most important first; mean over test pictures "
        "with a 95 % interval; higher is better.",
        "concepts inserted, most important first (%)",
        "probability of the answer",
    ),
)


def _points(fits: Sequence[Fit]) -> list[concept_figures.Point]:
    found = []
    for fit in fits:
        scored = next((one for name, one in fit.scores.items() if registered_name(name) == "reconstruction_r2"), None)
        if scored is not None and "active" in (rows := scored.rows()):
            facts = scored.summary
            found.append(
                concept_figures.Point(
                    fit.method, float(rows["active"].mean()), facts["value"], facts["low"], facts["high"], facts["null"]
                )
            )
    return found


def _curves(fits: Sequence[Fit], wanted: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for fit in one_a_method(fits):
        for name, artifact in fit.scores.items():
            if name.split(" by ")[0].split(" (")[0] == wanted and "curves.safetensors" in artifact.manifest["files"]:
                curve = artifact.tensors("curves.safetensors")
                found.setdefault(fit.method, (curve["x"], curve["y"]))
    return found


def _graph(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    found = cluster_graph(torch.from_numpy(fit.told["credit"]), draws=Draws(0, "cluster graph"))
    return found.positions, found.strategy


def cards(fits: Sequence[Fit]) -> list[dict[str, Any]]:
    """Return, for each layer, the most important concepts of one dictionary a method, with shares and crops."""
    found = []
    for layer, some in panels(fits).items():
        shown = [fit for fit in one_a_method(some) if fit.importance is not None]
        if not shown:
            continue
        methods = [_cards(fit) for fit in shown]
        highest = max((card["high"] for method in methods for card in method["cards"]), default=1.0)
        found.append({"layer": layer, "methods": methods, "scale": max(highest, 1e-9)})
    return found


def _cards(fit: Fit) -> dict[str, Any]:
    assert fit.importance is not None
    credit = torch.from_numpy(fit.told["credit"].astype(np.float64))
    overall = share(credit)
    target = fit.told["target"]
    names = _class_names(fit.importance)
    by_class = {names(one): share(credit[torch.from_numpy(target == one)], resamples=1) for one in np.unique(target)}
    # A concept that lowers the answers cannot be among those they rest on.
    order = np.argsort(-np.nan_to_num(overall.value, nan=-np.inf), kind="stable")[:CARDS]
    files = fit.dictionary.manifest["files"]
    crops = fit.dictionary.tensors("crops.safetensors")["crops"] if "crops.safetensors" in files else None
    atoms = fit.dictionary.rows("atoms.parquet").set_index("atom")
    return {
        "method": fit.label,
        "concepts": len(overall.value),
        "of": "logit" if fit.complete else "credit",
        "cards": [_card(int(one), overall, by_class, atoms, crops) for one in order],
        "rest": float(1 - np.nansum(overall.value[order])),
    }


def _card(
    concept: int, overall: Share, by_class: Mapping[str, Share], atoms: pd.DataFrame, crops: np.ndarray | None
) -> dict[str, Any]:
    classes = sorted(by_class.items(), key=lambda item: (-item[1].value[concept], item[0]))[:CLASSES]
    return {
        "concept": concept,
        "share": float(overall.value[concept]),
        "low": float(overall.low[concept]),
        "high": float(overall.high[concept]),
        "first": int(overall.first[concept]),
        "pictures": float(atoms["pictures"][concept]),
        "classes": [{"name": name, "share": float(one.value[concept])} for name, one in classes],
        "crops": "" if crops is None else _strip(crops[concept]),
    }


def _class_names(importance: Artifact) -> Callable[[int], str]:
    """Return class index -> name, as the network or else the image set calls it."""
    names = json.loads(importance.file("classes.json").read_text(encoding="utf-8"))
    return lambda index: str(names[index]) if index < len(names) else str(index)


def _strip(crops: np.ndarray) -> str:
    """Lay crops (m, side, side, 3) in a row, as base64 PNG."""
    side = crops.shape[1]
    canvas = np.full((side, len(crops) * (side + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for index, crop in enumerate(crops):
        canvas[:, index * (side + _GAP) : index * (side + _GAP) + side] = crop
    return base64.b64encode(encode_png(canvas)).decode()


def controls(run: Artifact, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, for each layer, every score on the trained and on the untrained network, and their difference.

    The interval of the difference is normal, from the two bootstrap intervals.
    """
    found = []
    for blank, name in blank_networks(run).items():
        pair = table[table["network"].isin([blank, name]) & (table["subject"] == "dictionary")]
        for layer, part in pair.groupby("layer", sort=False):
            metrics = list(dict.fromkeys(part["metric"]))
            indexed = {(row["network"], row["method"], row["metric"]): row for row in part.to_dict("records")}
            methods = [
                {
                    "name": method,
                    "cells": [_difference(indexed, (name, blank), method, metric) for metric in metrics],
                }
                for method in dict.fromkeys(part["method"])
            ]
            directions = [part.loc[part["metric"] == metric, "direction"].iloc[0] for metric in metrics]
            found.append(
                {"place": f"{name}, {layer}", "metrics": metrics, "directions": directions, "methods": methods}
            )
    return found


def _difference(
    rows: Mapping[tuple[Any, ...], Mapping[Any, Any]], networks: tuple[str, str], method: str, metric: str
) -> dict[str, float | bool] | None:
    if any((network, method, metric) not in rows for network in networks):
        return None
    taught, blank = (rows[network, method, metric] for network in networks)
    difference = float(taught["value"] - blank["value"])
    halves = [(row["high"] - row["low"]) / 2 for row in (taught, blank)]
    reach = math.hypot(*halves) if all(math.isfinite(half) for half in halves) else math.nan
    return {
        "trained": float(taught["value"]),
        "untrained": float(blank["value"]),
        "difference": difference,
        "low": difference - reach,
        "high": difference + reach,
        # An interval that is not known excludes nothing.
        "alike": not abs(difference) > reach,
    }
