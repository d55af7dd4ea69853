"""Names of devices."""

from __future__ import annotations

import torch

from ..registry import LimenError, unknown

_ALLOWED = ("auto", "cpu", "cuda", "cuda:0", "meta")


def resolve_device(device: str) -> torch.device:
    """Return the device meant by a name; 'auto' is CUDA where there is one.

    Raises
    ------
    LimenError
        If the name means nothing, or this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise unknown("device", device, _ALLOWED) from None
    if found.type not in ("cpu", "cuda", "meta"):
        raise unknown("device", device, _ALLOWED)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise LimenError(f"device: given '{device}', but this machine has {torch.cuda.device_count()} CUDA devices.")
    return found
