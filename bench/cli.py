"""The command line: `limen`, whose subcommands load when called, and its `bench` group."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .registry import REGISTRIES, LimenError, unknown

if TYPE_CHECKING:
    from .engine import Engine
    from .engine.precision import ForwardPrecision
    from .runner import Progress

STORE = ".limen/store"


class Lazy(click.Group):
    """A group whose subcommands are entry points, imported only when one of them is called."""

    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group="limen.commands")}

    def list_commands(self, context: click.Context) -> list[str]:
        order = ["demo", "bench", "stimuli", "study", "analyze"]
        names = self._points()
        return [name for name in order if name in names] + sorted(set(names) - set(order))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        point = self._points().get(name)
        return point.load() if point else None

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self._points() and not args[0].startswith("-"):
            raise unknown("limen, command", args[0], self.list_commands(context))
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except LimenError as error:
            click.echo(f"error: {error}", err=True)
            context.exit(1)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _PURPOSE.get(name, "")) for name in self.list_commands(context)])


_PURPOSE = {
    "demo": "the whole road on real input, in minutes",
    "bench": "explain a network and score the explanations",
    "stimuli": "build, preview and verify a frozen stimulus set",
    "study": "protocols; serve a study, simulate people, export",
    "analyze": "reports on responses and scores",
}


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="limen")
def limen() -> None:
    """Is this explanation of a vision model true, and is it any use to a person?"""


@click.group()
def bench() -> None:
    """Explain networks and score the explanations."""


@bench.command("list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_methods(kind: str | None, as_json: bool) -> None:
    """List what there is, with version, cost, direction and citation."""
    from .zoo.networks import LOADERS
    from .zoo.pictures import IMAGES

    kinds = {**REGISTRIES, IMAGES.kind: IMAGES, LOADERS.kind: LOADERS}
    found = [each for each in kinds if kind in (None, each, f"{each}s", f"{each.removesuffix('y')}ies")]
    if not found:
        raise unknown("limen bench list, kind", kind, kinds)
    cards = [
        {**kinds[each].card(name).facts(), "group": kinds[each].group(name)}
        for each in found
        for name in kinds[each].names()
    ]
    if as_json:
        # JSON has no infinity: an open bound is null.
        open_ended = [
            {
                name: [b if math.isfinite(b) else None for b in fact] if name == "bounds" else fact
                for name, fact in card.items()
            }
            for card in cards
        ]
        click.echo(json.dumps(open_ended, indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for each in found:
        rows = [card for card in cards if card["kind"] == each]
        if not rows:
            continue
        is_metric = each == "metric"
        table = Table(title=each, title_justify="left", box=None, pad_edge=False)
        for heading in ["name", *(["question", "better"] if is_metric else []), "what it is", "cost", "source"]:
            table.add_column(heading, overflow="fold", no_wrap=heading in ("name", "question", "better"))
        for card in rows:
            arrow = {"up": "higher", "down": "lower", "none": "-"}[card["direction"]] if is_metric else ""
            extra = [card["group"], arrow] if is_metric else []
            peers = f"\npresets: {', '.join(card['presets'])}" if card["presets"] else ""
            table.add_row(card["name"], *extra, card["summary"] + peers, card["cost"], card["citation"])
        console.print(table)
        console.print()


@bench.command()
@click.option("--network", required=True, help="e.g. resnet@scenes_biased, timm:NAME, module:function")
@click.option("--images", required=True, help="e.g. scenes_biased, digits, folder:PATH")
@click.option("--method", required=True, help="Name of an attribution method; see `limen bench list attribution`.")
@click.option("--split", default="test", show_default=True)
@click.option("--n", default=4, show_default=True, help="How many images.")
@click.option("--seed", default=0, show_default=True)
@click.option("--space", default="pixels", show_default=True, help="e.g. pixels:blur, wavelets:haar:3")
@click.option(
    "-O",
    "--option",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the method, e.g. steps=20 or preset=xplique; repeat for more.",
)
@click.option("--device", default="auto", show_default=True)
@click.option("-o", "--output", default="explanation.png", show_default=True, type=click.Path(path_type=Path))
def explain(settings: tuple[str, ...], **options: Any) -> None:
    """Explain a few images now, and write one picture."""
    from .report import draw_explanations

    draw_explanations(**options, settings=_settings(settings))
    click.echo(f"wrote {options['output']}")


@bench.command("visualize")
@click.option("--network", required=True, help="e.g. resnet@scenes, timm:NAME, module:function")
@click.option("--images", required=True, help="Image set whose colours and spectrum count as natural, e.g. scenes.")
@click.option("--method", required=True, help="See `limen bench list visualization`.")
@click.option("--target", "targets", multiple=True, help="Class name or number; repeat for more. [the first four]")
@click.option("--layer", help="Make pictures for units of this layer instead; --target then numbers units.")
@click.option("--n", default=256, show_default=True, help="Images to measure, or to begin with.")
@click.option("--size", type=click.IntRange(min=16), help="Side of the pictures. [16/7 of the network's]")
@click.option("--seed", default=0, show_default=True)
@click.option("-O", "--option", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the method.")
@click.option("--device", default="auto", show_default=True)
@click.option("-o", "--output", default="visualization.png", show_default=True, type=click.Path(path_type=Path))
def visualize_features(settings: tuple[str, ...], targets: tuple[str, ...], **options: Any) -> None:
    """Make pictures for classes or units now, and write one picture."""
    from .report import draw_visualizations

    draw_visualizations(**options, targets=targets, settings=_settings(settings))
    click.echo(f"wrote {options['output']}")


def _settings(settings: tuple[str, ...]) -> dict[str, str]:
    for text in settings:
        if "=" not in text:
            raise LimenError(f"option -O: given '{text}', allowed is NAME=VALUE.")
    return dict(text.split("=", 1) for text in settings)


@bench.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--store", default=STORE, show_default=True, type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True, type=click.Choice(["auto", "fp32", "bf16", "fp16"]))
@click.option("--wide/--narrow", default=None, help="Leaderboard width; by default as the terminal.")
def run(plan: Path, store: Path, device: str, precision: ForwardPrecision, wide: bool | None) -> None:
    """Run a plan: explain, score, keep; a killed run resumes where it stopped."""
    from . import plan as plans
    from . import report, runner
    from .store import Store

    loaded = plans.load_plan(plan)
    folder = Store(store)
    for path in folder.half_written():
        click.echo(f"ignored, half-written by an earlier run: {path}", err=True)
    engines = runner.load_engines(loaded, device=device, precision=precision)
    with _bar(engines.values()) as progress:
        artifact = runner.Runner(loaded, folder, engines, progress).run()
    report.print_leaderboard(runner.run_table(artifact), wide=wide)
    click.echo(f"run {loaded.name}: {artifact.path}")


@bench.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True, type=click.Choice(["auto", "fp32", "bf16", "fp16"]))
def forecast(plan: Path, device: str, precision: ForwardPrecision) -> None:
    """Say what a plan will cost, before it is run: passes and hours."""
    from rich.console import Console

    from . import forecast as forecasts
    from . import plan as plans
    from . import runner

    loaded = plans.load_plan(plan)
    engines = runner.load_engines(loaded, device=device, precision=precision)
    with Console(stderr=True).status("") as status:
        found = forecasts.forecast(loaded, engines, lambda label: status.update(f"going through {label}"))
    forecasts.print_forecast(found)


@bench.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--store", default=STORE, show_default=True, type=click.Path(path_type=Path))
@click.option("--format", "style", default="csv", type=click.Choice(["csv", "json", "latex", "md"]))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file; the terminal by default.")
def table(plan: Path, store: Path, style: str, output: Path | None) -> None:
    """Print the tidy scores of a plan's newest run."""
    from . import report

    text = report.format_table(report.find_run(plan, store).rows("table.parquet"), style)
    if output is None:
        sys.stdout.write(text)
    elif output.exists():
        raise LimenError(f"{output}: exists already; nothing is overwritten.")
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")


