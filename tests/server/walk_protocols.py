"""Walk every protocol from its study file to its report: build, serve, 30 bots over HTTP, Chromium, export, check, analyse.

    python tests/server/walk_protocols.py --store STORE [--store STORE ...] -o DIR [--docs docs/protocols] [STUDY.yaml ...]

The stores are only read: their artifacts are linked into a store in `DIR`. Prints a line a study, and writes `DIR/walk.json`. With
`--docs` it also leaves what the protocols' pages need: a picture of each kind of trial, and the drawn set's rules and texts.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import yaml

from analysis.demo import free_port, serving
from bench.store import Store
from psychophysics_server.study.frozen import FrozenStudy, open_frozen
from stimuli.build import build
from stimuli.study import load_study
from stimuli.trials import Reveal

sys.path.insert(0, str(Path(__file__).parent))
import walk_effects
import walk_screens

ROOT = Path(__file__).resolve().parents[2]
MOST = 6
"""Pictures of kinds of trials that a page shows."""
PICTURE = re.compile(r"[0-9a-f]{64}")
PATIENCE_S = 600.0
"""A busy machine may take so long to start a server."""


@dataclass
class Row:
    """What became of one study; `fault` is the first thing that went wrong, with the command."""

    study: str
    protocol: str
    screens: int = 0
    events: int = 0
    complete: str = ""
    effects: str = ""
    fault: str = ""
    maps: str = ""
    all_effects: list[str] = field(default_factory=list)
    estimates: list[str] = field(default_factory=list)


def linked(stores: Sequence[Path], target: Path) -> Store:
    """Return a store of links to the artifacts of some stores, where sets can be written without touching them."""
    for store in stores:
        for artifact in store.glob("*/*/manifest.json"):
            place = target / artifact.parent.parent.name / artifact.parent.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists() and artifact.parent.parent.name != "stimuli":
                place.symlink_to(artifact.parent.resolve())
    return Store(target)


def limen(log: Path, *arguments: str) -> str:
    """Run a `limen` command; return '' or the command with the last line that it wrote."""
    command = [sys.executable, "-c", "from bench.cli import limen; limen(prog_name='limen')", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"$ limen {' '.join(arguments)}\n{done.stdout}{done.stderr}\n")
    last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
    return "" if done.returncode == 0 else f"`limen {' '.join(arguments)}`: {last[0]}"


def serve_and_take(path: Path, study: FrozenStudy, store: Store, out: Path, n: int) -> tuple[list[Any], str]:
    """Serve a study; let `n` bots take it over HTTP and one more in Chromium; return the screens, and a fault or ''."""
    name, port, log = study.file.study, free_port(), out / "walk.log"
    shared = [str(path), "--store", str(store.root), "--db", str(out / "answers.sqlite")]
    with ExitStack() as running:
        asked = oracle(running, study, store, out)
        running.enter_context(
            serving(["study", "serve", *shared, "--port", str(port), "--dev", *asked], port, out, patience_s=PATIENCE_S)
        )
        url = f"http://127.0.0.1:{port}"
        fault = limen(log, "study", "bots", *shared, "--n", str(n), "--url", url, "--threads", "4")
        try:
            screens, code = walk_screens.walk(f"{url}/study/{name}/?cell={fullest(study)}&simulate=visual")
        except SystemExit as error:
            return [], fault or f"Chromium: {error}"
        return screens, fault or ("" if code else "Chromium: no code")


def fullest(study: FrozenStudy) -> str:
    """Return the cell whose trials show most pictures: that of people who see explanations or references."""

    def shown(cell: str) -> float:
        return fmean(len(PICTURE.findall(json.dumps(trial.payload))) for trial in study.trials[cell])

    return max(reversed(study.trials), key=shown)


def oracle(running: ExitStack, study: FrozenStudy, store: Store, out: Path) -> list[str]:
    """Let the run's network look on where a round asks one; return what `limen study serve` is told of it."""
    shown = [trial.shown for trials in study.trials.values() for trial in trials]
    if not any(isinstance(one, Reveal) and one.oracle for one in shown):
        return []
    run, port = store.open("runs", study.artifact.manifest["parents"]["run"]), free_port()
    network = run.config["network"][0] if isinstance(run.config["network"], list) else run.config["network"]
    (out / "oracle").mkdir(exist_ok=True)
    running.enter_context(
        serving(["bench", "oracle", network, "--port", str(port)], port, out / "oracle", patience_s=PATIENCE_S)
    )
    return ["--oracle", f"http://127.0.0.1:{port}", "--oracle-top", "1"]


