"""Mixed models with crossed random effects: what no estimator of statsmodels gives for people x items."""

from .fit import MixedFit
from .glmm import fit_glmm
from .lmm import fit_lmm
from .terms import RandomTerm

__all__ = ["MixedFit", "RandomTerm", "fit_glmm", "fit_lmm"]
