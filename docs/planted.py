"""Judge dictionaries on data whose atoms are known, and write docs/planted.md (`make planted`).

Every fit is kept under .limen/planted, by the digest of the code that made it: a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planted_pairs import section
from planted_text import INTRO, answer, contrasts_table, interval, method_table

from bench.api import fit_dictionary, score_dictionaries
from bench.dictionaries._archetypes import centroids
from bench.engine import Draws
from bench.registry import DICTIONARIES, METRICS
from bench.spaces.nnls import nnls
from bench.zoo.planted import Planted, sparse

PAGE = Path(__file__).with_name("planted.md")
KEPT = Path(__file__).parent.parent / ".limen" / "planted"
TRUTHS, K, ACTIVE = 4, 128, 4
SHARED = {"centroids_seed": 0}
SHORT = {"steps": 800, "batch_size": 256, "learning_rate": 3e-3}
LONG = {"steps": 1200, "batch_size": 256, "learning_rate": 1e-2}

GEOMETRIES: Mapping[str, Callable[..., Planted]] = {
    "isotropic": partial(sparse, atoms=K, active=ACTIVE),
    "correlated": partial(sparse, atoms=K, active=ACTIVE, positive=True, shared=0.3, offset=2.0),
}


@dataclass(frozen=True)
class Arm:
    """One row of a table: a registered method with its options."""

    label: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = True
    k: int = K
    where: tuple[str, ...] = ("isotropic", "correlated")

    def arguments(self, budget: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options of a fit."""
        return {**self.options, **({"active": ACTIVE, **budget} if self.trained else {})}


ARMS = (
    Arm("random", "random", trained=False),
    Arm("neurons", "neurons", trained=False, k=64),
    Arm("PCA", "pca", trained=False, k=64),
    Arm("ICA", "ica", trained=False, k=64),
    Arm("k-means", "kmeans", trained=False),
    Arm("NMF", "nmf", {"iterations": 200}, trained=False, k=64, where=("correlated",)),
    Arm("frozen centroids", "centroids", {"active": ACTIVE}, trained=False),
    Arm("TopK, random start", "topk"),
    Arm("TopK, same centroids", "topk", {"init": "centroids", **SHARED}),
    Arm("TopK, centroids refitted", "topk", {"init": "centroids"}),
    Arm("TopK, same mixtures", "topk", {"init": "mixtures", **SHARED}),
    Arm("A-SAE, eye", "archetypal", {"init": "eye", **SHARED}),
    Arm("A-SAE, eye, C refitted", "archetypal", {"init": "eye"}),
    Arm("A-SAE, random W", "archetypal", {"init": "random", **SHARED}),
    Arm("RA-SAE, eye", "relaxed_archetypal", {"init": "eye", **SHARED}),
    Arm(
        "A-SAE, eye, not centred", "archetypal", {"init": "eye", "standardise": "none", **SHARED}, where=("correlated",)
    ),
    Arm("BatchTopK", "batch_topk", where=("isotropic",)),
    Arm("JumpReLU", "jumprelu", {"penalty": 2.0, **SHORT}, trained=False, where=("isotropic",)),
)
HARDER = ("TopK, random start", "TopK, same centroids", "TopK, same mixtures", "A-SAE, eye", "A-SAE, random W")
"""What is trained a second time, with a larger budget: an answer must not be one of too little training."""


def measured(geometry: str, truth: int, arm: Arm, budget: Mapping[str, Any]) -> dict[str, float]:
    """Fit three times on one planted truth: two seeds on the same rows, a third on fresh rows of the same truth."""
    first, fresh = (GEOMETRIES[geometry](truth, sample) for sample in (0, 1))
    data = first.concept_data()
    options, seeds = arm.arguments(budget), range(3 * truth, 3 * truth + 3)
    fits = [
        fit_dictionary(arm.method, source.train, arm.k, seed=seed, **options)
        for source, seed in zip((first, first, fresh), seeds, strict=True)
    ]
    found = score_dictionaries("recovery", fits, data, seed=truth, null_draws=1)
    kept = [score_dictionaries("reconstruction_r2", [one], data, seed=truth, null_draws=1) for one in fits]
    numbers = {
        "r2": float(np.mean([one.value.mean for one in kept])),
        "active": float(np.mean([one.extra["active"].mean() for one in kept])),
        "recovery": found.value.mean,
        "recovery_null": found.null_value.mean,
        "recovery_ceiling": float(found.ceiling.mean()),
        **{
            name: float(np.nanmean(found.extra[name]))
            for name in ("centred", "centred_null", "f1", "f1_null", "f1_ceiling")
        },
    }
    for name, pair in (("seeds", fits[:2]), ("rows", fits[::2])):
        stable = score_dictionaries("dictionary_stability", pair, data, seed=truth, null_draws=1)
        numbers[f"stability_{name}"] = stable.value.mean
        numbers[f"stability_{name}_centred"] = float(stable.extra["centred"].mean())
        numbers["stability_null"] = stable.null_value.mean
        numbers["dead"] = float(stable.extra["dead_first"].mean())
    return numbers


