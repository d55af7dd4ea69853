"""What a test of a term is about, whatever the coding: main effects averaged over the other factors' levels (Type III)."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from .formula import design
from .specification import Specification


def term_contrasts(model: Specification) -> dict[frozenset[str], np.ndarray]:
    """Return, for each term of the fixed part, the contrasts of the fitted effects (k, p) that its F test is about.

    With treatment coding the columns of a factor that interacts are its effect at the other factor's first level. The same
    model in sum coding, where they are its effect averaged over levels, has effects that are linear in the fitted ones.

    Parameters
    ----------
    model : Specification
        Terms whose factors are not plain columns (as `C(x)`, a spline) keep the coding they were written in.

    Returns
    -------
    dict
        Names of the factors of a term -> contrasts; empty if the sum-coded model is not the same model.
    """
    rows = model.data[model.predictors].drop_duplicates()
    fixed = model.parsed.fixed
    named = [str(name) for name in model.predictors if not pd.api.types.is_numeric_dtype(model.data[name])]
    for name in named:
        fixed = re.sub(rf"(?<![\w.(])(?<!\( ){re.escape(name)}(?!\w)(?!\s*[(.=])", f"C({name}, contr.sum)", fixed)
    fitted = pd.DataFrame(model.rule.get_model_matrix(rows, context={}, na_action="raise")).to_numpy(dtype=float)
    summed, rule = design(fixed, rows, model.parsed.text)
    if summed.shape != fitted.shape or np.linalg.matrix_rank(summed.to_numpy()) < summed.shape[1]:
        return {}
    turn = np.linalg.lstsq(summed.to_numpy(), fitted, rcond=None)[0]
    if not np.allclose(summed.to_numpy() @ turn, fitted, atol=1e-8):
        return {}
    found = {}
    for term, place in rule.term_slices.items():
        text = re.sub(r"C\((\w+), contr\.sum\)", r"\1", str(term))
        found[frozenset(text.split(":"))] = turn[place]
    return found
