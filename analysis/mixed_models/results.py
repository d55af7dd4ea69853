"""What a fitted mixed model says: estimates, tests, predictions, effects of each level, and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special, stats

from bench.registry import LimenError, unknown

from .estimates import Contrast, Df, Estimates
from .formula import again, levels
from .inference import HOW, Test, likelihood_ratio
from .margins import Margins, population_accuracy
from .summary import as_dict, summary
from .type_three import term_contrasts


class MixedResults(Estimates):
    """Results of `MixedModel.fit`; no test and no interval comes from a fit that did not converge.

    Attributes
    ----------
    model : Specification, the `MixedModel` that was fitted
    fit : MixedFit
    params, bse : Series of the fixed effects
    llf, aic, bic : float
    converged : bool
    flags : tuple of str: 'singular', 'separation', 'not_converged', 'few_levels'
    nobs : int, observations used
    """

    def t_test(self, contrast: Contrast, *, value: float = 0.0, df: Df = "units") -> Test:
        """Test one contrast of the fixed effects.

        Parameters
        ----------
        contrast : name of a fixed effect, weights by name, or weights (p,)
        value : what the contrast is under the null hypothesis
        df : as for `df`
        """
        self._require_convergence()
        weights = self._contrast(contrast)
        estimate = float(weights @ self.params)
        error = float(np.sqrt(weights @ self.fit.covariance.to_numpy() @ weights))
        freedom = self.df(weights, df)
        statistic = (estimate - value) / error
        half = float(stats.t.ppf(0.975, freedom)) * error
        p = float(2 * stats.t.sf(abs(statistic), freedom))
        return Test(estimate, error, statistic, "t", (freedom,), p, estimate - half, estimate + half, HOW[df])

    def wald_test(self, contrasts: str | Sequence[Contrast], *, df: Df = "units") -> Test:
        """Test several contrasts at once, or all columns of a term of the fixed part.

        Parameters
        ----------
        contrasts : a term of the formula as `anova` lists it, or several contrasts
        df : as for `df`; 'satterthwaite' takes the least over the contrasts
        """
        self._require_convergence()
        given = self._terms()[self._term(contrasts)] if isinstance(contrasts, str) else list(contrasts)
        rows = np.array([self._contrast(one) for one in given])
        values = rows @ self.params.to_numpy()
        inner = rows @ self.fit.covariance.to_numpy() @ rows.T
        if np.linalg.matrix_rank(inner) < len(rows):
            raise LimenError(
                "mixed model, Wald test: given contrasts that depend on each other; allowed are independent ones."
            )
        freedom = min(self.df(row, df) for row in rows)
        f = float(values @ np.linalg.solve(inner, values)) / len(rows)
        p = (
            float(stats.f.sf(f, len(rows), freedom))
            if np.isfinite(freedom)
            else float(stats.chi2.sf(f * len(rows), len(rows)))
        )
        nan = float("nan")
        return Test(nan, nan, f, "F", (float(len(rows)), freedom), p, nan, nan, HOW[df])

    def anova(self, *, df: Df = "units") -> pd.DataFrame:
        """Return a table of Wald F tests, one row a term of the fixed part: columns F, df1, df2, p.

        Main effects are averaged over the levels of factors they interact with, whatever the coding (Type III); numbers are at
        zero, so centre those that interact. `wald_test` takes a term's columns as they were fitted.
        """
        rows = term_contrasts(self.model)
        tests = {}
        for term in self._terms():
            contrasts = rows.get(frozenset(term.split(":")))
            tests[term] = self.wald_test(term if contrasts is None else list(contrasts), df=df)
        return pd.DataFrame(
            {term: {"F": t.statistic, "df1": t.df[0], "df2": t.df[1], "p": t.p} for term, t in tests.items()}
        ).T

    def lr_test(self, smaller: MixedResults) -> Test:
        """Compare with a smaller model of the same data by the likelihood ratio.

        A smaller fixed part needs maximum likelihood (reml=False) and a chi-squared test, anti-conservative with few items.
        One variance less, and nothing else, halves the p: under the null hypothesis it lies on its boundary. A slope with
        its correlation less is the even mixture of chi-squared on 1 and 2.

        Raises
        ------
        LimenError
            If one did not converge, the models are not nested as far as parameters tell, or REML compares fixed parts.
        """
        return likelihood_ratio(self, smaller)

    @property
    def random_effects(self) -> dict[str, pd.DataFrame]:
        """Conditional modes by grouping: one row a level, a column an effect and, after it, its conditional SD."""
        self._require_convergence()
        found: dict[str, pd.DataFrame] = {}
        for term, effects, variances in zip(self._layout.terms, self.fit.effects, self.fit.variances, strict=True):
            index = pd.Index(pd.factorize(np.asarray(term.codes, dtype=object), sort=True)[1], name=term.group)
            columns = {}
            for place, name in enumerate(term.names):
                columns[name] = effects[:, place]
                columns[f"{name} sd"] = np.sqrt(variances[:, place])
            table = pd.DataFrame(columns, index=index)
            found[term.group] = found[term.group].join(table) if term.group in found else table
        return found

    def predict(
        self, data: pd.DataFrame | None = None, *, level: Literal["population", "typical", "conditional"] = "population"
    ) -> np.ndarray:
        """Return the expected response of rows, (n,).

        Parameters
        ----------
        data : rows with the columns of the formula; the rows used by the fit where none are given
        level : 'population' averages over the random effects, 'typical' sets them to zero (another number for a binomial
            family), 'conditional' takes each level's own effect, zero for a level not seen
        """
        self._require_convergence()
        rows = self.model.data if data is None else data
        x = again(self.model.rule, rows, self.model.parsed.text)
        linear = x.to_numpy() @ self.params.to_numpy()
        linear = linear + self._offset(rows)
        if level == "conditional":
            linear += self._own_effects(rows)
        if self.model.family == "gaussian":
            return np.asarray(linear)
        if level == "population":
            return population_accuracy(linear, self.spread(rows))[0]
        return np.asarray(special.expit(linear))

    @property
    def fittedvalues(self) -> np.ndarray:
        """Expected response of the rows used, with each level's own effect, (n,)."""
        return self.predict(level="conditional")

    @property
    def resid(self) -> np.ndarray:
        """Response less fitted values (of a binomial family over its trials), (n,)."""
        return self.model.observed() - self.fittedvalues

    def margins(self, by: str | Sequence[str]) -> Margins:
        """Return the population means of the cells of some factors, to print and to contrast; see `Margins`."""
        self._require_convergence()
        return Margins(self, [by] if isinstance(by, str) else list(by))

    def icc(self) -> pd.Series:
        """Return the share of each grouping's intercept in the variance (of a binomial family on the latent scale)."""
        own = {
            term.group: float(self.fit.covariances[i].to_numpy()[place, place])
            for i, term in enumerate(self._layout.terms)
            for place, name in enumerate(term.names)
            if name == "Intercept"
        }
        rest = np.pi**2 / 3 if self.model.family == "binomial" else self.fit.sigma**2
        total = sum(own.values()) + rest
        return pd.Series({group: value / total for group, value in own.items()})

    def summary(self) -> str:
        """Return the fit as text: what was fitted, fixed effects with intervals, standard deviations, flags."""
        return summary(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as plain numbers and texts, for JSON."""
        return as_dict(self)

    def _terms(self) -> dict[str, list[Contrast]]:
        """Return the names of the columns of each term of the fixed part, the intercept apart."""
        names = list(self.params.index)
        found = {str(term): names[place] for term, place in self.model.rule.term_slices.items()}
        return {term: list(columns) for term, columns in found.items() if columns != ["Intercept"] and columns}

    def _term(self, name: str) -> str:
        terms = self._terms()
        plain = {term.replace(" ", ""): term for term in terms}
        if name.replace(" ", "") not in plain:
            raise unknown("mixed model, term", name, terms)
        return plain[name.replace(" ", "")]

    def _offset(self, rows: pd.DataFrame) -> np.ndarray | float:
        name = self.model.offset
        if name is None:
            return 0.0
        if name not in rows.columns:
            raise unknown("mixed model, offset, column", name, rows.columns)
        return rows[name].to_numpy(dtype=float)

    def _own_effects(self, rows: pd.DataFrame) -> np.ndarray:
        total = np.zeros(len(rows))
        for t, (part, values) in enumerate(self._random_values(rows)):
            known = pd.Index(pd.factorize(np.asarray(self._layout.terms[t].codes, dtype=object), sort=True)[1])
            place = known.get_indexer(np.asarray(levels(rows, part.factors), dtype=object))
            total += np.where(place >= 0, (values * self.fit.effects[t][place]).sum(axis=1), 0.0)
        return total
