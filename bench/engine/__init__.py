"""The GPU engine: the only place that knows device, precision, batch size and memory."""

from .activations import Activations
from .cost import Cost
from .engine import TOLERANCE, Engine
from .masks import Masks
from .network import Network
from .random import Draws

__all__ = ["TOLERANCE", "Activations", "Cost", "Draws", "Engine", "Masks", "Network"]
