"""The rows of the files that stand beside the answers: events, pictures, rounds, free text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """One thing that happened beside the answers (`description-events`)."""

    row_id: str
    """Unique: participant and event."""
    participant_id: str
    """Random, drawn at entry; never derived from a recruiter's id."""
    source: str
    """live, pilot, preview or bot."""
    condition: str
    """What was shown while learning: baseline, control, or a method's label."""
    seq: int
    """Number of the event within the session, from 1."""
    kind: str
    """consent, instructions, quiz, focus, load, resume, display, debrief; trial for an answer that could not count."""
    what: str
    """What happened, in a word: blur, focus, hidden, visible, fullscreen_exit, reload."""
    trial_id: str
    """Opaque name of the trial."""
    fault: str
    """Why the event was kept but cannot count; empty if it does."""
    client_s: float
    """The browser's clock, seconds since this person's first event."""
    elapsed_s: float
    """Server receipt, seconds since the session began."""
    details: str
    """What else was measured, as JSON; never free text."""


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """One picture as it was on the screen in one answered trial (`description-pictures`)."""

    row_id: str
    """Unique: participant, event and place in the trial."""
    response_id: str
    """`row_id` of the answer it belongs to."""
    participant_id: str
    """Random, drawn at entry; never derived from a recruiter's id."""
    trial_id: str
    """Opaque name of the trial."""
    role: str
    """What the picture was in the trial: image, explanation, query-1, max-3, example-2."""
    sha256: str
    """SHA-256 of the picture in the stimulus set."""
    x: float
    """Left edge on the page, in CSS pixels."""
    y: float
    """Upper edge on the page, in CSS pixels."""
    width: float
    """Displayed width, in CSS pixels."""
    height: float
    """Displayed height, in CSS pixels."""
    device_width: float
    """Displayed width, in device pixels."""
    device_height: float
    """Displayed height, in device pixels."""


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    """One round of a reveal trial, whole enough to be played again (`description-strokes`)."""

    row_id: str
    """`row_id` of the answer it belongs to."""
    participant_id: str
    """Random, drawn at entry; never derived from a recruiter's id."""
    source: str
    """live, pilot, preview or bot."""
    condition: str
    """What was shown while learning: baseline, control, or a method's label."""
    trial_id: str
    """Opaque name of the trial."""
    item_id: str
    """Image or unit the trial is about: the random factor 'item'."""
    mode: str
    """reveal (uncover a hidden picture) or click (mark places on a visible one)."""
    word: str
    """Class name shown."""
    picture: str
    """SHA-256 of the picture."""
    width: int
    """Width of the picture, in its own pixels."""
    height: int
    """Height of the picture, in its own pixels."""
    box_px: int
    """Side of a revealed box, in image pixels."""
    step_px: int
    """Largest distance between two boxes in a row, in image pixels."""
    sample_ms: int
    """Interval between boxes."""
    limit_ms: int
    """Time the round had."""
    outcome: str
    """won, timeout, skipped or done."""
    points: float
    """Share of the time left when the round was won, times 100; 0 otherwise."""
    boxes: int
    """Number of boxes (marks)."""
    scale: float
    """CSS pixels of the canvas per image pixel."""
    played_ms: float
    """The player's clock at the end: waiting for the oracle is not on it."""
    waited_ms: float
    """Time spent waiting for the oracle."""
    oracle: str
    """Questions to the oracle as JSON: [[ms on the player's clock, boxes, rank of the true class, latency in ms], ...]."""
    strokes: str
    """JSON: [[ms on the player's clock, x, y], ...] in image pixels."""
    mask_sha256: str
    """SHA-256 of the revealed mask (`stimuli.masks`): one byte a pixel, 0 or 1, row by row."""
    excluded: bool
    """Whether this person is left out of the analysis."""


@dataclass(frozen=True, kw_only=True)
class DrawingRow:
    """One drawing, whole enough to be drawn again (`description-drawings`)."""

    row_id: str
    """`row_id` of the answer it belongs to."""
    participant_id: str
    """Random, drawn at entry; never derived from a recruiter's id."""
    source: str
    """live, pilot, preview or bot."""
    condition: str
    """What the participant was shown: a condition of the study file."""
    trial_id: str
    """Opaque name of the trial."""
    item_id: str
    """The exemplar that was shown: the random factor 'item'."""
    picture: str
    """SHA-256 of the exemplar's picture."""
    width: int
    """Width of the canvas, in its own pixels."""
    height: int
    """Height of the canvas, in its own pixels."""
    pen_px: int
    """Width of the line, in canvas pixels."""
    exemplar_ms: int
    """How long the exemplar was to be seen before the canvas opened; 0 = all the time."""
    limit_ms: int
    """Time for the drawing."""
    outcome: str
    """done, timeout or skipped."""
    points: int
    """Points of all strokes."""
    erased: int
    """Strokes that were taken back or cleared; they are not among the strokes."""
    scale: float
    """CSS pixels of the canvas per canvas pixel."""
    drawn_ms: float
    """Time from the opening of the canvas to the end."""
    strokes: str
    """JSON: [[[ms, x, y], ...], ...], a list a stroke, in canvas pixels; ms from the opening of the canvas."""
    excluded: bool
    """Whether this person is left out of the analysis."""


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """One thing that was written freely (`description-texts`): to be read by a person before it goes anywhere."""

    row_id: str
    """Unique: participant, event and field."""
    response_id: str
    """`row_id` of the answer it belongs to."""
    participant_id: str
    """Random, drawn at entry; never derived from a recruiter's id."""
    condition: str
    """What was shown while learning: baseline, control, or a method's label."""
    trial_id: str
    """Opaque name of the trial."""
    item_id: str
    """Image or unit the trial is about: the random factor 'item'."""
    field: str
    """Where it was written."""
    text: str
    """The words; what could lead back to a person is replaced by its kind in brackets."""
    removed: str
    """What was replaced, joined by ';'."""
