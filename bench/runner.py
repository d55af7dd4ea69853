"""The suite: a plan becomes cells, each cell becomes an artifact, and the artifacts become a table."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from . import api, spaces, zoo
from .engine import Engine, Network
from .engine.precision import Precision
from .images import ImageSet, picture_hash
from .plan import Method, Plan, expand, expand_metrics
from .records import ImageRow, PredictionRow, Score, ScoreRow, frame
from .registry import ATTRIBUTIONS, DICTIONARIES, METRICS
from .spaces.concept_data import ConceptData
from .spaces.dictionary import Dictionary, top_positions
from .store import Artifact, Store, artifact_key


@dataclass
class Progress:
    """What the runner tells its caller: a cell begins, a cell is done or was there already."""

    total: Callable[[int], None] = lambda count: None
    begin: Callable[[str], None] = lambda label: None
    done: Callable[[bool], None] = lambda reused: None


@dataclass(frozen=True, eq=False)
class Subject:
    """One network on the plan's images: what is explained and scored."""

    name: str
    engine: Engine
    images: ImageSet
    inputs: Any
    targets: Any
    base: Mapping[str, str]
    """Keys of the images and the predictions."""
    suffix: str


class Runner:
    """Run a plan's cells in order; an artifact that is there already is not made again."""

    def __init__(self, plan: Plan, store: Store, engines: Mapping[str, Engine], progress: Progress) -> None:
        self.plan = plan
        self.store = store
        self.engines = engines
        self.progress = progress
        self.parents: dict[str, str] = {}
        self.scores: list[Score] = []
        self.space = spaces.make(plan.space)
        self._retrained: dict[str, zoo.Folds] = {}

    def run(self) -> Artifact:
        """Make every missing artifact, then the run artifact with the table; return it."""
        plan = self.plan
        attributions = expand(plan.attributions, ATTRIBUTIONS, "attributions")
        metrics = expand_metrics(plan.metrics, "maps", "metrics")
        fits = expand(plan.concepts.dictionaries, DICTIONARIES, "dictionaries") if plan.concepts else []
        concept_metrics = expand_metrics(plan.concepts.metrics, "dictionary", "metrics") if plan.concepts else []
        images = zoo.load_images(
            plan.images.set, plan.images.split, plan.images.n, plan.images.seed, **plan.images.options
        )
        layers = plan.concepts.layers if plan.concepts else ()
        seeds = plan.concepts.seeds if plan.concepts else 0
        maps_cells = 2 + len(metrics) + len(attributions) * (1 + len(metrics))
        concept_cells = len(layers) * len(fits) * (seeds + len(concept_metrics))
        self.progress.total(len(plan.network) * maps_cells + len(plan.concept_networks) * concept_cells + 1)
        for name in plan.network:
            self._network(name, images, attributions, metrics)
        for name, layer in itertools.product(plan.concept_networks, layers):
            self._concepts(name, layer, fits, concept_metrics)
        return self._finish()

    def _cell(
        self,
        kind: str,
        config: Mapping[str, Any],
        role: str,
        parents: Mapping[str, str],
        make: Callable[[Any], None],
    ) -> Artifact:
        self.progress.begin(f"{kind}  {role}")
        artifact = self.store.get(kind, artifact_key(kind, config, list(parents.values())))
        reused = artifact is not None
        if artifact is None:
            with self.store.write(kind, config, parents=parents, seed=self.plan.seed) as draft:
                make(draft)
            artifact = self.store.open(kind, artifact_key(kind, config, list(parents.values())))
        self.parents[f"{kind}/{role}" if role else kind] = artifact.key
        self.progress.done(reused)
        return artifact

    def _network(self, name: str, images: ImageSet, attributions: Sequence[Method], metrics: Sequence[Method]) -> None:
        engine, plan = self.engines[name], self.plan
        network = engine.network
        stored = self._images(images)
        suffix = f" @ {name}" if len(plan.network) > 1 else ""
        inputs = engine.inputs(images.pictures)
        targets = engine.scores(inputs).argmax(1)

        def predict(draft: Any) -> None:
            logits = engine.numpy(engine.scores(inputs))
            draft.write_rows(frame(PredictionRow, _predictions(images, logits, answers(network, images))))
            draft.write_tensors({"logits": logits}, "logits.safetensors")
            draft.facts["audit"] = dict(engine.audit)

        identity = {"network": name, "fingerprint": network.fingerprint, "classes": list(network.classes)}
        predictions = self._cell("predictions", identity, name if suffix else "", {"images": stored.key}, predict)
        base = {"images": stored.key, "predictions": predictions.key}
        subject = Subject(name, engine, images, inputs, targets, base, suffix)
        nulls = {metric.label: self._null(metric, subject) for metric in metrics}
        for method in attributions:
            explanation = self._explain(method, subject)
            for metric in metrics:
                self._score_maps(metric, method, subject, explanation, nulls[metric.label])

    def _images(self, images: ImageSet) -> Artifact:
        spec = self.plan.images

        def make(draft: Any) -> None:
            _write_images(draft, images)

        content = picture_hash(images.pictures)
        config = {**spec.model_dump(), "name": images.name, "content": content}
        return self._cell("images", config, "", {}, make)

    def _explain(self, method: Method, subject: Subject) -> Artifact:
        engine = subject.engine

        def make(draft: Any) -> None:
            with engine.meter() as cost:
                maps = api.explain(
                    method.name,
                    engine,
                    subject.inputs,
                    subject.targets,
                    space=self.space,
                    seed=self.plan.seed,
                    **method.options,
                )
            drawn = self.space.map(maps, tuple(subject.inputs.shape[2:]))
            tensors = {"maps": engine.numpy(drawn)[:, 0]}
            if not torch.equal(drawn, maps):
                tensors["credit"] = engine.numpy(maps)[:, 0]
            draft.write_tensors(tensors, "maps.safetensors")
            draft.facts["cost"] = asdict(cost)

        config = {
            **method.identity,
            "network": engine.network.name,
            "space": self.space.name,
            "seed": self.plan.seed,
        }
        return self._cell("explanations", config, method.label + subject.suffix, subject.base, make)

    def _null(self, metric: Method, subject: Subject) -> np.ndarray:
        def make(draft: Any) -> None:
            null = api.null(
                metric.name,
                subject.engine,
                subject.inputs,
                subject.targets,
                space=self.space,
                seed=self.plan.seed,
                null_draws=self.plan.null_draws,
                masks=subject.images.masks,
                folds=self._folds(metric, subject),
                **metric.options,
            )
            draft.write_tensors({"null": np.asarray(null, dtype=np.float64)}, "null.safetensors")

        config = {**metric.identity, "space": self.space.name, "seed": self.plan.seed, "draws": self.plan.null_draws}
        artifact = self._cell("nulls", config, metric.label + subject.suffix, subject.base, make)
        return artifact.tensors("null.safetensors")["null"]

    def _folds(self, metric: Method, subject: Subject) -> zoo.Folds | None:
        """Return the retrained networks, for the metrics that compare them."""
        if "folds" not in inspect.signature(METRICS.load(metric.name)).parameters:
            return None
        if subject.name not in self._retrained:
            self._retrained[subject.name] = zoo.load_folds(subject.name, device=str(subject.engine.device))
        return self._retrained[subject.name]

    def _score_maps(
        self, metric: Method, method: Method, subject: Subject, explanation: Artifact, null: np.ndarray
    ) -> None:
        engine = subject.engine
        again: dict[str, Any] = {"space": self.space, "seed": self.plan.seed}

        def make(draft: Any) -> None:
            stored = explanation.tensors("maps.safetensors")
            result = api.score(
                metric.name,
                engine,
                subject.inputs,
                engine.prepare(stored.get("credit", stored["maps"])[:, None]),
                subject.targets,
                **again,
                null=null,
                masks=subject.images.masks,
                explainer=api.explainer(method.name, engine, **again, **method.options),
                folds=self._folds(metric, subject),
                **metric.options,
            )
            score = self._summary(result, metric, method, engine, explanation.manifest["cost"])
            _write_score(draft, result, score, result.samples or subject.images.ids)

        config = {**metric.identity, "space": self.space.name, "seed": self.plan.seed, "draws": self.plan.null_draws}
        role = f"{method.label}{subject.suffix}/{metric.label}"
        artifact = self._cell("scores", config, role, {"explanation": explanation.key}, make)
        self.scores.append(_labelled(artifact, method, metric))

    def _summary(
        self,
        result: api.ScoreResult,
        metric: Method,
        method: Method,
        engine: Engine,
        cost: Mapping[str, Any],
        *,
        subject: str = "attribution",
        layer: str = "",
        images: str = "",
    ) -> Score:
        return Score(
            network=engine.network.name,
            images=images or self.plan.images.set,
            subject=subject,  # type: ignore[arg-type]
            method=method.label,
            options=method.changed,
            layer=layer,
            metric=metric.label,
            question=METRICS.group(metric.name),
            seconds=float(cost["seconds"]),
            forwards=int(cost["forwards"]),
            backwards=int(cost["backwards"]),
            **api.summarise(result),
        )

    def _concepts(self, name: str, layer: str, fits: Sequence[Method], metrics: Sequence[Method]) -> None:
        spec = self.plan.concepts
        assert spec is not None
        engine = self.engines[name]
        train, test = (
            zoo.load_images(spec.images.set, split, spec.images.n, spec.images.seed, **spec.images.options)
            for split in ("train", "test")
        )
        data, activations = _concept_data(engine, layer, train, test)
        content = [picture_hash(part.pictures) for part in (train, test)]
        base = {
            "network": name,
            "fingerprint": engine.network.fingerprint,
            "layer": layer,
            "images": spec.images.model_dump(),
            "content": content,
            "k": spec.k,
        }
        for method in fits:
            fitted = [self._fit(method, engine, data, base, seed, test, activations) for seed in range(spec.seeds)]
            dictionaries = [
                Dictionary.load(artifact.file("dictionary.safetensors")).apply(engine.place) for artifact in fitted
            ]
            for metric in metrics:
                self._score_dictionaries(metric, method, engine, layer, dictionaries, data, fitted)

    def _fit(
        self,
        method: Method,
        engine: Engine,
        data: ConceptData,
        base: Mapping[str, Any],
        seed: int,
        pictures: ImageSet,
        activations: Any,
    ) -> Artifact:
        spec = self.plan.concepts
        assert spec is not None

        def make(draft: Any) -> None:
            rows = engine.draws(self.plan.seed, "replicate", seed).integers(len(data.train), len(data.train))
            k = spec.k if api.needs_k(method.name) else None
            with engine.meter() as cost:
                fitted = api.fit_dictionary(method.name, data.train[rows], k, seed=seed, **method.options)
            fitted.save(draft.path / "dictionary.safetensors")
            draft.facts["cost"] = asdict(cost)
            if seed == 0 and spec.crops:
                crops = _crops(engine, fitted, activations, pictures.pictures, spec.crops)
                draft.write_tensors({"crops": crops}, "crops.safetensors")

        config = {**base, **method.identity, "seed": seed, "rows": "bootstrap"}
        return self._cell(
            "dictionaries",
            config,
            f"{method.label} @ {self._place(base['network'], base['layer'])} seed {seed}",
            {},
            make,
        )

    def _score_dictionaries(
        self,
        metric: Method,
        method: Method,
        engine: Engine,
        layer: str,
        dictionaries: Sequence[Dictionary],
        data: ConceptData,
        fitted: Sequence[Artifact],
    ) -> None:
        spec = self.plan.concepts
        assert spec is not None

        def make(draft: Any) -> None:
            result = api.score_dictionaries(metric.name, dictionaries, data, seed=self.plan.seed, **metric.options)
            score = self._summary(
                result,
                metric,
                method,
                engine,
                fitted[0].manifest["cost"],
                subject="dictionary",
                layer=layer,
                images=spec.images.set,
            )
            _write_score(draft, result, score, result.samples)

        config = {**metric.identity, "seed": self.plan.seed, "layer": layer}
        parents = {f"dictionary {index}": artifact.key for index, artifact in enumerate(fitted)}
        artifact = self._cell(
            "scores",
            config,
            f"{method.label} @ {self._place(engine.network.name, layer)}/{metric.label}",
            parents,
            make,
        )
        self.scores.append(_labelled(artifact, method, metric))

    def _place(self, network: str, layer: str) -> str:
        return layer if len(self.plan.concept_networks) == 1 else f"{network} {layer}"

    def _finish(self) -> Artifact:
        config = {**self.plan.model_dump(mode="json"), "fingerprints": self._fingerprints()}

        def make(draft: Any) -> None:
            draft.write_rows(frame(Score, self.scores), "table.parquet")

        return self._cell("runs", config, "", dict(self.parents), make)

    def _fingerprints(self) -> list[str]:
        return [engine.network.fingerprint for engine in self.engines.values()]


