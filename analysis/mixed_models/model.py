"""A mixed model by its formula, in the manner of statsmodels: data in, `fit()`, results out."""

from __future__ import annotations

import pandas as pd

from .results import MixedResults
from .specification import Family, Missing, Specification


class MixedModel(Specification):
    """A linear or logistic model with crossed, nested and correlated random effects.

    Parameters
    ----------
    formula : str
        `y ~ fixed + (1 + x | group) + (1 | item)`; `||` for uncorrelated effects, `a/b` for nested groupings.
    data : DataFrame
        One row an observation.
    family : 'gaussian' (ML or REML, exact) or 'binomial' (logit, Laplace)
    reml : bool
        Restricted likelihood; of 'gaussian' alone.
    trials : name of a column, the number of trials behind the successes of a binomial response
    offset, weights : names of columns: a known part of the linear predictor; prior weights of 'gaussian'
    missing : 'error', or 'drop' the rows in which a used column is missing; `dropped` counts them

    Attributes
    ----------
    parsed : Parsed
    data : DataFrame, the rows used
    dropped : int

    Raises
    ------
    LimenError
        For a formula that cannot be read, a column the data lack, missing or infinite numbers, a response that the family
        does not take, or no random term.

    References
    ----------
    Bates et al. 2015, doi:10.18637/jss.v067.i01; Barr et al. 2013, doi:10.1016/j.jml.2012.11.001.
    """

    def fit(self, *, inference: bool = True) -> MixedResults:
        """Fit the model.

        Parameters
        ----------
        inference : bool
            False leaves out standard errors of a binomial family and the effects of each level: for likelihood ratios.

        Raises
        ------
        LimenError
            If the design is not of full rank or a grouping has one level.
        """
        return MixedResults(self, self.fitted(self.prepared, inference=inference))


def mixedlm(
    formula: str,
    data: pd.DataFrame,
    *,
    family: Family = "gaussian",
    reml: bool = True,
    trials: str | None = None,
    offset: str | None = None,
    weights: str | None = None,
    missing: Missing = "error",
) -> MixedModel:
    """Return the mixed model of a formula; `MixedModel` says what the options are, `.fit()` fits it."""
    return MixedModel(
        formula, data, family=family, reml=reml, trials=trials, offset=offset, weights=weights, missing=missing
    )
