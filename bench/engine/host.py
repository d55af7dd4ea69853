"""Numbers on the host, for callers that hold no engine."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def host(values: Tensor) -> np.ndarray:
    """Return a tensor on any device as a numpy array of its own type."""
    return values.detach().cpu().numpy()
