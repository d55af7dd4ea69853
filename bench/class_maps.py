"""Which classes of each picture are explained when a plan asks for more than the predicted one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .registry import LimenError


def explained_classes(logits: np.ndarray, truth: Sequence[int], count: int, where: str = "classes") -> np.ndarray:
    """Return the `count` most probable classes of each picture, the true one among them.

    Where the true class is not one of the `count` most probable ones it takes the last place: for a right prediction
    these are the top classes, for a wrong one far from the truth the top `count - 1` and the truth.

    Parameters
    ----------
    logits
        float (N, C).
    truth
        True class of each picture, (N,), as the network numbers classes.
    count
        How many, 2 to C.

    Returns
    -------
    int64 array (N, count), most probable first

    Raises
    ------
    LimenError
        If the network has fewer classes.

    References
    ----------
    HIVE, arXiv:2112.03184, the distinction task.
    """
    classes = logits.shape[1]
    if not 2 <= count <= classes:
        raise LimenError(f"{where}: given {count}, allowed are 2 to {classes}, the classes of the network.")
    chosen = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")[:, :count].astype(np.int64)
    answer = np.asarray(truth, dtype=np.int64)
    outside = ~(chosen == answer[:, None]).any(axis=1)
    chosen[outside, -1] = answer[outside]
    return chosen


def true_classes(names: Sequence[str], classes: Sequence[str], labels: Sequence[int], where: str) -> list[int]:
    """Return the network's number of each picture's true class, matched by name.

    Raises
    ------
    LimenError
        If a picture's class is none of the network's.
    """
    known = {name: index for index, name in enumerate(names or classes)}
    wanted = [classes[int(label)] for label in labels]
    missing = sorted({name for name in wanted if name not in known})
    if missing:
        raise LimenError(
            f"{where}: pictures are of class '{missing[0]}', which the network does not know; allowed are "
            f"{', '.join(list(known)[:12])}."
        )
    return [known[name] for name in wanted]