def load_engines(plan: Plan, *, device: str, precision: Precision, progress: bool = True) -> dict[str, Engine]:
    """Load (or train) each network of a plan and put an engine on it."""
    networks: dict[str, Network] = {
        name: zoo.load_network(name, device=device, progress=progress)
        for name in dict.fromkeys((*plan.network, *plan.concept_networks))
    }
    return {name: Engine(network, device=device, precision=precision) for name, network in networks.items()}


def _labelled(artifact: Artifact, method: Method, metric: Method) -> Score:
    """Read a score under this plan's labels: another plan may have made it under its own."""
    return Score(**{**artifact.summary, "method": method.label, "metric": metric.label})


def answers(network: Network, images: ImageSet) -> Callable[[int], str]:
    """Return what to call the network's answers: its own class names, else the image set's, else the index."""
    names = network.classes or images.classes

    def name(index: int) -> str:
        return str(names[index]) if index < len(names) else str(index)

    return name


def _predictions(images: ImageSet, logits: np.ndarray, name: Callable[[int], str]) -> list[PredictionRow]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    predicted = logits.argmax(1)
    return [
        PredictionRow(
            image_id=image_id,
            index=index,
            predicted=int(predicted[index]),
            predicted_class=name(int(predicted[index])),
            probability=float(probabilities[index, predicted[index]]),
            correct=name(int(predicted[index])) == images.classes[int(images.labels[index])],
        )
        for index, image_id in enumerate(images.ids)
    ]