def reach(geometry: str) -> dict[str, list[float]]:
    """Return the share of true atoms inside the cone of the centroids, seen from the mean of the rows and from 0."""
    shares: dict[str, list[float]] = {"mean": [], "zero": []}
    for truth in range(TRUTHS):
        planted = GEOMETRIES[geometry](truth)
        points = centroids(planted.train, 4 * K, Draws(0), 0)
        for name, origin in (("mean", planted.train.mean(dim=0)), ("zero", torch.zeros_like(planted.offset))):
            left = planted.atoms - nnls(planted.atoms, points - origin) @ (points - origin)
            shares[name].append(float((left.norm(dim=1) < 1e-2).double().mean()))
    return shares


def digest(*packages: str) -> str:
    """Return what decides numbers: a digest of the files of the loaded modules whose names start so, and of this page."""
    loaded = [one.__file__ for name, one in sorted(sys.modules.items()) if name.startswith(packages) and one.__file__]
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in [*loaded, __file__])).hexdigest()[:16]


def fits_digest() -> str:
    """Return the digest of what fits and judges the arms."""
    for arm in ARMS:
        DICTIONARIES.load(arm.method)
    for name in ("recovery", "reconstruction_r2", "dictionary_stability"):
        METRICS.load(name)
    names = {f"bench.dictionaries.{arm.method}" for arm in ARMS} | {"bench.dictionaries._lloyd"}
    names |= {f"bench.dictionaries.{name}" for name in ("_archetypes", "_sparse", "_sparse_dead", "_factorise")}
    names |= {"bench.zoo.planted", "bench.engine.sparse_fit", "bench.engine.activations", "bench.spaces.encoders"}
    names |= {"bench.metrics.identifiability.recovery", "bench.metrics.stability.dictionary_stability"}
    return digest(*sorted(names))


def pairs(folder: Path) -> str:
    """Return the section on direction pairs, or read what an earlier run left."""
    torch.set_num_threads(1)
    names = ("bench.dictionaries._directions", "bench.dictionaries._pair", "bench.dictionaries.direction_pairs")
    path = folder / f"pairs-{digest(*names, 'bench.zoo.direction_pairs', 'planted_pairs')}.md"
    if not path.exists():
        text = section()
        path.with_suffix(".tmp").write_text(text, encoding="utf-8")
        path.with_suffix(".tmp").replace(path)
    return path.read_text(encoding="utf-8")


def job(task: tuple[str, str, int, Arm, Mapping[str, Any]]) -> tuple[str, str, str, dict[str, float]]:
    """Measure one cell in a process of its own, or read what an earlier run left."""
    torch.set_num_threads(1)
    folder, geometry, truth, arm, budget = task
    name = hashlib.sha256(repr((geometry, truth, arm, budget)).encode()).hexdigest()[:16]
    path = Path(folder) / f"{name}.json"
    if not path.exists():
        numbers = measured(geometry, truth, arm, budget)
        path.with_suffix(".tmp").write_text(json.dumps(numbers), encoding="utf-8")
        path.with_suffix(".tmp").replace(path)
    return geometry, arm.label, "long" if budget == LONG else "short", json.loads(path.read_text(encoding="utf-8"))


def tasks(folder: Path) -> list[tuple[str, str, int, Arm, Mapping[str, Any]]]:
    """List all cells: arms by geometries by truths, and those that are trained longer."""
    cells = [
        (str(folder), geometry, truth, arm, SHORT)
        for geometry in GEOMETRIES
        for arm in ARMS
        if geometry in arm.where
        for truth in range(TRUTHS)
    ]
    longer = [
        (str(folder), "isotropic", truth, arm, LONG) for arm in ARMS if arm.label in HARDER for truth in range(TRUTHS)
    ]
    cells += longer
    return cells


def collected(
    rows: Sequence[tuple[str, str, str, dict[str, float]]],
) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Sort measurements by (geometry, budget), then arm, then number: one value a truth, in their order."""
    tables: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for geometry, label, budget, numbers in rows:
        columns = tables.setdefault((geometry, budget), {}).setdefault(label, {})
        for name, value in numbers.items():
            columns.setdefault(name, []).append(value)
    return tables


def main() -> None:
    """Measure what is missing and write the page."""
    folder = KEPT / fits_digest()
    folder.mkdir(parents=True, exist_ok=True)
    workers = min(2, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        directions = pool.submit(pairs, folder)
        tables = collected(list(pool.map(job, tasks(folder))))
        last = directions.result()
    inside = {name: {origin: interval(shares) for origin, shares in reach(name).items()} for name in GEOMETRIES}
    parts = [INTRO.format(truths=TRUTHS, steps=SHORT["steps"], rate=SHORT["learning_rate"]), answer(tables, inside)]
    for (geometry, budget), arms in tables.items():
        parts.append(method_table(geometry, budget, arms))
    parts += [contrasts_table(tables), last]
    PAGE.write_text("\n".join(part.rstrip() + "\n" for part in parts), encoding="utf-8")


if __name__ == "__main__":
    main()
