"""Writes a first study file for a protocol, every key explained."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import yaml

from bench.registry import resolve_options, unknown

from .protocol import DESIGNS

TEMPLATE = """\
# A study file for limen. Protocol '{protocol}' ({citation}):
# {summary}
# Freeze the stimuli with `limen stimuli build`, look at them first with `limen stimuli preview`.
# Once it is frozen, a change of any key is a new version.

# Name of the study in addresses and files: a-z, 0-9 and '-'.
study: my-study
# Raise it with every change after freezing; versions are never pooled silently.
version: 1
# How the experiment runs; `limen study protocols` lists them.
protocol: {protocol}
# What participants see as the title.
title: What will the machine say?
# Decides every random choice of the stimuli.
seed: 0
# Name of the bench plan whose newest run gives images, predictions and explanations.
run: demo
# Who answers a participant's questions (an e-mail address you read).
contact: you@example.org
# One participant sees one condition: 'baseline' (no explanation), 'control' (an explanation that knows nothing of the
# model, see design.control), or the label of an explanation in the run.
conditions:
  - baseline
  - control
  - grad_cam
# Valid participants wanted in each condition.
quota: 30

# Options of the protocol, here with their defaults.
design:
{design}
# Rules that exclude a person from the analysis, fixed before the data; they never touch payment. Leave out or set to
# null what you do not want.
checks:
  # Smallest share of catch trials answered correctly.
  catch_accuracy: 0.6
  # Largest number of times the practice may be taken.
  practice_attempts: 5
  # Shortest and longest time in the study, in seconds.
  min_total_seconds: 90
  max_total_seconds: 3600
  # Smallest median answer time at test, in milliseconds.
  min_median_rt_ms: 250
  # Largest share of test answers given on one side.
  max_same_side_share: 0.95
  # Longest run of test answers on one side, and how often each side must be chosen.
  max_same_side_run: null
  min_choices_per_side: null
  # Largest share of test answers given faster than too_fast_ms.
  max_too_fast_share: null
  too_fast_ms: 200
  # Largest number of tries at the comprehension questions, and shortest time on the instructions.
  quiz_attempts: null
  min_instruction_seconds: null
  # Longest pause, in seconds; how often the page may lose the focus; whether answers by touch fail.
  max_gap_seconds: null
  max_focus_losses: null
  no_touch: null
  # The same rules with thresholds that only mark a person for a look.
  flag: {{}}

# What the screen must offer before the study starts.
display:
  # Smallest window, in CSS pixels; 0 = any.
  min_width: 0
  min_height: 0
  # Whether phones and tablets may take part.
  mobile: true
  # Ask for full screen.
  fullscreen: false
  # Measure the screen with a bank card, for pixels per centimetre.
  calibrate: false

# What happens after a reload or a pause: continue, restart_block or refuse; and for how long one may come back.
resume:
  policy: continue
  max_age_hours: 168

# Language of the pages.
language: en
# Own words for the interface: path in the word list -> text.
words: {{}}

# Where people come from and what they are told.
recruitment:
  # A recruiter: link (anyone who has the address), prolific, mturk, connect, or mock (a rehearsal of prolific).
  source: link
  # First part of the completion code: A-Z and 0-9.
  code_prefix: LIMEN
  # What a participant receives, as it stands in the consent page; '' if nothing.
  pay: ""
  # How long it takes, in minutes.
  minutes: 10
  # The same pay as a number, its currency, and the hourly pay below which the dashboard warns.
  amount: null
  currency: GBP
  min_hourly: null
  # Ids of earlier studies whose participants may not take part.
  exclude: []

# Simulated people for rehearsals and for power: logit P(correct) = logit(accuracy) + person + item. These numbers are
# assumptions of yours, not results.
bots:
  # Accuracy of each condition, one value a session.
  accuracy:
    baseline: [{accuracies}]
    control: [{accuracies}]
    grad_cam: [{accuracies}]
  # Shifts in logits by level of a within-subject factor of the design, for example basis: {{dictionary: 0.4}}.
  effects: {{}}
  # Standard deviations of people and of items, in logits.
  participant_sd: 0.6
  item_sd: 0.5
  # Share of answers given at random, and accuracy in catch trials.
  lapse: 0.02
  catch_accuracy: 0.97
  # Shares of bots that answer at random throughout, and that leave early.
  careless_share: 0.05
  dropout_share: 0.03
  # Median of the answer times in milliseconds, and the spread of their logarithm.
  rt_median_ms: 1800
  rt_log_sd: 0.5

# What the analysis is asked, for example `primary`, the contrast of the main hypothesis.
analysis: {{}}

# The protocol's own pages are shown unless you write `texts:` with the keys consent, instructions (a list of pages),
# debrief (each page has title and body) and contact. `limen stimuli preview` shows the pages.
texts: null
"""


def init_study(protocol: str) -> str:
    """Write a commented study file for a protocol; read back, it is a valid `StudyFile`.

    Raises
    ------
    UnknownName
        If there is no such protocol.
    """
    if protocol not in DESIGNS.names():
        raise unknown("protocol", protocol, DESIGNS.names())
    function = DESIGNS.load(protocol)
    card = DESIGNS.card(protocol)
    defaults = resolve_options(function, {}, f"protocol '{protocol}'")
    return TEMPLATE.format(
        protocol=protocol,
        citation=card.citation,
        summary=card.summary,
        design=_design(function, defaults),
        accuracies=", ".join(["0.6"] * int(defaults.get("sessions", 1))),
    )


def _design(function: Callable[..., Any], defaults: dict[str, Any]) -> str:
    """Render each option's description, from the function's docstring, above its default."""
    explained = _described(inspect.getdoc(function) or "")
    lines, said = [], ""
    for name, value in defaults.items():
        text = explained.get(name, "")
        if text and text != said:
            lines.append(f"  # {text}")
        said = text
        lines.append("  " + yaml.safe_dump({name: value}, default_flow_style=False, width=1000).strip())
    return "".join(f"{line}\n" for line in lines)


def _described(docstring: str) -> dict[str, str]:
    """Read the Parameters section of a numpydoc docstring: name -> description on one line."""
    _, _, section = docstring.partition("Parameters\n----------\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line.startswith("---"):
            break
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(":")[0].split(",")]
        elif line.strip():
            found |= {name: f"{found.get(name, '')} {line.strip()}".strip() for name in names}
    return found
