"""What a mixed model is before it is fitted: its formula, the rows used, their designs, its degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from bench.registry import LimenError, unknown

from .fit import MixedFit
from .formula import Parsed, check_columns, design, parse, random_terms
from .glmm import fit_glmm
from .lmm import fit_lmm
from .terms import RandomTerm

Family = Literal["gaussian", "binomial"]
Missing = Literal["error", "drop"]
_COLLAPSED = "\x1ftrials"
_FEW = 0.7
"""Share of rows left above which collapsing equal binomial rows is not worth it."""


@dataclass(frozen=True)
class Prepared:
    """What a fit takes: designs and numbers of the rows used, equal binomial rows made one."""

    x: pd.DataFrame
    y: np.ndarray
    terms: list[RandomTerm]
    trials: np.ndarray | None
    offset: np.ndarray | None
    weights: np.ndarray | None


class Specification:
    """A formula, the rows it is fitted to and how; options and errors are those of `MixedModel`.

    Attributes
    ----------
    parsed : Parsed
    data : DataFrame, the rows used
    dropped : int
    family, reml, offset : as given
    """

    def __init__(
        self,
        formula: str,
        data: pd.DataFrame,
        *,
        family: Family = "gaussian",
        reml: bool = True,
        trials: str | None = None,
        offset: str | None = None,
        weights: str | None = None,
        missing: Missing = "error",
    ) -> None:
        for option, given, allowed in (("family", family, get_args(Family)), ("missing", missing, get_args(Missing))):
            if given not in allowed:
                raise unknown(f"mixed model, {option}", given, allowed)
        self.parsed: Parsed = parse(formula)
        self.family: Family = family
        self.reml = reml and family == "gaussian"
        self.offset = offset
        self._columns = {"trials": trials, "offset": offset, "weights": weights}
        self._check_options()
        if not self.parsed.random:
            raise LimenError(
                f"formula '{self.parsed.text}': given no random term, allowed is one or more, such as (1 | item)."
            )
        self.data, self.dropped = self._rows(data, missing)
        self._check_response()

    @property
    def prepared(self) -> Prepared:
        """The designs of the rows used; equal rows of a binomial family are collapsed."""
        if not hasattr(self, "_prepared"):
            data, y, trials = self._collapsed()
            x, self.rule = design(self.parsed.fixed, data, self.parsed.text)
            terms, self.random_rules = random_terms(self.parsed, data)
            offset, weights = (self._numbers(name, data) for name in ("offset", "weights"))
            self._prepared = Prepared(x, y, terms, trials, offset, weights)
        return self._prepared

    def fitted(self, rows: Prepared, *, columns: Sequence[int] | None = None, inference: bool = True) -> MixedFit:
        """Fit prepared rows, with some of the fixed columns only."""
        x = rows.x if columns is None else rows.x.iloc[:, list(columns)]
        if self.family == "binomial":
            return fit_glmm(x, rows.y, rows.terms, trials=rows.trials, offset=rows.offset, inference=inference)
        return fit_lmm(
            x, rows.y, rows.terms, reml=self.reml, weights=rows.weights, offset=rows.offset, inference=inference
        )

    @property
    def predictors(self) -> list[str]:
        """The columns that the fixed part and the effects of the random terms read."""
        bare = replace(self.parsed, random=tuple(replace(part, group="") for part in self.parsed.random))
        return [name for name in bare.columns if name not in (self.parsed.response, "")]

    def observed(self) -> np.ndarray:
        """Return the response of the rows used, of a binomial family over its trials, (n,)."""
        y = self.data[self.parsed.response].to_numpy(dtype=float)
        trials = self._numbers("trials", self.data)
        return y if trials is None else y / trials

    def unit_df(self) -> float:
        """Return the degrees of freedom of every contrast of fixed effects.

        The least, over the groupings that are units, of its levels less the number of fixed columns that do not vary
        within it. A grouping that crosses with a factor of the fixed part, as (1 | item:condition), is a slope and no unit.
        """
        fixed = set(self.predictors)
        x = self.prepared.x.to_numpy()
        found = []
        for term in {part.group: part for part in self.parsed.random}.values():
            if set(term.factors) & fixed:
                continue
            codes, names = pd.factorize(next(t.codes for t in self.prepared.terms if t.group == term.group))
            first = np.zeros(len(names), dtype=int)
            first[codes[::-1]] = np.arange(len(codes))[::-1]
            constant = np.flatnonzero((x == x[first][codes]).all(axis=0))
            found.append(len(names) - int(np.linalg.matrix_rank(x[first][:, constant])))
        return float(max(min(found), 1)) if found else float(len(x) - x.shape[1])

    def _check_options(self) -> None:
        for name, family in (("trials", "binomial"), ("weights", "gaussian")):
            if self._columns[name] is not None and self.family != family:
                raise LimenError(
                    f"mixed model, {name}: given for the family '{self.family}', allowed is '{family}' only."
                )

    def _rows(self, data: pd.DataFrame, missing: Missing) -> tuple[pd.DataFrame, int]:
        check_columns(self.parsed, data)
        extra = [name for name in self._columns.values() if name is not None]
        for name in extra:
            if name not in data.columns:
                raise unknown("mixed model, column", name, data.columns)
        used = data[list(dict.fromkeys([*self.parsed.columns, *extra]))]
        numbers = used.select_dtypes("number")
        bad = {str(name): int((~np.isfinite(column)).sum()) for name, column in numbers.items()}
        bad |= {str(name): int(column.isna().sum()) for name, column in used.items() if name not in numbers.columns}
        bad = {name: count for name, count in bad.items() if count}
        if bad and missing == "error":
            told = ", ".join(f"{name} ({count})" for name, count in bad.items())
            raise LimenError(
                f"mixed model, data: given missing or infinite values in {told} of {len(used)} rows; allowed are none, or "
                "missing='drop', which leaves those rows out."
            )
        if bad:
            keep = used.notna().all(axis=1) & np.isfinite(numbers.to_numpy(dtype=float)).all(axis=1)
            return used[keep].reset_index(drop=True), int((~keep).sum())
        if not len(used):
            raise LimenError("mixed model, data: given no row, allowed is one or more.")
        return used.reset_index(drop=True), 0

    def _check_response(self) -> None:
        name = self.parsed.response
        response = self.data[name]
        if response.dtype == bool:
            self.data = self.data.assign(**{name: response.astype(int)})
        elif not pd.api.types.is_numeric_dtype(response):
            raise LimenError(f"mixed model, response '{name}': given {response.dtype}, allowed are numbers.")
        if self.family == "gaussian":
            return
        values = self.data[name].to_numpy(dtype=float)
        most = self._numbers("trials", self.data)
        top = np.ones(len(values)) if most is None else most
        if (values < 0).any() or (values > top).any() or (values != np.round(values)).any():
            allowed = "0 and 1" if most is None else f"whole numbers from 0 to '{self._columns['trials']}'"
            odd = values[(values < 0) | (values > top) | (values != np.round(values))][0]
            raise LimenError(f"mixed model, response '{name}': given {odd:g}, allowed are {allowed}.")

    def _numbers(self, name: str, data: pd.DataFrame) -> np.ndarray | None:
        column = self._columns[name]
        return None if column is None else data[column].to_numpy(dtype=float)

    def _collapsed(self) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
        """Make equal rows of a binomial family one, successes and trials added up: the likelihood is the same."""
        y = self.data[self.parsed.response].to_numpy(dtype=float)
        trials = self._numbers("trials", self.data)
        if self.family == "gaussian":
            return self.data, y, trials
        counted = self.data.assign(**{_COLLAPSED: 1.0 if trials is None else trials})
        keys = [name for name in self.data.columns if name not in (self.parsed.response, self._columns["trials"])]
        if self.data.drop_duplicates(keys).shape[0] > _FEW * len(self.data):
            return self.data, y, trials
        sums = counted.groupby(keys, observed=True, sort=True)[[self.parsed.response, _COLLAPSED]].sum().reset_index()
        return sums, sums[self.parsed.response].to_numpy(dtype=float), sums[_COLLAPSED].to_numpy(dtype=float)
