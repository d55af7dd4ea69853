"""What a design is given, what it returns, and the card it carries: the contract of the files in `designs/`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from bench.records import ImageRow, PredictionRow, check_columns
from bench.registry import Card, LimenError, Registry, registered, unknown
from bench.store import Artifact, Store, latest

from .records import CellRow, ItemRow, StudyFile, Texts, TrialRow

DESIGNS = Registry("design", "stimuli.designs")
POOL = "images/concepts"
"""Role of the pictures that features and dictionaries of a run are about."""


@dataclass(frozen=True, kw_only=True)
class DesignCard(Card):
    """A protocol's card: its question, its factors, its trial type and the analysis that answers it."""

    trial_type: str
    """Name of the front-end plugin that shows the trials."""
    hypothesis: str
    """What the study is to find out, in one sentence."""
    correct: str
    """What a correct answer is."""
    chance: float | None
    """Accuracy of guessing; None where nothing is right or wrong."""
    between: tuple[str, ...]
    within: tuple[str, ...]
    random: tuple[str, ...]
    """Between-subject, within-subject and random factors; names of columns of the export."""
    analysis: str
    """Registered name of the analysis, and below the model it fits."""
    formula: str
    example: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the study file with the values that `limen study init` writes."""


@dataclass(frozen=True)
class Tables:
    """The tables of a stimulus set, as an audit reads them."""

    study: StudyFile
    options: Mapping[str, Any]
    trials: pd.DataFrame
    cells: pd.DataFrame
    items: pd.DataFrame
    pool: Mapping[str, Any] = field(default_factory=dict)
    """What there was to choose from, as the design reported it."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a design returns: everything but the study file and the manifest."""

    pictures: Mapping[str, bytes]
    """SHA-256 -> PNG."""
    trials: list[TrialRow]
    cells: list[CellRow]
    items: list[ItemRow]
    pool: Mapping[str, Any]
    """How many images, units or rules there were to choose from, and how many were chosen."""
    rules: tuple[str, ...]
    """The rules of choice, one sentence each, for the manifest and the methods text."""
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What stands behind each condition, for the report: explanation, artifact, layer ..."""


Needs = Callable[[StudyFile, Mapping[str, Any], Sequence[str]], Iterable[str]]
"""`needs(study, options, offered roles) -> roles` of the run that the design draws on."""


class Design(Protocol):
    """A registered protocol."""

    card: DesignCard
    texts: Callable[[Material, Mapping[str, Any]], Texts]
    """The protocol's own texts, with the study's numbers, classes and contact."""
    audit: Callable[[Tables], list[str]]
    """Check the tables against the protocol's rules; one sentence a fault. Rules of all protocols: `stimuli.audit`."""
    needs: Needs
    check: Callable[[StudyFile, Mapping[str, Any], str], None]
    """Refuse a study file whose conditions or options do not fit the protocol; the text opens the sentence."""

    def __call__(self, material: Material, **options: Any) -> Drawn: ...


Function = TypeVar("Function", bound=Callable[..., Drawn])


