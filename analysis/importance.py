"""From an export of a reveal game to human importance maps in an artifact folder that `limen bench` can align with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.registry import LimenError, unknown
from bench.store import Artifact, Store, artifact_key, sha256_file

from .load.checks import one_source, read_sessions
from .load.tables import read_table, text_columns
from .measures.importance_maps import Chosen, Filters, Smoothing, choose_rounds, pooled
from .measures.map_agreement import mean_interval, split_half_ceiling, step_up

KIND = "human_maps"


def read_rounds(export: str | Path, *, exclusions: bool = True) -> pd.DataFrame:
    """Read the rounds that may count: test rounds of finished, not excluded people of one kind, without catch rounds.

    Parameters
    ----------
    export : folder of `limen study export`
    exclusions : bool
        False keeps the people whom the study's checks exclude.

    Returns
    -------
    DataFrame
        The rows of the export's strokes, in the order they were given.

    Raises
    ------
    LimenError
        If the folder is no export with strokes, or no round is left.
    """
    rounds = read_part(export, "strokes", text={"strokes", "picture", "oracle"}, exclusions=exclusions)
    if rounds.empty:
        raise LimenError(
            f"{Path(export).name}: no round of a finished, not excluded person is left, so there are no maps."
        )
    return rounds


def read_part(export: str | Path, part: str, *, text: set[str], exclusions: bool = True) -> pd.DataFrame:
    """Read a file of an export that has a row an answer: those of test trials, of finished people of one kind.

    Parameters
    ----------
    part : 'strokes' or 'drawings'
    text : columns that are text in this file alone
    exclusions : whether excluded people are left out

    Raises
    ------
    LimenError
        If the folder is no export with such a file.
    """
    folder = Path(export)
    own, main, people = (_one(folder, name) for name in (part, "", "sessions"))
    rows = read_table(own, text=text_columns() | text)
    extra = sorted(folder.glob("data/study-*_description-excluded_data.csv"))
    answers = pd.concat([read_table(file, text=text_columns()) for file in (main, *extra)], ignore_index=True)
    sessions = read_sessions(read_table(people, text=text_columns()), people.name)
    source, _ = one_source(sessions)
    fitting = sessions[(sessions["source"] == source) & sessions["finished"] & ~(sessions["excluded"] & exclusions)]
    facts = answers.drop_duplicates("row_id").set_index("row_id")[["phase", "is_catch"]]
    rows = rows.join(facts, on="row_id")
    catch = rows["is_catch"].map(lambda value: str(value).strip().lower() in ("true", "1", "1.0"))
    kept = rows[(rows["phase"] == "test") & ~catch & rows["participant_id"].isin(fitting["participant_id"])]
    return kept.reset_index(drop=True)


def _one(folder: Path, part: str) -> Path:
    pattern = f"study-*_description-{part}_data.csv" if part else "study-*_data.csv"
    found = [f for f in sorted(folder.glob(f"data/{pattern}")) if part or "_description-" not in f.name]
    if len(found) != 1:
        raise LimenError(
            f"{folder}: {len(found)} files data/{pattern}; "
            f"{'an export of a drawing study' if part == 'drawings' else 'an export of a reveal game'} (limen study export) has one."
        )
    return found[0]


def write_maps(
    export: str | Path,
    out: str | Path,
    stimuli: Store,
    *,
    condition: str | None = None,
    filters: Filters = Filters(),  # noqa: B008 - frozen
    how: Smoothing = Smoothing(kernel=7, sigma=1.2),  # noqa: B008 - frozen
    side: int = 64,
    weights: Mapping[str, float] | None = None,
    halves: int = 20,
    seed: int = 0,
) -> Artifact:
    """Write the importance map of each image, its people and how far they agree, as an artifact below `out`.

    Parameters
    ----------
    export : folder of `limen study export`
    out : folder of artifacts; may be the bench's store
    stimuli : the store that holds the export's stimulus set, which knows each picture's pixels
    condition : only the rounds of one condition; all by default
    filters, how, side, weights, halves, seed : see `measures.importance_maps` and `measures.map_agreement`

    Returns
    -------
    Artifact
        `maps.safetensors` (maps float32 (I, H, W)), and `rows.parquet`: image_id, index, pixels (hash of the picture
        that the network saw), people, halves (correlation of the maps of two halves of the people), null (of halves).

    Raises
    ------
    LimenError
        If no image has enough people, images differ in shape, or the stimulus set is not there or of another game.
    """
    rounds = read_rounds(export)
    if condition is not None:
        known = sorted(rounds["condition"].unique())
        if condition not in known:
            raise unknown(f"{Path(export).name}, condition", condition, known)
        rounds = rounds[rounds["condition"] == condition]
    chosen = choose_rounds(rounds, filters, side=side, weights=weights)
    reliable = split_half_ceiling(chosen.images, how, halves=halves, seed=seed)
    shapes = {one.masks.shape[1:] for one in chosen.images}
    if len(shapes) > 1:
        raise LimenError(
            f"{Path(export).name}: maps of several shapes, {sorted(shapes)}; one artifact holds one shape."
        )
    table = _pixels(Path(export), stimuli, chosen)
    table = table.assign(people=reliable.people, halves=reliable.values, null=reliable.null)
    maps = np.stack([pooled(one, how) for one in chosen.images]).astype(np.float32)
    config: dict[str, Any] = {
        "strokes": sha256_file(_one(Path(export), "strokes")), "answers": sha256_file(_one(Path(export), "")),
        "condition": condition, "filters": vars(filters), "blur": vars(how), "side": side, "halves": halves, "seed": seed,
        "weights": dict(sorted((weights or {}).items())),
    }  # fmt: skip
    store, parents = Store(out), {"stimuli": _stimuli_key(Path(export))}
    key = artifact_key(KIND, config, list(parents.values()))
    if store.get(KIND, key) is None:
        with store.write(KIND, config, parents=parents, seed=seed) as draft:
            draft.write_rows(table, "rows.parquet")
            draft.write_tensors({"maps": maps}, "maps.safetensors")
            draft.summary = {
                "images": len(maps), "ceiling": step_up(mean_interval(reliable.values)[0]), "null": step_up(mean_interval(reliable.null)[0]),
                "rounds": dict(chosen.counts),
            }  # fmt: skip
    return store.open(KIND, key)


def _stimuli_key(export: Path) -> str:
    try:
        return str(json.loads((export / "provenance.json").read_text(encoding="utf-8"))["stimuli"])
    except (OSError, ValueError, KeyError):
        raise LimenError(f"{export / 'provenance.json'}: does not name the stimulus set of this export.") from None


def _pixels(export: Path, stimuli: Store, chosen: Chosen) -> pd.DataFrame:
    """Return image_id, index and pixel hash of the chosen images, from the stimulus set."""
    artifact = stimuli.open("stimuli", _stimuli_key(export))
    items = artifact.rows("items.parquet").set_index("item_id")
    rows = []
    for one in chosen.images:
        facts = json.loads(str(items.loc[one.image_id, "facts"])) if one.image_id in items.index else {}
        if not {"index", "pixels"} <= set(facts):
            raise LimenError(
                f"stimulus set {artifact.key}, item '{one.image_id}': does not say which picture of the run it is; "
                "importance maps are made from studies of protocol 'clickme'."
            )
        rows.append({"image_id": one.image_id, "index": int(facts["index"]), "pixels": str(facts["pixels"])})
    return pd.DataFrame(rows)
