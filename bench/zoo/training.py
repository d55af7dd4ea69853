"""The zoo's own networks, from the cache or trained now: weights first, manifest last, damage told and mended."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import nn

from ..engine.network import Network
from ..engine.training import OnStep, accuracy, train_classifier
from ..images import ImageSet
from ..registry import LimenError, unknown
from ..store import Artifact, Store, artifact_key
from .checkpoints import fill, read_weights
from .pictures import load_images
from .recipes import MEAN, RECIPES, STD, Recipe

KIND = "networks"
WEIGHTS = "weights.safetensors"


def cache_folder(cache: str | Path | None = None) -> Path:
    """Return where trained weights are kept: the argument, $LIMEN_CACHE, $XDG_CACHE_HOME/limen or ~/.cache/limen.

    Raises
    ------
    LimenError
        If something that is no folder stands there.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    default = (Path(base) if base else Path.home() / ".cache") / "limen"
    folder = Path(cache or os.environ.get("LIMEN_CACHE") or default).expanduser()
    if folder.exists() and not folder.is_dir():
        raise LimenError(f"cache {folder}: given a file, allowed is a folder; set LIMEN_CACHE to another.")
    return folder


def training_record(name: str, *, cache: str | Path | None = None) -> Mapping[str, Any] | None:
    """Return what was measured when a network was trained (`test_accuracy`, `seconds`, ...), None if it was not yet.

    Raises
    ------
    UnknownName
        If the zoo has no such network of its own.
    """
    if name not in RECIPES:
        raise unknown("network of the zoo", name, RECIPES)
    artifact = Store(cache_folder(cache)).get(KIND, artifact_key(KIND, Training(name=name).config))
    return None if artifact is None else artifact.summary


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: the recipe, and what of the training pictures it sees.

    Attributes
    ----------
    name : name of the recipe
    facts : what sets it apart from the recipe's own training, for the cache key
    keep : tells which of the training pictures it sees, bool (N,); None = all
    title : what to call it in bars, warnings and tables; '' = the recipe's name
    """

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    keep: Callable[[ImageSet], np.ndarray] | None = None
    title: str = ""

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.name]

    @property
    def config(self) -> dict[str, Any]:
        """Return what the cache key is made of."""
        return {"network": self.name, **self.recipe.facts(), **self.facts}

    def __str__(self) -> str:
        return self.title or self.name


def train_or_recall(name: str, *, cache: str | Path | None, device: str, progress: bool) -> Network:
    """Return one of the zoo's own networks.

    A cached network that is damaged or no longer fits is dropped with a warning and trained again.
    """
    return trained(Training(name=name), cache=cache, device=device, progress=progress)


def trained(training: Training, *, cache: str | Path | None, device: str, progress: bool) -> Network:
    """Return the network of a training, from the cache or trained now."""
    recipe = training.recipe
    sample = load_images(recipe.images, "train", 1, size=recipe.size)
    module = recipe.build(len(sample.classes))
    if recipe.epochs:
        store = Store(cache_folder(cache))
        if not _recall(module, store, training):
            module = _train(module, training, device, progress, store)
    return Network(
        name=str(training),
        module=module,
        classes=sample.classes,
        size=recipe.size,
        mean=MEAN,
        std=STD,
        layer="stage4",
    )


def _recall(module: nn.Module, store: Store, training: Training) -> bool:
    """Fill a module from the cache; False if it is not there or had to be dropped."""
    key = artifact_key(KIND, training.config)
    try:
        artifact = store.get(KIND, key)
        if artifact is None:
            return False
        _fill_checked(module, artifact, str(training))
    except LimenError as error:
        warnings.warn(f"{error} It is dropped and '{training}' is trained again.", stacklevel=5)
        shutil.rmtree(store.path(KIND, key), ignore_errors=True)
        return False
    return True


def _fill_checked(module: nn.Module, artifact: Artifact, name: str) -> None:
    faults = artifact.verify()
    if faults:
        raise LimenError(faults[0])
    path = artifact.file(WEIGHTS)
    fill(module, read_weights(path), f"cached network '{name}', {path}")


def _train(module: nn.Module, training: Training, device: str, progress: bool, store: Store) -> nn.Module:
    """Train, measure on the test split, and cache."""
    recipe = training.recipe
    train = load_images(recipe.images, "train", recipe.train, size=recipe.size)
    seen = np.ones(len(train.labels), dtype=bool) if training.keep is None else training.keep(train)
    started = time.perf_counter()
    with _bar(str(training), progress) as on_step:
        module = train_classifier(
            module,
            train.pictures[seen],
            train.labels[seen],
            mean=MEAN,
            std=STD,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            seed=recipe.seed,
            flip=recipe.flip,
            deletion=recipe.deletion,
            device=device,
            on_step=on_step,
        )
    seconds = time.perf_counter() - started
    summary = {
        **_measured(module, recipe, train.pictures[~seen], train.labels[~seen], device),
        "parameters": sum(value.numel() for value in module.parameters()),
        "seconds": round(seconds, 2),
    }
    if summary["test_accuracy"] < recipe.floor:
        raise LimenError(
            f"training of '{training}': reached a test accuracy of {summary['test_accuracy']:.3f}, at least "
            f"{recipe.floor} is expected; nothing was cached."
        )
    _keep(module, store, training, summary)
    return module


def _measured(
    module: nn.Module, recipe: Recipe, held_out: np.ndarray, labels: np.ndarray, device: str
) -> dict[str, float]:
    """Measure the accuracy on the test split, with one cell deleted where it was trained so, and on what was left out."""
    test = load_images(recipe.images, "test", size=recipe.size)

    def share(pictures: np.ndarray, answers: np.ndarray, deletion: int = 0) -> float:
        return accuracy(module, pictures, answers, mean=MEAN, std=STD, deletion=deletion, device=device)

    found = {"test_accuracy": share(test.pictures, test.labels)}
    if recipe.deletion:
        found["deletion_accuracy"] = share(test.pictures, test.labels, recipe.deletion)
    if len(labels):
        found["held_out_accuracy"] = share(held_out, labels)
    return found


def _keep(module: nn.Module, store: Store, training: Training, summary: Mapping[str, Any]) -> None:
    try:
        with store.write(KIND, training.config, seed=training.recipe.seed) as draft:
            save_file({key: value.contiguous() for key, value in module.state_dict().items()}, draft.path / WEIGHTS)
            draft.summary = dict(summary)
    except (LimenError, OSError) as error:
        # Another process may have finished the same training first; its copy is as good as ours.
        if store.get(KIND, artifact_key(KIND, training.config)) is None:
            warnings.warn(f"cache {store.root}: '{training}' could not be kept ({error}).", stacklevel=6)


@contextmanager
def _bar(name: str, progress: bool) -> Iterator[OnStep | None]:
    """Show a progress bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not progress or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("training {task.description}"), BarColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=None, loss=float("nan"))
        yield lambda done, total, loss: bar.update(task, completed=done, total=total, loss=loss)
