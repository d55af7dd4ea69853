"""A layer's activations written to disk in shards, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..registry import LimenError, unknown
from .engine import Engine

Pictures = np.ndarray | Tensor | Iterable[Any]
RowType = Literal["float32", "bfloat16"]
Options = tuple[RowType, int, int, bool]
"""Number type, most rows a shard, leading tokens left out, whether to average over positions."""
Progress = Callable[[int, int], None]
INDEX = "index.json"
_PLAN = "plan.json"
_GROUP = 64
"""Pictures run together; counted from the start of a shard, so that a shard is the same whenever it is made."""


def read_index(folder: Path) -> dict[str, Any]:
    """Return the index of a folder of activations, its shards checked for size.

    Raises
    ------
    LimenError
        If there is none or a shard is missing or cut short.
    """
    path = folder / INDEX
    if not path.is_file():
        state = "unfinished activations; record them again to go on" if (folder / _PLAN).is_file() else "no activations"
        raise LimenError(
            f"activations in {folder}: given {state}, allowed is a folder that `Activations.record` wrote."
        )
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    item = getattr(torch, index["dtype"]).itemsize
    for one in index["shards"]:
        file = folder / one["file"]
        size, wanted = (file.stat().st_size if file.is_file() else 0), one["rows"] * index["features"] * item
        if size != wanted:
            raise LimenError(f"activations in {folder}: given {size} bytes in {one['file']}, allowed is {wanted}.")
    return index


def record(
    engine: Engine, pictures: Pictures, layer: str, folder: Path, options: Options, progress: Progress | None
) -> None:
    """Write shards, the facts of each beside it, and the index last; see `Activations.record`."""
    recorder = _Recorder(engine, layer, folder, options)
    total = len(pictures) if isinstance(pictures, (np.ndarray, Tensor)) else 0
    recorder.run(_singly(pictures), lambda done: progress(done, total) if progress else None)


class _Recorder:
    """One recording: what it is of, and the shards that are there."""

    def __init__(self, engine: Engine, layer: str, folder: Path, options: Options) -> None:
        dtype, shard_rows, skip, pool = options
        if dtype not in get_args(RowType):
            raise unknown("activations, dtype", dtype, get_args(RowType))
        if shard_rows < 1 or skip < 0:
            raise LimenError(
                f"activations: given shard_rows {shard_rows} and skip {skip}, allowed are 1 or more and 0 or more."
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.engine, self.layer, self.folder = engine, layer, folder
        self.dtype, self.shard_rows, self.skip, self.pool = options
        self.asked = {
            "network": engine.network.name,
            "fingerprint": engine.network.fingerprint,
            "layer": layer,
            "dtype": dtype,
            "shard_rows": shard_rows,
            "skip": skip,
            "pool": pool,
        }
        self.where = f"activations in {folder}"
        self.plan = self._known_plan()

    def run(self, pictures: Iterator[Tensor], progress: Callable[[int], None]) -> None:
        first = next(pictures, None)
        if first is None:
            raise LimenError(f"{self.where}: given no picture, allowed is one or more.")
        if not self.plan:
            self._measure(first)
        pictures = chain([first], pictures)
        shards: list[dict[str, Any]] = []
        done = 0
        while group := self._next(pictures, 0):
            fact = self._shard(len(shards), group, pictures, lambda count, before=done: progress(before + count))  # type: ignore[misc]
            shards.append(fact)
            done += fact["images"]
        self._finish(shards)

    @property
    def images(self) -> int:
        """Pictures a shard."""
        return max(1, self.shard_rows // int(self.plan["positions"]))

    def _known_plan(self) -> dict[str, Any]:
        path = self.folder / _PLAN
        if not path.is_file():
            return {}
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name, value in self.asked.items():
            if plan.get(name) != value:
                raise LimenError(
                    f"{self.where}, {name}: given {value}, allowed is {plan.get(name)}, with which they were begun; "
                    "take another folder."
                )
        return plan

    def _measure(self, first: Tensor) -> None:
        """Learn from a first picture how many rows and features an image has."""
        rows, grid = self._rows([first])
        self.plan = {**self.asked, "positions": rows.shape[1], "features": rows.shape[2], "grid": grid}
        _write_json(self.folder / _PLAN, self.plan)

    def _rows(self, group: list[Tensor]) -> tuple[Tensor, list[int] | None]:
        """Run pictures; return their rows (N, T, d) and the grid of their positions."""
        batch = torch.stack(group)
        given = self.engine.inputs(batch.numpy()) if batch.dtype == torch.uint8 else self.engine.prepare(batch)
        found = self.engine.tap(given, self.layer)
        grid = None
        if found.ndim == 4:
            grid = list(found.shape[2:])
            found = found.movedim(1, -1).flatten(1, 2)
        elif found.ndim == 2:
            found = found.unsqueeze(1)
        if found.ndim != 3 or found.shape[1] <= self.skip:
            raise LimenError(
                f"{self.where}, layer '{self.layer}': given activations {tuple(found.shape)} and skip {self.skip}, "
                "allowed are vectors, tokens or feature maps with more positions than are left out."
            )
        if self.skip:
            found, grid = found[:, self.skip :], None
        if self.pool:
            found, grid = found.mean(dim=1, keepdim=True), None
        if not bool(torch.isfinite(found).all()):
            raise LimenError(
                f"{self.where}, layer '{self.layer}': an activation is not finite; allowed are finite ones."
            )
        return found, grid

    def _shard(
        self, number: int, group: list[Tensor], pictures: Iterator[Tensor], progress: Callable[[int], None]
    ) -> dict[str, Any]:
        """Write one shard, or pass over the pictures of one that is there; return its facts."""
        name = f"rows-{number:05d}.bin"
        known = self._known_shard(name)
        content, rows, images = hashlib.sha256(), hashlib.sha256(), 0
        part = self.folder / f"{name}.part"
        with open(os.devnull if known else part, "wb") as file:
            while group:
                for picture in group:
                    content.update(f"{picture.dtype}|{tuple(picture.shape)}|".encode())
                    content.update(picture.contiguous().numpy().tobytes())
                images += len(group)
                if not known:
                    data = self._bytes(group)
                    rows.update(data)
                    file.write(data)
                progress(images)
                group = self._next(pictures, images)
            file.flush()
            if not known:
                os.fsync(file.fileno())
        fact = {
            "file": name,
            "images": images,
            "rows": images * self.plan["positions"],
            "pictures": content.hexdigest(),
            "sha256": known["sha256"] if known else rows.hexdigest(),
        }
        if known and fact != known:
            raise LimenError(
                f"{self.where}, {name}: given pictures {fact['pictures'][:12]}, allowed are those it was made from, "
                f"{known['pictures'][:12]}; take another folder."
            )
        if not known:
            _write_json(self.folder / f"{name}.json", fact)
            os.rename(part, self.folder / name)
        return fact

    def _known_shard(self, name: str) -> dict[str, Any] | None:
        """Return the facts of a shard that is whole: the file is renamed into place after its facts."""
        if not (self.folder / name).is_file():
            return None
        known: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        return known

    def _bytes(self, group: list[Tensor]) -> bytes:
        found, grid = self._rows(group)
        if [*found.shape[1:], grid] != [self.plan["positions"], self.plan["features"], self.plan["grid"]]:
            raise LimenError(
                f"{self.where}: given activations {tuple(found.shape[1:])} after "
                f"{(self.plan['positions'], self.plan['features'])}; allowed is one size of picture."
            )
        plain = found.to("cpu", getattr(torch, self.dtype)).contiguous()
        return plain.view(torch.uint8).numpy().tobytes()

    def _next(self, pictures: Iterator[Tensor], done: int) -> list[Tensor]:
        """Return the pictures that run together after `done` of a shard."""
        return list(islice(pictures, min(_GROUP, self.images - done)))

    def _finish(self, shards: Sequence[Mapping[str, Any]]) -> None:
        content = hashlib.sha256("\n".join(one["pictures"] for one in shards).encode()).hexdigest()
        known = self.folder / INDEX
        if known.is_file():
            held = json.loads(known.read_text(encoding="utf-8"))
            if held["pictures"] != content:
                raise LimenError(
                    f"{self.where}: given {sum(one['images'] for one in shards)} pictures, allowed are the "
                    f"{held['images']} it was made from; take another folder."
                )
            return
        running = hashlib.sha256()
        rows = sum(one["rows"] for one in shards)
        running.update(f"{torch.float32}|{(rows, self.plan['features'])}|".encode())
        for one in shards:
            self._digest(one, running)
        facts = {"pictures": content, "images": sum(one["images"] for one in shards), "rows": rows}
        _write_json(known, {**self.plan, **facts, "digest": running.hexdigest(), "shards": shards})

    def _digest(self, shard: Mapping[str, Any], running: Any) -> None:
        """Add a shard's numbers as float32 to the digest of all, and check that it reads as it was written."""
        own, width = hashlib.sha256(), self.plan["features"] * getattr(torch, self.dtype).itemsize
        with (self.folder / shard["file"]).open("rb") as file:
            while data := file.read(width * max(1, 2**24 // width)):
                own.update(data)
                plain = torch.frombuffer(bytearray(data), dtype=getattr(torch, self.dtype)).float()
                running.update(plain.numpy().tobytes())
        if own.hexdigest() != shard["sha256"]:
            raise LimenError(f"{self.where}: {shard['file']} is not what was written; delete it and record again.")


def _singly(pictures: Pictures) -> Iterator[Tensor]:
    """Yield single pictures of an array, or of an iterable of arrays or single pictures."""
    for item in pictures:
        one = torch.as_tensor(item)
        if one.ndim == 4:
            yield from one.cpu()
        else:
            yield one.cpu()


def _write_json(path: Path, value: Any) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, path)
