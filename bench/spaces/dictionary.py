"""The `Dictionary`: atoms at a layer, and how activations are coded in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.activations import positions as positions
from ..engine.batching import Batches
from ..engine.content import digests
from ..registry import LimenError, unknown
from .encoders import ENCODERS
from .sparse_codes import SparseCodes as SparseCodes
from .sparse_codes import entries_of

CODE_NUMBERS = 2**24
"""Most numbers of a dense code matrix that `encode_sparse` holds at a time: 67 MB."""
FIT_NUMBERS = 2**26
"""Most numbers of a stream that a fitter which needs all rows at once is given: 268 MB."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dictionary:
    """A set of directions at a layer, fitted once: activations `A ~ codes @ atoms + mean`.

    The atoms are *encoding* directions (what a code adds to the activation). A direction that *reads* a code is a
    filter; the two differ as soon as atoms are not orthogonal, so a linear encoder keeps its filters apart.

    Attributes
    ----------
    name : str
        The registered name of the way it was fitted.
    atoms : float32 (k, d)
    mean : float32 (d,)
        Zero where nothing was subtracted (neurons, NMF).
    encoder : str
        A key of `encoders.ENCODERS`; it says which `parameters` it reads.
    signed : bool
        Codes may be negative, so that an atom and its opposite are the same atom.
    parameters : mapping of str to float32 Tensor
        What the encoder reads beside atoms and mean.
    provenance : mapping
        Facts that JSON can hold: data hash, rows, draws, options, and what the caller adds by `described`.

    Raises
    ------
    LimenError
        If shapes disagree, a number is not finite, or the encoder is unknown or lacks a parameter.
    """

    name: str
    atoms: Tensor
    mean: Tensor
    encoder: str
    signed: bool
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "atoms", _own(self.atoms))
        object.__setattr__(self, "mean", _own(self.mean))
        kept = {name: _own(tensor) for name, tensor in self.parameters.items()}
        object.__setattr__(self, "parameters", kept)
        object.__setattr__(self, "provenance", dict(self.provenance))
        where = f"dictionary '{self.name}'"
        if self.atoms.ndim != 2 or self.mean.shape != self.atoms.shape[1:]:
            raise LimenError(
                f"{where}: given atoms {tuple(self.atoms.shape)} and mean {tuple(self.mean.shape)}, "
                "allowed are (k, d) and (d,)."
            )
        if self.encoder not in ENCODERS:
            raise unknown(f"{where}, encoder", self.encoder, ENCODERS)
        needed = ENCODERS[self.encoder][1]
        if set(kept) != set(needed):
            raise LimenError(
                f"{where}, encoder '{self.encoder}': given the parameters {', '.join(sorted(kept)) or 'none'}, "
                f"allowed are exactly {', '.join(needed) or 'none'}."
            )
        for part, tensor in {"atoms": self.atoms, "mean": self.mean, **kept}.items():
            if not bool(torch.isfinite(tensor).all()):
                raise LimenError(f"{where}: {part} hold a number that is not finite; allowed are finite numbers only.")

    @property
    def k(self) -> int:
        """Number of atoms."""
        return int(self.atoms.shape[0])

    @property
    def d(self) -> int:
        """Number of features of the layer."""
        return int(self.atoms.shape[1])

    def dead(self) -> Tensor:
        """Return which atoms are zero vectors, bool (k,): they can code nothing."""
        return self.atoms.norm(dim=1) == 0

    def encode(self, activations: Tensor) -> Tensor:
        """Code activations in the atoms.

        Parameters
        ----------
        activations : float (n, d), (N, T, d) or (N, C, H, W) with C = d
            Rows, tokens or feature maps, on the dictionary's device.

        Returns
        -------
        float32 (n, k), (N, T, k) or (N, H, W, k)

        Raises
        ------
        LimenError
            If the number of features is not d.
        """
        rows = positions(activations)
        self._check_features(rows.shape[1])
        codes = ENCODERS[self.encoder][0](rows.float() - self.mean, self.atoms, self.parameters)
        shape = activations.shape
        return codes.reshape(shape[0], *(shape[2:] if activations.ndim == 4 else shape[1:-1]), self.k)

    def encode_sparse(self, activations: Tensor | Activations) -> SparseCodes:
        """Code rows and keep only the entries that are not zero: the codes of `encode` without its (n, k) matrix.

        Rows are coded in batches whose dense answers stay below `CODE_NUMBERS` numbers, fewer where memory runs out.

        Parameters
        ----------
        activations : float (n, d), (N, T, d) or (N, C, H, W), or a stream of rows

        Returns
        -------
        SparseCodes
            One row a position, in order.

        Raises
        ------
        LimenError
            If the number of features is not d.
        """
        stream = Activations.of(activations)
        self._check_features(stream.shape[1])
        batches = Batches(f"dictionary '{self.name}', encode_sparse", max(1, CODE_NUMBERS // self.k))

        def coded(start: int, stop: int) -> SparseCodes:
            rows = stream.span(start, stop).type_as(self.mean)
            return entries_of(rows - self.mean, self.encoder, self.atoms, self.parameters)

        return SparseCodes.joined([codes for _, _, codes in batches.sweep(len(stream), coded)])

    def decode(self, codes: Tensor | SparseCodes) -> Tensor:
        """Return `codes @ atoms + mean`, exactly; (..., k) -> (..., d)."""
        if isinstance(codes, SparseCodes):
            return codes.times(self.atoms) + self.mean
        return codes @ self.atoms + self.mean

    def _check_features(self, given: int) -> None:
        if given != self.d:
            raise LimenError(
                f"dictionary '{self.name}', encode: given activations with {given} features, allowed is {self.d}."
            )

    def described(self, **facts: Any) -> Dictionary:
        """Return a copy whose provenance also holds `facts` (layer, network, seed ...)."""
        return replace(self, provenance={**self.provenance, **facts})

    def apply(self, function: Callable[[Tensor], Tensor]) -> Dictionary:
        """Return a copy with every tensor passed through `function`, for example `engine.prepare`."""
        return replace(
            self,
            atoms=function(self.atoms),
            mean=function(self.mean),
            parameters={name: function(tensor) for name, tensor in self.parameters.items()},
        )

    def save(self, path: str | Path) -> None:
        """Write the whole dictionary as one safetensors file; facts go into its metadata."""
        facts = {"name": self.name, "encoder": self.encoder, "signed": self.signed, "provenance": self.provenance}
        tensors = {"atoms": self.atoms, "mean": self.mean}
        tensors |= {f"parameters.{name}": tensor for name, tensor in self.parameters.items()}
        save_file(tensors, path, metadata={"dictionary": json.dumps(facts, sort_keys=True)})

    @staticmethod
    def load(path: str | Path) -> Dictionary:
        """Read a dictionary back, on the CPU; its codes are those it had when it was saved.

        Raises
        ------
        LimenError
            If the file is missing or is not a dictionary.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["dictionary"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise LimenError(f"{path}: no such dictionary file.") from None
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
            raise LimenError(f"{path}: not a dictionary file ({error}).") from None
        atoms, mean = tensors.pop("atoms"), tensors.pop("mean")
        parameters = {name.removeprefix("parameters."): tensor for name, tensor in tensors.items()}
        return Dictionary(atoms=atoms, mean=mean, parameters=parameters, **facts)


def _own(tensor: Tensor) -> Tensor:
    """Copy, so that no later write reaches a dictionary in use; one memory order, so that a loaded one codes alike."""
    return tensor.detach().float().clone(memory_format=torch.contiguous_format)


def feature_maps(rows: Tensor, height: int, width: int) -> Tensor:
    """Undo `positions`: rows (N*height*width, c) or codes (N, height, width, c) become maps (N, c, height, width).

    Raises
    ------
    LimenError
        If the rows are not a whole number of maps.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    if len(flat) % (height * width):
        raise LimenError(
            f"feature maps: given {len(flat)} rows, allowed is a multiple of {height} x {width} positions."
        )
    return flat.reshape(-1, height, width, flat.shape[1]).movedim(-1, 1)


def top_positions(codes: Tensor, m: int) -> Tensor:
    """Find, for each atom, the `m` images that activate it most and where in each it is strongest.

    Parameters
    ----------
    codes : float (n, k), (N, T, k) or (N, H, W, k)
    m : int
        At most the number of images.

    Returns
    -------
    int64 (k, m, 1), (k, m, 2) or (k, m, 3)
        Image, then token or row and column; strongest first, each image once, ties in the order of the images.

    Raises
    ------
    LimenError
        If there are fewer than `m` images.
    """
    images, k = codes.shape[0], codes.shape[-1]
    if not 1 <= m <= images:
        raise LimenError(f"top positions: given m = {m}, allowed is 1 to {images}, the number of images.")
    best, place = codes.reshape(images, -1, k).max(dim=1)
    image = best.sort(dim=0, descending=True, stable=True).indices[:m].T
    where = place.T.gather(1, image)
    if codes.ndim == 2:
        return image[:, :, None]
    if codes.ndim == 3:
        return torch.stack([image, where], dim=-1)
    return torch.stack([image, where // codes.shape[2], where % codes.shape[2]], dim=-1)


def fit_rows(activations: Tensor | Activations, name: str, draws: Draws | None = None) -> Tensor:
    """Return what a dictionary is fitted on: rows (n, d), finite, at least two.

    Of a stream with more than `FIT_NUMBERS` numbers that many are drawn, in whole rows: by `draws`, else the same for
    every seed.

    Raises
    ------
    LimenError
        If there are fewer rows or a number is not finite.
    """
    if isinstance(activations, Activations):
        most = max(2, FIT_NUMBERS // activations.shape[1])
        stream = Draws(0) if draws is None else draws
        whole = len(activations) <= most
        rows = activations.all() if whole else activations.sample(most, stream.spawn("rows to fit"))
    else:
        rows = positions(activations).float()
    check_rows(len(rows), len(rows) > 1 and bool(torch.isfinite(rows).all()), activations, name)
    return rows


def check_rows(count: int, finite: bool, given: Tensor | Activations, name: str) -> None:
    """Refuse to fit fewer than two rows, or a number that is not finite.

    Raises
    ------
    LimenError
    """
    if count < 2 or not finite:
        raise LimenError(
            f"dictionary '{name}': given activations {tuple(given.shape)}"
            f"{' with a number that is not finite' if count > 1 else ''}, allowed are two or more finite rows."
        )


def check_k(k: int, most: int | None, name: str, reason: str = "") -> None:
    """Refuse a number of atoms that cannot be fitted; `most` = None means no upper limit.

    Raises
    ------
    LimenError
    """
    if k < 1 or (most is not None and k > most):
        allowed = "1 or more" if most is None else f"1 to {most}{reason}"
        raise LimenError(f"dictionary '{name}': given k = {k}, allowed is {allowed}.")


def fitted_on(rows: Tensor | Activations, draws: object, **options: Any) -> dict[str, Any]:
    """Return the provenance a fitter records: hash and shape of the data, stream of random numbers, options."""
    return {
        "data": rows.digest if isinstance(rows, Activations) else digests(rows[None])[0],
        "rows": int(rows.shape[0]),
        "draws": repr(draws),
        "options": options,
    }
