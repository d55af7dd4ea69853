"""How a module runs: memory layout, precision and its audit, and compiled graphs for long sweeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from .batching import ran_out
from .frozen import WORTHWHILE, Frozen, Graphs, operations
from .local import Local, cut
from .network import Network, copied, logits_of
from .precision import (
    ENOUGH,
    ForwardPrecision,
    Number,
    compare_effects,
    compare_ranks,
    exact,
    fast_formats,
    float32_parts,
    last_parts,
    memory_format,
    reduced,
)

Run = Callable[..., Any]
_PIXELS_AT_ONCE = 2**20
"""Places of one pass on a CPU: larger batches leave its caches (16 images of 224 pixels, 64 of 128)."""

_LEAST = 1000
"""Copies of a sweep below which compiling is not even considered."""

_SLOWER = 4
"""How many times longer a graph of windows takes to compile."""

_FEWEST = 16
"""Copies within boxes below which windows are not even considered: the maps of the image cost a pass."""

_SAVING = 0.85
"""Share of the multiplications up to which windows are faster: reading them costs too."""


class Forward:
    """Runs a network, or its head, on one batch at a time.

    Parameters
    ----------
    network : Network, whose module is taken over
    device : torch.device
    precision : as `Engine` says
    graphs : as `Engine` says

    Attributes
    ----------
    module : nn.Module on the device, in the layout that suits it
    audit : dict, the precision asked for and used, the comparison behind it, what became of compiled graphs and of windows
    shape : shape of the last input, None before the first
    """

    def __init__(self, network: Network, device: torch.device, precision: ForwardPrecision, graphs: Graphs) -> None:
        self._name, self._device, self._graphs = network.name, device, graphs
        self._format = memory_format(network.module)
        self.module = _moved(network.module, device, self._format)
        self.shape: tuple[int, ...] | None = (3, network.size, network.size) if network.size else None
        self._tried = fast_formats(device) if precision == "auto" else () if precision == "fp32" else (precision,)
        used = precision if precision != "auto" else None if self._tried else "fp32"
        self.audit: dict[str, Any] = {"requested": precision, "used": used}
        self._last = last_parts(self.module)
        self._work: dict[tuple[Any, ...], float] = {}
        self._frozen: dict[tuple[Any, ...], Frozen | None] = {}
        self._locals: dict[tuple[Any, ...], Local | None] = {}

    @property
    def plain(self) -> Run:
        """The whole module."""
        return cast(Run, self.module)

    @property
    def number(self) -> Number:
        """What forwards without gradients run in."""
        return cast(Number, self.audit["used"] or "fp32")

    def __call__(self, run: Run, inputs: Tensor, number: Number | None = None) -> Tensor:
        """Run a batch and return float32 logits; the inputs are copied, since a module may work in place."""
        if run is self.module:
            self.shape = tuple(inputs.shape[1:])
        if number is None:
            number = "fp32" if torch.is_grad_enabled() else self.number
        try:
            with self._around(number):
                return logits_of(run(inputs.clone(memory_format=self._layout(inputs))), self._name).float()
        except RuntimeError as error:
            if "view size" not in str(error) or self._format is torch.contiguous_format:
                raise
        # The module reshapes with `view`, which wants the plain layout.
        self._format = torch.contiguous_format
        self.module = _moved(self.module, self._device, self._format)
        return self(run, inputs, number)

    def most(self, inputs: Tensor) -> int:
        """Return how many inputs (n, C, *places) go through at once at most, for speed; memory is another matter."""
        places = inputs[0, 0].numel() if inputs.ndim > 2 else 1
        if self._device.type != "cpu" or places == 0:
            return 2**31
        return 2 ** max(0, (_PIXELS_AT_ONCE // places).bit_length() - 1)

    def frozen(self, run: Run, inputs: Tensor, count: int, size: int) -> Frozen | None:
        """Return a compiled graph for a sweep of `count` inputs like `inputs` (1, ...) in batches of `size`, if it pays.

        The choice depends on the sweep alone, so that a run that is resumed takes the same path.
        """
        if not self._pays(run, inputs, count, size):
            return None
        key = (id(run), tuple(inputs.shape[1:]), size, self.number)
        if key not in self._frozen:
            batch = (self._faded(inputs, size).clone(memory_format=self._layout(inputs)),)
            self._frozen[key] = self._freeze(run, lambda given: self(run, given), batch)
        return self._frozen[key]

    def local(self, inputs: Tensor, sides: tuple[int, int], count: int) -> Local | None:
        """Return the network for `count` copies of `inputs` (1, C, H, W) within boxes, if it saves work."""
        if inputs.ndim != 4 or inputs.device.type == "meta" or count < _FEWEST:
            return None
        key = (tuple(inputs.shape[1:]), sides, self._format)
        if key not in self._locals:
            self._locals[key] = self._windowed(inputs, sides)
        return self._locals[key]

    def maps(self, local: Local, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the maps of an image (1, C, H, W) that windows are read from, and its float32 logits."""
        with self._around(self.number):
            maps, output = local.maps(image.clone(memory_format=self._format))
            return maps, logits_of(output, self._name).float()

    def windows(self, local: Local, boxes: Tensor, starts: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
        """Run boxes (B, C, h, w), which begin at rows and columns `starts`, and return float32 logits."""
        with self._around(self.number):
            boxes = boxes.clone(memory_format=self._format)
            return logits_of(local.run(boxes, *starts, *maps), self._name).float()

    def frozen_local(self, local: Local, image: Tensor, count: int, size: int) -> Frozen | None:
        """Return a compiled graph for `count` copies within boxes, as `frozen` does."""
        if not self._pays(self.plain, image, count, size, local.share / _SLOWER):
            return None
        key = ("local", tuple(image.shape[1:]), local.sides, size, self.number)
        if key not in self._frozen:
            maps, _ = self.maps(local, image)
            rows, columns = (
                torch.linspace(0, length - side, size, device=self._device).long()
                for length, side in zip(image.shape[2:], local.sides, strict=True)
            )
            boxes = cut(self._faded(image, size), rows, columns, local.sides).clone(memory_format=self._format)
            batch = boxes, rows, columns
            self._frozen[key] = self._freeze(
                local.run, lambda boxes, *starts: self.windows(local, boxes, starts, maps), batch, maps
            )  # fmt: skip
        return self._frozen[key]

    @property
    def unsettled(self) -> tuple[Number, ...]:
        """The formats that are still to be compared with float32, in the order in which they are tried."""
        return () if "formats" in self.audit or self._device.type == "meta" else self._tried

    def settle(self, high: Tensor, short: Iterable[tuple[Number, Tensor | None]]) -> None:
        """Decide the precision: the first short format whose scores (N, 1 + M, K) move as float32's do.

        Parameters
        ----------
        high : scores of images and copies in float32
        short : the same in each format tried, None where they were not finite; taken until one agrees
        """
        agrees: Number | None = None
        self.audit.update(images=len(high), formats=(told := {}))
        for number, low in short:
            told[number] = {"pearson": None, "finite": False} if low is None else compare_effects(high, low)
            if (told[number]["pearson"] or 0.0) >= ENOUGH:
                agrees = number
                break
        self.audit["used"] = self.audit["used"] or agrees or "fp32"

    def _windowed(self, inputs: Tensor, sides: tuple[int, int]) -> Local | None:
        """Write the network for boxes, and tell what a copy costs or why it is not done."""
        told = self.audit.setdefault("windows", {})
        name = " x ".join(map(str, sides))
        try:
            with exact(self._device):
                local = Local(self.module, inputs.clone(memory_format=self._format), sides)
        except Exception as error:
            if ran_out(error):
                raise
            told[name] = f"whole passes, since the network cannot be rewritten: {type(error).__name__}"
            return None
        saves = local.share <= _SAVING
        told[name] = f"{local.share:.1%} of a pass" if saves else f"whole passes, since {local.share:.1%} would be run"
        return local if saves else None

    def _pays(self, run: Run, inputs: Tensor, count: int, size: int, share: float = 1.0) -> bool:
        """Tell whether a sweep of `count` inputs like `inputs` (1, ...) is worth a graph, each `share` of a pass."""
        if self._graphs == "never" or self._device.type not in WORTHWHILE or count < size:
            return False
        if self._graphs == "always":
            return True
        if count < _LEAST:
            return False
        key = (id(run), tuple(inputs.shape[1:]), self.number)
        if key not in self._work:
            self._work[key] = operations(lambda one: self(run, one), inputs[:1])
        return self._work[key] * share * count >= WORTHWHILE[self._device.type]

    def _faded(self, inputs: Tensor, size: int) -> Tensor:
        """Return `size` inputs that differ, so that a comparison of ranks has something to rank."""
        fades = torch.linspace(1, 1 / 8, max(size, 8), device=self._device).reshape(-1, *[1] * (inputs.ndim - 1))
        return (inputs[:1] * fades)[:size]

    def _freeze(
        self, run: Run, plain: Run, batch: Sequence[Tensor], held: Sequence[Tensor] = ()
    ) -> Frozen | None:  # fmt: skip
        """Compile `run(*batch, *held)`, and keep it where it ranks inputs as `plain(*batch)` does."""
        number = self.number
        try:
            with torch.random.fork_rng(devices=[]):
                graph = Frozen(
                    lambda *given: logits_of(run(*given), self._name), batch, lambda: self._around(number), held
                )  # fmt: skip
            agrees = _agree(plain(*batch), graph(*batch))
        except Exception as error:
            if ran_out(error):
                raise
            self.audit["graphs"] = f"eager, since compiling failed: {type(error).__name__}"
            return None
        self.audit["graphs"] = "compiled" if agrees else "eager, since the compiled graph ranks differently"
        return graph if agrees else None

    @contextmanager
    def _around(self, number: Number) -> Iterator[None]:
        with exact(self._device):
            if number == "fp32":
                yield
                return
            with reduced(self._device, number), float32_parts(self._last):
                yield

    def _layout(self, inputs: Tensor) -> torch.memory_format:
        return self._format if inputs.ndim == 4 else torch.contiguous_format


def _agree(plain: Tensor, graph: Tensor) -> bool:
    correlation = compare_ranks(plain, graph)
    return torch.equal(plain.isfinite(), graph.isfinite()) and (correlation is None or correlation >= ENOUGH)


def _moved(module: nn.Module, device: torch.device, layout: torch.memory_format) -> nn.Module:
    if device.type == "meta":
        module = copied(module)
    return cast(Any, module.float().to(device)).to(memory_format=layout)
