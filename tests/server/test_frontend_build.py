"""The build of the front-end: clean lock file, hashed names, size budget, no fonts, notices, and a hook that fails closed."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FRONTEND = Path(__file__).parents[2] / "psychophysics_server" / "frontend"
WORDS = Path(__file__).parents[2] / "stimuli" / "words"
BUDGET = 60_000
"""Bytes of the first page after gzip: script, style and the words of one language."""


@pytest.fixture(scope="module")
def dist(load_hook: Callable[..., ModuleType]) -> Path:
    """The built front-end; built if Node is there, else skipped loudly."""
    hook = load_hook()
    if not hook.is_fresh() and hook.find_node() is None:
        pytest.skip("FRONT-END BUILD NOT TESTED: it is not built and there is no Node to build it")
    hook.build()
    return Path(hook.DIST)


@pytest.fixture
def copy(tmp_path: Path, load_hook: Callable[..., ModuleType]) -> ModuleType:
    """A hook on a copy of the sources, with nothing built or installed."""
    target = tmp_path / "frontend"
    shutil.copytree(FRONTEND, target, ignore=shutil.ignore_patterns("node_modules"))
    return load_hook(target)


def test_the_lock_file_names_no_registry() -> None:
    text = (FRONTEND / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    assert not any("resolved" in package for package in packages.values())
    assert not re.search(r"https?://[^\"]*(registry|npm|artifact|proxy|nexus)", text)
    assert all("integrity" in package for name, package in packages.items() if name)
    assert "omit-lockfile-registry-resolved=true" in (FRONTEND / ".npmrc").read_text(encoding="utf-8")


def test_every_package_is_pinned_exactly() -> None:
    wanted = json.loads((FRONTEND / "package.json").read_text(encoding="utf-8"))
    versions = {**wanted["dependencies"], **wanted["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())


def test_the_manifest_names_hashed_files_that_exist(dist: Path) -> None:
    manifest = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest) == {"index.js", "index.css", "replay.js"}
    for logical, name in manifest.items():
        stem, _, kind = logical.partition(".")
        assert re.fullmatch(rf"{stem}-[A-Z0-9]+\.{kind}", name)
        assert (dist / name).stat().st_size > 1000


def test_the_first_page_keeps_its_budget(dist: Path) -> None:
    manifest = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    size = sum(
        len(gzip.compress((dist / name).read_bytes(), 6)) for name in (manifest["index.js"], manifest["index.css"])
    )
    words = max((WORDS.glob("*.json")), key=lambda path: path.stat().st_size)
    assert size + len(gzip.compress(words.read_bytes(), 6)) <= BUDGET


def test_the_style_sheet_carries_no_font_and_no_foreign_address(dist: Path) -> None:
    manifest = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    style = (dist / manifest["index.css"]).read_text(encoding="utf-8")
    assert "@font-face" not in style
    assert "url(" not in style


def test_the_notices_of_every_bundled_package_are_beside_it(dist: Path) -> None:
    notices = (dist / "THIRD_PARTY_LICENSES.txt").read_text(encoding="utf-8")
    locked = json.loads((FRONTEND / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name in ("jspsych", "seedrandom", "auto-bind"):
        assert f"{name} {locked[f'node_modules/{name}']['version']} (MIT)" in notices
    assert notices.count("Permission is hereby granted") == 3
    assert "random-words" not in notices


def test_a_fresh_bundle_is_not_built_again(dist: Path, load_hook: Callable[..., ModuleType]) -> None:
    assert load_hook().build() is False


def test_a_changed_source_is_noticed(copy: ModuleType) -> None:
    before = copy.stamp()
    (copy.FRONTEND / "src" / "words.ts").write_text("export const words = {};", encoding="utf-8")
    assert copy.stamp() != before


def test_a_bundle_with_a_missing_file_is_not_fresh(copy: ModuleType) -> None:
    copy.DIST.mkdir(parents=True)
    (copy.DIST / "manifest.json").write_text('{"index.js": "index-A.js", "index.css": "index-B.css"}', encoding="utf-8")
    (copy.DIST / ".stamp").write_text(copy.stamp(), encoding="utf-8")
    assert not copy.is_fresh()


def test_without_node_the_build_says_what_is_missing(copy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "find_node", lambda: None)
    with pytest.raises(SystemExit, match="neither Node 18\\+ with npm nor .* LIMEN_SKIP_FRONTEND=1"):
        copy.build()


def test_a_build_that_leaves_no_index_fails(copy: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (copy.FRONTEND / "build.mjs").write_text("", encoding="utf-8")
    monkeypatch.setattr(copy, "find_node", lambda: [[sys.executable], ["npm"]])
    monkeypatch.setattr(copy, "install", lambda npm, node: None)
    with pytest.raises(SystemExit, match=r"without an index\.js"):
        copy.build()


def test_a_step_that_fails_stops_the_build(copy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy.FRONTEND / "build.mjs").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.setattr(copy, "find_node", lambda: [[sys.executable], ["npm"]])
    monkeypatch.setattr(copy, "install", lambda npm, node: None)
    with pytest.raises(SystemExit, match="failed with status 3"):
        copy.build()


def test_a_new_bundle_replaces_the_old_one_whole(copy: ModuleType, tmp_path: Path) -> None:
    for number, name in enumerate(["index-OLD.js", "index-NEW.js"]):
        built = tmp_path / f"built-{number}"
        built.mkdir()
        (built / name).write_text("1", encoding="utf-8")
        (built / "manifest.json").write_text(json.dumps({"index.js": name}), encoding="utf-8")
        copy.publish(built, copy.stamp())
    assert sorted(path.name for path in copy.DIST.iterdir()) == [".stamp", "index-NEW.js", "manifest.json"]
    assert copy.is_fresh()


def test_the_hook_asks_for_node_only_where_it_is_needed_and_missing(
    copy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed here")
    hook = copy.FrontendHook(str(copy.FRONTEND), {}, None, None, str(copy.FRONTEND), "wheel")
    monkeypatch.setattr(copy, "system_node", lambda: None)
    assert hook.dependencies() == [copy.NODE_WHEEL]
    monkeypatch.setenv(copy.SKIP, "1")
    assert hook.dependencies() == []
    monkeypatch.delenv(copy.SKIP)
    monkeypatch.setattr(copy, "system_node", lambda: [["node"], ["npm"]])
    assert hook.dependencies() == []


def test_the_switch_leaves_the_front_end_out(copy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed here")
    monkeypatch.setenv(copy.SKIP, "1")
    copy.FrontendHook(str(copy.FRONTEND), {}, None, None, str(copy.FRONTEND), "wheel").initialize("standard", {})
    assert not copy.DIST.exists()


@pytest.mark.long
def test_the_wheel_and_the_source_distribution_carry_the_page(dist: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed here")
    root = FRONTEND.parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        wheel = archive.namelist()
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        source = [name.partition("/")[2] for name in archive.getnames()]
    page = [f"psychophysics_server/static/dist/{path.name}" for path in dist.iterdir()]
    assert set(page) <= set(wheel)
    assert set(page) <= set(source)
    assert len(wheel) == len(set(wheel))
    assert not any("node_modules" in name for name in [*wheel, *source])
    assert not any(name.startswith("psychophysics_server/frontend/") for name in wheel)
    assert "psychophysics_server/frontend/src/index.ts" in source