def walk(path: Path, store: Store, out: Path, n: int, docs: Path | None, *, report: bool = True) -> Row:
    """Walk one study; everything it makes is in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    frozen = build(load_study(path), store)
    study, log = open_frozen(frozen), out / "walk.log"
    row = Row(study.file.study, study.file.protocol)
    screens, row.fault = serve_and_take(path, study, store, out, n)
    row.screens = len(screens)
    shown = walk_screens.write(screens[:MOST], docs / "images" if docs else out, path.stem, apart=out)
    if docs:
        leave(docs, path, frozen, shown)
    shared = [str(path), "--store", str(store.root), "--db", str(out / "answers.sqlite")]
    row.fault = row.fault or limen(log, "study", "export", *shared, "--include", "bots", "-o", str(out / "export"))
    row.fault = row.fault or limen(log, "study", "check-export", str(out / "export"))
    count(row, out / "export", n)
    if report:
        row.fault = row.fault or limen(log, "analyze", "report", str(out / "export"), "-o", str(out / "report"))
        row.fault = row.fault or map_importance(row, out / "export", store, out)
        compare(row, study, out / "report", n)
    return row


def count(row: Row, export: Path, n: int) -> None:
    """Read from the export how many rows there are and how many people finished."""
    for path in (export / "data").glob("*_data.csv"):
        if "description" not in path.name:
            row.events = len(pd.read_csv(path, usecols=[0]))
        if "description-sessions" in path.name:
            sessions = pd.read_csv(path)
            state = next(name for name in ("state", "status", "outcome") if name in sessions)
            row.complete = f"{(sessions[state].astype(str).str.lower() == 'complete').sum()} of {n} + 1"


def compare(row: Row, study: FrozenStudy, report: Path, n: int) -> None:
    """Put the contrasts that the report gives beside what the bots were given."""
    row.estimates = [f"{one['quantity']}: {one['label']} {one['value']}" for one in walk_effects.estimates(report)][:20]
    found = walk_effects.effects(study, report, n)
    row.effects, row.all_effects = walk_effects.told(found), [str(one) for one in found]


def map_importance(row: Row, export: Path, store: Store, out: Path) -> str:
    """Make importance maps where the export has what people uncovered; return a fault or ''."""
    if not any((export / "data").glob("*_description-strokes_data.csv")):
        return ""
    fault = limen(out / "walk.log", "analyze", "maps", str(export), "-o", str(out / "maps"), "--store", str(store.root))
    for written in Store(out / "maps").all("human_maps") if not fault else ():
        row.maps = f"{written.manifest['summary']['images']} maps"
    return fault


def leave(docs: Path, path: Path, frozen: Any, shown: list[dict[str, str]]) -> None:
    """Write what the protocol's page tells of the drawn set."""
    protocol = json.loads(frozen.file("protocol.json").read_text(encoding="utf-8"))
    file = json.loads(frozen.file("study.json").read_text(encoding="utf-8"))
    said = {
        "file": yaml.safe_load(path.read_text(encoding="utf-8")),
        "version": protocol["card"]["version"],
        "options": protocol["options"],
        "cells": frozen.summary["cells"],
        "trials_per_cell": frozen.summary["trials_per_cell"],
        "rules": protocol["rules"],
        "texts": file["texts"],
        "screens": shown,
    }
    (docs / "drawn").mkdir(parents=True, exist_ok=True)
    target = docs / "drawn" / f"{path.stem}.json"
    target.write_text(json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line, walk, print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("studies", nargs="*", type=Path, help="study files; all of configs/studies if left out")
    parser.add_argument("--store", action="append", type=Path, required=True, help="folder of artifacts, only read")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for what the walk makes")
    parser.add_argument("--docs", type=Path, help="folder of the protocols' pages")
    parser.add_argument("--n", type=int, default=30, help="bots over HTTP")
    parser.add_argument("--no-report", action="store_true", help="end with the checked export")
    given = parser.parse_args()
    store = linked(given.store, given.output.resolve() / "store")
    if given.docs:
        (given.docs / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for path in given.studies or sorted((ROOT / "configs" / "studies").glob("*.yaml")):
        try:
            out = given.output.resolve() / path.stem
            row = walk(path, store, out, given.n, given.docs, report=not given.no_report)
        except Exception as error:  # the others are walked all the same
            row = Row(path.stem, "", fault=f"{type(error).__name__}: {error}")
        rows.append(row)
        print(" | ".join(str(value) for value in list(asdict(row).values())[:-2]), flush=True)
        (given.output / "walk.json").write_text(json.dumps([asdict(one) for one in rows], indent=1), encoding="utf-8")
    if any(row.fault for row in rows):
        raise SystemExit(f"{sum(bool(row.fault) for row in rows)} of {len(rows)} studies have a fault")


if __name__ == "__main__":
    main()
