"""From pictures and a network to what a dictionary is judged on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..engine import Engine
from ..engine.layers import blocks, penultimate, read_layers
from ..registry import LimenError
from .affine import affine_head
from .concept_data import ConceptData
from .dictionary import positions

BLOCKS = 12
"""Most blocks that `layers='auto'` reads, evenly spaced; feature complexity averages over them."""
_KEPT = 64

Labels = np.ndarray | Tensor | None


def concept_data(
    engine: Engine,
    layer: str,
    train_pictures: np.ndarray,
    test_pictures: np.ndarray,
    *,
    train_labels: Labels = None,
    test_labels: Labels = None,
    label_names: Sequence[str] = (),
    evaluator: Engine | None = None,
    maps: bool = True,
    layers: Literal["auto"] | Sequence[str] = "auto",
) -> ConceptData:
    """Gather all that the metrics of dictionaries ask for, at one layer.

    Parameters
    ----------
    engine : Engine
    layer : a layer of the network
    train_pictures, test_pictures : uint8 (n, H, W, 3), (m, H, W, 3)
    train_labels, test_labels : bool (n, C), (m, C), which concepts each picture holds
    label_names : C names
    evaluator : an engine on another network, through whose eyes pictures are alike (for monosemanticity)
    maps : keep the activations at every position of the layer; without them no metric of positions runs
    layers : the layers that feature complexity looks at, in order; 'auto' takes the blocks up to `layer`, at most 12;
        () takes none

    Returns
    -------
    ConceptData
        `head` is None where the logits can pass the layer by; `head_weights` where they are not affine in the
        activations averaged over positions, which is measured. Noise on pictures is drawn when it is asked for.

    Raises
    ------
    LimenError
        For a layer that does not exist, pictures of another type, or an evaluator that is the network itself.
    """
    if evaluator is not None and evaluator.network.fingerprint == engine.network.fingerprint:
        raise LimenError(
            f"concept data, evaluator: given '{evaluator.network.name}', the network that is explained; allowed is another."
        )
    names = _layers(engine, train_pictures, layer, layers)
    shape = tuple(read_layers(engine, test_pictures[:1], {layer: lambda values: values})[layer].shape[1:])
    splits = [_read(engine, pictures, layer, names, maps) for pictures in (train_pictures, test_pictures)]
    train, test = (split[layer] for split in splits)
    head = _head(engine, layer, shape, test_pictures)
    affine = None if head is None else affine_head(engine, engine.inputs(test_pictures), layer)
    return ConceptData(
        train=train,
        test=test,
        train_labels=None if train_labels is None else engine.place(train_labels).bool(),
        test_labels=None if test_labels is None else engine.place(test_labels).bool(),
        label_names=tuple(label_names),
        train_maps=splits[0].get("positions"),
        test_maps=splits[1].get("positions"),
        grid=(shape[1], shape[2]) if len(shape) == 3 else None,
        head=head,
        head_weights=affine.weights if affine is not None and affine.pooled else None,
        head_bias=affine.bias if affine is not None and affine.pooled else None,
        targets=engine.targets(engine.inputs(test_pictures)),
        class_names=engine.network.classes,
        layers={name: (splits[0][name], splits[1][name]) for name in names},
        embeddings=None if evaluator is None else engine.place(penultimate(evaluator, test_pictures)),
        noisy=_Noisy(engine, layer, test_pictures),
    )


def pooled(activations: Tensor) -> Tensor:
    """Return activations (n, d), (n, T, d) or (n, C, H, W) averaged over their positions, (n, d)."""
    return by_position(activations).mean(dim=1)


def by_position(activations: Tensor) -> Tensor:
    """Return activations (n, d), (n, T, d) or (n, C, H, W) as (n, T, d): every position, in reading order."""
    rows = positions(activations)
    return rows.reshape(len(activations), -1, rows.shape[1])


def _layers(engine: Engine, pictures: np.ndarray, layer: str, wanted: Literal["auto"] | Sequence[str]) -> list[str]:
    if wanted != "auto":
        return list(wanted)
    found = blocks(engine, pictures, layer)
    chosen = np.linspace(0, len(found) - 1, min(BLOCKS, len(found))).round().astype(int)
    return [found[index] for index in chosen]


def _read(engine: Engine, pictures: np.ndarray, layer: str, names: Sequence[str], maps: bool) -> dict[str, Tensor]:
    """Return pooled activations by layer, and all positions of `layer` under 'positions'."""
    reduce: dict[str, Callable[[Tensor], Tensor]] = dict.fromkeys((*names, layer), pooled)
    if not maps:
        return read_layers(engine, pictures, reduce)
    found = read_layers(engine, pictures, {**reduce, layer: by_position})
    return {**found, "positions": found[layer], layer: found[layer].mean(dim=1)}


def _head(
    engine: Engine, layer: str, shape: tuple[int, ...], pictures: np.ndarray
) -> Callable[[Tensor], Tensor] | None:
    """Return the network after the layer as a function of positions (n, T, d), or None where there is no cut."""

    def head(activations: Tensor) -> Tensor:
        if len(shape) == 3:
            activations = activations.transpose(1, 2)
        return run(activations.reshape(len(activations), *shape))

    try:
        run = engine.head(layer)
        head(by_position(engine.tap(engine.inputs(pictures[:1]), layer)))
    except LimenError:
        return None
    return head


class _Noisy:
    """Pooled activations of pictures under Gaussian noise; the last ones asked for are remembered."""

    def __init__(self, engine: Engine, layer: str, pictures: np.ndarray) -> None:
        self._engine, self._layer, self._pictures = engine, layer, pictures
        self._known: OrderedDict[tuple[float, int], Tensor] = OrderedDict()

    def __call__(self, level: float, draw: int) -> Tensor:
        key = (float(level), int(draw))
        if key not in self._known:
            self._known[key] = self._measure(*key)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    def _measure(self, level: float, draw: int) -> Tensor:
        draws = self._engine.draws(0, "noisy pictures", draw)

        def change(inputs: Tensor) -> Tensor:
            scale = level / inputs.new_tensor(self._engine.network.std).reshape(1, -1, 1, 1)
            noise = torch.stack([stream.normal(*inputs.shape[1:]) for stream in draws.for_images(inputs)])
            return inputs + scale * noise

        return read_layers(self._engine, self._pictures, {self._layer: pooled}, change=change)[self._layer]
