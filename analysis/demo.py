"""`limen demo`: the whole road on real input, by running the other commands and printing each."""

from __future__ import annotations

import http.client
import json
import resource
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import click

from bench.registry import LimenError

PLAN, STUDY = "demo.yaml", "studies/utility.yaml"


@click.command()
@click.option(
    "-o",
    "--output",
    default="out/demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="A new folder for what the demo makes.",
)
@click.option("--participants", default=96, show_default=True, help="Simulated people.")
@click.option("--configs", type=click.Path(path_type=Path), help="Folder with demo.yaml and studies/utility.yaml.")
def demo(output: Path, participants: int, configs: Path | None) -> None:
    """Train, explain, score, build stimuli, serve a study, let simulated people take it, and report."""
    folder = _configs(configs)
    output = _fresh(output)
    store, study, plan = str(output / "store"), str(folder / STUDY), str(folder / PLAN)
    database, export = str(output / "responses.db"), str(output / "export")
    scores, begin = str(output / "scores.csv"), time.monotonic()
    _run("bench", "run", plan, "--store", store)
    _run("bench", "table", plan, "--store", store, "--format", "csv", "-o", scores)
    _run("bench", "report", plan, "--store", store, "-o", str(output / "bench-report"))
    _run("stimuli", "build", study, "--store", store)
    port = free_port()
    with serving(["study", "serve", study, "--store", store, "--db", database, "--port", str(port)], port, output):
        url = f"http://127.0.0.1:{port}"
        _run("study", "bots", study, "--store", store, "--n", str(participants), "--url", url)
    _run("study", "verify", study, "--store", store, "--db", database)
    _run("study", "export", study, "--store", store, "--db", database, "--include", "bots", "-o", export)
    _run("analyze", "report", export, "--scores", scores, "-o", str(output / "study-report"))
    _summary(output, time.monotonic() - begin)


def _configs(given: Path | None) -> Path:
    """Find the demo's two files: the given folder, ./configs, the checkout's, or the ones the wheel carries."""
    beside = Path(__file__).resolve().parent.parent / "configs"
    packaged = Path(str(files("analysis") / "configs"))
    for folder in [given] if given else [Path("configs"), beside, packaged]:
        if (folder / PLAN).is_file() and (folder / STUDY).is_file():
            return folder
    raise LimenError(f"limen demo: no {PLAN} and {STUDY} in {given or 'configs'}; give their folder with --configs.")


def _fresh(output: Path) -> Path:
    """Return `output`, or the first of `output-2`, `output-3` ... that is not there: nothing is overwritten."""
    candidate, count = output, 1
    while candidate.exists():
        count += 1
        candidate = output.with_name(f"{output.name}-{count}")
    candidate.mkdir(parents=True)
    return candidate


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", "from bench.cli import limen; limen(prog_name='limen')", *arguments]


def _announce(arguments: Sequence[str]) -> None:
    click.secho(f"\n$ limen {shlex.join(arguments)}", bold=True)


def _run(*arguments: str) -> None:
    _announce(arguments)
    status = subprocess.run(_command(arguments), check=False).returncode
    if status:
        raise LimenError(f"limen demo: `limen {shlex.join(arguments)}` ended with exit status {status}; see above.")


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(arguments: Sequence[str], port: int, output: Path, *, patience_s: float = 300) -> Iterator[None]:
    """Run a `limen` command that serves on `port` until the context ends; its log goes to `output`.

    It has `patience_s` seconds to answer for the first time.

    Raises
    ------
    LimenError
        If it does not answer; with the last lines of its log.
    """
    _announce([*arguments, "&"])
    log = output / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(_command(arguments), stdout=stream, stderr=subprocess.STDOUT)
        try:
            _wait(process, port, log, patience_s)
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, limit: float) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    tail = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise LimenError(
        f"limen demo: the server did not answer on port {port}; its last words: {' | '.join(tail) or 'none'}"
    )


def _summary(output: Path, seconds: float) -> None:
    """Print where the reports lie, what the study found, and what it cost."""
    from .report import utility_lines

    results = json.loads((output / "study-report" / "results.json").read_text(encoding="utf-8"))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    click.echo()
    for line in utility_lines(results):
        click.echo(line)
    click.echo("\nThe people of this study are simulated, from the accuracies stated in the study file.")
    click.echo(f"bench report  {output / 'bench-report' / 'report.html'}")
    click.echo(f"study report  {output / 'study-report' / 'report.html'}")
    click.secho(
        f"done in {seconds / 60:.1f} minutes; the largest process took {peak / 1024:.1f} GiB of memory", bold=True
    )
