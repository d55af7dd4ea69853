"""What is measured: each task is one row of a table, small enough to be run and kept on its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import _peers as peers
import numpy as np
import torch
from _networks import Subject
from _timing import Call, Clock, attempt, best_setting, interleave
from torch import Tensor, nn

from bench import api
from bench.registry import ATTRIBUTIONS, METRICS

NETWORKS = ("resnet18", "small")
MASKED = ("occlusion", "rise", "lime", "kernel_shap", "sobol", "hsic")
GRADIENTS = ("integrated_gradients", "smoothgrad", "saliency", "grad_cam")
CURVES = ("deletion", "insertion")
CAPTUM_METRICS = ("infidelity", "max_sensitivity")
SIX = ("saliency", "integrated_gradients", "smoothgrad", "grad_cam", "occlusion", "kernel_shap")
TWELVE = (*SIX, "gradient_input", "squaregrad", "vargrad", "guided_backprop", "deconvnet", "lime")
THREE = ("faithfulness_correlation", "pixel_flipping", "region_perturbation")
EIGHT = (
    *THREE, "faithfulness_estimate", "selectivity", "monotonicity", "monotonicity_correlation", "infidelity",
)  # fmt: skip
AT_ONCE = (1, 4, 8, 16, 32, 64)
"""Perturbations a pass among which a peer's best is taken."""
PATCHES = 8
"""Patches a side of the metrics on patches."""
CHANNELS = 3
"""Quantus flips single channel values, so that it takes three times the steps it is asked for; limen is given as many."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    quick: bool
    rounds: int

    def masks(self, network: str) -> int:
        return 64 if self.quick else 512 if network == "resnet18" else 1024

    def images(self, network: str) -> int:
        return 1 if self.quick else 2 if network == "resnet18" else 8

    def many_images(self, network: str) -> int:
        return 2 if self.quick else 16 if network == "resnet18" else 64

    @property
    def steps(self) -> int:
        return 4 if self.quick else 50

    @property
    def at_once(self) -> tuple[int, ...]:
        return (4, 16) if self.quick else AT_ONCE


@dataclass(frozen=True)
class Bench:
    """What a task needs: networks on demand, a clock and the scale."""

    subject: Callable[[str], Subject]
    clock: Clock
    scale: Scale
    script: Path
    device: str
    threads: int


@dataclass(frozen=True)
class Task:
    """One row: its key in the cache and how to measure it."""

    key: tuple[str, str, str]
    """Section, network, row."""
    run: Callable[[Bench], dict[str, Any]]


def tasks(rounds: int) -> Iterator[Task]:
    """List every row that can be measured."""
    for network in reversed(NETWORKS):
        for name in (*MASKED, *GRADIENTS):
            yield Task(("explain", network, name), partial(explain_row, network, name))
        for name in METRIC_ROWS:
            yield Task(("score", network, name), partial(score_row, network, name))
    yield Task(("limits", "resnet18", "convolutions"), limits_row)
    for count in (500, 750, 1500):
        yield Task(("hsic", "none", f"n={count}"), partial(hsic_row, count))
    for title, methods, metrics in (("6x3", SIX, THREE), ("12x8", TWELVE, EIGHT)):
        for turn in range(1, rounds + 1):
            row = f"{title} round {turn}"
            yield Task(("plan", "small", row), partial(plan_row, "small", methods, metrics, turn))
    for name in MEMORY:
        for masks in MEMORY[name]:
            yield Task(("memory", "small", f"{name} {masks}"), partial(memory_row, name, masks))


def options_of(name: str, network: str, scale: Scale, size: int) -> dict[str, Any]:
    """Return a method's options at this scale; the number of copies is the same for limen and its peers."""
    masks = scale.masks(network)
    patch = max(2, size // 14 + (size % 14 > 0))
    samples: dict[str, dict[str, Any]] = {
        "occlusion": {"patch": size // 8, "stride": size // 8}
        if scale.quick
        else {"patch": patch, "stride": patch // 2},
        "rise": {"masks": masks},
        "lime": {"samples": masks},
        "kernel_shap": {"samples": max(masks, 256) if scale.quick else masks},
        "sobol": {"samples": max(2, masks // 65)},
        "hsic": {"samples": masks},
        "integrated_gradients": {"steps": scale.steps},
        **{name: {"samples": scale.steps} for name in ("smoothgrad", "squaregrad", "vargrad")},
    }
    return samples.get(name, {})


def captum_samples(name: str, options: Mapping[str, Any]) -> int:
    return int(options.get("samples", options.get("steps", options.get("masks", 1))))


def explain_row(network: str, name: str, bench: Bench) -> dict[str, Any]:
    """Time one method beside its peer."""
    subject, scale = bench.subject(network), bench.scale
    options = options_of(name, network, scale, subject.size)
    one_pass = name in ("saliency", "grad_cam")
    images = scale.many_images(network) if one_pass else scale.images(network)
    found, setting = rivals(subject, bench, name, options, images)
    ours = partial(run_explain, subject, name, options)
    facts = interleave(
        subject, bench.clock, ours, found, images=images, rounds=scale.rounds, backwards=name in GRADIENTS
    )
    for label, value in setting.items():
        facts["peers"][label]["setting"] = value
    return facts | {"options": options, "cost": ATTRIBUTIONS.card(name).cost}


def run_explain(subject: Subject, name: str, options: Mapping[str, Any], images: Tensor, targets: Tensor) -> Tensor:
    return api.explain(name, subject.engine, images, targets, seed=1, **options)


def rivals(
    subject: Subject, bench: Bench, name: str, options: Mapping[str, Any], images: int
) -> tuple[dict[str, Call], dict[str, str]]:
    """Return the peers of a method at their best batch setting, and that setting in words."""
    batch = subject.batch(images, 0)
    module, samples = subject.module, captum_samples(name, options)
    plain: dict[str, int] = {key: value for key, value in options.items() if key in ("patch", "stride")}
    if name == "rise":
        best = best_setting(
            bench.clock, lambda many: partial(peers.rise(module, min(samples, 64), many), *batch), bench.scale.at_once
        )
        return {"plain torch": peers.rise(module, samples, best)}, {"plain torch": f"{best} masks a pass"}
    if name in ("sobol", "hsic"):
        return {}, {}
    if name in ("saliency", "grad_cam"):
        return {"captum": peers.by_captum(module, name, 1, 1)}, {"captum": f"{images} images a pass"}

    def make(many: int) -> Call:
        few = min(samples, 2 * many if name in GRADIENTS else 64)
        coarse = {"patch": subject.size // 4, "stride": subject.size // 8} if plain else {}
        return partial(peers.by_captum(module, name, few, many, **coarse), *batch)  # type: ignore[return-value]

    values = [value for value in bench.scale.at_once if value <= max(samples, 49)]
    if name in GRADIENTS:
        values = [value for value in values if value <= samples]
        best = per_sample_best(bench.clock, make, values)
    else:
        best = best_setting(bench.clock, make, values)
    return (
        {"captum": peers.by_captum(module, name, samples, best, **plain)},
        {"captum": f"{best} perturbations a pass"},
    )


def per_sample_best(clock: Clock, make: Callable[[int], Any], values: list[int]) -> int:
    """Return the value with the least time a sample, where each runs two passes of its own size."""
    make(values[0])()
    times = {value: min(clock.time(make(value)) for _ in range(2)) / value for value in values}
    return min(times, key=times.__getitem__)


@dataclass(frozen=True)
class MetricRow:
    """A metric of limen with as many copies as its peer in Quantus makes, where there is one."""

    options: Callable[[int, Scale], dict[str, Any]]
    quantus: str | None = None
    quantus_options: Callable[[int, Scale], dict[str, Any]] = lambda size, scale: {}


def _steps(scale: Scale) -> int:
    return 8 if scale.quick else 32


def _patch(size: int) -> int:
    return size // PATCHES


METRIC_ROWS: dict[str, MetricRow] = {
    "deletion": MetricRow(lambda size, scale: {"steps": _steps(scale)}),
    "insertion": MetricRow(lambda size, scale: {"steps": _steps(scale)}),
    "mu_fidelity": MetricRow(lambda size, scale: {"subsets": 32 if scale.quick else 200}),
    "faithfulness_correlation": MetricRow(
        lambda size, scale: {"preset": "quantus", "subsets": 20 if scale.quick else 100},
        "FaithfulnessCorrelation",
        lambda size, scale: {"nr_runs": 20 if scale.quick else 100, "subset_size": 224},
    ),
    "faithfulness_estimate": MetricRow(
        lambda size, scale: {"preset": "quantus", "group": size**2 // (CHANNELS * _steps(scale))},
        "FaithfulnessEstimate",
        lambda size, scale: {"features_in_step": size**2 // _steps(scale)},
    ),
    "pixel_flipping": MetricRow(
        lambda size, scale: {"preset": "quantus", "features_in_step": size**2 // _steps(scale)},
        "PixelFlipping",
        lambda size, scale: {"features_in_step": size**2 // _steps(scale)},
    ),
    "pixel_flipping (area)": MetricRow(
        lambda size, scale: {"preset": "quantus", "features_in_step": size**2 // _steps(scale)},
        "PixelFlipping",
        lambda size, scale: {"features_in_step": size**2 // _steps(scale), "return_auc_per_sample": True},
    ),
    "region_perturbation": MetricRow(
        lambda size, scale: {"patch": _patch(size), "steps": _steps(scale), "baseline": "min"},
        "RegionPerturbation",
        lambda size, scale: {"patch_size": _patch(size), "regions_evaluation": _steps(scale)},
    ),
    "selectivity": MetricRow(
        lambda size, scale: {"patch": _patch(size), "baseline": "min"},
        "Selectivity",
        lambda size, scale: {"patch_size": _patch(size)},
    ),
    "irof": MetricRow(lambda size, scale: {"segments": 20 if scale.quick else 100}, "IROF"),
    "monotonicity": MetricRow(
        lambda size, scale: {"preset": "quantus", "group": size**2 // (CHANNELS * _steps(scale))},
        "Monotonicity",
        lambda size, scale: {"features_in_step": size**2 // _steps(scale)},
    ),
    "monotonicity_correlation": MetricRow(
        lambda size, scale: {"side": 8, "samples": CHANNELS * (2 if scale.quick else 4)},
        "MonotonicityCorrelation",
        lambda size, scale: {"features_in_step": size**2 // 64, "nr_samples": 2 if scale.quick else 4},
    ),
    "road": MetricRow(
        lambda size, scale: {"percentages": [10, 50] if scale.quick else [10, 30, 50, 70, 90]},
        "ROAD",
        lambda size, scale: {"percentages": [10, 50] if scale.quick else [10, 30, 50, 70, 90]},
    ),
    "infidelity": MetricRow(
        lambda size, scale: {"samples": 64},
        "Infidelity",
        lambda size, scale: {"perturb_patch_sizes": [_patch(size)], "n_perturb_samples": 1},
    ),
    "max_sensitivity": MetricRow(
        lambda size, scale: {"samples": 4 if scale.quick else 10},
        "MaxSensitivity",
        lambda size, scale: {"nr_samples": 4 if scale.quick else 10, "lower_bound": 0.02},
    ),
}


def score_row(network: str, row: str, bench: Bench) -> dict[str, Any]:
    """Time one metric of given maps beside its peers; the null is not measured."""
    subject, scale = bench.subject(network), bench.scale
    name, entry = row.split(" ")[0], METRIC_ROWS[row]
    options = entry.options(subject.size, scale)
    images = scale.many_images(network) // 4 or 1
    found: dict[str, Call] = {}
    setting: dict[str, str] = {}
    for label, (peer, words) in metric_rivals(subject, bench, name, options, images).items():
        found[label], setting[label] = with_maps(peer), words
    if entry.quantus and peers.quantus():
        quantus_options = entry.quantus_options(subject.size, scale)
        call = peers.by_quantus(subject.module, entry.quantus, quantus_options, batch_size=images)
        found["Quantus"] = with_maps(call)
        setting["Quantus"] = f"{entry.quantus}, {images} images a pass"
    facts = interleave(
        subject, bench.clock, with_maps(partial(run_score, subject, name, options)), found, images=images,
        rounds=scale.rounds, backwards=name == "max_sensitivity",
    )  # fmt: skip
    for label, words in setting.items():
        facts["peers"][label]["setting"] = words
    return facts | {"options": options, "cost": METRICS.card(name).cost}


def with_maps(call: Callable[[Tensor, Tensor, Tensor], Any]) -> Call:
    """Return a call of images and classes alone, whose maps cost nothing: how far each pixel is from the mean."""
    return lambda images, targets: call(images, targets, images.abs().amax(dim=1, keepdim=True))


def run_score(
    subject: Subject, name: str, options: Mapping[str, Any], images: Tensor, targets: Tensor, maps: Tensor
) -> Any:
    again = api.explainer("saliency", subject.engine)
    return api.score(
        name, subject.engine, images, maps, targets, null=np.zeros(len(images)), explainer=again, **options
    )


def metric_rivals(
    subject: Subject, bench: Bench, name: str, options: Mapping[str, Any], images: int
) -> dict[str, tuple[Callable[..., Any], str]]:
    """Return the peers of a metric outside Quantus, at their best batch setting."""
    module = subject.module
    builds: dict[str, tuple[str, Callable[[int], Callable[..., Any]]]] = {
        "deletion": ("plain torch", lambda many: peers.removal_curve(module, options["steps"], many, insert=False)),
        "insertion": ("plain torch", lambda many: peers.removal_curve(module, options["steps"], many, insert=True)),
        "infidelity": ("captum", lambda many: peers.captum_infidelity(module, options["samples"], many)),
        "max_sensitivity": ("captum", lambda many: peers.captum_sensitivity(module, options["samples"], many)),
    }
    if name not in builds:
        return {}
    label, build = builds[name]
    batch = subject.batch(images, 0)
    values = [value for value in bench.scale.at_once if value >= (images if label == "captum" else 1)] or [images]
    best = best_setting(bench.clock, lambda many: partial(with_maps(build(many)), *batch), values)
    return {label: (build(best), f"{best} copies a pass")}


def limits_row(bench: Bench) -> dict[str, Any]:
    """Time the convolutions of ResNet-18 alone, by the side of their output, in float32 and in bfloat16.

    Their sum is what a copy costs when the processor does nothing else; a plain forward over it is the most that number
    format, layout and fusion can gain.
    """
    subject, batch = bench.subject("resnet18"), 4 if bench.scale.quick else 16
    work: dict[int, float] = {}
    layers: dict[int, nn.Conv2d] = {}

    def count(part: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(part, nn.Conv2d):
            side = output.shape[-1]
            work[side] = work.get(side, 0.0) + 2.0 * output[0].numel() * part.weight[0].numel()
            if side not in layers or part.stride == (1, 1):
                layers[side] = part

    images, _ = subject.batch(batch, 0)
    handles = [part.register_forward_hook(count) for part in subject.module.modules()]
    subject.module(images[:1])
    for handle in handles:
        handle.remove()
    seconds: dict[str, dict[str, list[float]]] = {}
    for side, layer in layers.items():
        reach = side * layer.stride[0]
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            shape = batch, layer.in_channels, reach, reach
            values = torch.randn(shape, device=images.device, dtype=dtype).to(memory_format=torch.channels_last)
            weight = layer.weight.to(dtype).to(memory_format=torch.channels_last)
            call = partial(nn.functional.conv2d, values, weight, None, layer.stride, layer.padding)
            call()
            own = 2.0 * side**2 * layer.weight.numel() * batch
            times = [bench.clock.time(call) for _ in range(10)]
            seconds.setdefault(str(side), {})[name] = [own / one for one in times]
    plain = [bench.clock.time(partial(subject.module, images)) / batch for _ in range(bench.scale.rounds)]
    about = {
        str(
            side
        ): f"{layer.in_channels} to {layer.out_channels} channels, {layer.kernel_size[0]} x {layer.kernel_size[0]}"
        for side, layer in layers.items()
    }
    return {
        "work": {str(side): value for side, value in work.items()},
        "rates": seconds,
        "plain": plain,
        "about": about,
    }


def hsic_row(count: int, bench: Bench) -> dict[str, Any]:
    """Time the estimator alone, of 64 cells, beside the estimator as it is written, in float32 and in float64."""
    from bench.attributions import hsic

    count = count // 5 if bench.scale.quick else count
    draws = torch.Generator().manual_seed(count)
    masks = torch.randint(2, (count, 64), generator=draws).float()
    scores = masks @ torch.randn(64, generator=draws) + torch.randn(count, generator=draws)
    calls: dict[str, Callable[[], Tensor]] = {
        "limen": lambda: hsic.dependence(masks, scores[None])[0],
        "literal, float32": lambda: peers.literal_hsic(masks, scores),
        "literal, float64": lambda: peers.literal_hsic(masks.double(), scores.double()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    answers = {name: call().double() for name, call in calls.items()}
    for _ in range(bench.scale.rounds):
        for name, call in calls.items():
            seconds[name].append(bench.clock.time(call))
    exact = answers["literal, float64"]
    return {
        "seconds": seconds,
        "error": {name: float((values - exact).abs().max() / exact.max()) for name, values in answers.items()},
    }


def plan_row(
    network: str, methods: tuple[str, ...], metrics: tuple[str, ...], turn: int, bench: Bench
) -> dict[str, Any]:
    """Time one round of a whole plan, ours and then the peers', on the same pictures."""
    subject, scale = bench.subject(network), bench.scale
    images = 2 if scale.quick else 8
    missing = [name for name in methods if name not in ATTRIBUTIONS.names()]
    missing += [name for name in metrics if name not in METRICS.names()]
    methods = tuple(name for name in methods if name not in missing)
    metrics = tuple(name for name in metrics if name not in missing)
    run_plan(subject, scale, methods, metrics, *subject.batch(images, 0))
    batch = subject.batch(images, turn)
    with subject.engine.meter() as cost:
        ours = bench.clock.time(lambda: run_plan(subject, scale, methods, metrics, *batch))
    theirs: dict[str, Any] = {"seconds": [], "failed cells": {}}
    if peers.quantus():
        call = partial(peer_plan, subject, scale, methods, metrics, theirs["failed cells"])
        attempt(subject, bench.clock, call, batch, theirs)
    return {
        "images": images, "methods": methods, "metrics": metrics, "missing": missing,
        "limen": {"seconds": ours, "forwards": cost.forwards, "backwards": cost.backwards}, "peers": theirs,
        "audit": dict(subject.engine.audit),
    }  # fmt: skip


def run_plan(
    subject: Subject, scale: Scale, methods: tuple[str, ...], metrics: tuple[str, ...], images: Tensor, targets: Tensor
) -> None:
    """Explain by every method and score every map by every metric, through the library's calls."""
    for name in methods:
        options = options_of(name, subject.name, scale, subject.size)
        maps = run_explain(subject, name, options, images, targets)
        for metric in metrics:
            run_score(subject, metric, METRIC_ROWS[metric].options(subject.size, scale), images, targets, maps)


def peer_plan(
    subject: Subject, scale: Scale, methods: tuple[str, ...], metrics: tuple[str, ...], failed: dict[str, str],
    images: Tensor, targets: Tensor,
) -> None:  # fmt: skip
    """Do the same with captum and Quantus, with as many perturbations and in large batches; note what fails."""
    many = {"resnet18": 16, "small": 32}[subject.name]
    for name in methods:
        options = options_of(name, subject.name, scale, subject.size)
        plain = {key: value for key, value in options.items() if key in ("patch", "stride")}
        noisy = name in ("smoothgrad", "squaregrad", "vargrad", "integrated_gradients")
        at_once = max(1, many // len(images)) if noisy or name == "occlusion" else many
        maps = peers.by_captum(subject.module, name, captum_samples(name, options), at_once, **plain)(images, targets)
        for metric in metrics:
            entry = METRIC_ROWS[metric]
            assert entry.quantus is not None
            try:
                peers.by_quantus(
                    subject.module, entry.quantus, entry.quantus_options(subject.size, scale), batch_size=len(images)
                )(images, targets, maps)
            except Exception as error:
                failed[metric] = f"{type(error).__name__}: {str(error)[:100]}"


MEMORY: dict[str, tuple[int, ...]] = {
    "rise": (500, 2000, 8000),
    "kernel_shap": (500, 2000, 8000),
    "lime": (500, 2000, 8000),
    "sobol": (8, 32, 128),
    "hsic": (500, 1000, 2000),
    "smoothgrad": (25, 50, 200),
}
OPTION = {"rise": "masks"}


def memory_row(name: str, masks: int, bench: Bench) -> dict[str, Any]:
    """Measure the peak memory of a fresh process that explains once."""
    masks = max(2, masks // 8 // 2 * 2) if bench.scale.quick and name != "kernel_shap" else masks
    command = [
        sys.executable, str(bench.script), "--probe", json.dumps([name, {OPTION.get(name, "samples"): masks}]),
        "--device", bench.device, "--threads", str(bench.threads),
    ]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return {"failed": (answer.stderr.strip().splitlines() or ["no output"])[-1][:160]}
    return json.loads(answer.stdout.strip().splitlines()[-1])


def probe(subject: Subject, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Explain four images in this process and say how much memory it took at most, and had taken before."""
    images, targets = subject.batch(4, 0)
    api.explain("rise", subject.engine, images, targets, masks=128)
    before = high_water(0)
    with subject.engine.meter() as cost:
        api.explain(name, subject.engine, images, targets, **options)
    peak = high_water(cost.peak_bytes)
    return {"peak_bytes": peak, "before": before, "forwards": cost.forwards, "options": options}


def high_water(otherwise: int) -> int:
    """Return the most resident memory of this process in bytes.

    Linux hands the peak of `getrusage` on to children, so that a small child of a large parent seems large.
    """
    status = Path("/proc/self/status")
    if not status.exists() or torch.cuda.is_available():
        return otherwise
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024
