"""Compare maps in bfloat16 with maps in float32: does a shorter number format change what a map says?

    python tests/performance/precision.py --minutes 9      # again and again, until nothing is left
    python tests/performance/precision.py --only precision/trained/sobol --fresh
    python tests/performance/precision.py --quick          # a few masks: does everything run?
    python tests/performance/precision.py --device cuda

No time is measured, so that other work may run beside it; a processor without bfloat16 units gives the same numbers more
slowly. ResNet-18 is trained once, in about ten minutes, and kept with the rows in `--cache`; its part of
docs/performance.md is written from all rows kept so far, and the other parts stay as they are.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve()
ROOT = SCRIPT.parents[2]
ABOUT = {
    "small": "the zoo's `resnet@scenes` at 64 px, trained, 8 images, 1,024 copies",
    "resnet18": "ResNet-18 at 224 px with random weights, 2 images, 512 copies",
    "trained": "ResNet-18 at 224 px trained on `scenes`, 2 images, 512 copies",
}
LEAST = 0.999
NOISE = "one cell hidden"
CELLS = 8


@dataclass(frozen=True)
class Task:
    """One row: its key in the cache."""

    key: tuple[str, str, str]

    def run(self, given: argparse.Namespace) -> dict[str, Any]:
        return noise(given, self.key[1]) if self.key[2] == NOISE else row(given, *self.key[1:])


def main() -> int:
    given = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(given.threads)
    sys.path[:0] = [str(SCRIPT.parent), str(ROOT)]
    import torch

    torch.set_num_threads(given.threads)
    from _sections import MASKED
    from attribution import chosen, keep, machine, measured

    folder = given.cache / f"precision-{'quick' if given.quick else 'full'}-{given.device}"
    order = [Task(("precision", network, name)) for network in ABOUT for name in (*MASKED, NOISE)]
    wanted = [task for task in order if chosen(task.key, given.only)]
    start, left = time.monotonic(), 0
    for task in wanted:
        path = folder / (" ".join(task.key) + ".json")
        if path.exists() and not given.fresh:
            continue
        if time.monotonic() - start > 60 * given.minutes:
            left += 1
            continue
        print(f"{time.monotonic() - start:6.0f} s  {'/'.join(task.key)}", flush=True)
        keep(path, task.key, measured(task, given), machine(given.device, given.threads))
    page(folder, given, [task.key for task in order])
    print(f"{left} of {len(wanted)} rows left" if left else "all rows are there")
    return 0


def arguments() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limen" / "performance"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few masks, to see that all of it runs")
    parser.add_argument("--only", action="append", default=[], metavar="precision[/NETWORK[/ROW]]")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that are kept")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after this time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--cache", type=Path, default=cache)
    parser.add_argument("--output", type=Path, help="docs/performance.md; with --quick, a page in the cache")
    return parser.parse_args()


def row(given: argparse.Namespace, network: str, name: str) -> dict[str, Any]:
    """Compare maps in bfloat16 with maps in float32 of the same draws, and those with float32 of other draws."""
    import numpy as np
    from _sections import Scale, options_of

    from bench import api

    subject, share = subject_of(network, given.device, given.cache)
    scale, size = Scale(given.quick, 1), "small" if network == "small" else "resnet18"
    options = options_of(name, size, scale, subject.size)
    images, targets = subject.batch(scale.images(size), 1)
    low, high = (subject.build(precision=precision, graphs="never") for precision in ("bf16", "fp32"))
    reference, again = (api.explain(name, high, images, targets, seed=seed, **options) for seed in (1, 2))
    found = api.explain(name, low, images, targets, seed=1, **options)
    areas = [
        api.score("deletion", high, images, maps, targets, null=np.zeros(len(images))).values
        for maps in (reference, found)
    ]
    return {
        "spearman": [rank_correlation(*pair) for pair in zip(reference, found, strict=True)],
        "other draws": [rank_correlation(*pair) for pair in zip(reference, again, strict=True)],
        "deletion difference": float(np.abs(areas[0] - areas[1]).max()),
        "options": options,
        "accuracy": share,
    }


def noise(given: argparse.Namespace, network: str) -> dict[str, Any]:
    """Compare how the predicted class's logit moves with one cell hidden, and how far bfloat16 moves those logits."""
    subject, share = subject_of(network, given.device, given.cache)
    images, targets = subject.batch(4, 0)
    side = subject.size // CELLS
    copies = images[:, None].repeat(1, 2 * CELLS, 1, 1, 1)
    for index in range(2 * CELLS):
        # Two cells of each row of the grid, spread over its columns.
        top, left = side * (index // 2), side * (3 * index % CELLS)
        copies[:, index, :, top : top + side, left : left + side] = 0
    exact, short = (
        subject.build(precision=precision, graphs="never")
        .scores(copies.flatten(0, 1))
        .unflatten(0, copies.shape[:2])
        .gather(2, targets[:, None, None].expand(-1, 2 * CELLS, 1))[..., 0]
        .double()
        for precision in ("fp32", "bf16")
    )
    return {"signal": exact.std(dim=1).tolist(), "noise": (short - exact).std(dim=1).tolist(), "accuracy": share}


@functools.cache
def subject_of(network: str, device: str, cache: Path) -> Any:
    """Return a network with its pictures, and its accuracy where it was trained for this."""
    from _networks import load, load_trained

    if network == "trained":
        return load_trained(cache, device=device, precision="fp32", graphs="never", count=32)
    return load(
        network, device=device, precision="fp32", graphs="never", count=32 if network == "resnet18" else 128
    ), None


def rank_correlation(left: Any, right: Any) -> float:
    from scipy import stats

    return float(stats.spearmanr(left.flatten().cpu().numpy(), right.flatten().cpu().numpy()).statistic)


def page(folder: Path, given: argparse.Namespace, order: list[tuple[str, str, str]]) -> None:
    """Write the part of the page from every row kept for the device."""
    import _report

    stored = {
        tuple(one["key"]): one
        for one in (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json"))
    }
    rows = {key: stored[key]["facts"] for key in order if key in stored}
    if not rows:
        return
    around = max((one["environment"] for one in stored.values()), key=lambda one: one["date"])
    output = given.output or (folder / "performance.md" if given.quick else ROOT / "docs" / "performance.md")
    _report.write(output, {f"precision {given.device}": section(given.device, rows, around)})
    print(output)


def section(device: str, rows: Mapping[tuple[str, str, str], Mapping[str, Any]], around: Mapping[str, str]) -> str:
    """Return the part of the page."""
    import _report

    goals, lines, moves = [], [], []
    for (_, network, name), facts in rows.items():
        if "failed" in facts:
            lines.append([name, network, *["-"] * 3, f"failed: {facts['failed']}"])
            continue
        if name == NOISE:
            pairs = zip(facts["signal"], facts["noise"], strict=True)
            moves.append([network, *(f"{signal:.5f}, {noise:.5f}" for signal, noise in pairs)])
            continue
        same, others = facts["spearman"], facts["other draws"]
        lines.append([
            name, network, f"{min(same):.5f}", f"{_report.median(same):.5f}", f"{_report.median(others):.3f}",
            f"{facts['deletion difference']:.1e}",
        ])  # fmt: skip
        if name in ("rise", "sobol"):
            goal = f"{name} on {network}: bf16 map like the fp32 map, Spearman >= {LEAST:g}"
            goals.append(_report.judged(goal, min(same), LEAST, "{:.5f}"))
    shares = [facts["accuracy"] for facts in rows.values() if facts.get("accuracy") is not None]
    about = [f"- {name}: {text}" for name, text in ABOUT.items() if any(key[1] == name for key in rows)]
    return "\n\n".join([
        f"## Maps in bfloat16, {_report.TITLES[device][0].lower()}{_report.TITLES[device][1:]}",
        "Written by `tests/performance/precision.py`. Rank correlation of each image's map in bfloat16 with its map in\n"
        "float32 from the same masks; beside it that of two float32 maps from different masks, which is what the number of\n"
        "masks leaves to chance, and by how much at most deletion's area differs.",
        "\n".join([*(f"- {name}: {value}" for name, value in around.items()), *about])
        + (f" (accuracy {shares[0]:.3f} on 500 pictures not seen)" if shares else ""),
        _report.table(["goal", "measured", ""], goals),
        _report.table(
            ["map", "network", "Spearman, worst image", "median", "float32, other masks", "largest difference in deletion"],
            lines,
        ),
        *([
            "Where a map's order is lost: standard deviation of the predicted class's logit over copies with one cell of\n"
            f"{CELLS} x {CELLS} hidden, and of what bfloat16 adds to those logits, image by image. The audit of `precision='auto'`\n"
            "compares scores across faded images, and so does not see an image whose own logit hardly moves.",
            _report.table(["network", *(f"image {index}: signal, noise" for index in range(1, 5))], moves),
        ] if moves else []),
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
