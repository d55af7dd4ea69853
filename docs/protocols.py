"""Write a page for each protocol, from its card, its docstring, its study files and what a walk left: `python docs/protocols.py`.

`python tests/server/walk_protocols.py ... --docs docs/protocols` draws each study's set and takes it in a browser; it leaves the
pictures of `docs/protocols/images` and the rules and texts of `docs/protocols/drawn`, which the pages quote.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from bench.registry import resolve_options
from stimuli.protocol import DESIGNS, DesignCard
from stimuli.records import Checks
from stimuli.template import described

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "configs" / "studies"
FOLDER = ROOT / "docs" / "protocols"
HEAD = "<!-- Written by `python docs/protocols.py`; change the protocol or its study file, not this page. -->"
PHASES = {"practice": "Practice", "train": "Training", "test": "Test"}


def pages() -> dict[str, str]:
    """Return the text of each page by file name."""
    files: dict[str, list[Path]] = {}
    for path in sorted(STUDIES.glob("*.yaml")):
        files.setdefault(yaml.safe_load(path.read_text(encoding="utf-8"))["protocol"], []).append(path)
    for name, paths in files.items():
        paths.sort(key=lambda path: (path.stem != name, path.stem))
    return {f"{name}.md": page(name, paths) for name, paths in sorted(files.items())} | {"README.md": index(files)}


def index(files: Mapping[str, list[Path]]) -> str:
    """Return the page that lists the protocols."""
    lines = [
        HEAD,
        "# Protocols",
        "",
        "Each is a design (`stimuli/designs/NAME.py`) and a study file or several (`configs/studies`). `limen study init NAME` "
        "writes a first study file with every key explained. How often the analysis of each finds what is not there, and holds what "
        "is, was simulated on the frozen schedules: [validity](validity.md).",
        "",
        "| protocol | asks | trial type | chance | analysis | source |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(files):
        card = card_of(name)
        cells = (card.hypothesis, f"`{card.trial_type}`", chance(card), f"`{card.analysis}`", source(card))
        lines.append(f"| [{name}]({name}.md) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def card_of(name: str) -> DesignCard:
    """Return a protocol's card."""
    return cast(DesignCard, DESIGNS.card(name))


def chance(card: DesignCard) -> str:
    """Say what guessing gives."""
    return "nothing is right or wrong" if card.chance is None else f"{card.chance:g}"


def source(card: DesignCard) -> str:
    """Return the citation, as a link where it is one of arXiv's."""
    number = card.citation.removeprefix("arXiv:")
    return f"[{card.citation}](https://arxiv.org/abs/{number})" if number != card.citation else card.citation


def page(name: str, paths: list[Path]) -> str:
    """Return the page of one protocol."""
    card, function = card_of(name), DESIGNS.load(name)
    drawn = {path.stem: read_drawn(path) for path in paths}
    parts = [HEAD, f"# {name}", "", card.summary, "", *question(card), ""]
    parts += introduction(inspect.getdoc(function) or "")
    for path in paths:
        parts += screens(drawn[path.stem])
    parts += options(name, function, paths)
    for path in paths:
        parts += file_part(path, drawn[path.stem], alone=len(paths) == 1)
    return "\n".join(parts).rstrip() + "\n"


def question(card: DesignCard) -> Iterator[str]:
    """Yield what the study asks and how the answers are judged and analysed, as a table."""
    factors = [
        f"{kind}: {', '.join(f'`{name}`' for name in names)}"
        for kind, names in (("between people", card.between), ("within", card.within), ("random", card.random))
        if names
    ]
    yield from ("| | |", "|---|---|", f"| Hypothesis | {card.hypothesis} |", f"| Correct | {card.correct} |")
    yield f"| Chance | {chance(card)} |"
    yield f"| Trial type | `{card.trial_type}` |"
    yield f"| Factors | {'; '.join(factors)} |"
    yield f"| Analysis | `{card.analysis}`{f': `{escaped(card.formula)}`' if card.formula else ''} |"
    yield f"| Source | {source(card)} |"
    yield f"| Version of the design | {card.version} |"


def escaped(text: str) -> str:
    """Return a text that can stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def introduction(docstring: str) -> list[str]:
    """Return what the docstring says before its Parameters, without the summary line."""
    _, _, rest = docstring.partition("\n\n")
    text = rest.partition("Parameters\n----------")[0].strip()
    return [text, ""] if text else []


def screens(drawn: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the pictures of the trials, a laptop's window and a phone's beside it."""
    shown = [one for one in (drawn or {}).get("screens", []) if (FOLDER / "images" / one["file"]).is_file()]
    if not shown:
        return
    yield from ("## What people see", "")
    for one in shown:
        title = f"{PHASES.get(one['phase'], one['phase'])}: {one['heading'].rstrip('.')}"
        yield from (f"{title}.", "", f"![{title}](images/{one['file']})", "")


