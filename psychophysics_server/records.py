"""The rows the server hands on: one row shape for people, bots and networks."""

from __future__ import annotations

from dataclasses import dataclass

EXPORT_SCHEMA = 1
SOURCES = ("live", "pilot", "preview", "bot")


@dataclass(frozen=True, kw_only=True)
class ResponseRow:
    """One answered trial (export file `data/study-<id>_data.csv`)."""

    row_id: str
    """Unique: participant and event."""
    study: str
    """Id of the study."""
    study_version: int
    """Versions are never pooled silently."""
    stimuli: str
    """Key of the frozen stimulus set."""
    source: str
    """live, pilot, preview or bot."""
    participant_id: str
    """Random, drawn at entry; never derived from a recruiter's id."""
    cell: str
    """Place the participant was assigned to: condition and list."""
    condition: str
    """What was shown while learning: baseline, control, or a method's label."""
    list: int
    """Counterbalancing list."""
    seq: int
    """Number of the event within the session, from 1."""
    position: int
    """Order of the trial in the schedule, from 0."""
    block: str
    """Name of the block."""
    session: int
    """0 in practice, then 1, 2, 3."""
    phase: str
    """practice, train or test."""
    trial_type: str
    """Front-end plugin that showed the trial."""
    trial_id: str
    """Opaque name of the trial."""
    item_id: str
    """Image or unit the trial is about: the random factor 'item'."""
    is_catch: bool
    """Whether the trial is an attention check."""
    attempt: int
    """Which time the practice block was taken; 1 elsewhere."""
    k_seen: int
    """Training examples seen before this trial, over all sessions."""
    response: str
    """Chosen class; empty where nothing was asked."""
    expected: str
    """'' where nothing was asked (training)."""
    correct: float
    """1, 0, or empty where nothing was asked; in `utility`: the answer equals the model's output."""
    model_correct: float
    """1 if the model was right about this image, 0 if wrong, empty if undefined."""
    rt_ms: float
    """From onset to response, un-rounded; in training, viewing time."""
    onset_ms: float
    """When the picture was painted, on the page's clock."""
    frame_ms: float
    """Interval between frames during the trial."""
    dropped_frames: int
    """Frames that came late."""
    input: str
    """key, mouse, touch, pen, or empty."""
    focus_lost: int
    """How often the page lost focus or was hidden during the trial."""
    reservoir_ms: float
    """How long the examples seen so far were in view."""
    window: str
    """Inner size of the window, in CSS pixels."""
    pixel_ratio: float
    """Device pixels per CSS pixel."""
    elapsed_s: float
    """Server receipt, seconds since the session began."""
    excluded: bool
    """Whether this person is left out of the analysis."""
    exclusion_reason: str
    """Names of the failed checks, or 'unfinished', joined by ';'."""


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """One person (export file `data/study-<id>_description-sessions_data.csv`)."""

    participant_id: str
    """Random, drawn at entry; never derived from a recruiter's id."""
    study: str
    """Id of the study."""
    study_version: int
    """Versions are never pooled silently."""
    stimuli: str
    """Key of the frozen stimulus set."""
    source: str
    """live, pilot, preview or bot."""
    cell: str
    """Place the participant was assigned to: condition and list."""
    condition: str
    """What was shown while learning: baseline, control, or a method's label."""
    list: int
    """Counterbalancing list."""
    state: str
    """PRE, ACTIVE, COMPLETE, WITHDRAWN (no rows kept), EXPIRED."""
    consented: bool
    """Whether consent was given."""
    finished: bool
    """Whether the completion code was released."""
    trials_held: int
    """Different trials with an answer that counts."""
    trials_planned: int
    """Trials on the schedule."""
    resumes: int
    """How often the session was opened again."""
    total_seconds: float
    """From opening to the end: the server's clock for people, the simulated one for bots."""
    practice_attempts: int
    """Attempts until practice was passed; one more than were taken if it never was; 0 without practice."""
    catch_accuracy: float
    """Share of attention checks answered rightly."""
    test_accuracy: float
    """Share of test trials answered rightly, attention checks left out."""
    median_rt_ms: float
    """Over the test trials."""
    same_side_share: float
    """Share of the more frequent side among test answers with two options."""
    excluded: bool
    """Whether this person is left out of the analysis."""
    exclusion_reason: str
    """Names of the failed checks, or 'unfinished', joined by ';'; empty if none."""
