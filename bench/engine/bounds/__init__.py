"""Verified bounds: how far a network's margins can go while its input stays in a box."""

from .boxes import Boxes, Make
from .margins import Bound, Margins, Relaxation

__all__ = ["Bound", "Boxes", "Make", "Margins", "Relaxation"]