@bench.command("report")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--store", default=STORE, show_default=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A new folder.")
def write_report(plan: Path, store: Path, output: Path) -> None:
    """Write the leaderboard page with figures."""
    from . import report
    from .store import Store

    page = report.write_report(report.find_run(plan, store), Store(store), output)
    click.echo(f"wrote {page}")


@bench.command()
@click.argument("network")
@click.option("--port", default=8100, show_default=True, type=click.IntRange(1, 65535))
@click.option("--device", default="auto", show_default=True)
def oracle(network: str, port: int, device: str) -> None:
    """Score pictures for reveal trials, on this machine only, until Ctrl-C."""
    from . import zoo
    from .engine import Engine
    from .oracle import oracle_server

    server = oracle_server(Engine(zoo.load_network(network, device=device), device=device), port=port)
    click.echo(
        f"{network}: http://127.0.0.1:{port}, for `limen study serve STUDY.yaml --oracle http://127.0.0.1:{port}`"
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("stopped")
    finally:
        server.server_close()


@bench.command()
def schema() -> None:
    """Print the JSON Schema of a plan file."""
    from .plan import Plan

    click.echo(json.dumps(Plan.model_json_schema(), indent=2))


@contextmanager
def _bar(engines: Collection[Engine]) -> Iterator[Progress]:
    """Show the cell that is being made, how many are done, and the passes through the networks as they go on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    from .runner import Progress

    class Passes(ProgressColumn):
        def render(self, task: object) -> Text:
            return Text(f"{sum(engine.passes for engine in engines):,} passes")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<34.34}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        Passes(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("loading", total=None)
        counts = {True: 0, False: 0}

        def done(reused: bool) -> None:
            counts[reused] += 1
            bar.advance(task)

        yield Progress(
            total=lambda count: bar.update(task, total=count),
            begin=lambda label: bar.update(task, description=label),
            done=done,
        )
    click.echo(f"cells: {counts[False]} made, {counts[True]} found in the store", err=True)
