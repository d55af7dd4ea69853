"""What a design is given, what it returns, and the card it carries: the contract of the files in `designs/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from bench.records import ImageRow, PredictionRow, check_columns
from bench.registry import Card, LimenError, Registry, registered, unknown
from bench.store import Artifact, Store, latest

from .records import CellRow, ItemRow, StudyFile, Texts, TrialRow

BASELINE, CONTROL = "baseline", "control"
DESIGNS = Registry("design", "stimuli.designs")


@dataclass(frozen=True, kw_only=True)
class DesignCard(Card):
    """A protocol's card: its factors, its trial type and the analysis that answers its hypothesis."""

    trial_type: str
    between: tuple[str, ...]
    within: tuple[str, ...]
    random: tuple[str, ...]
    analysis: str
    """Registered name of the analysis, and below the model it is expected to fit."""
    formula: str


@dataclass(frozen=True)
class Tables:
    """The tables of a stimulus set, as an audit reads them."""

    study: StudyFile
    options: Mapping[str, Any]
    trials: pd.DataFrame
    cells: pd.DataFrame
    items: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a design returns: everything but the study file and the manifest."""

    pictures: Mapping[str, bytes]
    """SHA-256 -> PNG."""
    trials: list[TrialRow]
    cells: list[CellRow]
    items: list[ItemRow]
    pool: Mapping[str, Any]
    """How many images there were to choose from, and how many were chosen."""
    rules: tuple[str, ...]
    """The rules of choice, one sentence each, for the manifest and the methods text."""


class Design(Protocol):
    """A registered protocol."""

    card: DesignCard
    texts: Callable[[Material, Mapping[str, Any]], Texts]
    """The protocol's own texts, with the study's numbers, classes and contact."""
    audit: Callable[[Tables], list[str]]
    """Check the tables against the protocol's rules; one sentence a fault."""

    def __call__(self, material: Material, **options: Any) -> Drawn: ...


Function = TypeVar("Function", bound=Callable[..., Drawn])


def design(
    *,
    version: int,
    citation: str,
    trial_type: str,
    factors: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    analysis: tuple[str, str],
    texts: Callable[[Material, Mapping[str, Any]], Texts],
    audit: Callable[[Tables], list[str]],
) -> Callable[[Function], Function]:
    """Mark a function as a protocol.

    Parameters
    ----------
    version, citation
        Of the card; a changed rule of choice is a new version.
    trial_type
        Name of the front-end plugin that shows the trials.
    factors
        Between-subject, within-subject and random factors.
    analysis
        Registered name and formula of the expected analysis.
    texts, audit
        See `Design`.
    """

    def decorate(function: Function) -> Function:
        marked = registered("design", version=version, citation=citation)(function)
        between, within, random = factors
        facts = marked.card.facts()  # type: ignore[attr-defined]
        marked.card = DesignCard(  # type: ignore[attr-defined]
            **facts,
            trial_type=trial_type,
            between=between,
            within=within,
            random=random,
            analysis=analysis[0],
            formula=analysis[1],
        )
        marked.texts = texts  # type: ignore[attr-defined]
        marked.audit = audit  # type: ignore[attr-defined]
        return marked

    return decorate


def labels_of(study: StudyFile, options: Mapping[str, Any]) -> dict[str, str | None]:
    """Map each condition to the label of its explanations in the run; None where nothing is shown."""
    special = {BASELINE: None, CONTROL: options.get("control")}
    return {condition: special.get(condition, condition) for condition in study.conditions}


@dataclass(frozen=True)
class Material:
    """What a design may draw on: one bench run, read without torch.

    Attributes
    ----------
    study : StudyFile
    pictures : uint8 (N, H, W, 3)
    images : one row an image, columns of `ImageRow` and `PredictionRow`, in the order of `pictures`
    explanations : condition -> artifact of its maps, for each condition that shows any
    parents : role -> key of each artifact the stimuli stand on
    """

    study: StudyFile
    pictures: np.ndarray
    images: pd.DataFrame
    explanations: Mapping[str, Artifact]
    parents: Mapping[str, str]

    def maps(self, condition: str, index: np.ndarray) -> np.ndarray:
        """Return a condition's maps (n, H, W) of some images."""
        maps = self.explanations[condition].tensors("maps.safetensors")["maps"]
        if maps.ndim != 3 or len(maps) != len(self.images):
            raise LimenError(
                f"study '{self.study.study}', condition '{condition}': given maps of shape {maps.shape}, "
                f"allowed is ({len(self.images)}, H, W), one for each image of the run."
            )
        return maps[index]


def read_material(study: StudyFile, options: Mapping[str, Any], store: Store) -> Material:
    """Open the newest run of the study's plan and the artifacts that its conditions need.

    Raises
    ------
    LimenError
        If the run is not there, or has no explanations under a condition's label.
    """
    run = latest(store, "runs", name=study.run)
    parents = run.manifest["parents"]
    images, predictions = store.open("images", parents["images"]), store.open("predictions", parents["predictions"])
    prefix = "explanations/"
    known = sorted(role.removeprefix(prefix) for role in parents if role.startswith(prefix))
    explanations = {}
    for condition, label in labels_of(study, options).items():
        if label is None:
            continue
        if label not in known:
            at = f"key 'design.control', explanations of run '{study.run}'"
            at = at if condition == CONTROL else f"key 'conditions', explanations of run '{study.run}'"
            allowed = known if condition == CONTROL else [BASELINE, CONTROL, *known]
            raise unknown(f"study '{study.study}', {at}", label, allowed)
        explanations[condition] = store.open("explanations", parents[prefix + label])
    used = {"run": run.key, "images": images.key, "predictions": predictions.key}
    used |= {prefix + (labels_of(study, options)[name] or ""): made.key for name, made in explanations.items()}
    return Material(
        study=study,
        pictures=images.tensors("pictures.safetensors")["pictures"],
        images=_join(images, predictions),
        explanations=explanations,
        parents=used,
    )


def _join(images: Artifact, predictions: Artifact) -> pd.DataFrame:
    left, right = images.rows(), predictions.rows()
    check_columns(left, ImageRow, str(images.path))
    check_columns(right, PredictionRow, str(predictions.path))
    if list(left["image_id"]) != list(right["image_id"]):
        raise LimenError(
            f"{predictions.path}: the predictions are of other images than {images.path} holds; "
            "each image needs one prediction, in the same order."
        )
    return left.sort_values("index").merge(right.drop(columns="index"), on="image_id", validate="1:1")
