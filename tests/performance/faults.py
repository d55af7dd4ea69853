"""Let everything go wrong for the experiment server, on SQLite and PostgreSQL, and print what became of the promise.

    python tests/performance/faults.py                  # 200 people, 100 kills a data base; some ten minutes in all
    python tests/performance/faults.py --quick          # 20 people, 5 kills
    python tests/performance/faults.py --only sqlite

Bots take a study through a proxy of ours that loses three requests in ten and, of those that arrive, two answers in ten. They
reload, close tabs with answers unsent, send twice, out of order and from two windows, and their clocks jump by up to a day. Meanwhile
the server is killed (SIGKILL) and started again with a clock that is wrong by up to a day, and half-way its disk is full. In the end
every acknowledged event is looked for in the data base, every code is compared with what is held, and `verify` counts all again.
The exit status is 1 if any promise was broken. The table goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve()
ROOT = SCRIPT.parents[2]
sys.path[:0] = [str(SCRIPT.parent), str(ROOT)]

from _load_ground import make_study  # noqa: E402
from server import target  # noqa: E402

KINDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def run(kind: str, *, bots: int, kills: int, seed: int) -> dict[str, Any]:
    """Run one ordeal; return what happened and which promises were broken how often."""
    from psychophysics_server.bots.ordeal import Plan, Process, ordeal

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study, path = make_study(folder, tests=12)
        with target(kind, folder) as database:
            process = Process(path, folder / "store", database, folder / "log.txt")
            plan = Plan(bots=bots, kills=kills, disk=kind == "SQLite", seed=seed)
            try:
                process.start()
                outcome = ordeal(study, process, plan, say=lambda text: print(f"{kind}: {text}", flush=True))
            finally:
                process.close()
    outcome.journeys = []
    return asdict(outcome)


def section(found: dict[str, dict[str, Any]]) -> str:
    """Return the part of the page."""
    names = list(found)
    head = f"| | {' | '.join(names)} |\n| --- |{' ---: |' * len(names)}"

    def lines(part: str) -> str:
        keys = dict.fromkeys(key for outcome in found.values() for key in outcome[part])
        return "\n".join(
            f"| {key} | {' | '.join(f'{outcome[part].get(key, 0):,}' for outcome in found.values())} |" for key in keys
        )

    seconds = ", ".join(f"{name} {outcome['seconds']:.0f} s" for name, outcome in found.items())
    return TEMPLATE.format(
        date=datetime.date.today().isoformat(), seconds=seconds, head=head, happened=lines("happened"), broken=lines("broken")
    )  # fmt: skip


TEMPLATE = """## The experiment server under faults

Written by `tests/performance/faults.py` on {date} ({seconds}). Bots take a study through a proxy that loses requests (0.3)
and answers to those that arrived (0.2); they reload, close tabs with answers unsent, send twice, out of order and from two windows, and
their clocks jump. The server is killed with SIGKILL and comes back with a clock that is wrong by up to a day; half-way no file of it can
grow (SQLite; the files of PostgreSQL are another program's). What happened:

{head}
{happened}

What must be nought:

{head}
{broken}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 people and 5 kills; the page is not written")
    parser.add_argument("--fresh", action="store_true", help="measure again what is kept")
    parser.add_argument("--only", choices=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "performance", help="folder of the outcomes")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance.md")
    given = parser.parse_args()
    bots, kills = (20, 5) if given.quick else (200, 100)
    kept = given.cache / ("faults-quick.json" if given.quick else "faults.json")
    found: dict[str, dict[str, Any]] = {}
    if kept.exists() and not given.fresh and not given.quick:
        found = json.loads(kept.read_text(encoding="utf-8"))
    for name, kind in KINDS.items():
        if given.only in (None, name) and kind not in found:
            found[kind] = run(kind, bots=bots, kills=kills, seed=given.seed)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    text = section(found)
    print(text)
    if not given.quick:
        from _report import write

        write(given.output, {"faults": text})
    broken = [f"{kind}: {promise}" for kind, row in found.items() for promise, count in row["broken"].items() if count]
    print("\n".join(broken) or "no promise was broken")
    return int(bool(broken))


if __name__ == "__main__":
    raise SystemExit(main())
