"""Frozen critics of drawings: features without training, recognisability by the nearest example, diversity as spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from stimuli.sketches import Sketch, ink

SIDE = 48
CELLS = 8
ORIENTATIONS = 8
MARGIN = 0.1
PEN = 0.03


def centred(strokes: Sequence[np.ndarray]) -> Sketch:
    """Move and scale strokes so that their box stands in the middle of the paper; its longer side fills it but a margin."""
    points = np.concatenate(list(strokes))
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (1 - 2 * MARGIN) / max(float((high - low).max()), 1e-6)
    return tuple((np.asarray(one) - (low + high) / 2) * scale + 0.5 for one in strokes)


def inks(sketches: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Draw sketches for the critics: centred, with one pen, float32 (n, side, side), 1 = ink."""
    drawn = [ink(centred(one), SIDE, PEN) for one in sketches]
    return np.stack(drawn) if drawn else np.zeros((0, SIDE, SIDE), np.float32)


def inks_of_pictures(pictures: np.ndarray) -> np.ndarray:
    """Do the same for pictures uint8 (n, H, W), black on white: the box of their ink is cut out and scaled.

    A picture without ink stays empty. The width of its lines is the picture's own.
    """
    found = np.zeros((len(pictures), SIDE, SIDE), np.float32)
    inner = round(SIDE * (1 - 2 * MARGIN))
    for number, picture in enumerate(np.asarray(pictures)):
        dark = 255 - picture.astype(np.uint8)
        rows, columns = np.nonzero(dark > 64)
        if not len(rows):
            continue
        box = dark[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        share = inner / max(box.shape)
        size = (max(1, round(box.shape[1] * share)), max(1, round(box.shape[0] * share)))
        small = np.asarray(Image.fromarray(box).resize(size, Image.Resampling.BOX), dtype=np.float32) / 255
        top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
        found[number, top : top + small.shape[0], left : left + small.shape[1]] = small
    return found


def contours(drawn: np.ndarray) -> np.ndarray:
    """Describe drawings by where their contours run which way: the features in which categories are told apart.

    Gradients of the blurred ink are spread over 8 orientations and 8 x 8 cells; square roots, unit length.

    Returns
    -------
    float64 array (n, 512)
    """
    soft = gaussian_filter(np.asarray(drawn, dtype=float), (0, 1, 1))
    down, right = np.gradient(soft, axis=(1, 2))
    strength = np.hypot(down, right)
    place = np.mod(np.arctan2(down, right), np.pi) / np.pi * ORIENTATIONS
    first = np.floor(place).astype(int) % ORIENTATIONS
    share = place - np.floor(place)
    maps = np.zeros((len(drawn), ORIENTATIONS, *drawn.shape[1:]))
    for number in range(ORIENTATIONS):
        maps[:, number] = strength * ((first == number) * (1 - share) + ((first + 1) % ORIENTATIONS == number) * share)
    step = SIDE // CELLS
    soft = gaussian_filter(maps, (0, 0, step / 2, step / 2))
    cells = soft[:, :, step // 2 :: step, step // 2 :: step].reshape(len(drawn), -1)
    return _unit(np.sqrt(np.maximum(cells, 0)))


def blots(drawn: np.ndarray) -> np.ndarray:
    """Describe drawings by where there is ink: the features in which their spread is measured.

    The ink is blurred (3 pixels) and read at 12 x 12 places; unit length, so that two drawings without a common place
    are the square root of 2 apart.

    Returns
    -------
    float64 array (n, 144)
    """
    soft = gaussian_filter(np.asarray(drawn, dtype=float), (0, 3, 3))
    step = SIDE // 12
    return _unit(soft[:, step // 2 :: step, step // 2 :: step].reshape(len(drawn), -1))


def _unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def recognised(features: np.ndarray, references: np.ndarray, *, ways: int, episodes: int, seed: int) -> np.ndarray:
    """Return how likely each drawing is taken for each category by the nearest of one example a category.

    In an episode each category shows one of its references; a drawing counts as category c if the example of c is nearer
    than those of `ways` - 1 others, drawn at random. The draw of the others is done in closed form: with k of C - 1 others
    as near or nearer, none of them is among the drawn with probability binom(C-1-k, ways-1) / binom(C-1, ways-1).

    Parameters
    ----------
    features : array (n, d)
    references : array (C, M, d)
        M drawings of each category, none of which was shown.
    ways
        Categories in an episode, at most C.
    episodes, seed
        Draws of one reference a category, and their seed.

    Returns
    -------
    float array (n, C)

    References
    ----------
    Snell, Swersky, Zemel: Prototypical networks for few-shot learning, arXiv:1703.05175 (one example: nearest example).
    """
    categories, examples, _ = references.shape
    others = categories - 1
    squared = (features**2).sum(1)[:, None, None] + (references**2).sum(2)[None]
    distance = squared - 2 * np.einsum("nd,cmd->ncm", features, references)
    alone = np.ones(categories)
    for k in range(categories):
        for j in range(ways - 1):
            alone[k] *= max(others - k - j, 0) / (others - j)
    draws = np.random.default_rng(seed)
    total = np.zeros((len(features), categories))
    for _ in range(episodes):
        chosen = draws.integers(examples, size=categories)
        shown = distance[:, np.arange(categories), chosen]
        nearer = (shown[:, None, :] <= shown[:, :, None]).sum(axis=2) - 1
        total += alone[nearer]
    return total / episodes


@dataclass(frozen=True)
class Spread:
    """Per category a mean or a spread over drawings, and what it is without each drawing.

    Attributes
    ----------
    values : float array (C,), NaN where there are too few drawings
    without : float array (n,)
        The value of the drawing's category when it is left out; NaN where too few are left.
    """

    values: np.ndarray
    without: np.ndarray


def means(values: np.ndarray, category: np.ndarray, count: int) -> Spread:
    """Return the mean of each category."""
    size = np.bincount(category, minlength=count).astype(float)
    total = np.bincount(category, values, minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Spread(total / size, (total[category] - values) / (size[category] - 1))


def spreads(features: np.ndarray, category: np.ndarray, count: int) -> Spread:
    """Return the diversity of each category: sqrt(sum |z_i - mean|^2 / (n - 1)) over its drawings.

    References
    ----------
    Boutin et al. 2022, arXiv:2205.10370: the standard deviation with Bessel's correction in a feature space.
    """
    size = np.bincount(category, minlength=count).astype(float)
    total = np.zeros((count, features.shape[1]))
    np.add.at(total, category, features)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = ((features - (total / size[:, None])[category]) ** 2).sum(axis=1)
        squares = np.bincount(category, off, minlength=count)
        n = size[category]
        values = np.where(size > 1, np.sqrt(squares / (size - 1)), np.nan)
        left = np.maximum(squares[category] - n / (n - 1) * off, 0)
        without = np.where(n > 2, np.sqrt(left / (n - 2)), np.nan)
    return Spread(values, without)


def pooled_spread(features: np.ndarray, category: np.ndarray, size: np.ndarray) -> float:
    """Return the mean of `spreads` over categories; `size` counts the drawings of each, two or more."""
    member = np.zeros((len(size), len(category)))
    member[category, np.arange(len(category))] = 1.0
    total = member @ features
    squares = member @ (features**2).sum(axis=1) - (total**2).sum(axis=1) / size
    return float(np.sqrt(np.maximum(squares, 0) / (size - 1)).mean())


@dataclass(frozen=True)
class Parts:
    """Variances of a mean over categories: over people, over categories, and over single drawings (part of both)."""

    people: float
    categories: float
    drawings: float
    participants: int

    @property
    def total(self) -> float:
        """Two-way variance, inclusion and exclusion; the larger of its parts where that falls below it."""
        return max(self.people + self.categories - self.drawings, self.people, self.categories)


def parts(found: Spread, category: np.ndarray, person: np.ndarray) -> Parts:
    """Take a mean over categories apart by leaving out each person, category and drawing in turn (jackknife).

    Parameters
    ----------
    person : int array (n,)
        One drawing a person and category at most.

    References
    ----------
    Cameron, Gelbach, Miller 2011, Journal of Business and Economic Statistics 29, 238-249, for the sum of the parts.
    """
    count = len(found.values)
    change = (found.without - found.values[category]) / count
    by_person = np.bincount(person, change)[np.unique(person)]
    people = len(by_person)
    size = np.bincount(category, minlength=count)[category]
    single = (
        change
        - (np.bincount(category, change, minlength=count) / np.maximum(np.bincount(category, minlength=count), 1))[
            category
        ]
    )
    return Parts(
        people=(people - 1) / people * float(((by_person - by_person.mean()) ** 2).sum()),
        categories=float(np.var(found.values, ddof=1)) / count,
        drawings=float(((size - 1) / size * single**2).sum()),
        participants=people,
    )
