"""Rows of a layer, in memory or on disk: shuffled batches, samples and moments, whatever fits in memory."""

from __future__ import annotations

import hashlib
import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..registry import LimenError
from .content import digests
from .engine import Engine
from .moments import Moments
from .random import Draws
from .recording import Pictures, RowType, read_index, record

_BLOCK = 128
"""Rows that lie together and are read together; blocks are shuffled, then the rows of many blocks."""
_WINDOW = 2**25
"""Numbers in the blocks that are shuffled together: 134 MB of float32."""
_READ = 2**17
"""Bytes that the system reads at once when it is told what comes next."""
_CHUNK = 2**23
"""Numbers looked at together where rows are read in order."""


@dataclass(frozen=True, eq=False)
class Activations:
    """Rows (n, d) of a layer: one an image, a token or a place of a map, in the order of the images.

    Where the rows lie changes no answer: batches, samples and moments of rows on disk are those of the same rows in
    memory, to the bit.

    Attributes
    ----------
    shards : tensors (n_s, d)
        Mapped from files, or one tensor in memory.
    positions : rows an image
    grid : (H, W) with H * W = positions where positions are places of a map, else None
    facts : mapping
        Where rows on disk come from: network, fingerprint, layer, digest of the pictures, type of the numbers.
    maps : what the shards are mapped by, or ()
    """

    shards: tuple[Tensor, ...]
    positions: int = 1
    grid: tuple[int, int] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    maps: tuple[mmap.mmap, ...] = ()

    @staticmethod
    def of(activations: Tensor | Activations) -> Activations:
        """Take rows (n, d), tokens (N, T, d) or maps (N, C, H, W) as they lie; a stream is returned as it is.

        Raises
        ------
        LimenError
            For another shape, no row, or numbers that are not floats.
        """
        if isinstance(activations, Activations):
            return activations
        rows = positions(activations).detach()
        if not len(rows) or not rows.is_floating_point():
            raise LimenError(
                f"activations: given {rows.dtype} {tuple(activations.shape)}, allowed are floats, one row or more."
            )
        grid = (int(activations.shape[2]), int(activations.shape[3])) if activations.ndim == 4 else None
        return Activations((rows,), positions=len(rows) // len(activations), grid=grid)

    @staticmethod
    def record(
        engine: Engine,
        pictures: Pictures,
        layer: str,
        folder: str | Path,
        *,
        dtype: RowType = "float32",
        shard_rows: int = 2**17,
        skip: int = 0,
        pool: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Activations:
        """Write what a layer holds for pictures into a folder, shard by shard, and open it.

        Called again after it was stopped it goes on at the first missing shard, and the files are those of one
        call, to the bit. A folder that is whole is opened at once, its pictures compared but not run.

        Parameters
        ----------
        engine : Engine
        pictures : uint8 (N, H, W, 3), normalised floats (N, C, H, W), or an iterable of such batches or single
            pictures, for more than fit in memory; iterated once
        layer : name of the layer
        folder : where the shards go; made if missing
        dtype : 'float32', or 'bfloat16' for half the space and 8 bits of precision
        shard_rows : most rows a shard, in whole images; at least one image
        skip : leading tokens of each image that are left out (class and register tokens)
        pool : keep the mean over the positions alone, one row an image
        progress : `progress(images done, images or 0 where that is not known)`

        Raises
        ------
        LimenError
            If the folder holds activations of another network, layer, type or other pictures, an activation is not
            finite, or there is no picture.
        """
        record(engine, pictures, layer, Path(folder), (dtype, int(shard_rows), int(skip), bool(pool)), progress)
        return Activations.open(folder)

    @staticmethod
    def open(folder: str | Path) -> Activations:
        """Map the rows that `record` wrote; nothing is read yet.

        Raises
        ------
        LimenError
            If the folder holds none, is not finished, or a shard has not the size that the index tells.
        """
        index = read_index(Path(folder))
        kind, width = getattr(torch, index["dtype"]), index["features"]
        maps = tuple(_mapped(Path(folder) / one["file"]) for one in index["shards"])
        shards = tuple(torch.frombuffer(one, dtype=kind).view(-1, width) for one in maps)
        grid = tuple(index["grid"]) if index["grid"] else None
        facts = {name: value for name, value in index.items() if name not in ("shards", "grid", "positions")}
        return Activations(shards, positions=index["positions"], grid=grid, facts=facts, maps=maps)

    def __len__(self) -> int:
        return self._starts[-1]

    def __repr__(self) -> str:
        return f"Activations({len(self)} rows of {self.shape[1]} features, {len(self.shards)} shards)"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return len(self), int(self.shards[0].shape[1])

    @property
    def device(self) -> torch.device:
        """Where the rows lie; those of files are mapped into the memory of the host."""
        return self.shards[0].device

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for shard in self.shards:
            starts.append(starts[-1] + len(shard))
        return starts

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows as float32: what `content.digests` says of the same rows in memory."""
        if "digest" in self.facts:
            return str(self.facts["digest"])
        if len(self.shards) == 1:
            return digests(self.shards[0].float()[None])[0]
        running = hashlib.sha256(f"{torch.float32}|{self.shape}|".encode())
        for chunk in self.chunks():
            running.update(chunk.cpu().contiguous().numpy().tobytes())
        return running.hexdigest()

    def image_of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image and the position in it of each row, both int64."""
        return rows // self.positions, rows % self.positions

    def span(self, start: int, stop: int) -> Tensor:
        """Return the rows start .. stop as they are kept, (stop - start, d); a view where they lie in one shard."""
        self._expect([(start, stop)])
        parts = [self.shards[shard][low:high] for shard, low, high in self._pieces(start, stop)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the shards in which rows start .. stop lie, and which of their rows those are."""
        for shard in range(max(0, bisect_right(self._starts, start) - 1), len(self.shards)):
            first, count = self._starts[shard], len(self.shards[shard])
            if first >= stop:
                return
            yield shard, max(start - first, 0), min(stop - first, count)

    def _expect(self, spans: Iterable[tuple[int, int]]) -> None:
        """Let the system read rows from files in the background; it reads little at one call."""
        if not self.maps or not hasattr(mmap, "MADV_WILLNEED"):
            return
        width = self.shape[1] * self.shards[0].element_size()
        for start, stop in spans:
            for shard, low, high in self._pieces(start, stop):
                first = low * width // mmap.PAGESIZE * mmap.PAGESIZE
                for place in range(first, high * width, _READ):
                    self.maps[shard].madvise(mmap.MADV_WILLNEED, place, min(_READ, high * width - place))

    def chunks(self, size: int | None = None) -> Iterator[Tensor]:
        """Yield all rows in order as float32 (<= size, d)."""
        size = size or max(1, _CHUNK // self.shape[1])
        for start in range(0, len(self), size):
            yield self.span(start, min(start + size, len(self))).float()

    def take(self, rows: Tensor) -> Tensor:
        """Return chosen rows as float32 (len(rows), d), in the order asked for; files are read in their own order."""
        wanted, order = rows.to(self.device).sort()
        found = torch.empty(len(rows), self.shape[1], device=self.device)
        bounds = torch.searchsorted(wanted, torch.tensor(self._starts, device=self.device)).tolist()
        for shard, first, low, high in zip(self.shards, self._starts, bounds, bounds[1:], strict=False):
            if low < high:
                found[order[low:high]] = shard[wanted[low:high] - first].float()
        return found

    def all(self) -> Tensor:
        """Return every row as float32 (n, d), in order and in memory."""
        return self.span(0, len(self)).float()

    def sample(self, count: int, draws: Draws) -> Tensor:
        """Draw `count` different rows, float32 (count, d), in random order.

        Raises
        ------
        LimenError
            If there are fewer.
        """
        if not 1 <= count <= len(self):
            raise LimenError(f"activations, sample: given {count} rows, allowed is 1 to {len(self)}.")
        return self.take(torch.from_numpy(draws.numpy().choice(len(self), count, replace=False)))

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        running, start = Moments(self.shards[0][:1]), 0
        for chunk in self.chunks():
            running.add(chunk, start, len(self))
            start += len(chunk)
        return running.mean[0], (running.deviations[0] / len(self)).sqrt()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation (divided by n) of each feature, float64 (d,); one pass, kept."""
        mean, spread = self._moments
        return mean.clone(), spread.clone()

    def batches(self, size: int, *, draws: Draws, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[Tensor]:
        """Yield shuffled batches (size, d) float32 without end, from batch `start` on.

        Batch i depends on `draws` and i alone. An epoch visits every row at most once; the rows left over at its end,
        fewer than `size` and others each time, are dropped. Runs of rows are shuffled over the whole, then the rows
        of many runs among each other, so that files are read in long pieces and no more is held than they hold.

        Parameters
        ----------
        size : rows a batch over all processes; where there are fewer rows, all of them
        draws : Draws; not moved on
        start : first batch
        rank, world : this process and their number: a batch is cut into `world` parts, equal to within a row, which
            together are the batch of a single process

        Raises
        ------
        LimenError
            If `size`, `start`, `rank` or `world` is out of range.
        """
        if size < world or world < 1 or not 0 <= rank < world or start < 0:
            raise LimenError(
                f"activations, batches: given size {size}, start {start}, rank {rank} and world {world}, allowed are "
                "a start of 0 or more, a rank below world and one row or more for each."
            )
        return self._endless(min(size, len(self)), draws, start, rank, world)

    def _endless(self, size: int, draws: Draws, index: int, rank: int, world: int) -> Iterator[Tensor]:
        an_epoch, a_window = len(self) // size, max(1, _WINDOW // (size * self.shape[1]))
        windows = -(-an_epoch // a_window)
        low, high = size * rank // world, size * (rank + 1) // world
        epoch, batch = divmod(index, an_epoch)
        window, skipped = divmod(batch, a_window)
        spans = self._spans(draws.spawn("epoch", epoch), window, a_window * size)
        self._expect(spans)
        while True:
            rows = torch.cat([self.span(*one) for one in spans])
            order = draws.spawn("epoch", epoch, "window", window).permutation(len(rows))
            rows = rows[order.to(rows.device)]
            following = divmod(epoch * windows + window + 1, windows)
            spans = self._spans(draws.spawn("epoch", following[0]), following[1], a_window * size)
            self._expect(spans)
            for first in range(skipped * size, min(a_window, an_epoch - window * a_window) * size, size):
                yield rows[first + low : first + high].float()
            (epoch, window), skipped = following, 0

    def _spans(self, draws: Draws, window: int, size: int) -> list[tuple[int, int]]:
        """Return the runs of rows at places window * size and on of an epoch: all runs once, in random order."""
        order = draws.permutation(-(-len(self) // _BLOCK)).cpu()
        lengths = torch.full_like(order, _BLOCK)
        lengths[order == len(order) - 1] = len(self) - (len(order) - 1) * _BLOCK
        ends = lengths.cumsum(0)
        first, last = window * size, min((window + 1) * size, len(self))
        found = []
        for place in range(int(torch.searchsorted(ends, first, right=True)), len(order)):
            begin, end = int(ends[place] - lengths[place]), int(ends[place])
            if begin >= last:
                break
            base = int(order[place]) * _BLOCK - begin
            found.append((base + max(begin, first), base + min(end, last)))
        return found


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        # A private mapping that could be written to, which torch asks of memory it shares; nothing is ever written.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def positions(activations: Tensor) -> Tensor:
    """Return activations as rows (n, d): every position of (N, C, H, W), every token of (N, T, d), or (n, d) itself.

    Raises
    ------
    LimenError
        If the shape is another one.
    """
    if activations.ndim == 4:
        return activations.movedim(1, -1).reshape(-1, activations.shape[1])
    if activations.ndim == 3:
        return activations.reshape(-1, activations.shape[-1])
    if activations.ndim == 2:
        return activations
    raise LimenError(
        f"activations: given shape {tuple(activations.shape)}, allowed are (n, d), (N, T, d) and (N, C, H, W)."
    )
