"""Superpixels of many pictures at once: simple linear iterative clustering (SLIC) in colour and place."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ._regions import grid

ITERATIONS = 10
_UNIT = 2.0**16
"""Features are kept as whole numbers of 1 / 65536: their sums do not depend on the order of the terms."""
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
"""Linear sRGB to CIE XYZ under D65."""
_WHITE = tuple(sum(row) for row in _TO_XYZ)


def superpixels(pictures: Tensor, segments: int, compactness: float = 10.0) -> tuple[Tensor, int]:
    """Cut pictures into about `segments` superpixels of like colour.

    K-means on colour and place from a regular grid of centres; a pixel chooses among the centres of its own cell of
    that grid and of the eight around it. Each superpixel then keeps its largest piece, and the pixels of the others go to
    the neighbour they resemble most, so that all are connected.

    Parameters
    ----------
    pictures : (N, C, H, W) in [0, 1]; three channels are sRGB and compared in CIELAB, others as they are, times 100
    segments : superpixels wanted; the grid has the nearest number that fits the sides
    compactness : weight of place against colour; larger gives squarer superpixels

    Returns
    -------
    labels (N, H, W) int64, and how many labels there are; a superpixel can end up empty

    References
    ----------
    Achanta et al. 2012, doi:10.1109/TPAMI.2012.120.
    """
    height, width = pictures.shape[-2:]
    tall = min(max(round(math.sqrt(segments * height / width)), 1), height)
    wide = min(max(round(segments / tall), 1), width)
    weight = compactness / math.sqrt(height * width / (tall * wide))
    home, count = grid(pictures, (tall, wide))
    home = home.flatten()
    features = _features(pictures, weight)
    whole = (features.double() * _UNIT).round().long()
    members, place = _members(home, count)
    blocks, around = features[:, :, members], _around(members.new_ones(count).cumsum(0) - 1, tall, wide)
    labels = home.expand(len(pictures), -1)
    centres = _centres(whole, labels, features.new_zeros(*features.shape[:2], count))
    for _ in range(ITERATIONS):
        labels = _nearest(blocks, centres, around)[:, place]
        centres = _centres(whole, labels, centres)
    return _connected(labels.reshape(-1, height, width), features, centres), count


def lab(pictures: Tensor) -> Tensor:
    """Turn sRGB (N, 3, H, W) in [0, 1] into CIELAB under D65."""
    linear = torch.where(pictures > 0.04045, ((pictures + 0.055) / 1.055).clamp(min=0) ** 2.4, pictures / 12.92)
    red, green, blue = linear.unbind(1)
    x, y, z = (
        _response((row[0] * red + row[1] * green + row[2] * blue) / white)
        for row, white in zip(_TO_XYZ, _WHITE, strict=True)
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _response(light: Tensor) -> Tensor:
    edge = 6 / 29
    return torch.where(light > edge**3, light.clamp(min=0) ** (1 / 3), light / (3 * edge**2) + 4 / 29)


def _features(pictures: Tensor, weight: float) -> Tensor:
    """Return colour and weighted place of each pixel, (N, features, H * W), on the grid of `_UNIT`."""
    number, _, height, width = pictures.shape
    colours = lab(pictures) if pictures.shape[1] == 3 else 100 * pictures
    rows = (pictures.new_ones(height).cumsum(0) - 1)[:, None].expand(height, width)
    columns = (pictures.new_ones(width).cumsum(0) - 1).expand(height, width)
    places = weight * torch.stack([rows, columns]).expand(number, -1, -1, -1)
    return (torch.cat([colours, places], dim=1).flatten(2) * _UNIT).round() / _UNIT


def _members(home: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Lay the pixels out by their cell of the grid.

    Returns
    -------
    members (count, most) int64, the pixels of each cell, its first one again where it has fewer; and (pixels,) int64, where
    each pixel stands in the flattened layout
    """
    order = home.argsort(stable=True)
    sizes = home.new_zeros(count).scatter_add(0, home, torch.ones_like(home))
    first = sizes.cumsum(0) - sizes
    most = math.ceil(len(home) / count) if home.is_meta else int(sizes.max())
    column = home.new_ones(most).cumsum(0) - 1
    members = order[first[:, None] + torch.where(column < sizes[:, None], column, 0)]
    rank = torch.empty_like(home).scatter(0, order, torch.ones_like(home).cumsum(0) - 1)
    return members, home * most + rank - first[home]


def _around(cell: Tensor, tall: int, wide: int) -> Tensor:
    """List the centres that each cell's pixels may choose (cells, 9), own first; beyond the edge the nearest cell inside."""
    row, column = cell // wide, cell % wide
    steps = sorted(((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)), key=lambda step: step != (0, 0))
    near = [(row + down).clamp(0, tall - 1) * wide + (column + right).clamp(0, wide - 1) for down, right in steps]
    return torch.stack(near, dim=1)


