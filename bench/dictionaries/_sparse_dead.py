"""Dead latents: which have not fired for long, and the auxiliary loss that gives them something to explain."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..engine.sparse_fit_model import Step
from ..engine.sparse_fit_products import answers

_EVERY = 32
"""Steps between two looks at who is dead: the only time the host waits for the device."""


class Revival:
    """What is left of a batch, explained by the dead latents alone.

    Where `m` latents are dead, the `d // 2` of them that answer most reconstruct the error of the living, by answers of
    either sign so that none is out of reach; that squared error times `weight * min(m / (d // 2), 1)` is added to the
    loss. Nothing is computed where none is dead; of more than `d` dead latents `d` compete at a time, in turn, so that
    the cost is bounded by that of a dictionary of `d` atoms.

    Parameters
    ----------
    like : float (k, d), for shape and place
    patience : rows without a firing after which a latent is dead
    weight : of the auxiliary loss

    References
    ----------
    Gao et al. 2024, arXiv:2406.04093
    """

    def __init__(self, like: Tensor, patience: int, weight: float) -> None:
        self.patience, self.weight = patience, weight
        self.most = max(1, like.shape[1] // 2)
        self.idle = like.new_zeros(len(like), dtype=torch.float64)
        self.dead = like.new_zeros(len(like), dtype=torch.bool)
        self.crowd = 2 * self.most
        self.share = 0.0
        self._which: Tensor | None = None

    def buffers(self) -> Mapping[str, Tensor]:
        """Return the rows since each latent's last firing, and who counts as dead."""
        return {"idle": self.idle, "dead": self.dead}

    def which(self, step: Step) -> Tensor:
        """Return the dead latents whose turn it is, int64; looked up every few steps."""
        due = step.index % _EVERY == 0
        if due:
            self.dead.copy_(self.idle >= self.patience)
        if due or self._which is None:
            dead = self.dead.nonzero()[:, 0]
            turn = step.index // _EVERY * self.crowd % max(1, len(dead))
            self.share = min(len(dead) / self.most, 1.0)
            self._which = dead.roll(-turn)[: self.crowd] if len(dead) > self.crowd else dead
        return self._which

    def watch(self, fired: Tensor, step: Step) -> None:
        """Count a batch: `fired` (k,) is above 0 where a latent is active in this process's rows."""
        step.world.most(fired)
        self.idle.add_(step.rows).mul_(fired <= 0)

    def loss(
        self, rows: Tensor, error: Tensor, filters: Tensor, bias: Tensor, offset: Tensor, atoms: Tensor, step: Step
    ) -> Tensor | float:
        """Return this process's share of the auxiliary loss; `error` (n, d) is what the codes leave of the rows."""
        which = self.which(step)
        if not len(which):
            return 0.0
        codes = answers(rows, offset, filters[which], bias[which])
        if len(which) > self.most:
            kept, places = codes.topk(self.most, dim=1, sorted=False)
            codes = torch.zeros_like(codes).scatter(1, places, kept)
        left = error.detach() - (codes @ atoms[which]).float()
        return self.weight * self.share * left.square().sum() / (step.rows * rows.shape[1])
