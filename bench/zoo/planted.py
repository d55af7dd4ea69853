"""Planted dictionaries: activations made of known atoms and codes, the truth that judges every dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..engine import Draws
from ..registry import LimenError
from ..spaces.concept_data import ConceptData, Truth

_REPULSION_STEPS = 400
_ROOT_SHARE = 0.25
"""Share of the features of `hierarchy` that stand on no other one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Planted:
    """Activations of a known dictionary: `rows = codes @ atoms + offset + noise`.

    The truth depends on `seed` alone and the training rows on `seed` and `sample`, so that two samples of one seed are
    resampled data of one truth; the test rows are the same for all samples.

    Attributes
    ----------
    name : str
    train, test : float32 (n, d), (m, d)
    atoms : float32 (k, d)
        Unit length: what a code adds to the activation.
    train_codes, test_codes : float32 (n, k), (m, k)
    offset : float32 (d,)
        What every row holds, whatever its codes.
    present_above : float
        An atom is present in a row where its code is larger than this.
    parts : mapping
        Further parts of `ConceptData` by their names, for example `head_weights`.
    extra : mapping of str to Tensor
        Whatever else is known, for example directions that are no concepts.
    """

    name: str
    train: Tensor
    test: Tensor
    atoms: Tensor
    train_codes: Tensor
    test_codes: Tensor
    offset: Tensor
    present_above: float = 0.0
    parts: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Number of true atoms."""
        return int(self.atoms.shape[0])

    def truth(self) -> Truth:
        """Return atoms and codes as the metrics want them."""
        return Truth(self.atoms, self.train_codes, self.test_codes, self.present_above)

    def concept_data(self) -> ConceptData:
        """Return both splits with the truth, and with each atom's presence as a label."""
        truth = self.truth()
        given = {
            "train_labels": truth.train_support,
            "test_labels": truth.test_support,
            "label_names": tuple(f"atom {index}" for index in range(self.k)),
            **self.parts,
        }
        return ConceptData(train=self.train, test=self.test, truth=truth, **given)


def sparse(
    seed: int = 0,
    sample: int = 0,
    *,
    atoms: int = 128,
    d: int = 64,
    rows: int = 4096,
    test_rows: int = 1024,
    active: int = 4,
    noise: float = 0.05,
    shared: float = 0.0,
    offset: float = 0.0,
    positive: bool = False,
) -> Planted:
    """Plant a sparse dictionary: every row is a sum of exactly `active` atoms, all equally likely.

    Parameters
    ----------
    seed : int
        Of atoms, offset and test rows.
    sample : int
        Of the training rows.
    atoms, d : number and dimension of the true atoms
    rows, test_rows : sizes of the splits
    active : atoms a row; their codes are uniform in 0.5 to 1.5
    noise : standard deviation of Gaussian noise on each feature
    shared : 0 to below 1
        Cosine of every atom with one common direction, so that two atoms have the cosine `shared`^2 on average.
    offset : length of a constant that is added to every row, in a direction of its own
    positive : bool
        Atoms, offset and noise without negative entries, as after a ReLU, so that NMF applies; `shared` then adds to what
        positive atoms have in common anyway.

    Returns
    -------
    Planted

    Raises
    ------
    LimenError
        If a number is out of range.
    """
    _check(
        "sparse",
        {
            "atoms": (atoms, 1, None),
            "d": (d, 1, None),
            "rows": (rows, 2, None),
            "test_rows": (test_rows, 2, None),
            "active": (active, 1, atoms),
            "noise": (noise, 0, None),
            "shared": (shared, 0, 0.999),
            "offset": (offset, 0, None),
        },
    )
    draws = Draws(seed, "planted", "sparse")
    true = _directions(draws.spawn("atoms"), atoms, d, shared, positive)
    constant = draws.spawn("offset").normal(d)
    constant = offset * _unit(constant.abs() if positive else constant)

    def split(stream: Draws, count: int) -> tuple[Tensor, Tensor]:
        codes = stream.subsets(count, atoms, active).float() * (0.5 + stream.uniform(count, atoms))
        dust = noise * stream.normal(count, d)
        return codes @ true + constant + (dust.abs() if positive else dust), codes

    train, train_codes = split(draws.spawn("train", sample), rows)
    test, test_codes = split(draws.spawn("test"), test_rows)
    return Planted(
        name="sparse",
        train=train,
        test=test,
        atoms=true,
        train_codes=train_codes,
        test_codes=test_codes,
        offset=constant,
    )


