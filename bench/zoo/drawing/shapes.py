"""Signed distances to the outlines of plain shapes of radius about one, negative inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def box(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    """Return the distance to an upright rectangle about the origin."""
    return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)


def disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 0.88


def square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return box(u, v, 0.76, 0.76)


def triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    slanted = np.float32(np.sqrt(3) / 2) * np.abs(u) - 0.5 * v
    return np.maximum(slanted, v) - 0.56


def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(box(u, v, 1.0, 0.32), box(u, v, 0.32, 1.0))


def ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(u, v) - 0.70) - 0.25


def star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    half = np.pi / 5
    angle = np.abs(np.mod(np.arctan2(u, -v), 2 * half) - half)
    radius = np.hypot(u, v)
    tip_x, tip_y = 1.1 * np.cos(half), 1.1 * np.sin(half)
    edge_x, edge_y = tip_x - 0.5, tip_y
    length = np.hypot(edge_x, edge_y)
    across = edge_y * (radius * np.cos(angle) - 0.5) - edge_x * radius * np.sin(angle)
    return (across / length).astype(np.float32)


def crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(u, v) - 1.0, 0.80 - np.hypot(u - 0.52, v))


def heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    half, turn = np.float32(0.54), np.float32(np.sqrt(0.5))
    lift = v - 0.12
    p, q = turn * (u + lift), turn * (lift - u)
    lobes = np.minimum(np.hypot(p, q + half), np.hypot(p + half, q)) - half
    return np.minimum(box(p, q, 0.54, 0.54), lobes)


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": disc,
    "square": square,
    "triangle": triangle,
    "cross": cross,
    "ring": ring,
    "star": star,
    "crescent": crescent,
    "heart": heart,
}
