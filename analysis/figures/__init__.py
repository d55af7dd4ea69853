"""The figures of a report: raw points, estimates with intervals, colour-blind safe, the same bytes for the same input."""

from __future__ import annotations

from .cloud import raincloud
from .flow import flow_chart
from .forest import utility_forest
from .learning import learning_curves
from .link import link_figure
from .model_split import model_split_figure
from .picture import Picture
from .style import palette

__all__ = [
    "Picture",
    "flow_chart",
    "learning_curves",
    "link_figure",
    "model_split_figure",
    "palette",
    "raincloud",
    "utility_forest",
]
