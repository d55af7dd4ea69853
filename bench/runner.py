"""The suite: a plan becomes cells, each cell becomes an artifact, and the artifacts become a table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from . import api, spaces, zoo
from .cells import Cells, Progress, scored, write_score
from .concept_explanations import keep_concepts
from .concepts_run import ConceptsRun
from .engine import Engine, Network
from .engine.precision import ForwardPrecision
from .features import image_rows
from .images import ImageSet, picture_hash
from .plan import Method, Plan, expand, expand_metrics
from .records import ImageRow, PredictionRow, Score, frame
from .registry import ATTRIBUTIONS, METRICS, LimenError
from .store import Artifact, Store

__all__ = ["Progress", "Runner", "answers", "explained_classes", "load_engines", "run_table", "true_classes"]


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
        self.cells = Cells(store, progress, plan.seed)
        self.engines = engines
        self.space = spaces.make(plan.space)
        self._retrained: dict[str, zoo.Folds] = {}

    def run(self) -> Artifact:
        """Make every missing artifact, then the run artifact with the table; return it."""
        plan = self.plan
        attributions = expand(plan.attributions, ATTRIBUTIONS, "attributions")
        metrics = expand_metrics(plan.metrics, "maps", "metrics")
        concepts = ConceptsRun(plan, self.cells, self.engines) if plan.concepts else None
        explained = plan.network if attributions else ()
        each = 1 + len(metrics) + (plan.explained_classes > 1)
        cells = len(explained) * (2 + bool(plan.craft) + len(metrics) + len(attributions) * each)
        self.cells.progress.total(cells + (concepts.count if concepts else 0) + 1)
        if plan.images and explained:
            spec = plan.images
            images = zoo.load_images(spec.set, spec.split, spec.n, spec.seed, **spec.options)
            for name in explained:
                self._network(name, images, attributions, metrics)
        if concepts:
            concepts.run()
        return self._finish()

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
        predictions = self.cells.make("predictions", identity, name if suffix else "", {"images": stored.key}, predict)
        base = {"images": stored.key, "predictions": predictions.key}
        subject = Subject(name, engine, images, inputs, targets, base, suffix)
        if plan.craft:
            answered = engine.numpy(targets)
            place = {"base": base, "suffix": suffix, "seed": plan.seed}
            keep_concepts(self.cells, plan.craft, engine, images.pictures, answered, **place)
        nulls = {metric.label: self._null(metric, subject) for metric in metrics}
        for method in attributions:
            explanation = self._explain(method, subject)
            if plan.explained_classes > 1:
                self._explain_classes(method, subject)
            for metric in metrics:
                self._score_maps(metric, method, subject, explanation, nulls[metric.label])

    def _images(self, images: ImageSet) -> Artifact:
        spec = self.plan.images
        assert spec is not None

        def make(draft: Any) -> None:
            _write_images(draft, images)

        content = picture_hash(images.pictures)
        config = {**spec.model_dump(), "name": images.name, "content": content}
        return self.cells.make("images", config, "", {}, make)

    def _explain(self, method: Method, subject: Subject) -> Artifact:
        engine = subject.engine

        def make(draft: Any) -> None:
            with engine.meter() as cost:
                maps = self._credit(method, subject, subject.targets)
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
        return self.cells.make("explanations", config, method.label + subject.suffix, subject.base, make)

    def _credit(self, method: Method, subject: Subject, targets: Any) -> Any:
        inputs, seed = subject.inputs, self.plan.seed
        return api.explain(method.name, subject.engine, inputs, targets, space=self.space, seed=seed, **method.options)

    def _explain_classes(self, method: Method, subject: Subject) -> Artifact:
        """Explain several classes of each picture, most probable first: `maps` (N, R, H, W) and `classes` (N, R)."""
        engine, images, count = subject.engine, subject.images, self.plan.explained_classes

        def make(draft: Any) -> None:
            where = f"plan '{self.plan.name}', key 'explained_classes'"
            truth = true_classes(engine.network.classes, images.classes, images.labels.tolist(), where)
            logits = engine.numpy(engine.scores(subject.inputs))
            classes = explained_classes(logits, truth, count, where)
            maps = []
            with engine.meter() as cost:
                for rank in range(count):
                    targets = engine.place(classes[:, rank])
                    credit = self._credit(method, subject, targets)
                    drawn = self.space.map(credit, tuple(subject.inputs.shape[2:]))
                    maps.append(engine.numpy(drawn)[:, 0])
            draft.write_tensors({"maps": np.stack(maps, axis=1), "classes": classes}, "maps.safetensors")
            name = answers(engine.network, images)
            draft.write_json([name(index) for index in range(logits.shape[1])], "classes.json")
            draft.facts["cost"] = asdict(cost)

        config = {**method.identity, "network": engine.network.name, "space": self.space.name, "seed": self.plan.seed}
        config["classes"] = count
        return self.cells.make("class_explanations", config, method.label + subject.suffix, subject.base, make)

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
        artifact = self.cells.make("nulls", config, metric.label + subject.suffix, subject.base, make)
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
            score = scored(
                result,
                metric,
                method,
                explanation.manifest["cost"],
                network=engine.network.name,
                images=subject.images.name,
                subject="attribution",
            )
            write_score(draft, result, score, result.samples or subject.images.ids)

        config = {**metric.identity, "space": self.space.name, "seed": self.plan.seed, "draws": self.plan.null_draws}
        role = f"{method.label}{subject.suffix}/{metric.label}"
        artifact = self.cells.make("scores", config, role, {"explanation": explanation.key}, make)
        self.cells.keep(artifact, method.label, metric.label)

    def _finish(self) -> Artifact:
        config = {**self.plan.model_dump(mode="json"), "fingerprints": self._fingerprints()}

        def make(draft: Any) -> None:
            draft.write_rows(frame(Score, self.cells.scores), "table.parquet")

        return self.cells.make("runs", config, "", dict(self.cells.parents), make)

    def _fingerprints(self) -> list[str]:
        return [engine.network.fingerprint for engine in self.engines.values()]


def load_engines(plan: Plan, *, device: str, precision: ForwardPrecision, progress: bool = True) -> dict[str, Engine]:
    """Load (or train) each network of a plan and put an engine on it."""
    evaluator = (plan.concepts.evaluator,) if plan.concepts and plan.concepts.evaluator else ()
    explained = plan.network if plan.attributions else ()
    networks: dict[str, Network] = {
        name: zoo.load_network(name, device=device, progress=progress)
        for name in dict.fromkeys((*explained, *plan.concept_networks, *evaluator))
    }
    return {name: Engine(network, device=device, precision=precision) for name, network in networks.items()}


def answers(network: Network, images: ImageSet) -> Callable[[int], str]:
    """Return what to call the network's answers: its own class names, else the image set's, else the index."""
    names = network.classes or images.classes

    def name(index: int) -> str:
        return str(names[index]) if index < len(names) else str(index)

    return name


def explained_classes(logits: np.ndarray, truth: Sequence[int], count: int, where: str = "classes") -> np.ndarray:
    """Return the `count` most probable classes of each picture, the true one among them.

    Where the true class is not one of the `count` most probable ones it takes the last place: for a right prediction
    these are the top classes, for a wrong one far from the truth the top `count - 1` and the truth.

    Parameters
    ----------
    logits
        float (N, C).
    truth
        True class of each picture, (N,), as the network numbers classes.
    count
        How many, 2 to C.

    Returns
    -------
    int64 array (N, count), most probable first

    Raises
    ------
    LimenError
        If the network has fewer classes.

    References
    ----------
    HIVE, arXiv:2112.03184, the distinction task.
    """
    classes = logits.shape[1]
    if not 2 <= count <= classes:
        raise LimenError(f"{where}: given {count}, allowed are 2 to {classes}, the classes of the network.")
    chosen = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")[:, :count].astype(np.int64)
    answer = np.asarray(truth, dtype=np.int64)
    outside = ~(chosen == answer[:, None]).any(axis=1)
    chosen[outside, -1] = answer[outside]
    return chosen


def true_classes(names: Sequence[str], classes: Sequence[str], labels: Sequence[int], where: str) -> list[int]:
    """Return the network's number of each picture's true class, matched by name.

    Raises
    ------
    LimenError
        If a picture's class is none of the network's.
    """
    known = {name: index for index, name in enumerate(names or classes)}
    wanted = [classes[int(label)] for label in labels]
    missing = sorted({name for name in wanted if name not in known})
    if missing:
        raise LimenError(
            f"{where}: pictures are of class '{missing[0]}', which the network does not know; allowed are "
            f"{', '.join(list(known)[:12])}."
        )
    return [known[name] for name in wanted]


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
    draft.write_rows(frame(ImageRow, image_rows(images)))
    draft.write_tensors({"pictures": images.pictures}, "pictures.safetensors")
    if images.masks:
        masks = {name: mask.astype(np.uint8) for name, mask in images.masks.items()}
        draft.write_tensors(masks, "masks.safetensors")


def run_table(artifact: Artifact) -> pd.DataFrame:
    """Return the tidy `Score` table of a run artifact."""
    return artifact.rows("table.parquet")
