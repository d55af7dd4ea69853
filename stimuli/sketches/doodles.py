"""Things that everybody can name, each as a few strokes: the categories of sketches whose name is shown."""

from __future__ import annotations

import numpy as np


def line(*points: tuple[float, float]) -> np.ndarray:
    """Return straight pieces between points."""
    return np.asarray(points, dtype=float)


def loop(*points: tuple[float, float]) -> np.ndarray:
    """Return a closed line through points."""
    return np.asarray([*points, points[0]], dtype=float)


def arc(x: float, y: float, rx: float, ry: float | None = None, start: float = 0, end: float = 360) -> np.ndarray:
    """Return a piece of an ellipse; angles in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, 33))
    return np.stack([x + rx * np.cos(angle), y + (rx if ry is None else ry) * np.sin(angle)], axis=1)


def rays(x: float, y: float, inner: float, outer: float, count: int, turn: float = 0) -> list[np.ndarray]:
    """Return lines away from a point."""
    angles = np.radians(turn + np.arange(count) * 360 / count)
    return [
        line((x + inner * np.cos(a), y + inner * np.sin(a)), (x + outer * np.cos(a), y + outer * np.sin(a)))
        for a in angles
    ]


def star(points: int, outer: float, inner: float) -> np.ndarray:
    """Return a closed star around the middle of the paper."""
    angle = np.radians(-90 + np.arange(2 * points + 1) * 180 / points)
    radius = np.where(np.arange(2 * points + 1) % 2 == 0, outer, inner)
    return np.stack([0.5 + radius * np.cos(angle), 0.52 + radius * np.sin(angle)], axis=1)


STROKES: dict[str, list[np.ndarray]] = {
    "apple": [arc(0.5, 0.6, 0.3, 0.27), line((0.5, 0.35), (0.54, 0.16)),
              arc(0.62, 0.22, 0.09, 0.05)],
    "arrow": [line((0.12, 0.5), (0.86, 0.5)), line((0.62, 0.28), (0.86, 0.5), (0.62, 0.72))],
    "boat": [loop((0.15, 0.64), (0.85, 0.64), (0.7, 0.82), (0.3, 0.82)), line((0.5, 0.64), (0.5, 0.15)),
             line((0.5, 0.17), (0.78, 0.56), (0.5, 0.56))],
    "butterfly": [arc(0.3, 0.36, 0.17, 0.2), arc(0.7, 0.36, 0.17, 0.2), arc(0.34, 0.68, 0.13, 0.14),
                  arc(0.66, 0.68, 0.13, 0.14), line((0.5, 0.25), (0.5, 0.8)), line((0.5, 0.27), (0.42, 0.12)),
                  line((0.5, 0.27), (0.58, 0.12))],
    "car": [line((0.1, 0.68), (0.1, 0.5), (0.28, 0.48), (0.38, 0.3), (0.66, 0.3), (0.76, 0.48), (0.9, 0.52), (0.9, 0.68)),
            line((0.1, 0.68), (0.9, 0.68)), arc(0.28, 0.7, 0.09), arc(0.72, 0.7, 0.09)],
    "chair": [line((0.3, 0.12), (0.3, 0.88)), line((0.3, 0.52), (0.72, 0.52), (0.72, 0.88)), line((0.3, 0.22), (0.42, 0.22))],
    "clock": [arc(0.5, 0.5, 0.36), line((0.5, 0.5), (0.5, 0.24)), line((0.5, 0.5), (0.68, 0.58))],
    "cup": [line((0.24, 0.3), (0.28, 0.78), (0.62, 0.78), (0.66, 0.3)), arc(0.45, 0.3, 0.21, 0.06),
            arc(0.68, 0.5, 0.14, 0.13, -90, 100)],
    "envelope": [loop((0.12, 0.28), (0.88, 0.28), (0.88, 0.74), (0.12, 0.74)), line((0.12, 0.28), (0.5, 0.56), (0.88, 0.28))],
    "eye": [arc(0.5, 0.68, 0.44, 0.4, 205, 335), arc(0.5, 0.34, 0.44, 0.4, 25, 155), arc(0.5, 0.5, 0.13), arc(0.5, 0.5, 0.04)],
    "face": [arc(0.5, 0.5, 0.38), arc(0.36, 0.4, 0.04), arc(0.64, 0.4, 0.04), arc(0.5, 0.54, 0.2, 0.17, 20, 160)],
    "fish": [arc(0.42, 0.5, 0.3, 0.2), line((0.7, 0.5), (0.9, 0.3), (0.9, 0.7), (0.7, 0.5)), arc(0.26, 0.45, 0.025)],
    "flower": [arc(0.5, 0.32, 0.08), *(arc(0.5 + 0.16 * np.cos(a), 0.32 + 0.16 * np.sin(a), 0.08) for a in np.arange(6) * np.pi / 3),
               line((0.5, 0.5), (0.5, 0.92)), arc(0.61, 0.76, 0.11, 0.05)],
    "glasses": [arc(0.27, 0.52, 0.16), arc(0.73, 0.52, 0.16), arc(0.5, 0.5, 0.08, 0.06, 180, 360), line((0.11, 0.5), (0.05, 0.4)),
                line((0.89, 0.5), (0.95, 0.4))],
    "heart": [arc(0.33, 0.36, 0.17, 0.17, 150, 360), arc(0.67, 0.36, 0.17, 0.17, 180, 390), line((0.18, 0.44), (0.5, 0.86), (0.82, 0.44))],
    "house": [loop((0.22, 0.46), (0.78, 0.46), (0.78, 0.86), (0.22, 0.86)), line((0.14, 0.48), (0.5, 0.14), (0.86, 0.48)),
              line((0.44, 0.86), (0.44, 0.64), (0.57, 0.64), (0.57, 0.86))],
    "key": [arc(0.26, 0.5, 0.15), line((0.41, 0.5), (0.9, 0.5)), line((0.74, 0.5), (0.74, 0.64)), line((0.86, 0.5), (0.86, 0.64))],
    "ladder": [line((0.34, 0.1), (0.34, 0.9)), line((0.66, 0.1), (0.66, 0.9)),
               *(line((0.34, y), (0.66, y)) for y in (0.24, 0.4, 0.56, 0.72))],
    "lamp": [loop((0.36, 0.14), (0.64, 0.14), (0.78, 0.44), (0.22, 0.44)), line((0.5, 0.44), (0.5, 0.84)), line((0.32, 0.86), (0.68, 0.86))],
    "moon": [arc(0.5, 0.5, 0.36, 0.36, 60, 300), arc(0.66, 0.5, 0.24, 0.33, 108, 252)],
    "mushroom": [arc(0.5, 0.48, 0.36, 0.32, 180, 360), line((0.14, 0.48), (0.86, 0.48)), line((0.4, 0.48), (0.38, 0.84), (0.62, 0.84), (0.6, 0.48))],
    "snowman": [arc(0.5, 0.7, 0.22), arc(0.5, 0.36, 0.14), line((0.36, 0.2), (0.64, 0.2)), line((0.42, 0.2), (0.42, 0.07), (0.58, 0.07), (0.58, 0.2))],
    "star": [star(5, 0.4, 0.16)],
    "sun": [arc(0.5, 0.5, 0.18), *rays(0.5, 0.5, 0.25, 0.4, 8)],
    "tree": [line((0.44, 0.9), (0.45, 0.6)), line((0.57, 0.9), (0.56, 0.6)), arc(0.5, 0.36, 0.28, 0.25)],
    "umbrella": [arc(0.5, 0.46, 0.38, 0.32, 180, 360), line((0.12, 0.46), (0.88, 0.46)), line((0.5, 0.46), (0.5, 0.82)),
                 arc(0.43, 0.82, 0.07, 0.07, 0, 180)],
}  # fmt: skip
