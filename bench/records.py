"""The rows `bench` hands on: what the next packages may rely on, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pandas as pd

from .registry import LimenError


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One image of a run (artifact kind `images`, file `rows.parquet`)."""

    image_id: str
    index: int
    """Position in `pictures.safetensors`, key `pictures`, uint8 (N, H, W, 3)."""
    label: int
    class_name: str
    group: str
    """What the image set says of it, e.g. 'congruent' or 'conflict' on `scenes_biased`; '' if nothing."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """What a network answered for one image (artifact kind `predictions`, file `rows.parquet`)."""

    image_id: str
    index: int
    predicted: int
    predicted_class: str
    probability: float
    correct: bool


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One metric value of one sample (artifact kind `scores`, file `rows.parquet`)."""

    sample: str
    """Image id for a metric of maps; atom, seed pair or concept name for a metric of dictionaries."""
    value: float
    null: float
    """The same metric on a random map or dictionary, averaged over its draws; NaN if undefined."""
    ceiling: float
    """NaN where no ceiling exists."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One cell of the result table: a mean that is never alone (manifest `summary` of a `scores` artifact)."""

    network: str
    images: str
    subject: Literal["attribution", "dictionary"]
    method: str
    options: str
    """The options that differ from the method's defaults, as text."""
    layer: str
    metric: str
    question: str
    """The metric's folder: faithfulness, stability, identifiability, complexity ..."""
    direction: Literal["up", "down", "none"]
    value: float
    low: float
    high: float
    """95 % bootstrap interval of the mean over samples."""
    null: float
    null_low: float
    null_high: float
    gain: float
    """Mean of value - null, paired by sample and signed so that larger is better ('none': value - null)."""
    gain_low: float
    gain_high: float
    at_null: bool
    """The interval of the gain holds 0: this score cannot be told from chance."""
    ceiling: float
    n: int
    seconds: float
    forwards: int
    backwards: int
    convention: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a metric function returns: one value a sample, means come last.

    Attributes
    ----------
    values : array (N,)
        One value per sample, on any device.
    null, ceiling : array (N,) or None
        Set by metrics that know their own chance floor or ceiling; else the caller measures the null.
    curve_x, curve_y : array (T,), (N, T) or None
        The curve behind the value (deletion, insertion ...), for figures.
    convention : str
        Score type, baseline, normalisation, AUC rule: what a reader needs to compare with a peer.
    samples : tuple of str
        Names of the samples where they are not images.
    extra : mapping
        Further named arrays (N,) worth a column in a report (for example the published variant of a score).
    """

    values: Any
    convention: str
    null: Any = None
    ceiling: Any = None
    curve_x: Any = None
    curve_y: Any = None
    samples: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def columns(record: type) -> list[str]:
    """List the column names of a record class, in order."""
    return [item.name for item in fields(record)]


def frame(record: type, rows: list[Any]) -> pd.DataFrame:
    """Turn records into a tidy frame with the record's columns in order."""
    return pd.DataFrame(
        [{name: getattr(row, name) for name in columns(record)} for row in rows], columns=columns(record)
    )


def check_columns(table: pd.DataFrame, record: type, where: str) -> None:
    """Refuse a table that lacks a column of the record.

    Raises
    ------
    LimenError
        Names the missing columns, and what is there.
    """
    missing = [name for name in columns(record) if name not in table.columns]
    if missing:
        raise LimenError(
            f"{where}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing; "
            f"a {record.__name__} table has {', '.join(columns(record))}; given {', '.join(map(str, table.columns))}."
        )
