"""Mixed models with crossed random effects: what no estimator of statsmodels gives for people x items."""

from .bootstrap import Bootstrap, bootstrap_intervals, bootstrap_test
from .fit import MixedFit
from .glmm import fit_glmm
from .lmm import fit_lmm
from .model import MixedModel, mixedlm
from .results import MixedResults
from .terms import RandomTerm

__all__ = [
    "Bootstrap",
    "MixedFit",
    "MixedModel",
    "MixedResults",
    "RandomTerm",
    "bootstrap_intervals",
    "bootstrap_test",
    "fit_glmm",
    "fit_lmm",
    "mixedlm",
]
