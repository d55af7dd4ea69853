"""The lines of reveal and draw trials: inside the picture, in the order of time, no further apart than allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trials import Draw, Reveal

MAX_MS = 1e9
"""No time within a trial is longer: eleven days."""


def strokes_fault(trial: Reveal, strokes: Any) -> str:
    """Say why strokes `[[ms, x, y], ...]` (image pixels) cannot be of this trial."""
    if not isinstance(strokes, list) or len(strokes) > trial.max_boxes:
        return f"the strokes are missing or more than {trial.max_boxes}"
    width, height = trial.size
    before: tuple[float, float, float] | None = None
    for stroke in strokes:
        if not (isinstance(stroke, list) and len(stroke) == 3 and all(type(v) in (int, float) for v in stroke)):
            return "a stroke is not [ms, x, y]"
        t, x, y = stroke
        if not (0 <= t < MAX_MS and 0 <= x < width and 0 <= y < height):
            return "a stroke lies outside the picture or before its onset"
        if before is not None and t < before[0]:
            return "the strokes are not in the order of time"
        if (
            before is not None
            and trial.mode == "reveal"
            and max(abs(x - before[1]), abs(y - before[2])) > trial.step_px + 1e-6
        ):
            return f"two boxes in a row are more than {trial.step_px} pixels apart"
        before = (t, x, y)
    return ""


def drawing_fault(trial: Draw, strokes: Any, *, empty: bool) -> str:
    """Say why strokes `[[[ms, x, y], ...], ...]` (canvas pixels) cannot be of this trial; `empty` allows none."""
    if not isinstance(strokes, list) or not all(isinstance(stroke, list) and stroke for stroke in strokes):
        return "the strokes are missing, or one of them has no point"
    if not strokes and not empty:
        return "the drawing is empty"
    if sum(map(len, strokes)) > trial.max_points:
        return f"the drawing has more than {trial.max_points} points"
    width, height = trial.size
    before = 0.0
    for point in (point for stroke in strokes for point in stroke):
        if not (isinstance(point, list) and len(point) == 3 and all(type(v) in (int, float) for v in point)):
            return "a point is not [ms, x, y]"
        t, x, y = point
        if not (0 <= t < MAX_MS and 0 <= x < width and 0 <= y < height):
            return "a point lies outside the canvas or before its opening"
        if t < before:
            return "the points are not in the order of time"
        before = t
    return ""
