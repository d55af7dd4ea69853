"""`limen stimuli`: build, preview and verify frozen stimulus sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from bench.registry import LimenError
from bench.store import Store

from . import build as builder
from .preview import write_preview
from .study import load_study

STORE = ".limen/store"


@click.group()
def stimuli() -> None:
    """Turn a bench run and a study file into a frozen stimulus set."""


@stimuli.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--store", default=STORE, show_default=True, type=click.Path(path_type=Path), help="Folder of artifacts.")
def build(study: Path, store: Path) -> None:
    """Choose, draw, balance and freeze the stimuli of STUDY.yaml."""
    artifact = builder.build(load_study(study), Store(store))
    facts = artifact.summary
    click.echo(f"{facts['study']} version {facts['version']} ({facts['protocol']}), frozen as {artifact.key}")
    click.echo(
        f"  {len(facts['conditions'])} conditions, {facts['cells']} cells of {facts['trials_per_cell']} trials, "
        f"{facts['items']} items, {facts['pictures']} pictures ({facts['picture_bytes'] / 1e6:.1f} MB)"
    )
    for kind in facts["pool"].get("kinds", []):
        click.echo(f"  {_described(kind)}")
    click.echo(f"  look at {artifact.file('contact.png')}")


def _described(kind: Mapping[str, Any]) -> str:
    """Say of one part of the pool how many there were and how many were chosen; parts differ from protocol to protocol."""
    facts = {name: value for name, value in kind.items() if name not in {"chosen", "available"}}
    named = []
    if "model_correct" in facts:
        named.append(f"model {'right' if facts.pop('model_correct') else 'wrong'}")
    if "predicted" in facts:
        named.append(f"answered {facts.pop('predicted')}")
    named += [f"{name.replace('_', ' ')} {value}" for name, value in facts.items()]
    what = " images" if "model_correct" in kind else ""
    counts = f"chose {kind['chosen']} of {kind['available']}{what}" if {"chosen", "available"} <= {*kind} else ""
    return ": ".join(part for part in (", ".join(named), counts) if part)


@stimuli.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the page and its pictures."
)
@click.option("--store", default=STORE, show_default=True, type=click.Path(path_type=Path), help="Folder of artifacts.")
def preview(study: Path, out: Path, store: Path) -> None:
    """Draw the stimuli of STUDY.yaml without freezing them, and write a page that walks through every cell."""
    plan = builder.plan(load_study(study), Store(store))
    click.echo(f"look at {write_preview(plan.study, plan.options, builder.draw(plan), out)}")


@stimuli.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--store", default=STORE, show_default=True, type=click.Path(path_type=Path), help="Folder of artifacts.")
def verify(study: Path, store: Path) -> None:
    """Check the frozen set of STUDY.yaml: hashes, references, balance, and that the file still asks for it."""
    wanted = load_study(study)
    artifact = builder.frozen(wanted, Store(store))
    if artifact is None:
        raise LimenError(
            f"store {store}: study '{wanted.study}' version {wanted.version} is not frozen; "
            f"run `limen stimuli build {study}` first."
        )
    faults = builder.verify(artifact)
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        raise LimenError(
            f"stimulus set {artifact.key}: {len(faults)} fault{'s' if len(faults) > 1 else ''}, listed above."
        )
    builder.confirm(builder.plan(wanted, Store(store)), Store(store))
    click.echo(
        f"{wanted.study} version {wanted.version}, {artifact.key}: {len(artifact.manifest['files'])} files are whole"
    )
