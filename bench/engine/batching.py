"""Work cut into full batches, halved where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from ..registry import LimenError

Result = TypeVar("Result")
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


class Batches:
    """The batch size of one kind of work; halved for good when memory runs out.

    Parameters
    ----------
    where : str
        Opens the error sentence when not even one image fits.
    size : int
        Most items a batch.
    """

    def __init__(self, where: str, size: int) -> None:
        if size < 1:
            raise LimenError(f"{where}: given a batch size of {size}, allowed is 1 or more.")
        self.where = where
        self.size = size

    def sweep(
        self, count: int, work: Callable[[int, int], Result], most: int = 2**31
    ) -> Iterator[tuple[int, int, Result]]:
        """Yield (start, stop, work(start, stop)) over 0 .. count in full batches, of `most` items where that is fewer.

        `work` must be repeatable: it is called again on half the items when it runs out of memory.

        Raises
        ------
        LimenError
            If a single item does not fit.
        """
        start = 0
        while start < count:
            stop = min(start + min(self.size, most), count)
            result = self._attempt(work, start, stop)
            if result is None:
                self._halve(stop - start)
                continue
            yield start, stop, result[0]
            start = stop

    def _attempt(self, work: Callable[[int, int], Result], start: int, stop: int) -> tuple[Result] | None:
        try:
            return (work(start, stop),)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            return None

    def _halve(self, tried: int) -> None:
        # Outside the except clause, whose traceback would keep the failed batch alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tried == 1:
            raise LimenError(
                f"{self.where}: memory ran out at a batch of 1 image; allowed are smaller images, a smaller network "
                "or a device with more memory."
            )
        self.size = tried // 2


def ran_out(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(text in str(error) for text in _OUT_OF_MEMORY)
