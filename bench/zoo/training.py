"""The zoo's own networks, from the cache or trained now: weights first, manifest last, damage told and mended."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    artifact = Store(cache_folder(cache)).get(KIND, artifact_key(KIND, _config(name)))
    return None if artifact is None else artifact.summary


def train_or_recall(name: str, *, cache: str | Path | None, device: str, progress: bool) -> Network:
    """Return one of the zoo's own networks.

    A cached network that is damaged or no longer fits is dropped with a warning and trained again.
    """
    recipe = RECIPES[name]
    sample = load_images(recipe.images, "train", 1, size=recipe.size)
    module = recipe.build(len(sample.classes))
    if recipe.epochs:
        store = Store(cache_folder(cache))
        if not _recall(module, store, name):
            module = _train(module, recipe, name, device, progress, store)
    return Network(
        name=name,
        module=module,
        classes=sample.classes,
        size=recipe.size,
        mean=MEAN,
        std=STD,
        layer="stage4",
    )


def _config(name: str) -> dict[str, Any]:
    return {"network": name, **RECIPES[name].facts()}


def _recall(module: nn.Module, store: Store, name: str) -> bool:
    """Fill a module from the cache; False if it is not there or had to be dropped."""
    key = artifact_key(KIND, _config(name))
    try:
        artifact = store.get(KIND, key)
        if artifact is None:
            return False
        _fill_checked(module, artifact, name)
    except LimenError as error:
        warnings.warn(f"{error} It is dropped and '{name}' is trained again.", stacklevel=4)
        shutil.rmtree(store.path(KIND, key), ignore_errors=True)
        return False
    return True


def _fill_checked(module: nn.Module, artifact: Artifact, name: str) -> None:
    faults = artifact.verify()
    if faults:
        raise LimenError(faults[0])
    path = artifact.file(WEIGHTS)
    fill(module, read_weights(path), f"cached network '{name}', {path}")


def _train(module: nn.Module, recipe: Recipe, name: str, device: str, progress: bool, store: Store) -> nn.Module:
    """Train, measure on the test split, and cache."""
    train = load_images(recipe.images, "train", recipe.train, size=recipe.size)
    started = time.perf_counter()
    with _bar(name, progress) as on_step:
        module = train_classifier(
            module,
            train.pictures,
            train.labels,
            mean=MEAN,
            std=STD,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            seed=recipe.seed,
            flip=recipe.flip,
            device=device,
            on_step=on_step,
        )
    seconds = time.perf_counter() - started
    reached = _accuracy(module, load_images(recipe.images, "test", size=recipe.size), device)
    if reached < recipe.floor:
        raise LimenError(
            f"training of '{name}': reached a test accuracy of {reached:.3f}, at least {recipe.floor} is expected; "
            "nothing was cached."
        )
    summary = {
        "test_accuracy": reached,
        "parameters": sum(value.numel() for value in module.parameters()),
        "seconds": round(seconds, 2),
    }
    _keep(module, store, name, summary)
    return module


def _accuracy(module: nn.Module, images: ImageSet, device: str) -> float:
    return accuracy(module, images.pictures, images.labels, mean=MEAN, std=STD, device=device)


def _keep(module: nn.Module, store: Store, name: str, summary: Mapping[str, Any]) -> None:
    config = _config(name)
    try:
        with store.write(KIND, config, seed=RECIPES[name].seed) as draft:
            save_file({key: value.contiguous() for key, value in module.state_dict().items()}, draft.path / WEIGHTS)
            draft.summary = dict(summary)
    except (LimenError, OSError) as error:
        # Another process may have finished the same training first; its copy is as good as ours.
        if store.get(KIND, artifact_key(KIND, config)) is None:
            warnings.warn(f"cache {store.root}: '{name}' could not be kept ({error}).", stacklevel=5)


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
