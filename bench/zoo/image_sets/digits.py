"""Real handwritten digits (scikit-learn's 1,797 scans of 8 x 8), smoothly enlarged."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ...images import ImageSet
from ...registry import registered
from ..pool import Pool, check_size, check_split


@registered("images", version=1, citation="doi:10.24432/C50P49")
def digits(split: str, *, size: int = 32) -> Pool:
    """Return handwritten digits in ten classes, white on black; 1,347 train, 450 test, stratified."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    check_split("digits", split, ("train", "test"))
    check_size("digits", size)
    scans = load_digits()
    labels = scans.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=450, stratify=labels, random_state=0)
    members = np.sort(train if split == "train" else test)

    def draw(indices: np.ndarray) -> ImageSet:
        chosen = members[indices]
        return ImageSet(
            name="digits",
            pictures=np.stack([_enlarge(scans.images[i], size) for i in chosen]),
            labels=labels[chosen],
            classes=tuple(str(digit) for digit in range(10)),
            ids=tuple(f"digit-{i:04d}" for i in chosen),
        )

    return Pool(labels=labels[members], draw=draw)


def _enlarge(scan: np.ndarray, size: int) -> np.ndarray:
    grey = Image.fromarray((scan / 16 * 255).astype(np.float32), mode="F")
    large = np.asarray(grey.resize((size, size), Image.Resampling.BICUBIC))
    return np.repeat(np.clip(np.rint(large), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
