"""What stands on the screen of a trial, as groups of pictures and words: for contact sheets and the preview page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Group:
    """Pictures that stand together on the screen, and what is said of them; `mark` = the expected answer."""

    label: str
    pictures: tuple[str, ...] = ()
    text: str = ""
    mark: bool = False


def groups(trial_type: str, payload: Mapping[str, Any], answer: Mapping[str, Any]) -> list[Group]:
    """List what a trial shows, in displayed order, with the expected answer marked for the researcher."""
    return list(_SHOWN[trial_type](payload, answer.get("expected")))


def _predict(payload: Mapping[str, Any], expected: Any) -> Iterator[Group]:
    yield Group("picture", (payload["image"],))
    if payload.get("explanation"):
        yield Group("explanation", (payload["explanation"],))
    if payload["phase"] == "train":
        yield Group("", text=f"The machine answered {payload['predicted']}")
    for option in payload["options"]:
        yield Group("", text=option, mark=option == expected)
    if payload.get("reservoir"):
        yield Group("", text=f"{len(payload['reservoir'])} examples in view")


def _forced_choice(payload: Mapping[str, Any], expected: Any) -> Iterator[Group]:
    grids = [
        Group(grid["label"] or grid["polarity"], tuple(grid["pictures"])) for grid in payload.get("references", ())
    ]
    queries = [
        Group("query", (picture,), mark=option == expected)
        for option, picture in zip(payload["options"], payload["queries"], strict=True)
    ]
    yield from [*grids[:1], *queries, *grids[1:]]


def _choice(payload: Mapping[str, Any], expected: Any) -> Iterator[Group]:
    for panel in payload.get("panels", ()):
        yield Group(panel.get("label", ""), tuple(panel.get("pictures", ())), panel.get("text", ""))
    for option, face in zip(payload["options"], payload["faces"], strict=True):
        pictures = tuple(face.get("pictures", ()))
        yield Group(face.get("label", ""), pictures, face.get("text", ""), mark=option == expected)
    if payload.get("entry"):
        yield Group("", text=f"free answer: {payload['entry']['label']}")


def _reveal(payload: Mapping[str, Any], expected: Any) -> Iterator[Group]:
    yield Group(
        payload["word"], (payload["image"],), f"{payload.get('mode', 'reveal')}, {payload['limit_ms'] / 1000:g} s"
    )


def _draw(payload: Mapping[str, Any], expected: Any) -> Iterator[Group]:
    seen = payload.get("exemplar_ms", 0)
    how = f"seen for {seen / 1000:g} s, then drawn" if seen else "in view while it is drawn"
    yield Group(payload.get("word", "") or "exemplar", (payload["image"],), how)


_SHOWN: Mapping[str, Callable[[Mapping[str, Any], Any], Iterator[Group]]] = {
    "predict": _predict,
    "forced_choice": _forced_choice,
    "choice": _choice,
    "reveal": _reveal,
    "draw": _draw,
}
