"""Measure concepts beside overcomplete, scikit-learn, scipy and plain torch in one process, interleaved.

    python tests/performance/concepts.py --minutes 9      # again and again, until nothing is left
    python tests/performance/concepts.py --only concepts/sae --fresh
    python tests/performance/concepts.py --quick          # small sizes: does everything run?
    python tests/performance/concepts.py --device cuda

Each row is kept as JSON in `--cache`, so that a run can stop anywhere and go on later; its part of docs/performance.md
is written from all rows kept so far, and the other parts stay as they are. overcomplete goes into a folder of its own:

    pip install --no-deps --target PEERS overcomplete einops
    LIMEN_PEERS=PEERS python tests/performance/concepts.py

Without it its lines are left out. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve()
ROOT = SCRIPT.parents[2]


def arguments() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limen" / "performance"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes and one round, to see that all of it runs")
    parser.add_argument("--only", action="append", default=[], metavar="concepts[/GROUP[/ROW]]")
    parser.add_argument("--list", action="store_true", help="list the rows, and which are kept")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that are kept")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after this time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--clock", default="auto", choices=["auto", "wall", "cpu"])
    parser.add_argument("--cache", type=Path, default=cache)
    parser.add_argument("--output", type=Path, help="docs/performance.md; with --quick, a page in the cache")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(given.threads)
    sys.path[:0] = [str(SCRIPT.parent), str(ROOT)]
    import torch

    torch.set_num_threads(given.threads)
    from _concept_rows import Bench, tasks
    from _timing import Clock
    from attribution import chosen, keep, measured

    cpu_time = given.clock == "cpu" or (given.clock == "auto" and given.device == "cpu" and given.threads == 1)
    clock = Clock(torch.device(given.device), cpu_time)
    bench = Bench(clock, given.quick, 1 if given.quick else given.rounds)
    folder = given.cache / f"concepts-{'quick' if given.quick else 'full'}-{given.device}"
    start, left = time.monotonic(), 0
    wanted = [task for task in tasks() if chosen(task.key, given.only)]
    for task in wanted:
        path = folder / (" ".join(task.key).replace("/", "-") + ".json")
        kept = path.exists() and not given.fresh
        if given.list:
            print("kept   " if kept else "missing", "/".join(task.key))
        elif not kept and time.monotonic() - start > 60 * given.minutes:
            left += 1
        elif not kept:
            print(f"{time.monotonic() - start:6.0f} s  {'/'.join(task.key)}", flush=True)
            keep(path, task.key, measured(task, bench), around(given, clock.name, bench.rounds))
    if not given.list:
        page(folder, given, [task.key for task in tasks()])
        print(f"{left} of {len(wanted)} rows left" if left else "all rows are there")
    return 0


def page(folder: Path, given: argparse.Namespace, order: list[tuple[str, str, str]]) -> None:
    """Write the part of the page from every row kept for the device."""
    import _concept_report
    import _report

    stored = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not stored:
        return
    found = {tuple(row["key"]): row["facts"] for row in stored}
    newest = max((row["environment"] for row in stored), key=lambda one: one["date"])
    output = given.output or (folder / "performance.md" if given.quick else ROOT / "docs" / "performance.md")
    text = _concept_report.section(given.device, {key: found[key] for key in order if key in found}, newest)
    _report.write(output, {f"concepts {given.device}": text})
    print(output)


def around(given: argparse.Namespace, clock: str, rounds: int) -> dict[str, Any]:
    """Return what a reader must know of the machine and the versions."""
    import _concept_peers
    import scipy
    import sklearn
    from attribution import machine

    return {
        **machine(given.device, given.threads),
        "peers": f"overcomplete {_concept_peers.version()}, scikit-learn {sklearn.__version__}, "
        f"scipy {scipy.__version__}",
        "clock": clock,
        "rounds": str(rounds),
    }


if __name__ == "__main__":
    sys.exit(main())
