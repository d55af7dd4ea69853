"""Line drawings made by rule: signs nobody knows and things everybody knows, with variation within each category."""

from .catalogue import DOODLES, category_of, doodle_name, glyph_name, sketch, sketch_id, variant
from .lines import Sketch, ink, length, picture, resampled

__all__ = [
    "DOODLES",
    "Sketch",
    "category_of",
    "doodle_name",
    "glyph_name",
    "ink",
    "length",
    "picture",
    "resampled",
    "sketch",
    "sketch_id",
    "variant",
]
