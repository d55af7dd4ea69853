"""Several processes that fit one dictionary: each has a part of every batch, and all take the same step."""

from __future__ import annotations

import os

import torch
from torch import Tensor, distributed


def own_device(device: torch.device) -> torch.device:
    """Return the GPU of this process where `torchrun` started one a GPU; any other device as it is."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


class World:
    """The processes of a data-parallel fit; alone, every call hands back what it was given.

    A process started by `torchrun` joins the others on first use (gloo on a CPU, NCCL on CUDA).
    """

    def __init__(self, device: torch.device) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        joined = distributed.is_available() and distributed.is_initialized()
        self.size = distributed.get_world_size() if joined else 1
        self.rank = distributed.get_rank() if joined else 0

    def add(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def most(self, tensor: Tensor) -> None:
        """Replace a tensor by its largest values over the processes."""
        if self.size > 1:
            distributed.all_reduce(tensor, distributed.ReduceOp.MAX)

    def least(self, tensor: Tensor) -> Tensor:
        """Return the smallest values over the processes."""
        if self.size > 1:
            tensor = tensor.clone()
            distributed.all_reduce(tensor, distributed.ReduceOp.MIN)
        return tensor

    def kth_largest(self, values: Tensor, k: int) -> Tensor:
        """Return the `k`-th largest of the values (m,) of all processes together; they may hold different numbers."""
        if self.size == 1:
            return values.kthvalue(len(values) - k + 1).values
        length = torch.tensor(len(values), device=values.device)
        distributed.all_reduce(length, distributed.ReduceOp.MAX)
        padded = values.new_full((int(length),), -torch.inf)
        padded[: len(values)] = values
        everything = self.gathered(padded)
        return everything.kthvalue(len(everything) - k + 1).values

    def gathered(self, values: Tensor) -> Tensor:
        """Return the processes' values (m,), all of one length, in the order of their ranks, (size * m,)."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        distributed.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    def wait(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            distributed.barrier()
