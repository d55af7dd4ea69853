"""Numbers on the host."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def host(values: Tensor) -> np.ndarray:
    """Return a tensor on any device as a numpy array of its own type, for callers that hold no engine."""
    return values.detach().cpu().numpy()


def readable(values: Tensor) -> np.ndarray:
    """Return a tensor on any device as a numpy array, half precision as float32; of the meta device, zeros."""
    if values.device.type == "meta":
        values = torch.zeros(values.shape, dtype=values.dtype)
    values = values.detach().cpu()
    return (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()
