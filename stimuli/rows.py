"""Writing the trials of a cell: opaque ids, JSON, and positions in the order they are added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.store import sha256_bytes

from .balance import spread
from .records import CellRow, StudyFile, TrialRow


def opaque(study: StudyFile, *key: object) -> str:
    """Return an id that tells a participant nothing and is the same each time."""
    text = "/".join(str(part) for part in (study.study, study.version, study.seed, *key))
    return sha256_bytes(text.encode())[:16]


def cells_of(study: StudyFile, lists: int) -> list[CellRow]:
    """Return a cell for each condition and counterbalancing list; the quota is spread over the lists."""
    return [
        CellRow(cell=f"{condition}-{number}", condition=condition, list=number, quota=quota)
        for condition in study.conditions
        for number, quota in enumerate(spread(study.quota, lists), start=1)
    ]


@dataclass
class Sheet:
    """The trials of one cell, in the order they are shown.

    Attributes
    ----------
    study : StudyFile
    cell : CellRow
    trial_type : what shows them
    rows : the trials so far
    """

    study: StudyFile
    cell: CellRow
    trial_type: str
    rows: list[TrialRow] = field(default_factory=list)

    def add(
        self,
        payload: Mapping[str, Any],
        *,
        item: str,
        answer: Mapping[str, Any],
        block: str,
        is_catch: bool = False,
        k_seen: int = 0,
        factors: Mapping[str, Any] | None = None,
    ) -> TrialRow:
        """Add a trial; phase and session are the payload's.

        Parameters
        ----------
        payload
            What the browser may see: a payload of the trial type.
        item
            The random factor: image, unit, pair or rule.
        answer
            What only the server may know: `expected` (an option), `definition`, `repeat_of` ...; {} where nothing is asked.
        block
            Name of the block.
        factors
            Within-subject factors of the design: columns of the export.
        """
        row = TrialRow(
            cell=self.cell.cell,
            condition=self.cell.condition,
            list=self.cell.list,
            position=len(self.rows),
            block=block,
            session=int(payload.get("session", 0)),
            phase=str(payload["phase"]),
            trial_type=self.trial_type,
            trial_id=f"t{opaque(self.study, self.cell.cell, len(self.rows))}",
            item_id=item,
            is_catch=is_catch,
            k_seen=k_seen,
            payload=_json(payload),
            answer=_json(answer),
            factors=_json(factors or {}),
        )
        self.rows.append(row)
        return row


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
