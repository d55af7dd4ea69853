"""Mixed models with crossed random effects: what no estimator of statsmodels gives for people x items."""

from .glmm import GlmmFit, fit_glmm
from .terms import RandomTerm

__all__ = ["GlmmFit", "RandomTerm", "fit_glmm"]
