"""One YAML file maps to one frozen pydantic model; a fault is one sentence before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from .registry import LimenError, unknown

Model = TypeVar("Model", bound=pydantic.BaseModel)


class Frozen(pydantic.BaseModel):
    """Base of every configuration model: immutable, and an unknown key is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


def read_yaml(path: str | Path) -> Any:
    """Parse a YAML file safely.

    Raises
    ------
    LimenError
        If the file is missing, unreadable or not YAML; names the line.
    """
    path = Path(path)
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LimenError(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LimenError(f"{path}: cannot be read ({error}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise LimenError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}).") from None


def load_config(path: str | Path, model: type[Model]) -> Model:
    """Read a YAML file into a frozen model.

    Raises
    ------
    LimenError
        For the first fault: file, key path, what was given, what is allowed, the nearest name.
    """
    return parse_config(read_yaml(path), model, where=str(path))


def parse_config(data: Any, model: type[Model], *, where: str) -> Model:
    """Validate already parsed data; `where` opens the error sentence."""
    if not isinstance(data, dict):
        raise LimenError(f"{where}: given {type(data).__name__}, allowed is a mapping with {', '.join(_keys(model))}.")
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        raise _sentence(error, model, where) from None


def _keys(model: Any) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _sentence(error: pydantic.ValidationError, model: type[pydantic.BaseModel], where: str) -> LimenError:
    faults = error.errors()
    # A misspelt key also leaves the right one missing: the typo is the fault worth telling.
    fault = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
    location = list(fault["loc"])
    path = ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        return unknown(f"{where}, key '{path}'", location[-1], _keys(owner) if owner else [])
    if fault["type"] == "missing":
        return LimenError(f"{where}, key '{path}': nothing was given; it is required.")
    context = fault.get("ctx", {})
    if "expected" in context and fault["type"] in {"literal_error", "enum"}:
        allowed = [part.strip(" '") for part in str(context["expected"]).replace(" or ", ", ").split(",")]
        return unknown(f"{where}, key '{path}'", fault["input"], allowed)
    message = fault["msg"].removeprefix("Value error, ").rstrip(".")
    return LimenError(f"{where}, key '{path}': given {fault['input']!r}; {message[:1].lower()}{message[1:]}.")


def _model_at(model: Any, location: Sequence[str | int]) -> Any:
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return None
        model = _inner_model(field.annotation)
        if model is None:
            return None
    return model


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inner = _inner_model(argument)
        if inner is not None:
            return inner
    return None
