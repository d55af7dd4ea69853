"""The GPU engine: the only place that knows device, precision, batch size and memory."""

from .activations import Activations
from .ascent import Aim, Anchor, Ascended, Climb
from .cost import Cost
from .engine import TOLERANCE, Engine
from .masks import Masks, Within
from .network import Network, copied
from .random import Draws

__all__ = [
    "TOLERANCE",
    "Activations",
    "Aim",
    "Anchor",
    "Ascended",
    "Climb",
    "Cost",
    "Draws",
    "Engine",
    "Masks",
    "Network",
    "Within",
    "copied",
]
