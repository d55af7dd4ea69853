"""The figures of a report: raw points, estimates with intervals, colour-blind safe, the same bytes for the same input."""

from __future__ import annotations

from .against_null import against_null
from .calibration import calibration
from .choose import pictures_of
from .cloud import raincloud
from .flow import flow_chart
from .forest import contrast_forest, utility_forest
from .learning import learning_curves
from .link import link_figure
from .means import level_means
from .model_split import model_split_figure
from .picture import Picture
from .plane import plane
from .psychometric import psychometric_function
from .ratings import rating_shares
from .strengths import strengths
from .style import palette
from .times import reaction_times

__all__ = [
    "Picture",
    "against_null",
    "calibration",
    "contrast_forest",
    "flow_chart",
    "learning_curves",
    "level_means",
    "link_figure",
    "model_split_figure",
    "palette",
    "pictures_of",
    "plane",
    "psychometric_function",
    "raincloud",
    "rating_shares",
    "reaction_times",
    "strengths",
    "utility_forest",
]
