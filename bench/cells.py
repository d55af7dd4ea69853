"""Cells of a run: each becomes an artifact once, and each score becomes a row of the run's table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import api
from .plan import Method
from .records import Score, ScoreRow, frame
from .registry import METRICS
from .store import Artifact, Draft, Store, artifact_key


@dataclass
class Progress:
    """What a run tells its caller: a cell begins, a cell is done or was there already."""

    total: Callable[[int], None] = lambda count: None
    begin: Callable[[str], None] = lambda label: None
    done: Callable[[bool], None] = lambda reused: None


class Cells:
    """Make artifacts by role; one that is in the store already is not made again."""

    def __init__(self, store: Store, progress: Progress, seed: int) -> None:
        self.store = store
        self.progress = progress
        self.seed = seed
        self.parents: dict[str, str] = {}
        """Role -> key of every artifact of the run."""
        self.scores: list[Score] = []

    def make(
        self,
        kind: str,
        config: Mapping[str, Any],
        role: str,
        parents: Mapping[str, str],
        fill: Callable[[Draft], None],
    ) -> Artifact:
        """Return the artifact of this identity; `fill(draft)` writes its files where it is not there."""
        self.progress.begin(f"{kind}  {role}")
        key = artifact_key(kind, config, list(parents.values()))
        artifact = self.store.get(kind, key)
        reused = artifact is not None
        if artifact is None:
            with self.store.write(kind, config, parents=parents, seed=self.seed) as draft:
                fill(draft)
            artifact = self.store.open(kind, key)
        self.parents[f"{kind}/{role}" if role else kind] = artifact.key
        self.progress.done(reused)
        return artifact

    def keep(self, artifact: Artifact, method: str, metric: str) -> None:
        """Put a score into the table under this plan's labels: another plan may have made it under its own."""
        self.scores.append(Score(**{**artifact.summary, "method": method, "metric": metric}))


def scored(result: api.ScoreResult, metric: Method, method: Method, cost: Mapping[str, Any], **facts: str) -> Score:
    """Return a row of the table; `facts` are network, images, subject and, for dictionaries, layer and label."""
    known: dict[str, Any] = {"layer": "", **facts}
    known["metric"] = known.pop("label", metric.label)
    return Score(
        method=method.label,
        options=method.changed,
        question=METRICS.group(metric.name),
        seconds=float(cost["seconds"]),
        forwards=int(cost["forwards"]),
        backwards=int(cost["backwards"]),
        **known,
        **api.summarise(result),
    )


def write_score(draft: Draft, result: api.ScoreResult, score: Score, samples: Sequence[str]) -> None:
    """Write a row a sample, the curves where there are any, and the score itself."""
    rows = [
        ScoreRow(sample=str(name), value=float(value), null=float(null), ceiling=float(top))
        for name, value, null, top in zip(samples, result.values, result.null, result.ceiling, strict=True)
    ]
    table = frame(ScoreRow, rows)
    for name, column in result.extra.items():
        table[name] = np.asarray(column)
    draft.write_rows(table)
    if result.curve_x is not None and result.curve_y is not None:
        draft.write_tensors(
            {"x": np.asarray(result.curve_x, dtype=np.float64), "y": np.asarray(result.curve_y, dtype=np.float64)},
            "curves.safetensors",
        )
    draft.summary.update(asdict(score))
