"""Pictures from a magnitude and the phases of another picture."""

from __future__ import annotations

import torch
from torch import Tensor


def phases(noise: Tensor) -> Tensor:
    """Return the phases e^(i phi) (n, 3, S, S // 2 + 1) of real pictures: those, and only those, a real picture can have."""
    spectrum = torch.fft.rfft2(noise)
    return spectrum / spectrum.abs().clamp(min=torch.finfo(torch.float32).tiny)


def buffer_of(noise: Tensor, magnitude: Tensor) -> Tensor:
    """Return the real pictures (n, 3, S, S) whose spectrum has this magnitude and the noise's phases."""
    side = noise.shape[-1]
    return torch.fft.irfft2(magnitude * phases(noise), s=(side, side))