def _nearest(blocks: Tensor, centres: Tensor, around: Tensor) -> Tensor:
    """Return the nearest allowed centre (N, cells * members) of pixels laid out by cell; of equally near ones the first."""
    best = torch.full_like(blocks[:, 0], torch.inf)
    step, distance, chosen = torch.empty_like(best), torch.empty_like(best), torch.zeros_like(best, dtype=torch.uint8)
    for index, candidate in enumerate(around.unbind(1)):
        distance.zero_()
        for own, centre in zip(blocks.unbind(1), centres[:, :, candidate, None].unbind(1), strict=True):
            distance.addcmul_(torch.sub(own, centre, out=step), step)
        # The nearest so far came later than all before it: its index is the largest.
        torch.maximum(chosen, (distance < best).byte().mul_(index), out=chosen)
        torch.minimum(distance, best, out=best)
    return around.expand(len(blocks), -1, -1).gather(2, chosen.long()).flatten(1)


def _centres(whole: Tensor, labels: Tensor, before: Tensor) -> Tensor:
    """Return the mean features (N, features, count) of each superpixel, of features in `_UNIT`; an empty one stays."""
    sums = torch.zeros_like(before, dtype=torch.int64).scatter_add(2, labels[:, None].expand_as(whole), whole)
    size = torch.zeros_like(sums[:, 0]).scatter_add(1, labels, torch.ones_like(labels))[:, None]
    mean = (sums.double() / size / _UNIT).float()
    return torch.where(size > 0, mean, before)


def _connected(labels: Tensor, features: Tensor, centres: Tensor) -> Tensor:
    """Return labels (N, H, W) of which each forms one piece: the largest it had, with the scraps of its neighbours."""
    number, height, width = labels.shape
    piece, where = _pieces(labels).flatten(1), labels.flatten(1)
    size = torch.zeros_like(piece).scatter_add(1, piece, torch.ones_like(piece)).gather(1, piece)
    # The piece's first pixel makes the largest one unique.
    key = size * height * width - piece
    largest = key.new_full((number, centres.shape[2]), -1).scatter_reduce(1, where, key, "amax")
    given = torch.where(key == largest.gather(1, where), where, -1).reshape(labels.shape)
    points = features.unflatten(2, (height, width))
    for _ in range(height + width):
        if given.is_meta or not bool((given < 0).any()):
            break
        _join(given, points, centres)
    return given.clamp(min=0)


def _pieces(labels: Tensor) -> Tensor:
    """Number the connected pieces of equal labels (N, H, W) by their first pixel in reading order.

    A row's runs of one label are joined to those above them, each to the first run that it is known to touch, until all
    that touch agree.
    """
    if labels.is_meta:
        return labels
    _, height, width = labels.shape
    begins = torch.ones_like(labels, dtype=torch.bool)
    torch.ne(labels[..., 1:], labels[..., :-1], out=begins[..., 1:])
    run = (begins.flatten().cumsum(0) - 1).reshape(labels.shape)
    # Two runs that touch do so first where one of them begins.
    touch = (labels[:, 1:] == labels[:, :-1]) & (begins[:, 1:] | begins[:, :-1])
    above, below = run[:, :-1][touch], run[:, 1:][touch]
    first = begins.flatten().nonzero()[:, 0]
    leader = torch.ones_like(first).cumsum(0) - 1
    while not torch.equal(leader[above], leader[below]):
        high, low = torch.maximum(leader[above], leader[below]), torch.minimum(leader[above], leader[below])
        leader = leader.scatter_reduce(0, high, low, "amin")
        leader = leader[leader]
    return (first % (height * width))[leader][run]


def _join(given: Tensor, points: Tensor, centres: Tensor) -> None:
    """Give each pixel without a label that has one beside it the label there whose centre is nearest, in place."""
    picture, row, column = (given < 0).nonzero().unbind(1)
    own = points[picture, :, row, column]
    edged = functional.pad(given, (1, 1, 1, 1), value=-1)
    best, chosen = own.new_full((len(own),), torch.inf), given.new_full((len(own),), -1)
    for down, right in ((0, 1), (1, 0), (1, 2), (2, 1)):
        label = edged[picture, row + down, column + right]
        distance = (own - centres[picture, :, label.clamp(min=0)]).square().sum(dim=1)
        nearer = (label >= 0) & (distance < best)
        best, chosen = torch.where(nearer, distance, best), torch.where(nearer, label, chosen)
    given[picture, row, column] = chosen
