"""Only the engine knows the device: a walk through the syntax trees of every other file of `bench`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bench

ROOT = Path(bench.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if ROOT / "engine" not in path.parents)
NAMES = {
    "autocast",
    "no_grad",
    "inference_mode",
    "enable_grad",
    "set_grad_enabled",
    "Generator",
    "manual_seed",
    "OutOfMemoryError",
    "empty_cache",
}
"""Names that belong to the engine; `Generator` only as an attribute of torch."""
METHODS = {"cuda", "cpu", "xpu", "mps", "pin_memory"}


def offences(source: str) -> list[str]:
    """List what a file says of devices, gradients' modes, seeds and memory, as 'line: what'."""
    found = []
    for node in ast.walk(ast.parse(source)):
        what = _offence(node)
        if what:
            found.append(f"{node.lineno}: {what}")  # type: ignore[attr-defined]
    return found


def _offence(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call):
        if any(keyword.arg == "device" for keyword in node.keywords) and not _hands_on(node):
            return "device="
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            return f".{node.func.attr}("
        if isinstance(node.func, ast.Attribute) and node.func.attr == "to":
            return ".to("
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        of_numpy = node.attr == "Generator" and not _is_torch(node.value)
        return None if of_numpy else node.attr
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
        named = [alias.name for alias in node.names if alias.name in NAMES]
        return named[0] if named else None
    return None


def _is_torch(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "torch"


def _hands_on(node: ast.Call) -> bool:
    """Tell whether a call hands the name of a device, as a user typed it, to a function of ours that takes one."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in TAKERS


def _takers() -> set[str]:
    """Find the functions and classes of `bench` with a parameter named `device`."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            members = node.body if isinstance(node, ast.ClassDef) else [node]
            for member in members:
                if isinstance(member, ast.FunctionDef) and any(
                    argument.arg == "device" for argument in member.args.args + member.args.kwonlyargs
                ):
                    found.add(node.name)  # type: ignore[attr-defined]
    return found


TAKERS = _takers()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_outside_the_engine_knows_no_device(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


def test_the_walk_covers_the_methods() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"spaces/pixels.py", "registry.py"} <= names
    assert not any(name.startswith("engine/") for name in names)
    assert any(name.startswith("attributions/") for name in names)


def test_a_device_may_be_handed_on_to_the_engine_and_to_no_tensor() -> None:
    assert {"Engine", "train_classifier", "load_network"} <= TAKERS
    assert not TAKERS & {"zeros", "ones", "tensor", "arange", "rand", "full", "to"}


@pytest.mark.parametrize(
    "line",
    [
        "x = y.to('cuda')",
        "x = y.to(z)",
        "x = y.cuda()",
        "x = y.detach().cpu()",
        "x = torch.zeros(3, device=y.device)",
        "x = y.pin_memory()",
        "with torch.no_grad(): pass",
        "@torch.inference_mode()\ndef f(): pass",
        "with torch.enable_grad(): pass",
        "from torch import no_grad as off",
        "with torch.autocast('cpu'): pass",
        "g = torch.Generator()",
        "torch.manual_seed(0)",
        "torch.random.manual_seed(0)",
        "try: pass\nexcept torch.OutOfMemoryError: pass",
        "torch.cuda.empty_cache()",
    ],
)
def test_the_walker_catches_a_planted_offence(line: str) -> None:
    assert offences(f"import torch\n\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "x = y.type_as(z)",
        "x = y.new_zeros(3)",
        "x: np.random.Generator = draws.numpy()",
        "# x.to('cuda')",
        "engine = Engine(network, device=device)",
        "text = 'call .to(device) first'",
    ],
)
def test_the_walker_lets_clean_lines_pass(line: str) -> None:
    assert offences(line) == []