def _write_images(draft: Any, images: ImageSet) -> None:
    groups = images.groups or ("",) * len(images)
    rows = [
        ImageRow(
            image_id=image_id,
            index=index,
            label=int(images.labels[index]),
            class_name=images.classes[int(images.labels[index])],
            group=groups[index],
            sha256=picture_hash(images.pictures[index]),
        )
        for index, image_id in enumerate(images.ids)
    ]
    draft.write_rows(frame(ImageRow, rows))
    draft.write_tensors({"pictures": images.pictures}, "pictures.safetensors")
    if images.masks:
        masks = {name: mask.astype(np.uint8) for name, mask in images.masks.items()}
        draft.write_tensors(masks, "masks.safetensors")


def _write_score(draft: Any, result: api.ScoreResult, score: Score, samples: Sequence[str]) -> None:
    rows = [
        ScoreRow(sample=str(name), value=float(value), null=float(null), ceiling=float(top))
        for name, value, null, top in zip(samples, result.values, result.null, result.ceiling, strict=True)
    ]
    table = frame(ScoreRow, rows)
    for name, column in result.extra.items():
        table[name] = np.asarray(column)
    draft.write_rows(table)
    if result.curve_x is not None and result.curve_y is not None:
        draft.write_tensors(
            {"x": np.asarray(result.curve_x, dtype=np.float64), "y": np.asarray(result.curve_y, dtype=np.float64)},
            "curves.safetensors",
        )
    draft.summary.update(asdict(score))


