"""The rows the server hands on: one row shape for people, bots and networks."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

EXPORT_SCHEMA = 3
SOURCES = ("live", "pilot", "preview", "bot", "network")
SIMULATED = frozenset({"bot", "network"})
"""Sources that keep a clock of their own: their times are written, not waited for."""
ADDED: dict[str, Any] = {
    "payload_sha256": "",
    "pictures": "",
    "repeat_of": "",
    "option_position": -1,
    "expected_position": -1,
    "definition": "",
    "confidence": nan,
    "number": nan,
    "has_text": False,
    "timed_out": False,
    "changes": 0,
    "lockout_ms": nan,
    "deadline_ms": nan,
    "feedback": False,
    "load_failures": 0,
    "picture_px": nan,
    "zoom": nan,
    "fullscreen_exits": 0,
    "plugin": "",
    "client_s": nan,
    "details": "{}",
    "told_right": nan,
    "told_asked": nan,
}
"""Columns of responses that earlier schemas lack, with what stands for them there."""
SINCE = {"told_right": 3, "told_asked": 3}
"""Columns of `ADDED` that are younger than schema 2."""


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
    payload_sha256: str
    """SHA-256 of all the browser was sent to show this trial (JSON, sorted keys, no spaces)."""
    pictures: str
    """SHA-256 of the pictures the trial is about, joined by ';'; all that were seen: `description-pictures`."""
    repeat_of: str
    """Trial that this one shows again; '' if none."""
    is_catch: bool
    """Whether the trial is an attention check."""
    attempt: int
    """Which time the practice block was taken; 1 elsewhere."""
    k_seen: int
    """Training examples seen before this trial, over all sessions."""
    response: str
    """Chosen class; empty where nothing was asked."""
    option_position: int
    """Where the response stood among the options, from 0; -1 where there were none."""
    expected: str
    """'' where nothing was asked (training)."""
    expected_position: int
    """Where the expected answer stood among the options, from 0; -1 where there was none."""
    definition: str
    """What makes the expected answer the right one, in a word."""
    correct: float
    """1, 0, or empty where nothing was asked; in `utility`: the answer equals the model's output."""
    model_correct: float
    """1 if the model was right about this image, 0 if wrong, empty if undefined."""
    confidence: float
    """On the trial's own scale: steps from 1, or 0 to 100; empty where none was asked."""
    number: float
    """Number typed as a free answer; empty where none was asked or given."""
    has_text: bool
    """Whether something was written freely; the words are in `description-texts`, if at all."""
    timed_out: bool
    """Whether the deadline passed without an answer in time."""
    changes: int
    """How often the answer was changed before it counted."""
    rt_ms: float
    """From onset to response, un-rounded; in training, viewing time."""
    lockout_ms: float
    """No answer was taken before."""
    deadline_ms: float
    """Time allowed for the answer; empty if any."""
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
    fullscreen_exits: int
    """How often full screen was left during the trial."""
    reservoir_ms: float
    """How long the examples seen so far were in view."""
    window: str
    """Inner size of the window, in CSS pixels."""
    pixel_ratio: float
    """Device pixels per CSS pixel."""
    picture_px: float
    """Width of the (first) picture on the screen, in CSS pixels; times `pixel_ratio` in device pixels."""
    zoom: float
    """Pinch zoom at the end of the trial."""
    load_failures: int
    """How often a picture could not be loaded before it was."""
    feedback: bool
    """Whether the right answer was told after the response."""
    told_right: float
    """Right answers this person was told of on the screen of this trial; empty where no score was told."""
    told_asked: float
    """Out of how many questions, as it was told; which ones count is declared in the trial's payload (`score`)."""
    plugin: str
    """Front-end plugin and its version."""
    client_s: float
    """The browser's clock, seconds since this person's first event."""
    elapsed_s: float
    """Server receipt, seconds since the session began."""
    details: str
    """What else this trial type measured, as JSON; never free text."""
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
    """PRE, ACTIVE, COMPLETE, SCREENED_OUT, WITHDRAWN (no rows kept), EXPIRED, FAILED."""
    reason: str
    """Why the session ended as it did, in a word; never what a person wrote."""
    consent_version: str
    """Version of the consent text that was accepted."""
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
    day: int
    """Day of entry, from 0 on the day of this export's first person (UTC)."""
    schedule_seed: str
    """Seed of the assignment; the schedule can be drawn again from it."""
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
    quiz_attempts: float
    """Tries at the questions until all was right, one more than were taken if it never was; empty without questions."""
    instruction_seconds: float
    """Time on the instructions, over all readings; empty if they were never read to the end."""
    too_fast_share: float
    """Share of test choices below the study's `too_fast_ms`."""
    choices_per_side: float
    """Choices of the least chosen position at test; empty where there are no positions to choose from."""
    same_side_run: float
    """Longest run of test answers at the same position."""
    longest_gap_seconds: float
    """Longest pause between two events."""
    focus_losses: int
    """How often the page lost the focus or was hidden, over all trials."""
    touch_answers: int
    """Answers given by touch, over all trials."""
    honeypots: int
    """How often consent came with the field filled in that no person sees."""
    browser: str
    """Family of the browser, where it was told."""
    system: str
    """Family of the operating system, where it was told."""
    px_per_cm: float
    """CSS pixels per centimetre of the screen, where it was calibrated."""
    frame_ms: float
    """Median of the frame intervals over the trials."""
    fullscreen: str
    """Whether the study began in full screen: yes, no, or '' if it was not told."""
    flags: str
    """Rules that only mark a person for a look, failed ones, joined by ';'."""
    decision: str
    """What a researcher decided about the analysis, against the checks: include, exclude, or ''."""
    excluded: bool
    """Whether this person is left out of the analysis."""
    exclusion_reason: str
    """Names of the failed checks, or 'unfinished', joined by ';'; empty if none."""
