"""Writes a first study file for a protocol, every key explained."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from bench.registry import resolve_options, unknown

from .protocol import DESIGNS
from .records import Checks

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
title: {title}
# Decides every random choice of the stimuli.
seed: 0
# Name of the bench plan whose newest run gives what is shown; null for protocols that need none.
run: {run}
# Who answers a participant's questions (an e-mail address you read).
contact: you@example.org
# One participant sees one condition. {conditions_rule}
conditions:
{conditions}
# Valid participants wanted in each condition.
quota: 30

# Options of the protocol, here with their defaults.
design:
{design}
# Rules that exclude a person from the analysis, fixed before the data; they never touch payment. Leave out or set to
# null what you do not want.
checks:
{checks}
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
words: {words}

# Where people come from and what they are told.
recruitment:
  # A recruiter: link (anyone who has the address), prolific, mturk, connect, or mock (a rehearsal of prolific).
  source: link
  # First part of the completion code: A-Z and 0-9.
  code_prefix: LIMEN
  # What a participant receives, as it stands in the consent page; '' if nothing.
  pay: ""
  # How long it takes, in minutes.
  minutes: {minutes}
  # The same pay as a number, its currency, and the hourly pay below which the dashboard warns.
  amount: null
  currency: GBP
  min_hourly: null
  # Ids of earlier studies whose participants may not take part.
  exclude: []
  # Whether entry links carry a signature (`limen study links`), so that an id alone opens nobody's session.
  signed: false

# Simulated people for rehearsals and for power: logit P(correct) = logit(accuracy) + person + item. These numbers are
# assumptions of yours, not results.
bots:
  # Accuracy of each condition, one value a session.
  accuracy:
{accuracy}
  # Shifts in logits by level of a within-subject factor of the design.
  effects: {effects}
  # Shifts in logits for each unit of a numeric factor, for example {{region_mass: 4.0}}: bots that read a fact of the trial.
  slopes: {slopes}
  # Share of the steps of a reveal game that go to what stands out in the picture, by condition; the rest is a random walk.
  attention: {attention}
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

# What the analysis is asked, and what `limen study freeze` pre-registers: `primary`, the contrast of the main hypothesis
# ('LEVEL - REFERENCE', or a mapping with level, reference, alpha, direction and correction); `hypotheses`, sentences beside
# the protocol's own; `stop_rule`, when recruiting ends.
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
    card: Any = DESIGNS.card(protocol)
    example = card.example
    defaults = resolve_options(function, {}, f"protocol '{protocol}'") | example.get("design", {})
    bots = example.get("bots", {})
    return TEMPLATE.format(
        protocol=protocol,
        citation=card.citation,
        summary=card.summary,
        title=example["title"],
        run=json.dumps(example.get("run")),
        conditions_rule=example.get("rule", "What they may be called is the protocol's to say."),
        conditions="".join(f"  - {name}\n" for name in example["conditions"]).rstrip(),
        design=_design(function, defaults),
        checks=_checks(example.get("checks", {})),
        minutes=json.dumps(example.get("minutes", 10)),
        accuracy="".join(f"    {name}: {json.dumps(value)}\n" for name, value in bots["accuracy"].items()).rstrip(),
        effects=json.dumps(bots.get("effects", {})),
        slopes=json.dumps(bots.get("slopes", {})),
        attention=json.dumps(bots.get("attention", {})),
        words=json.dumps(example.get("words", {})),
    )


def _checks(given: Mapping[str, Any]) -> str:
    """Render every rule with what it means, and the example's threshold or null."""
    lines = []
    for name, rule in Checks.model_fields.items():
        if rule.description:
            lines.append(f"  # {rule.description}")
        value = given.get(name, None if name != "flag" else {})
        value = rule.default if value is None and name == "too_fast_ms" else value
        lines.append(f"  {name}: {json.dumps(value)}")
    return "\n".join(lines)


def _design(function: Callable[..., Any], defaults: dict[str, Any]) -> str:
    """Render each option's description, from the function's docstring, above its default."""
    explained = described(inspect.getdoc(function) or "")
    lines, said = [], ""
    for name, value in defaults.items():
        text = explained.get(name, "")
        if text and text != said:
            lines.append(f"  # {text}")
        said = text
        nested = isinstance(value, list | tuple | dict)
        text = f"{name}: {json.dumps(value)}" if nested else yaml.safe_dump({name: value}, width=1000).strip()
        lines.append(f"  {text}")
    return "".join(f"{line}\n" for line in lines)


def described(docstring: str) -> dict[str, str]:
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
