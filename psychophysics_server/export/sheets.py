"""The files of an export as they grow: CSV for everyone, Parquet with typed columns beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "category": pa.dictionary(pa.int32(), pa.string()),
}
NUMPY: dict[str, Any] = {"int": "int64", "float": "float64", "bool": "bool"}


class Sheet:
    """One table that is written batch by batch; memory holds one batch.

    Parameters
    ----------
    csv
        File to write.
    types
        Column -> 'str', 'int', 'float', 'bool' or 'category', in the order of the columns.
    parquet
        Second file to write, with types.
    levels
        Column of type 'category' -> its levels in order.
    """

    def __init__(
        self,
        csv: Path,
        types: Mapping[str, str],
        *,
        parquet: Path | None = None,
        levels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.csv, self.parquet, self.types = csv, parquet, dict(types)
        self.levels = {name: list(known) for name, known in (levels or {}).items()}
        self.rows = 0
        csv.parent.mkdir(parents=True, exist_ok=True)
        self._text = csv.open("w", encoding="utf-8", newline="")
        self._text.write(",".join(self.types) + "\n")
        self._binary: pq.ParquetWriter | None = None
        if parquet is not None:
            parquet.parent.mkdir(parents=True, exist_ok=True)
            self._binary = pq.ParquetWriter(parquet, self.schema)

    @property
    def schema(self) -> pa.Schema:
        """The types as Parquet knows them."""
        return pa.schema([(name, TYPES[kind]) for name, kind in self.types.items()])

    def table(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Turn rows into a typed frame with this sheet's columns."""
        table = pd.DataFrame(list(rows), columns=list(self.types))
        for name, kind in self.types.items():
            if kind == "category":
                table[name] = pd.Categorical(table[name], categories=self.levels[name], ordered=False)
            elif kind in NUMPY:
                table[name] = table[name].astype(NUMPY[kind])
        return table

    def append(self, table: pd.DataFrame) -> None:
        """Write a batch."""
        table.to_csv(self._text, index=False, header=False, lineterminator="\n")
        if self._binary is not None and len(table):
            self._binary.write_table(pa.Table.from_pandas(table, schema=self.schema, preserve_index=False))
        self.rows += len(table)

    def close(self) -> None:
        """Finish the files."""
        self._text.close()
        if self._binary is not None:
            self._binary.close()
