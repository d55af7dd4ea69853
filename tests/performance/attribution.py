"""Measure limen beside captum, Quantus and plain torch in one process, interleaved; write docs/performance.md.

    python tests/performance/attribution.py --minutes 9      # again and again, until nothing is left
    python tests/performance/attribution.py --only explain/resnet18 --fresh
    python tests/performance/attribution.py --quick          # a few masks: does everything run?
    python tests/performance/attribution.py --device cuda

Each row is kept as JSON in `--cache`, so that a run can stop anywhere and go on later; the page is written from all rows
kept so far for the device. captum comes with `pip install -e '.[test]'`. Quantus (LGPL, run beside and never copied)
wants packages that would change the environment, so it goes into a folder of its own, without its dependencies:

    pip install --no-deps --target PEERS quantus==0.6.0 scikit-image opencv-python-headless cachetools imageio \\
        lazy-loader tifffile networkx
    LIMEN_PEERS=PEERS python tests/performance/attribution.py

What a peer cannot run is reported as such. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve()
ROOT = SCRIPT.parents[2]


def arguments() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limen" / "performance"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few masks and one round, to see that all of it runs")
    parser.add_argument("--only", action="append", default=[], metavar="SECTION[/NETWORK[/ROW]]")
    parser.add_argument("--list", action="store_true", help="list the rows, and which are kept")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that are kept")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after this time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    parser.add_argument("--graphs", default="always", choices=["auto", "always", "never"], help="the engine's option")
    parser.add_argument("--clock", default="auto", choices=["auto", "wall", "cpu"])
    parser.add_argument("--cache", type=Path, default=cache)
    parser.add_argument("--output", type=Path, help="docs/performance.md; with --quick, a page in the cache")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    given = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(given.threads)
    sys.path[:0] = [str(SCRIPT.parent), str(ROOT)]
    import torch

    torch.set_num_threads(given.threads)
    if given.probe:
        return probe(given)
    from _sections import Bench, Scale, tasks
    from _timing import Clock

    rounds = 1 if given.quick else given.rounds
    cpu_time = given.clock == "cpu" or (given.clock == "auto" and given.device == "cpu" and given.threads == 1)
    clock = Clock(torch.device(given.device), cpu_time)
    bench = Bench(
        functools.cache(functools.partial(subject, given)), clock, Scale(given.quick, rounds), SCRIPT, given.device,
        given.threads,
    )  # fmt: skip
    folder = given.cache / f"{'quick' if given.quick else 'full'}-{given.device}"
    wanted = [task for task in tasks(rounds) if chosen(task.key, given.only)]
    start, left = time.monotonic(), 0
    for task in wanted:
        path = folder / (" ".join(task.key).replace("/", "-") + ".json")
        kept = path.exists() and not given.fresh
        if given.list:
            print("kept   " if kept else "missing", "/".join(task.key))
            continue
        if kept:
            continue
        if time.monotonic() - start > 60 * given.minutes:
            left += 1
            continue
        print(f"{time.monotonic() - start:6.0f} s  {'/'.join(task.key)}", flush=True)
        keep(path, task.key, measured(task, bench), environment(given, clock.name))
    if not given.list:
        page(folder, given, tasks(rounds))
        print(f"{left} of {len(wanted)} rows left" if left else "all rows are there")
    return 0


def subject(given: argparse.Namespace, name: str) -> Any:
    from _networks import load

    count = {"small": 128, "resnet18": 32}[name]
    return load(name, device=given.device, precision=given.precision, graphs=given.graphs, count=count)


def chosen(key: tuple[str, str, str], only: list[str]) -> bool:
    return not only or any(key[: len(one.split("/"))] == tuple(one.split("/")) for one in only)


def measured(task: Any, bench: Any) -> dict[str, Any]:
    """Measure a row; a row that fails says why, and the others go on."""
    try:
        return task.run(bench)
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {str(error)[:160]}"}


def keep(path: Path, key: tuple[str, str, str], facts: dict[str, Any], around: dict[str, str]) -> None:
    """Write a row so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"key": key, "facts": facts, "environment": around}, indent=1), encoding="utf-8")
    draft.replace(path)


def page(folder: Path, given: argparse.Namespace, order: Any) -> None:
    """Write the page from every row kept for the device."""
    import _report

    stored = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not stored:
        return
    found = {tuple(row["key"]): row["facts"] for row in stored}
    keys = [task.key for task in order]
    rows = {key: found[key] for key in [*keys, *sorted(set(found) - set(keys))] if key in found}
    newest = max((row["environment"] for row in stored), key=lambda one: one["date"])
    mixed = {
        name for name in newest for row in stored if name != "date" and row["environment"].get(name) != newest[name]
    }
    around = {name: value + (" (some rows: another)" if name in mixed else "") for name, value in newest.items()}
    output = given.output or (folder / "performance.md" if given.quick else ROOT / "docs" / "performance.md")
    _report.write(output, {given.device: _report.section(given.device, rows, around)})
    print(output)


def environment(given: argparse.Namespace, clock: str) -> dict[str, str]:
    from _peers import versions

    return {
        **machine(given.device, given.threads),
        "peers": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "clock": clock,
        "rounds": str(1 if given.quick else given.rounds),
        "engine": f"precision {given.precision}, graphs {given.graphs}",
    }


def machine(device: str, threads: int) -> dict[str, str]:
    """Return the date, the processor or card, and torch's version and threads."""
    import torch

    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = dict(reversed([line.split(":", 1) for line in lines if ":" in line]))
        names = {name.strip(): value.strip() for name, value in facts.items()}
        units = [
            unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in names.get("flags", "").split()
        ]
        processor = f"{names.get('model name', processor)} ({', '.join(units) or 'no vector units named'})"
    return {
        "date": datetime.date.today().isoformat(),
        "machine": torch.cuda.get_device_name() if device == "cuda" else processor,
        "torch": f"{torch.__version__}, {threads} thread{'s' * (threads > 1)}",
    }


def probe(given: argparse.Namespace) -> int:
    """Explain once in this fresh process and print its peak memory as JSON."""
    from _sections import probe as explain_once

    name, options = json.loads(given.probe)
    given.graphs = "never"
    print(json.dumps(explain_once(subject(given, "small"), name, options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
