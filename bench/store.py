"""Artifacts on disk: the manifest is written last, by rename; it exists = the artifact is whole."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .registry import LimenError, unknown

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_PACKAGES = ("limen", "torch", "numpy", "scipy", "pandas", "scikit-learn", "statsmodels", "pillow", "matplotlib")


def canonical_json(value: Any) -> str:
    """Render a value so that equal values give equal text: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def artifact_key(kind: str, config: Mapping[str, Any], parents: Sequence[str] = ()) -> str:
    """Hash what an artifact is made from: kind, resolved config, parents' keys, schema version."""
    identity = {"kind": kind, "config": config, "parents": sorted(parents), "schema": SCHEMA_VERSION}
    return sha256_bytes(canonical_json(identity).encode())[:24]


@dataclass(frozen=True)
class Artifact:
    """A whole artifact: a folder whose manifest names each file with its bytes and SHA-256."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def key(self) -> str:
        return str(self.manifest["key"])

    @property
    def config(self) -> Mapping[str, Any]:
        return self.manifest["config"]

    @property
    def summary(self) -> Mapping[str, Any]:
        """Small results a table needs without opening a file."""
        return self.manifest.get("summary", {})

    def file(self, name: str) -> Path:
        """Return the path of one of the artifact's files.

        Raises
        ------
        UnknownName
            If the manifest does not name the file.
        """
        if name not in self.manifest["files"]:
            raise unknown(f"artifact {self.kind}/{self.key}, file", name, self.manifest["files"])
        return self.path / name

    def rows(self, name: str = "rows.parquet") -> pd.DataFrame:
        """Read a table of rows."""
        return pd.read_parquet(self.file(name))

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """Read a safetensors file as numpy arrays."""
        from safetensors.numpy import load_file

        return load_file(self.file(name))

    def verify(self) -> list[str]:
        """Compare each file with its recorded hash; return one sentence a fault, [] if whole."""
        faults = []
        for name, facts in self.manifest["files"].items():
            path = self.path / name
            if not path.is_file():
                faults.append(f"{path}: missing.")
            elif sha256_file(path) != facts["sha256"]:
                faults.append(f"{path}: content differs from the manifest's SHA-256.")
        return faults


class Draft:
    """An artifact being written: files go into `path`; nothing is visible until the manifest is renamed in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.summary: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}

    def write_rows(self, frame: pd.DataFrame, name: str = "rows.parquet") -> None:
        """Write a table as Parquet."""
        frame.to_parquet(self.path / name, index=False)

    def write_tensors(self, tensors: Mapping[str, np.ndarray], name: str) -> None:
        """Write numpy arrays as safetensors."""
        from safetensors.numpy import save_file

        save_file({key: np.asarray(value, order="C") for key, value in tensors.items()}, self.path / name)

    def write_bytes(self, data: bytes, name: str) -> None:
        """Write raw bytes, making sub-folders as needed."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def write_json(self, value: Any, name: str) -> None:
        """Write readable JSON."""
        self.write_bytes((json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(), name)


class Store:
    """A folder of artifacts, `<root>/<kind>/<key>/`; nothing in it is ever overwritten."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def get(self, kind: str, key: str) -> Artifact | None:
        """Return a whole artifact, or None if it is absent or half-written."""
        path = self.path(kind, key)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise LimenError(f"{path / MANIFEST}: not a manifest ({error}).") from None
        return Artifact(path, manifest)

    def open(self, kind: str, key: str) -> Artifact:
        """Return a whole artifact.

        Raises
        ------
        LimenError
            If it is absent or half-written.
        """
        artifact = self.get(kind, key)
        if artifact is None:
            state = "was left half-written" if self.path(kind, key).exists() else "is not there"
            raise LimenError(f"store {self.root}: artifact {kind}/{key} {state}.")
        return artifact

    def all(self, kind: str) -> Iterator[Artifact]:
        """Yield the whole artifacts of a kind, oldest first."""
        folder = self.root / kind
        keys = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        found = [artifact for key in keys if (artifact := self.get(kind, key)) is not None]
        yield from sorted(found, key=lambda artifact: (artifact.manifest["created"], artifact.key))

    def half_written(self) -> list[Path]:
        """List folders without a manifest: what a killed run left behind."""
        if not self.root.is_dir():
            return []
        folders = [path for kind in self.root.iterdir() if kind.is_dir() for path in kind.iterdir() if path.is_dir()]
        return sorted(path for path in folders if not (path / MANIFEST).exists())

    @contextmanager
    def write(
        self,
        kind: str,
        config: Mapping[str, Any],
        *,
        parents: Mapping[str, str] | None = None,
        seed: int | None = None,
    ) -> Iterator[Draft]:
        """Write one artifact whole: files first, synced; the manifest last; the folder renamed into place.

        Parameters
        ----------
        config
            The resolved configuration; with kind and parents it is the artifact's identity.
        parents
            Role -> key of each artifact this one stands on.

        Raises
        ------
        LimenError
            If the artifact exists already: nothing is overwritten.
        """
        parents = dict(parents or {})
        key = artifact_key(kind, config, list(parents.values()))
        target = self.path(kind, key)
        if (target / MANIFEST).exists():
            raise LimenError(f"store {self.root}: artifact {kind}/{key} exists already; nothing is overwritten.")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Draft(Path(tempfile.mkdtemp(prefix=f".{key}-", dir=target.parent)))
        try:
            yield draft
            files = {}
            for path in sorted(draft.path.rglob("*")):
                if path.is_file():
                    with path.open("rb") as stream:
                        os.fsync(stream.fileno())
                    name = path.relative_to(draft.path).as_posix()
                    files[name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            manifest = {
                "kind": kind,
                "key": key,
                "schema": SCHEMA_VERSION,
                "config": dict(config),
                "parents": parents,
                "seed": seed,
                "created": datetime.now(UTC).isoformat(timespec="microseconds"),
                "files": files,
                "summary": draft.summary,
                **draft.facts,
                **environment(),
            }
            _write_manifest(draft.path / MANIFEST, manifest)
            _move_into_place(draft.path, target)
        except BaseException:
            shutil.rmtree(draft.path, ignore_errors=True)
            raise


def _move_into_place(draft: Path, target: Path) -> None:
    """Give a whole artifact its name; where another process was first, its artifact stays and this one goes."""
    if target.exists() and not (target / MANIFEST).exists():
        shutil.rmtree(target)
    try:
        os.rename(draft, target)
    except OSError:
        if not (target / MANIFEST).exists():
            raise
        shutil.rmtree(draft)
    _sync_folder(target.parent)


def _write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=2, sort_keys=True, ensure_ascii=False)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(part, path)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_revision() -> str | None:
    """Return the revision of the checkout this package runs from, with '+changes' if it differs; else None."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        run = {"cwd": here, "capture_output": True, "text": True, "timeout": 10, "check": True}
        revision = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()  # type: ignore[call-overload]
        changes = subprocess.run(["git", "status", "--porcelain"], **run).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changes else "")


def environment() -> dict[str, Any]:
    """Return what a reader needs to run it again: package versions, Python, platform, git revision."""
    return {
        "packages": _versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "git": git_revision(),
    }


def latest(store: Store, kind: str, **config: Any) -> Artifact:
    """Return the newest artifact of a kind whose config holds the given values.

    Raises
    ------
    LimenError
        If there is none; lists what the store has for the first of the given keys.
    """
    found = list(store.all(kind))
    fitting = [a for a in found if all(a.config.get(name) == value for name, value in config.items())]
    if fitting:
        return fitting[-1]
    name, value = next(iter(config.items()))
    raise unknown(f"store {store.root}, {kind} by {name}", value, sorted({str(a.config.get(name)) for a in found}))
