"""The concepts of a plan: dictionaries fitted, scored and described, at one layer of one network at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from . import api, zoo
from .cells import Cells, scored, write_score
from .concept_place import Place, describe
from .engine import Activations, Engine
from .engine.randomise import reinitialised
from .features import Fits, keep_features, keep_pictures, keep_visuals
from .images import picture_hash
from .occlusions import keep_occlusions
from .plan import Method, Plan, concept_label, expand, expand_dictionaries, expand_metrics, untrained
from .records import Score
from .registry import ATTRIBUTIONS, VISUALIZATIONS, LimenError
from .store import Artifact, Draft, artifact_key


class ConceptsRun:
    """Run the `concepts` of a plan.

    Parameters
    ----------
    plan : with `concepts`
    cells : where artifacts and scores go
    engines : network name -> engine; the evaluator's too
    """

    def __init__(self, plan: Plan, cells: Cells, engines: Mapping[str, Engine]) -> None:
        assert plan.concepts is not None
        self.plan, self.spec, self.cells, self.engines = plan, plan.concepts, cells, engines
        if self.spec.occlusions is not None and not self.spec.features:
            raise LimenError(
                f"plan '{plan.name}', key 'concepts.occlusions': given without `features: true`, which says what each atom favours."
            )
        self.fits = expand_dictionaries(self.spec)
        self.metrics = expand_metrics(self.spec.metrics, "dictionary", "metrics")
        self.attributions = expand(self.spec.attributions, ATTRIBUTIONS, "attributions")
        self.asked = expand_metrics(self.spec.attribution_metrics, "maps", "attribution_metrics")
        self.visualizations = expand(self.spec.visualizations, VISUALIZATIONS, "visualizations")

    @cached_property
    def places(self) -> list[Place]:
        """Every layer of every network, with its weights and, where asked for, with weights drawn anew."""
        spec, several = self.spec.images, len(self.plan.concept_networks) > 1
        train, test = (
            zoo.load_images(spec.set, split, spec.n, spec.seed, **spec.options) for split in ("train", "test")
        )
        found = []
        for name in self.plan.concept_networks:
            for (shown, engine), layer in itertools.product(self._weights(name), self.spec.layers):
                place = Place(
                    network=shown,
                    engine=engine,
                    layer=layer,
                    label=f"{shown} {layer}" if several or shown != name else layer,
                    train=train,
                    test=test,
                    content=[picture_hash(part.pictures) for part in (train, test)],
                    spec=self.spec,
                    evaluator=self.engines[self.spec.evaluator] if self.spec.evaluator else None,
                    seed=self.plan.seed,
                )
                found.append(place)
        return found

    def _weights(self, name: str) -> list[tuple[str, Engine]]:
        engine = self.engines[name]
        if not self.spec.untrained:
            return [(name, engine)]
        blank = reinitialised(engine.network, None, engine.draws(self.plan.seed, "untrained"))
        return [(name, engine), (untrained(name), engine.beside(blank))]

    @property
    def count(self) -> int:
        """How many cells there are."""
        scores = len(self.attributions) * (1 + len(self.asked)) + len(self.asked) + len(self.metrics)
        scores += self.spec.features + (self.spec.occlusions is not None) + len(self.visualizations)
        streams = sum(place.streamed for place in self.places)
        return self.spec.features + streams + len(self.places) * len(self.fits) * (self.spec.seeds + scores)

    def run(self) -> None:
        """Make every missing artifact and score."""
        if self.spec.features:
            keep_pictures(self.cells, self.places[0])
        while self.places:
            # What a place holds in memory goes with it.
            self._at(self.places.pop(0))

    def _at(self, place: Place) -> None:
        rows = self._recorded(place) if place.streamed else None
        for method in self.fits:
            replicates = [self._fit(method, place, seed, rows) for seed in range(self.spec.seeds)]
            fits = Fits(method, replicates, place)
            for metric in self.metrics:
                self._score(metric, fits)
            if self.spec.features:
                features = keep_features(self.cells, fits)
                if self.spec.occlusions is not None:
                    keep_occlusions(self.cells, fits, features, self._steps)
            for visualization in self.visualizations:
                keep_visuals(self.cells, fits, visualization, self._steps)
            nulls = {metric.label: self._null(metric, fits) for metric in self.asked}
            for attribution in self.attributions:
                importance = self._importance(attribution, fits)
                for metric in self.asked:
                    self._score_importance(metric, attribution, fits, importance, nulls[metric.label])

    def _recorded(self, place: Place) -> Artifact:
        """Return the artifact that holds every position of the training pictures, for more than memory holds."""
        config = {**place.identity, "split": "train"}
        unfinished = self._hidden("activations", config, "rows")
        label = f"activations  {place.label}"

        def fill(draft: Draft) -> None:
            Activations.record(place.engine, place.train.pictures, place.layer, unfinished, progress=self._steps(label))
            unfinished.rename(draft.path / "rows")

        return self.cells.make("activations", config, place.label, {}, fill)

    def _hidden(self, kind: str, config: Mapping[str, Any], suffix: str) -> Path:
        """Return where work on an artifact goes on after it was killed."""
        folder = self.cells.store.path(kind, f".{artifact_key(kind, config)}.{suffix}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def _fit(self, method: Method, place: Place, seed: int, stream: Artifact | None) -> Artifact:
        config = {**place.identity, "k": method.k or self.spec.k[0], **method.identity, "seed": seed}
        config["rows"] = "every position" if stream else "bootstrap" + " of positions" * self.spec.positions
        role = f"{method.label} @ {place.label} seed {seed}"
        checkpoint = self._hidden("dictionaries", config, "checkpoint")

        def fill(draft: Draft) -> None:
            rows = _stream(stream) if stream else _bootstrap(place, seed)
            with place.engine.meter() as cost:
                fitted = api.fit_dictionary(
                    method.name,
                    rows,
                    method.k,
                    seed=seed,
                    head=place.head(),
                    checkpoint=checkpoint,
                    progress=self._steps(f"dictionaries  {role}"),
                    **method.options,
                )
            fitted.save(draft.path / "dictionary.safetensors")
            draft.facts["cost"] = asdict(cost)
            if seed == 0:
                describe(draft, fitted, place)

        artifact = self.cells.make("dictionaries", config, role, {}, fill)
        checkpoint.unlink(missing_ok=True)
        return artifact

    def _steps(self, label: str) -> Callable[[int, int], None]:
        """Tell how far a training is, a hundred times at most."""
        told = [-1]

        def progress(step: int, steps: int) -> None:
            percent = 100 * step // max(steps, 1)
            if percent != told[0]:
                told[0] = percent
                self.cells.progress.begin(f"{label}, {percent} %")

        return progress

    def _score(self, metric: Method, fits: Fits) -> None:
        place = fits.place

        def fill(draft: Draft) -> None:
            result = api.score_dictionaries(
                metric.name, fits.dictionaries, place.asked(metric), seed=self.plan.seed, **metric.options
            )
            score = self._row(result, metric, fits, metric.label)
            write_score(draft, result, score, result.samples or place.test.ids)

        config = {**metric.identity, "seed": self.plan.seed, "layer": place.layer}
        parents = {f"dictionary {index}": artifact.key for index, artifact in enumerate(fits.artifacts)}
        artifact = self.cells.make("scores", config, f"{fits.role}/{metric.label}", parents, fill)
        self.cells.keep(artifact, fits.method.label, metric.label)

    def _row(self, result: api.ScoreResult, metric: Method, fits: Fits, label: str) -> Score:
        return scored(
            result,
            metric,
            fits.method,
            fits.artifacts[0].manifest["cost"],
            network=fits.place.network,
            images=self.spec.images.set,
            subject="dictionary",
            layer=fits.place.layer,
            label=label,
        )

    def _importance(self, attribution: Method, fits: Fits) -> Artifact:
        """Ask an attribution how much each concept of the first fit matters to the class the network answered."""
        place, engine = fits.place, fits.place.engine

        def fill(draft: Draft) -> None:
            space, name = fits.space, attribution.name
            with engine.meter() as cost:
                credit = api.explain(
                    name, engine, place.inputs, place.targets, space=space, seed=self.plan.seed, **attribution.options
                )
            codes = space.coordinates(engine, place.inputs)
            ends = [
                engine.head_scores(space.inputs(part), place.layer).gather(1, place.targets[:, None])[:, 0]
                for part in (codes, space.baseline(codes))
            ]
            draft.write_tensors(
                {
                    "credit": engine.numpy(credit)[:, 0],
                    "codes": engine.numpy(codes.mean(dim=1)),
                    "logit": engine.numpy(ends[0]),
                    "base": engine.numpy(ends[1]),
                    "target": engine.numpy(place.targets).astype(np.int64),
                },
                "importances.safetensors",
            )
            draft.write_json(list(engine.network.classes or place.test.classes), "classes.json")
            draft.facts["cost"] = asdict(cost)

        config = {**attribution.identity, "seed": self.plan.seed, "layer": place.layer}
        role = f"{fits.role}/{attribution.label}"
        return self.cells.make("importances", config, role, {"dictionary": fits.artifacts[0].key}, fill)

    def _null(self, metric: Method, fits: Fits) -> np.ndarray:
        place = fits.place

        def fill(draft: Draft) -> None:
            null = api.null(
                metric.name,
                place.engine,
                place.inputs,
                place.targets,
                space=fits.space,
                seed=self.plan.seed,
                null_draws=self.plan.null_draws,
                **metric.options,
            )
            draft.write_tensors({"null": np.asarray(null, dtype=np.float64)}, "null.safetensors")

        config = {**metric.identity, "seed": self.plan.seed, "layer": place.layer, "draws": self.plan.null_draws}
        role = f"{fits.role}/{metric.label}"
        artifact = self.cells.make("nulls", config, role, {"dictionary": fits.artifacts[0].key}, fill)
        return artifact.tensors("null.safetensors")["null"]

    def _score_importance(
        self, metric: Method, attribution: Method, fits: Fits, importance: Artifact, null: np.ndarray
    ) -> None:
        place, engine = fits.place, fits.place.engine
        label = concept_label(metric, attribution, len(self.attributions))
        again: dict[str, Any] = {"space": fits.space, "seed": self.plan.seed}

        def fill(draft: Draft) -> None:
            credit = importance.tensors("importances.safetensors")["credit"]
            result = api.score(
                metric.name,
                engine,
                place.inputs,
                engine.prepare(credit[:, None]),
                place.targets,
                **again,
                null=null,
                explainer=api.explainer(attribution.name, engine, **again, **attribution.options),
                **metric.options,
            )
            write_score(draft, result, self._row(result, metric, fits, label), result.samples or place.test.ids)

        config = {**metric.identity, "seed": self.plan.seed, "layer": place.layer, "draws": self.plan.null_draws}
        role = f"{fits.role}/{label}"
        artifact = self.cells.make("scores", config, role, {"importance": importance.key}, fill)
        self.cells.keep(artifact, fits.method.label, label)


def _bootstrap(place: Place, seed: int) -> Tensor:
    """Return a replicate's rows: pictures drawn with replacement, each with its mean or with every position."""
    source = place.data.train_maps if place.spec.positions else place.data.train
    assert source is not None
    return source[place.engine.draws(place.seed, "replicate", seed).integers(len(source), len(source))]


def _stream(recorded: Artifact) -> Activations:
    """Open recorded rows; their replicates differ by the seed alone."""
    return Activations.open(recorded.path / "rows")
