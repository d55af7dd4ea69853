"""Where the figures of a picture lie: alone, several of them, one inside or outside another, touching or not."""

from __future__ import annotations

import numpy as np

from .contours import REACH, outline, profile
from .scene import Figure, gap, inside, overlap, within
from .values import Draw, Values

MARGIN = 0.02
"""Least distance of a figure from the edge of the picture."""
HOST_SIDES = (0.40, 0.48)
"""Side of the outlined figure that another is inside of or not."""
PARTNER_SIDES = (0.20, 0.28)
"""Side of the outlined figure that another touches or not."""
CLEAR = 0.035
"""Least distance between two figures that do not touch."""
FAR = 0.14
"""Largest distance between two figures of a contact problem."""
TRIES = 60
CANDIDATES = 120
"""Places looked at for a figure inside or outside another, before another host is drawn."""
STEP = 0.02
CIRCLE = 1 / np.sqrt(np.pi)
"""Radius of a circle of unit area."""
HOST_DEPTH = 0.5
"""How much of the lobes of other contours those of a host have, so that there is room inside."""


def alone(values: Values, draw: Draw) -> tuple[Figure, ...]:
    """Lay out one filled figure."""
    return (Figure(_contour(values, values["size"], values["position"]), values["colour"]),)


def several(values: Values, shared: frozenset[str], draw: Draw) -> tuple[Figure, ...]:
    """Lay out `values['count']` figures; their area together is the same whatever their count.

    Attributes in `shared` are the picture's; each figure has its own of the others.
    """
    count, draws = values["count"], draw.draws
    while True:
        # The area of one to one and a half figures of mean size, whatever the count, in unequal parts.
        total = draws.uniform(0.06, 0.10)
        parts = np.asarray(draws.uniform(0.7, 1.3, count))
        sides = np.sqrt(total * parts / parts.sum())
        places = _places(REACH * sides, draws)
        if places is not None:
            break
    figures = []
    for side, place in zip(sides, places, strict=True):
        own = {name: values[name] if name in shared else draw.value(name) for name in _OWN}
        figures.append(Figure(_contour(own, float(side), place), own["colour"]))
    return tuple(figures)


_OWN = ("shape", "colour", "rotation", "flip")


def nested(values: Values, holds: bool, draw: Draw) -> tuple[Figure, ...]:
    """Lay out a small filled figure inside an outlined one, or outside it.

    The outlined figure has room for the small one on both sides, whichever is used, so its size and place do not tell.
    """
    while True:
        host, colour = _host(HOST_SIDES, HOST_DEPTH, draw)
        small = _contour(values, values["size"], (0.0, 0.0))
        within_host = _find(small, host, draw, True)
        beside = _find(small, host, draw, False)
        if within_host is not None and beside is not None:
            place = within_host if holds else beside
            return (Figure(host, colour, filled=False), Figure(place, values["colour"]))


def touching(values: Values, holds: bool, draw: Draw) -> tuple[Figure, ...]:
    """Lay out a small filled figure that touches an outlined one, or lies a little off it in the same direction."""
    draws = draw.draws
    while True:
        host, colour = _host(PARTNER_SIDES, 1.0, draw)
        small = _contour(values, values["size"], (0.0, 0.0))
        bend = draws.uniform(0, 2 * np.pi)
        way = np.array([np.cos(bend), np.sin(bend)])
        middle = host.mean(axis=0)
        reach = _first_free(small + middle, host, way)
        near = small + middle + reach * way
        off = near + draws.uniform(CLEAR + 0.02, FAR) * way
        apart = gap(off, host) >= CLEAR and not overlap(off, host)
        if apart and within(near, MARGIN) and within(off, MARGIN):
            return (Figure(host, colour, filled=False), Figure(near if holds else off, values["colour"]))


def _contour(values: Values, side: float, place: tuple[float, float]) -> np.ndarray:
    return outline(values["shape"], side=side, turn=values["rotation"], mirrored=values["flip"], at=place)


def _host(sides: tuple[float, float], depth: float, draw: Draw) -> tuple[np.ndarray, str]:
    while True:
        place = (float(draw.draws.uniform(0.25, 0.75)), float(draw.draws.uniform(0.25, 0.75)))
        host = outline(
            CIRCLE + depth * (profile(draw.draws, draw.lobes) - CIRCLE),
            side=float(draw.draws.uniform(*sides)),
            turn=draw.value("rotation"),
            mirrored=draw.value("flip"),
            at=place,
        )
        if within(host, MARGIN):
            return host, draw.value("colour")


def _find(small: np.ndarray, host: np.ndarray, draw: Draw, holds: bool) -> np.ndarray | None:
    """Look for a place for the small figure, given around (0, 0), inside or outside the host, clear of its outline."""
    low, high = (host.min(axis=0), host.max(axis=0)) if holds else (-small.min(axis=0), 1 - small.max(axis=0))
    places = draw.draws.uniform(low, high, (CANDIDATES, 2))
    nearest = np.sqrt(((places[:, None] - host[None]) ** 2).sum(axis=-1)).min(axis=1)
    # What the figure's smallest radius already rules out need not be tried.
    room = nearest >= CLEAR + np.hypot(*small.T).min()
    for place in places[room & (inside(places, host) == holds)][:TRIES]:
        moved = small + place
        if within(moved, MARGIN) and gap(moved, host) >= CLEAR and (holds or not overlap(moved, host)):
            return moved
    return None


def _first_free(small: np.ndarray, host: np.ndarray, way: np.ndarray) -> float:
    """Return how far along a direction the small figure first lies free of the host for good, to 0.001."""
    high = float((host @ way).max() - (small @ way).min())
    low = high - STEP
    while not overlap(small + low * way, host):
        low, high = low - STEP, low
    while high - low > 0.001:
        middle = (low + high) / 2
        low, high = (low, middle) if not overlap(small + middle * way, host) else (middle, high)
    return high


def _places(radii: np.ndarray, draws: np.random.Generator) -> list[tuple[float, float]] | None:
    """Draw centres of circles that neither overlap nor leave the picture; None if no room was found."""
    found: list[tuple[float, float]] = []
    for index, radius in enumerate(radii):
        for _ in range(TRIES):
            x, y = draws.uniform(MARGIN + radius, 1 - MARGIN - radius, 2)
            if all(np.hypot(x - a, y - b) >= radius + radii[other] + MARGIN for other, (a, b) in enumerate(found)):
                found.append((float(x), float(y)))
                break
        if len(found) <= index:
            return None
    return found
