"""The content of images as digests: what caches and draws are keyed by."""

from __future__ import annotations

import hashlib

from torch import Tensor


def combined(*parts: object) -> str:
    """Return one SHA-256 of several texts; a tensor counts by its type, shape and numbers."""
    texts = (digests(part[None])[0] if isinstance(part, Tensor) else repr(part) for part in parts)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def digests(images: Tensor) -> list[str]:
    """Return one SHA-256 an image, of its type, shape and numbers; on the meta device, of its position.

    Parameters
    ----------
    images : Tensor (N, ...)
    """
    head = f"{images.dtype}|{tuple(images.shape[1:])}|".encode()
    if images.device.type == "meta":
        return [hashlib.sha256(head + str(index).encode()).hexdigest() for index in range(len(images))]
    plain = images.detach().cpu().contiguous().numpy()
    return [hashlib.sha256(head + row.tobytes()).hexdigest() for row in plain]