def hierarchy(
    seed: int = 0,
    sample: int = 0,
    *,
    atoms: int = 256,
    d: int = 128,
    rows: int = 8192,
    test_rows: int = 2048,
    often: float = 0.4,
    rarely: float = 5e-3,
    exponent: float = 0.5,
    children: int = 3,
    correlated: float = 0.1,
    factors: int = 8,
    overlap: float = 0.2,
    noise: float = 0.05,
) -> Planted:
    """Plant features that fire as those of networks are thought to: Zipf, in a hierarchy, correlated and overlapping.

    A quarter of the features are roots; every other feature stands on one root and can fire only where that root does.
    Its own firing is a correlated Gaussian above a threshold, the threshold set by its rank.

    Parameters
    ----------
    seed, sample, atoms, d, rows, test_rows, noise : as for `sparse`
    often, rarely : probability of the first root, and the least of any feature where its root fires
    exponent : of Zipf's law, probability = `often` x rank^-exponent
    children : most features that stand on one root
    correlated : share of the variance of the Gaussians that comes from common factors
    factors : number of common factors
    overlap : where it can be reached, the mean over atoms of the largest |cosine| with another one

    Returns
    -------
    Planted
        `extra` holds `parents` (k,), -1 at roots.

    Raises
    ------
    LimenError
        If a number is out of range.

    References
    ----------
    SynthSAEBench, arXiv:2602.14687, whose ingredients these are at a smaller size.
    """
    _check(
        "hierarchy",
        {
            "atoms": (atoms, 2, None),
            "d": (d, 2, None),
            "rows": (rows, 2, None),
            "test_rows": (test_rows, 2, None),
            "often": (often, 1e-6, 1),
            "rarely": (rarely, 0, often),
            "exponent": (exponent, 0, None),
            "children": (children, 0, None),
            "correlated": (correlated, 0, 1),
            "factors": (factors, 1, None),
            "overlap": (overlap, 0, 1),
            "noise": (noise, 0, None),
        },
    )
    draws = Draws(seed, "planted", "hierarchy")
    true = _spread(_directions(draws.spawn("atoms"), atoms, d, 0.0, False), overlap)
    parents = _parents(atoms, children)
    probability = (often * torch.arange(1, atoms + 1).double() ** -exponent).clamp_min(rarely)
    # A child's probability is given its root, so that what stands on rare roots does not vanish.
    threshold = torch.special.ndtri(1 - probability).float()
    loading = _unit(draws.spawn("loadings").normal(atoms, factors))

    def split(stream: Draws, count: int) -> tuple[Tensor, Tensor]:
        common = stream.normal(count, factors) @ loading.T
        mixed = correlated**0.5 * common + (1 - correlated) ** 0.5 * stream.normal(count, atoms)
        fires = mixed > threshold
        fires = fires & (fires[:, parents.clamp_min(0)] | (parents < 0))
        codes = fires * (1 + 0.25 * stream.normal(count, atoms)).clamp_min(0.1)
        return codes @ true + noise * stream.normal(count, d), codes

    train, train_codes = split(draws.spawn("train", sample), rows)
    test, test_codes = split(draws.spawn("test"), test_rows)
    return Planted(
        name="hierarchy",
        train=train,
        test=test,
        atoms=true,
        train_codes=train_codes,
        test_codes=test_codes,
        offset=torch.zeros_like(train[0]),
        extra={"parents": parents},
    )


def overlap_of(atoms: Tensor) -> float:
    """Return the mean over unit atoms (k, d) of the largest |cosine| with another one."""
    return float((atoms @ atoms.T).abs().fill_diagonal_(0).amax(dim=1).mean())


def _directions(draws: Draws, count: int, d: int, shared: float, positive: bool) -> Tensor:
    """Draw unit atoms (count, d) with one direction in common."""
    own, common = draws.spawn("own").normal(count, d), draws.spawn("common").normal(d)
    if positive:
        # Half of the entries are 0, as after a ReLU.
        own, common = own.clamp_min(0), common.abs()
    own, common = _unit(own), _unit(common)
    if shared == 0:
        return own
    apart = own if positive else _unit(own - (own @ common)[:, None] * common)
    return _unit((1 - shared**2) ** 0.5 * apart + shared * common)


def _spread(atoms: Tensor, overlap: float) -> Tensor:
    """Push atoms apart until their mean largest |cosine| is at most `overlap`, or no step helps any more."""
    atoms = atoms.double()
    best = overlap_of(atoms)
    for _ in range(_REPULSION_STEPS):
        if best <= overlap:
            break
        cosines = (atoms @ atoms.T).fill_diagonal_(0)
        force = cosines.abs().pow(7) * cosines.sign() @ atoms
        moved = _unit(atoms - 0.05 * force / force.norm(dim=1, keepdim=True).clamp_min(1e-12))
        atoms, best = moved, overlap_of(moved)
    return atoms.float()


def _parents(count: int, children: int) -> Tensor:
    """Return each feature's root, or -1: children of the frequent roots come first."""
    roots = max(1, round(_ROOT_SHARE * count))
    order = torch.arange(count) - roots
    return torch.where((order >= 0) & (order < roots * children), order.remainder(roots), -1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _check(name: str, given: Mapping[str, tuple[float, float, float | None]]) -> None:
    for option, (value, low, high) in given.items():
        if value < low or (high is not None and value > high):
            allowed = f"{low} or more" if high is None else f"{low} to {high}"
            raise LimenError(f"planted data '{name}', option '{option}': given {value}, allowed is {allowed}.")
