"""Explain and score by name: resolves names and options, adds null, interval and gain."""

from ..results import RESAMPLES, Interval, ScoreResult, bootstrap, summarise
from .dictionaries import fit_dictionary, needs_k, score_dictionaries
from .explaining import Explainer, explain, explainer
from .given import CONTROL, AnyExplainer, Classes, Method, Pictures, prepare, resolve, resolve_metric
from .scoring import NULL_DRAWS, Regions, bind, null, score

__all__ = [
    "CONTROL",
    "NULL_DRAWS",
    "RESAMPLES",
    "AnyExplainer",
    "Classes",
    "Explainer",
    "Interval",
    "Method",
    "Pictures",
    "Regions",
    "ScoreResult",
    "bind",
    "bootstrap",
    "explain",
    "explainer",
    "fit_dictionary",
    "needs_k",
    "null",
    "prepare",
    "resolve",
    "resolve_metric",
    "score",
    "score_dictionaries",
    "summarise",
]
