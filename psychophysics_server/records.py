"""The rows the server hands on: one row shape for people, bots and networks."""

from __future__ import annotations

from dataclasses import dataclass

EXPORT_SCHEMA = 1
SOURCES = ("live", "pilot", "preview", "bot")


@dataclass(frozen=True, kw_only=True)
class ResponseRow:
    """One answered trial (export file `data/study-<id>_data.csv`)."""

    row_id: str
    study: str
    study_version: int
    stimuli: str
    """Key of the frozen stimulus set."""
    source: str
    participant_id: str
    """Random, drawn at entry; never derived from a recruiter's id."""
    cell: str
    condition: str
    list: int
    seq: int
    position: int
    block: str
    session: int
    phase: str
    trial_type: str
    trial_id: str
    item_id: str
    is_catch: bool
    attempt: int
    k_seen: int
    response: str
    expected: str
    """'' where nothing was asked (training)."""
    correct: float
    """1, 0, or empty where nothing was asked; in `utility`: the answer equals the model's output."""
    model_correct: float
    """1 if the model was right about this image, 0 if wrong, empty if undefined."""
    rt_ms: float
    onset_ms: float
    frame_ms: float
    dropped_frames: int
    input: str
    focus_lost: int
    reservoir_ms: float
    window: str
    pixel_ratio: float
    elapsed_s: float
    """Server receipt, seconds since the session began."""
    excluded: bool
    exclusion_reason: str


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """One person (export file `data/study-<id>_description-sessions_data.csv`)."""

    participant_id: str
    study: str
    study_version: int
    stimuli: str
    source: str
    cell: str
    condition: str
    list: int
    state: str
    """PRE, ACTIVE, COMPLETE, WITHDRAWN (no rows kept), EXPIRED."""
    consented: bool
    finished: bool
    trials_held: int
    trials_planned: int
    resumes: int
    total_seconds: float
    practice_attempts: int
    catch_accuracy: float
    test_accuracy: float
    median_rt_ms: float
    same_side_share: float
    excluded: bool
    exclusion_reason: str
    """Names of the failed checks joined by ';', '' if none."""
