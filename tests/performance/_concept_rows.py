"""What is measured about concepts: each task is one row, small enough to be run and kept on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import _concept_peers as peers
import numpy as np
import torch
from _timing import Clock
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF
from torch import Tensor, nn

from bench import api
from bench.dictionaries._sparse import Autoencoder, Free, unit
from bench.dictionaries.topk import TopK
from bench.engine import Activations, Draws, Engine, Network
from bench.engine.sparse_fit import Schedule, fit_sparse
from bench.importance import importance
from bench.metrics.monosemanticity.monosemanticity import monosemanticity
from bench.metrics.stability._matching import match
from bench.metrics.stability.dictionary_stability import dictionary_stability
from bench.spaces import ConceptData, Dictionary
from bench.spaces.nnls import nnls

Call = Callable[[], float]


@dataclass(frozen=True)
class Bench:
    """Clock, device and scale of a run."""

    clock: Clock
    quick: bool
    rounds: int

    @property
    def device(self) -> torch.device:
        return self.clock.device

    def put(self, values: Tensor) -> Tensor:
        return values.to(self.device)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Task:
    """One row: its key in the cache and how to measure it."""

    key: tuple[str, str, str]
    run: Callable[[Bench], dict[str, Any]]


def tasks() -> Iterator[Task]:
    """List every row that can be measured."""
    yield Task(("concepts", "sae", "steps"), sae_steps)
    yield Task(("concepts", "sae", "curves"), sae_curves)
    yield Task(("concepts", "nmf", "iterations"), nmf_iterations)
    yield Task(("concepts", "nmf", "whole fits"), nmf_fits)
    yield Task(("concepts", "nnls", "gradient"), nnls_gradient)
    for kind in ("strangers", "noisy copies", "around one direction"):
        yield Task(("concepts", "stability", kind), partial(stability, kind))
    yield Task(("concepts", "importance", "closed form"), closed_form)
    yield Task(("concepts", "monosemanticity", "closed form"), likeness)


def interleaved(bench: Bench, calls: Mapping[str, Call]) -> dict[str, list[float]]:
    """Run every candidate in turn, `rounds` times; a call returns its seconds (an item's, where it does many)."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(bench.rounds):
        for name, call in calls.items():
            found[name].append(call())
    return found


def planted(bench: Bench, rows: int, d: int, seed: int = 0) -> Tensor:
    """Return sparse sums of planted unit atoms with a little noise; every feature has a variance near 1."""
    draws, atoms, active = Draws(seed, "planted"), 4 * d, 16
    directions = unit(draws.normal(atoms, d))
    places = draws.integers(atoms, rows, active)
    values = draws.uniform(rows, active) + 0.5
    made = nn.functional.embedding_bag(places, directions, per_sample_weights=values, mode="sum")
    made = made + 0.05 * draws.normal(rows, d) * made.std()
    return bench.put((made - made.mean(dim=0)) / made.std())


def sae_steps(bench: Bench) -> dict[str, Any]:
    """Time one training step of each candidate, alone and with an auxiliary loss that has latents to revive."""
    d, k, batch, active = bench.size(768, 64), bench.size(6144, 256), bench.size(1024, 64), 32
    rows = planted(bench, 8 * batch, d)
    stream = Activations.of(rows)
    stream.moments()
    batches = list(rows.split(batch))
    schedule = Schedule(steps=1000, batch=batch, rate=3e-4)
    plain = peers.Plain(bench.put(unit(Draws(0).normal(k, d))), active, schedule.rate_at)
    product = bench.put(torch.randn(d, k)).bfloat16()
    calls: dict[str, Call] = {
        "limen": lambda: our_steps(bench, stream, k, active, batch, revive=0.0),
        "limen with auxiliary loss": lambda: our_steps(bench, stream, k, active, batch, revive=1 / 32),
        "plain torch": lambda: steps(bench.clock, plain.bare, batches[:3]),
        "one product (batch, d) (d, k) in bfloat16": lambda: steps(
            bench.clock, lambda part: part.bfloat16() @ product, batches[:3]
        ),
    }
    if peers.overcomplete("sae.topk_sae") is not None:
        peer = peers.Peer(d, k, active, 3e-4)
        peer.model.to(bench.device)
        calls["overcomplete, bare step"] = lambda: steps(bench.clock, peer.bare, batches[:3])
        calls["overcomplete, its loop with auxiliary loss"] = lambda: (
            bench.clock.time(lambda: peer.loop(batches[:2])) / 2
        )
    for name in calls:
        if not name.startswith("limen"):
            calls[name]()
    seconds = interleaved(bench, calls)
    audit = api.fit_dictionary("topk", stream, k, active=active, steps=1, batch_size=batch, standardise="none")
    used = audit.provenance["precision"]["used"]
    return {"sizes": f"d {d}, k {k}, batch {batch}, {active} active; limen in {used}", "seconds": seconds}


def steps(clock: Clock, step: Callable[[Tensor], Any], batches: list[Tensor]) -> float:
    return clock.time(lambda: [step(part) for part in batches]) / len(batches)


def our_steps(bench: Bench, stream: Activations, k: int, active: int, batch: int, *, revive: float) -> float:
    """Return the seconds of a step in the middle of a fit.

    The fit looks for dead latents every 32 steps; with a patience of one row all that are silent in one batch count as
    dead from then on, so that the auxiliary loss runs in every step that is timed.
    """
    warm, timed = (34, 8) if revive else (6, 8)
    marks: dict[int, float] = {}

    def mark(step: int, _: int) -> None:
        if step in (warm, warm + timed):
            marks[step] = bench.clock.now()

    api.fit_dictionary(
        "topk", stream, k, active=active, steps=warm + timed + 1, batch_size=batch, revive=revive,
        dead_after=1 if revive else None, standardise="none", progress=mark,
    )  # fmt: skip
    return (marks[warm + timed] - marks[warm]) / timed


def sae_curves(bench: Bench) -> dict[str, Any]:
    """Train from one start on the same batches: losses of limen in both precisions beside the plain loop's."""
    d, k, batch, active = bench.size(768, 64), bench.size(6144, 256), bench.size(1024, 64), 32
    count = bench.size(120, 8)
    rows, held = planted(bench, 20 * batch, d).split(16 * batch)
    start = bench.put(unit(Draws(1).normal(k, d)))
    zero, one = rows.new_zeros(d), rows.new_ones(d)
    curves, carried = {}, {}
    for name, precision, seed in (("float32", "fp32", 0), ("bfloat16", "bf16", 0), ("other batches", "fp32", 1)):
        schedule = Schedule(steps=count, batch=batch, rate=3e-4, precision=precision)  # type: ignore[arg-type]
        model = Autoencoder(start, Free(start), TopK(active), zero, one)
        fitted = fit_sparse(model, Activations.of(rows), schedule, draws=Draws(seed), where="benchmark")
        curves[name] = fitted.losses.tolist()
    plain = peers.Plain(start, active, schedule.rate_at)
    batches = Activations.of(rows).batches(batch, draws=Draws(0).spawn("batches"))
    curves["plain torch"] = [float(plain.bare(next(batches))) for _ in range(count)]
    carried["plain torch"] = plain.r2(held)
    if peers.overcomplete("sae.topk_sae") is not None:
        peer = peers.Peer(d, k, active, 3e-4)
        peer.model.to(bench.device)
        batches = Activations.of(rows).batches(batch, draws=Draws(0).spawn("batches"))
        curves["overcomplete"] = [float(peer.bare(next(batches))) for _ in range(count)]
        carried["overcomplete"] = peer.r2(held)
    fitted_again = api.fit_dictionary("topk", rows, k, active=active, steps=count, batch_size=batch, revive=0.0)
    carried["limen's defaults"] = peers.r2(held, fitted_again.decode(fitted_again.encode(held)))
    return {"steps": count, "curves": curves, "held-out R2": carried}


def parts(bench: Bench) -> tuple[Tensor, int, int]:
    """Return non-negative rows (n, d) of planted parts, k, and how many alternations are timed."""
    n, d, k = bench.size(20_000, 400), bench.size(512, 32), bench.size(25, 5)
    draws = Draws(0, "parts")
    made = draws.normal(n, k).relu() @ draws.normal(k, d).relu()
    return bench.put(made + 0.1 * draws.normal(n, d).abs()), k, bench.size(20, 2)


def nmf_iterations(bench: Bench) -> dict[str, Any]:
    """Time one alternation: the difference of two fits, beside the two products that it cannot do without."""
    rows, k, count = parts(bench)
    atoms, codes = rows[:k].clone(), bench.put(torch.rand(len(rows), k))

    def products() -> None:
        for _ in range(count):
            _ = rows @ atoms.T
            _ = codes.T @ rows

    def ours(number: int) -> None:
        taken = api.fit_dictionary("nmf", rows, k, iterations=number, tolerance=0.0).provenance["iterations_taken"]
        if taken != number:
            raise RuntimeError(f"{taken} alternations were taken, {number} were asked for")

    def descent(number: int) -> None:
        NMF(k, init="random", solver="cd", tol=0, max_iter=number, random_state=0).fit_transform(host)

    host = rows.cpu().numpy()
    few = bench.size(10, 2)
    calls: dict[str, Call] = {
        "limen": lambda: between(bench.clock, ours, few, few + count),
        "two products": lambda: bench.clock.time(products) / count,
        "scikit-learn, coordinate descent": lambda: between(bench.clock, quietly(descent), few, few + count),
    }
    seconds = interleaved(bench, calls)
    return {"sizes": f"{len(rows)} x {rows.shape[1]}, k {k}", "seconds": seconds}


def between(clock: Clock, run: Callable[[int], None], few: int, many: int) -> float:
    """Return the seconds of one iteration: what more of them cost, so that start and end do not count."""
    least = clock.time(lambda: run(few))
    return (clock.time(lambda: run(many)) - least) / (many - few)


def quietly(run: Callable[[int], None]) -> Callable[[int], None]:
    """Silence the warning that so few iterations do not converge."""
    import warnings

    def silent(number: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(number)

    return silent


def nmf_fits(bench: Bench) -> dict[str, Any]:
    """Time whole fits at each library's own settings, with the error each reaches.

    Both hold codes of the rows when they end; limen's exact codes, which new rows get, are a line of their own.
    """
    rows, k, _ = parts(bench)
    host, errors = rows.cpu().numpy(), dict[str, list[float]]()
    whole = float(rows.norm())

    def ours(seed: int) -> None:
        api.fit_dictionary("nmf", rows, k, seed=seed)

    def coded(seed: int) -> None:
        fitted = api.fit_dictionary("nmf", rows, k, seed=seed)
        made = fitted.decode(fitted.encode(rows))
        errors.setdefault("limen", []).append(float((rows - made).norm()) / whole)

    def peer(seed: int) -> None:
        model = NMF(k, init="random", solver="cd", max_iter=1000, random_state=seed)
        made = model.fit_transform(host) @ model.components_
        name = "scikit-learn, coordinate descent"
        errors.setdefault(name, []).append(float(np.linalg.norm(host - made)) / whole)

    turn = iter(range(10**6))
    calls: dict[str, Call] = {
        "limen": lambda: bench.clock.time(lambda: ours(next(turn))),
        "limen, and exact codes of all rows": lambda: bench.clock.time(lambda: coded(next(turn))),
        "scikit-learn, coordinate descent": lambda: bench.clock.time(lambda: quietly(peer)(next(turn))),
    }
    return {"sizes": f"{len(rows)} x {rows.shape[1]}, k {k}", "seconds": interleaved(bench, calls), "error": errors}


def nnls_gradient(bench: Bench) -> dict[str, Any]:
    """Time codes and their gradient by implicit differentiation beside unrolled FISTA, and compare the gradients."""
    n, d, k = bench.size(1000, 40), bench.size(512, 32), bench.size(25, 5)
    draws = Draws(0, "nnls")
    rows, atoms = bench.put(draws.normal(n, d).relu()), bench.put(unit(draws.normal(k, d).relu()))
    weights = bench.put(draws.normal(n, k))

    def slope(solve: Callable[[Tensor, Tensor], Tensor], exact: bool = False) -> Tensor:
        leaf = (rows.double() if exact else rows).clone().requires_grad_()
        held = atoms.double() if exact else atoms
        (found,) = torch.autograd.grad((solve(leaf, held) * weights).sum(), leaf)
        return found

    with torch.no_grad():
        nnls(rows, atoms)
    calls: dict[str, Call] = {
        "limen, codes": lambda: bench.clock.time(lambda: nnls(rows, atoms)),
        "limen, codes and gradient": lambda: bench.clock.time(lambda: slope(nnls)),
    }
    for count in (200, 1000):
        calls[f"FISTA-{count} unrolled, codes and gradient"] = lambda count=count: bench.clock.time(  # type: ignore[misc]
            lambda: slope(lambda one, two: peers.unrolled(one, two, count))
        )
    best = slope(nnls, exact=True)
    error = {
        f"FISTA-{count} unrolled": float(
            (slope(lambda one, two: peers.unrolled(one, two, count), exact=True) - best).norm() / best.norm()  # noqa: B023
        )
        for count in (200, 1000)
    }
    return {"sizes": f"{n} rows, d {d}, k {k}", "seconds": interleaved(bench, calls), "gradient difference": error}


def atoms_of(kind: str, k: int, d: int, seed: int) -> Tensor:
    own, shared = Draws(seed, "atoms").normal(k, d), Draws(0, "shared").normal(k, d)
    made = {"strangers": own, "noisy copies": shared + 0.5 * own, "around one direction": own + 2 * shared[:1]}
    return unit(made[kind])


def stability(kind: str, bench: Bench) -> dict[str, Any]:
    """Time the whole metric on two dictionaries of 8,000 atoms, null included, beside one dense assignment."""
    k, d = bench.size(8000, 1100), bench.size(768, 32)
    pair = [
        Dictionary(
            name=kind, atoms=atoms, mean=atoms.new_zeros(d), encoder="linear", signed=False,
            parameters={"filters": atoms},
        )
        for atoms in (bench.put(atoms_of(kind, k, d, seed)) for seed in (1, 2))
    ]  # fmt: skip
    rows = bench.put(Draws(0).normal(500, d))
    data, found = ConceptData(rows, rows), {}

    def ours() -> None:
        found["limen"] = dictionary_stability(pair, data, draws=Draws.beside(rows, 0))

    def dense() -> None:
        gains = (pair[0].atoms @ pair[1].atoms.T).cpu().numpy()
        found["dense"] = gains[linear_sum_assignment(gains, maximize=True)].mean()

    calls: dict[str, Call] = {
        "limen, value, null and controls": lambda: bench.clock.time(ours),
        "limen, value alone": lambda: bench.clock.time(lambda: match(pair[0].atoms, pair[1].atoms, signed=False)),
        "scipy, value alone": lambda: bench.clock.time(dense),
    }
    seconds = interleaved(Bench(bench.clock, bench.quick, 1), calls)
    measured = found["limen"]
    facts = {"limen": float(measured.values[0]), "scipy": float(found["dense"]), "null": float(measured.null[0])}
    return {"sizes": f"k {k}, d {d}", "seconds": seconds, "value": facts, "gap": float(measured.extra["gap"][0])}


class Head(nn.Module):
    """A network that is a layer of maps, averaged, and a linear head."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, d, 8, 8), nn.ReLU())
        self.fc = nn.Linear(d, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).mean(dim=(2, 3)))


def closed_form(bench: Bench) -> dict[str, Any]:
    """Time the importance of 25 concepts at an affine head: read off, and by Sobol indices of masked forwards."""
    d, k, count = bench.size(512, 16), bench.size(25, 4), bench.size(16, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Head(d)
    engine = Engine(Network(name="head", module=module), device=str(bench.device), precision="fp32")
    images = engine.prepare(Draws(0).normal(count, 3, 56, 56))
    fitted = api.fit_dictionary("nmf", engine.tap(images, "features"), k, iterations=30)
    found: dict[str, Tensor] = {}

    def run(method: str, **options: int) -> None:
        found[method] = importance(engine, images, 0, fitted, "features", method=method, **options)

    calls: dict[str, Call] = {
        "closed form": lambda: bench.clock.time(lambda: run("contribution")) / count,
        "Sobol, 64 rows": lambda: bench.clock.time(lambda: run("sobol", samples=64)) / count,
    }
    for call in calls.values():
        call()
    seconds = interleaved(bench, calls)
    exact = found["contribution"].square() / found["contribution"].square().sum(dim=1, keepdim=True)
    error = float((found["sobol"] - exact).abs().max())
    return {"sizes": f"k {k}, 7 x 7 positions", "seconds": seconds, "largest error of Sobol": error}


def likeness(bench: Bench) -> dict[str, Any]:
    """Time monosemanticity by its closed form, and by a loop over pairs on fewer images, scaled to as many pairs."""
    many, few, k, e = bench.size(2000, 60), bench.size(80, 20), bench.size(1024, 16), bench.size(512, 16)
    draws = Draws(0, "likeness")
    rows, seen = bench.put(draws.uniform(many, k)), unit(bench.put(draws.normal(many, e)))
    eye = bench.put(torch.eye(k))
    neurons = Dictionary(name="neurons", atoms=eye, mean=eye[0] * 0, encoder="identity", signed=False)
    found: dict[str, Any] = {}

    def ours(count: int) -> None:
        data = ConceptData(rows[:count], rows[:count], embeddings=seen[:count])
        found["limen"] = monosemanticity([neurons], data, draws=Draws.beside(rows, 0), null_draws=1).values

    def loop() -> None:
        low, high = rows[:few].amin(dim=0), rows[:few].amax(dim=0)
        found["loop"] = peers.pair_loop((rows[:few] - low) / (high - low), seen[:few])

    scale = many * (many - 1) / (few * (few - 1))
    calls: dict[str, Call] = {
        "limen, value and null": lambda: bench.clock.time(lambda: ours(many)),
        "loop over pairs, scaled": lambda: bench.clock.time(loop) * scale,
    }
    seconds = interleaved(bench, calls)
    ours(few)
    error = float(np.abs(np.asarray(found["limen"], dtype=np.float64) - found["loop"].cpu().double().numpy()).max())
    return {
        "sizes": f"{many} images, k {k} ({few} images for the loop)",
        "seconds": seconds,
        "largest difference": error,
    }