def any_conditions(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Take any conditions."""


def design(
    *,
    version: int,
    citation: str,
    trial_type: str,
    question: tuple[str, str, float | None],
    factors: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    analysis: tuple[str, str],
    texts: Callable[[Material, Mapping[str, Any]], Texts],
    audit: Callable[[Tables], list[str]],
    needs: Needs,
    check: Callable[[StudyFile, Mapping[str, Any], str], None] = any_conditions,
    example: Mapping[str, Any],
) -> Callable[[Function], Function]:
    """Mark a function as a protocol.

    Parameters
    ----------
    version, citation
        Of the card; a changed rule of choice is a new version.
    trial_type
        Name of the front-end plugin that shows the trials.
    question
        Hypothesis, what a correct answer is, and the accuracy of guessing (None where nothing is right).
    factors
        Between-subject, within-subject and random factors.
    analysis
        Registered name and formula of the expected analysis.
    texts, audit, needs, check
        See `Design`.
    example
        Keys of the study file with the values that `limen study init` writes: title, run, conditions, design, checks, bots.
    """

    def decorate(function: Function) -> Function:
        marked = registered("design", version=version, citation=citation)(function)
        between, within, random = factors
        hypothesis, correct, chance = question
        facts = marked.card.facts()  # type: ignore[attr-defined]
        marked.card = DesignCard(  # type: ignore[attr-defined]
            **facts,
            trial_type=trial_type,
            hypothesis=hypothesis,
            correct=correct,
            chance=chance,
            between=between,
            within=within,
            random=random,
            analysis=analysis[0],
            formula=analysis[1],
            example=dict(example),
        )
        for name, part in {"texts": texts, "audit": audit, "needs": needs, "check": check}.items():
            setattr(marked, name, part)
        return marked

    return decorate


@dataclass(frozen=True)
class Pool:
    """The pictures that the features of a run are about, uint8 (N, H, W, 3), and a row (`ImageRow`) each."""

    pictures: np.ndarray
    rows: pd.DataFrame


@dataclass(frozen=True)
class Material:
    """What a design may draw on: the artifacts of one bench run that it named, read without torch.

    Attributes
    ----------
    study : StudyFile
    run : the run's artifact; None for a design that needs none
    artifacts : role -> artifact, those that the design named
    """

    study: StudyFile
    run: Artifact | None
    artifacts: Mapping[str, Artifact]

    @property
    def parents(self) -> dict[str, str]:
        """Role -> key of each artifact the stimuli stand on."""
        held = {} if self.run is None else {"run": self.run.key}
        return {**held, **{role: artifact.key for role, artifact in self.artifacts.items()}}

    def artifact(self, role: str) -> Artifact:
        """Return an artifact by its role in the run.

        Raises
        ------
        UnknownName
            If the design did not name it.
        """
        if role not in self.artifacts:
            raise unknown(f"study '{self.study.study}', artifact", role, self.artifacts)
        return self.artifacts[role]

    @cached_property
    def pictures(self) -> np.ndarray:
        """The explained pictures, uint8 (N, H, W, 3)."""
        return np.asarray(self.artifact("images").tensors("pictures.safetensors")["pictures"])

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row an explained picture, columns of `ImageRow` and `PredictionRow`, in the order of `pictures`."""
        return _join(self.artifact("images"), self.artifact("predictions"))

    @cached_property
    def pool(self) -> Pool:
        """The pictures that dictionaries and features of the run are about, training split first."""
        held = self.artifact(POOL)
        rows = held.rows()
        check_columns(rows, ImageRow, str(held.path))
        return Pool(np.asarray(held.tensors("pictures.safetensors")["pictures"]), rows.sort_values("index"))

    def maps(self, label: str, index: np.ndarray) -> np.ndarray:
        """Return the maps (n, H, W) of some explained pictures, by the label of the explanation."""
        maps = np.asarray(self.artifact(f"explanations/{label}").tensors("maps.safetensors")["maps"])
        if maps.ndim != 3 or len(maps) != len(self.images):
            raise LimenError(
                f"study '{self.study.study}', explanation '{label}': given maps of shape {maps.shape}, "
                f"allowed is ({len(self.images)}, H, W), one for each image of the run."
            )
        return np.asarray(maps[index])


def read_material(study: StudyFile, options: Mapping[str, Any], design: Design, store: Store) -> Material:
    """Open the newest run of the study's plan and the artifacts that the design needs.

    Raises
    ------
    LimenError
        If the run is not there, or has no artifact under a role that is needed.
    """
    if study.run is None:
        if list(design.needs(study, options, ())):
            raise LimenError(
                f"study '{study.study}', key 'run': nothing was given; protocol '{study.protocol}' draws on a bench run."
            )
        return Material(study, None, {})
    run = latest(store, "runs", name=study.run)
    parents = run.manifest["parents"]
    artifacts: dict[str, Artifact] = {}
    for role in design.needs(study, options, tuple(parents)):
        kind = role.partition("/")[0]
        if role not in parents:
            offered = [name for name in parents if name.partition("/")[0] == kind]
            raise unknown(f"study '{study.study}', run '{study.run}', {kind}", role, offered)
        artifacts[role] = store.open(kind, parents[role])
    return Material(study, run, artifacts)


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
