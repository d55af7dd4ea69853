"""Checks of protocols whose lists are stretches of one ring of items, all asked about in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ..protocol import Tables


def dealt(condition: Any, rows: pd.DataFrame, tables: Tables, *, times: int, met: str) -> Iterator[str]:
    """Check that each main item is in as many lists as planned, and that enough people meet it.

    Parameters
    ----------
    condition, rows
        A condition, and its main test trials.
    tables
        The study; its option `people` is the fewest that meet an item.
    times
        Planned lists of an item.
    met
        What people do with it: 'seen', 'met'.
    """
    main = tables.items.loc[tables.items["role"] == "main", "item_id"]
    lists = rows.groupby("item_id")["list"].nunique().reindex(main, fill_value=0)
    if (lists != times).any():
        item = lists.index[lists != times][0]
        yield f"condition '{condition}': '{item}' is in {lists[item]} lists, planned is {times}."
    quotas, fewest = tables.cells.set_index("cell")["quota"], tables.options["people"]
    people = rows["cell"].map(quotas).groupby(rows["item_id"]).sum().reindex(main, fill_value=0)
    if (people < fewest).any():
        yield f"condition '{condition}': '{people.idxmin()}' is {met} by {people.min()} people, fewest are {fewest}."


def spread(condition: Any, ordered: pd.DataFrame, step: int) -> Iterator[str]:
    """Check that an item's places in two lists lie a multiple of the distance of their starts apart.

    Parameters
    ----------
    condition, ordered
        A condition, and its main test trials by cell and position.
    step
        Places between the starts of two lists.
    """
    place = ordered.groupby("cell").cumcount()
    for item, places in place.groupby(ordered["item_id"]):
        if places.duplicated().any() or places.mod(step).nunique() > 1:
            yield f"condition '{condition}': '{item}' has places that are not spread over the session."