def options(name: str, function: Any, paths: list[Path]) -> Iterator[str]:
    """Yield the table of options: default, the value of each study file, meaning, and whether the source leaves it open."""
    defaults = resolve_options(function, {}, f"protocol '{name}'")
    told = described(inspect.getdoc(function) or "")
    given = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")).get("design", {}) for path in paths}
    yield from ("## Options", "")
    yield "What the source leaves unknown is an option here, and so marked."
    yield from (
        "",
        f"| option | default | {' | '.join(given)} | meaning | source |",
        "|---|---|---|---|" + "---|" * len(given),
    )
    for option, value in defaults.items():
        text = escaped(told.get(option, ""))
        cells = [plain(design[option]) if option in design else "" for design in given.values()]
        open_ = "unknown" if "unknown" in text.lower() else ""
        yield f"| `{option}` | {plain(value)} | {' | '.join(cells)} | {text} | {open_} |"
    yield ""


def plain(value: Any) -> str:
    """Return a value of a study file as it is written there."""
    return f"`{escaped(json.dumps(value))}`"


def file_part(path: Path, drawn: Mapping[str, Any] | None, *, alone: bool) -> Iterator[str]:
    """Yield what one study file gives: rules, checks, texts and the file with its comments."""
    text = path.read_text(encoding="utf-8")
    file = yaml.safe_load(text)
    below = "##" if alone else "###"
    if not alone:
        yield from (f"## Study file `{path.name}`", "")
    if drawn:
        yield from rules(drawn, file, below)
    yield from checks(file, below)
    if drawn:
        yield from texts(drawn["texts"], below)
    name = path.relative_to(ROOT).as_posix()
    yield from (f"{below} The study file, and how it is run", "", "```bash")
    yield f"limen stimuli build {name}       # freeze the set; `limen stimuli preview {name} -o look` shows it first"
    yield f"limen study serve {name} --dev   # then `limen study bots {name} --n 30`, or people"
    yield f"limen study export {name} -o export --include bots && limen analyze report export -o report"
    yield from ("```", "", f"`{name}`:", "", "```yaml", text.rstrip(), "```", "")


def rules(drawn: Mapping[str, Any], file: Mapping[str, Any], below: str) -> Iterator[str]:
    """Yield the rules of choice and counterbalancing, as the frozen set states them."""
    yield from (f"{below} Choice and counterbalancing", "")
    yield f"{drawn['cells']} cells (condition x list) of {drawn['trials_per_cell']} trials, practice and ratings among them."
    if drawn["file"] != file or drawn["version"] != card_of(file["protocol"]).version:
        yield "The rules and texts below were drawn from an earlier state of this file."
    yield from ("", *(f"- {rule}" for rule in drawn["rules"]), "")


def checks(file: Mapping[str, Any], below: str) -> Iterator[str]:
    """Yield the rules that exclude a person, with their thresholds."""
    given = {name: value for name, value in (file.get("checks") or {}).items() if name != "flag" and value is not None}
    yield from (f"{below} Checks", "")
    if not given:
        yield from ("None in this file; nobody is excluded.", "")
        return
    yield "They exclude from the analysis, never from payment."
    yield from ("", "| check | threshold | meaning |", "|---|---|---|")
    for name, value in given.items():
        yield f"| `{name}` | {value} | {escaped(Checks.model_fields[name].description or '')} |"
    yield ""


def texts(said: Mapping[str, Any], below: str) -> Iterator[str]:
    """Yield all that people read, folded up."""
    parts = [said["consent"], *said["instructions"]]
    yield from (f"{below} What people read", "")
    for one in parts:
        yield from folded(one["title"], one["body"])
    if said.get("quiz"):
        lines = [f"- {one['question']} ({' / '.join(one['options'])}) **{one['answer']}**" for one in said["quiz"]]
        yield from folded("Questions about the instructions", "\n".join(lines))
    yield from folded(f"After the last trial: {said['debrief']['title']}", said["debrief"]["body"])


def folded(title: str, body: str) -> Iterator[str]:
    """Yield a text that opens on a click."""
    yield from (f"<details><summary>{title}</summary>", "", body.strip(), "", "</details>", "")


def read_drawn(path: Path) -> dict[str, Any] | None:
    """Read what a walk left of a study, None if it was never walked."""
    held = FOLDER / "drawn" / f"{path.stem}.json"
    return json.loads(held.read_text(encoding="utf-8")) if held.is_file() else None


def main() -> None:
    """Read the command line and write the pages."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, help="folder of the pages")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (output / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
