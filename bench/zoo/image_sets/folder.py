"""Anyone's pictures: class sub-folders, or a `labels.csv` with the columns file and label."""

from __future__ import annotations

import csv
import hashlib
import math
from pathlib import Path

import numpy as np

from ...images import SUFFIXES, ImageSet, read_picture
from ...registry import LimenError, registered, unknown
from ..pool import Pool, check_size, check_split

SPLITS = ("train", "test", "all")


@registered("images", version=1, citation="none")
def folder(split: str, path: str, *, size: int = 224, test_share: float = 0.3, classes: tuple[str, ...] = ()) -> Pool:
    """Return the pictures of a folder, in classes named by its sub-folders or by its labels.csv.

    A folder with `train/` and `test/` inside is taken at its word. Any other is split by a hash of each picture's
    relative path, `test_share` of every class (at least one picture) going to `test`; `all` is everything.
    Classes are numbered in alphabetical order, or as in `classes`, the order of the network that is to be explained.
    """
    check_split(f"folder:{path}", split, SPLITS)
    check_size(f"folder:{path}", size)
    if not 0 < test_share < 1:
        raise LimenError(f"image set 'folder:{path}', option 'test_share': given {test_share}, allowed is 0 to 1.")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise LimenError(f"image set 'folder:{path}': no such folder.")
    files, names = _listing(root)
    for name in sorted(set(names)):
        if classes and name not in classes:
            raise unknown(f"image set 'folder:{path}', class", name, classes)
    classes = classes or tuple(sorted(set(names)))
    if split != "all":
        files, names = _keep(root, files, names, split, test_share)
    labels = np.asarray([classes.index(name) for name in names], dtype=np.int64)

    def draw(indices: np.ndarray) -> ImageSet:
        return ImageSet(
            name=f"folder:{path}",
            pictures=np.stack([read_picture(root / files[i], size) for i in indices]),
            labels=labels[indices],
            classes=classes,
            ids=tuple(files[i] for i in indices),
        )

    return Pool(labels=labels, draw=draw)


def _listing(root: Path) -> tuple[list[str], list[str]]:
    """List relative paths and class names of every picture, in path order."""
    table = root / "labels.csv"
    if table.is_file():
        rows = _read_table(table)
    elif _is_split(root):
        found = [path for part in ("train", "test") for path in _pictures(root / part)]
        rows = [(path.relative_to(root).as_posix(), path.relative_to(root).parts[1]) for path in found]
    else:
        found = _pictures(root)
        rows = [(path.relative_to(root).as_posix(), path.relative_to(root).parts[0]) for path in found]
    if not rows:
        loose = 0 if table.is_file() else sum(path.suffix.lower() in SUFFIXES for path in root.iterdir())
        given = f"{loose} pictures without a class, directly inside of it" if loose else "no pictures found"
        raise LimenError(
            f"image set 'folder:{root}': {given}; allowed are class sub-folders or a labels.csv, "
            f"with {', '.join(sorted(SUFFIXES))} files."
        )
    rows.sort()
    return [file for file, _ in rows], [name for _, name in rows]


def _is_split(root: Path) -> bool:
    return not (root / "labels.csv").is_file() and (root / "train").is_dir() and (root / "test").is_dir()


def _pictures(root: Path) -> list[Path]:
    """List the pictures inside class sub-folders (at any depth), leaving hidden files out."""
    return [
        path
        for path in root.glob("*/**/*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]


def _read_table(table: Path) -> list[tuple[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            for column in ("file", "label"):
                if column not in columns:
                    raise LimenError(
                        f"{table}: column '{column}' is missing; allowed are the columns file and label, "
                        f"given {', '.join(columns) or 'none'}."
                    )
            rows = [(str(row["file"] or "").strip(), str(row["label"] or "").strip()) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LimenError(f"{table}: cannot be read as CSV ({error}).") from None
    for line, (file, label) in enumerate(rows, start=2):
        if not file or not label:
            raise LimenError(f"{table}, line {line}: given file '{file}' and label '{label}', both are required.")
    files = [file for file, _ in rows]
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise LimenError(f"{table}: '{twice}' is listed twice; each file may have one label.")
    return rows


def _keep(root: Path, files: list[str], names: list[str], split: str, test_share: float) -> tuple[list[str], list[str]]:
    if _is_split(root):
        chosen = {file for file in files if file.split("/", 1)[0] == split}
    else:
        test: set[str] = set()
        for name in set(names):
            members = [file for file, owner in zip(files, names, strict=True) if owner == name]
            members.sort(key=lambda file: hashlib.sha256(file.encode()).digest())
            test.update(members[: math.ceil(test_share * len(members))])
        chosen = test if split == "test" else set(files) - test
    if not chosen:
        raise LimenError(
            f"image set 'folder:{root}', split '{split}': holds no pictures; split 'all' holds {len(files)}."
        )
    kept = [(file, name) for file, name in zip(files, names, strict=True) if file in chosen]
    return [file for file, _ in kept], [name for _, name in kept]