def _concept_data(engine: Engine, layer: str, train: ImageSet, test: ImageSet) -> tuple[ConceptData, Any]:
    taps = [engine.tap(engine.inputs(part.pictures), layer) for part in (train, test)]
    pooled = [tap.flatten(2).mean(2) if tap.ndim > 2 else tap for tap in taps]
    labels = [None if part.concepts is None else engine.place(part.concepts) for part in (train, test)]
    data = ConceptData(
        train=pooled[0],
        test=pooled[1],
        train_labels=labels[0],
        test_labels=labels[1],
        label_names=train.concept_names,
    )
    return data, taps[1]


def _crops(engine: Engine, fitted: Dictionary, activations: Any, pictures: np.ndarray, count: int) -> np.ndarray:
    """Cut each atom's most activating places out of the pictures: uint8 (k, count, side, side, 3)."""
    images, channels, height, width = activations.shape
    flat = activations.permute(0, 2, 3, 1).reshape(-1, channels)
    codes = fitted.encode(flat).reshape(images, height, width, -1)
    chosen = engine.numpy(top_positions(codes, count)).astype(int)
    size = pictures.shape[1]
    side = min(size, max(size // 4, 2 * size // height))
    crops = np.zeros((chosen.shape[0], count, side, side, 3), dtype=np.uint8)
    for atom, place in itertools.product(range(chosen.shape[0]), range(count)):
        image, row, column = chosen[atom, place]
        top = int(np.clip((row + 0.5) * size / height - side / 2, 0, size - side))
        left = int(np.clip((column + 0.5) * size / width - side / 2, 0, size - side))
        crops[atom, place] = pictures[image, top : top + side, left : left + side]
    return crops


def run_table(artifact: Artifact) -> pd.DataFrame:
    """Return the tidy `Score` table of a run artifact."""
    return artifact.rows("table.parquet")
