"""The floors of the house: who may import whom, and what a wheel puts on a user's path."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"bench", "stimuli", "psychophysics_server", "analysis"}


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_contracts_hold():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    "statement",
    [
        "import bench",
        "import bench.registry, bench.records, bench.images, bench.store, bench.config, bench.cli",
        "import bench.registry; [r.names() for r in bench.registry.REGISTRIES.values()]",
        "import stimuli.build, stimuli.render, stimuli.study, stimuli.cli",
        "import psychophysics_server.app, psychophysics_server.export.folder, psychophysics_server.cli",
        "import analysis.report, analysis.load, analysis.cli, analysis.demo",
    ],
)
def test_torch_stays_out(statement):
    assert "torch" not in modules_after(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "import bench.api, bench.runner, bench.cli",
        "import stimuli.build, stimuli.cli",
        "import analysis.report, analysis.cli",
    ],
)
def test_flask_stays_out(statement):
    assert "flask" not in modules_after(statement)


def test_command_line_help_loads_no_room():
    quiet = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    loaded = modules_after(f"{quiet}    from bench.cli import limen; limen(['--help'], standalone_mode=False)")
    assert not loaded & {"torch", "flask", "pandas", "matplotlib", "stimuli", "analysis", "psychophysics_server"}


@pytest.mark.long
def test_wheel_holds_the_four_packages_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("limen-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert not [name for name in names if "node_modules" in name or name.endswith((".ts", ".db"))]
    assert any(name.startswith("psychophysics_server/static/dist/index-") and name.endswith(".js") for name in names)
    assert "bench/templates/report.html" in names


def test_top_level_is_what_the_design_names():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in listed if not name.startswith(".")}
    carried = {
        "tests",
        "configs",
        "docs",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
        "Makefile",
        "constraints.txt",
    }
    assert top == PACKAGES | carried


def test_one_version_is_told_everywhere():
    told = {
        re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)[1]
        for name, pattern in (
            ("pyproject.toml", r'^version = "(.+)"$'),
            ("CITATION.cff", r"^version: (.+)$"),
            ("CHANGELOG.md", r"^## (\d\S+)"),
        )
    }
    assert len(told) == 1
