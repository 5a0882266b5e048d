"""What is wrong with a task or a sweep, in words for its author: pydantic's errors with a line and a remedy each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from omniperf.tasks.schema import SCHEMA

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from omniperf.tasks.plain_yaml import Document


@dataclass(frozen=True)
class Problem:
    """One error of a file."""

    line: int
    message: str
    remedy: str


def problems(error: ValidationError, document: Document, record: type[BaseModel]) -> list[Problem]:
    """Return every error of a file that should be such a record, in the order of the file."""
    found = {_problem(detail, document, record) for detail in error.errors(include_url=False)}
    return sorted(found, key=lambda problem: (problem.line, problem.message))


def _problem(detail: ErrorDetails, document: Document, record: type[BaseModel]) -> Problem:
    location = tuple(part for part in detail["loc"] if part != "[key]")
    line = document.line(location)
    if not location:  # a check of the whole task: its message begins with the key it is about
        keys = [str(place[0]) for place in document.lines if len(place) == 1]
        said = detail["msg"].removeprefix("Value error, ")
        about = next((key for key in keys if said.startswith(f"{key}: ")), None)
        about = about or next((key for key in keys if re.search(rf"\b{re.escape(key.rstrip('s'))}\b", said)), None)
        line = document.lines[about,] if about else line
    said, remedy = _in_words(detail, location, record)
    if detail["type"] == "extra_forbidden":
        return Problem(line, said, remedy)
    name = _dotted(location)
    return Problem(line, f"{name}: {said}" if name else said, remedy)


def _dotted(location: tuple[str | int, ...]) -> str:
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return name.removeprefix(".")


def _in_words(detail: ErrorDetails, location: tuple[str | int, ...], record: type[BaseModel]) -> tuple[str, str]:
    """Return what is wrong and what to do about it."""
    kind, context = detail["type"], detail.get("ctx", {})
    given = _short(detail["input"])
    match kind:
        case "extra_forbidden":
            known = _keys_at(record, location[:-1])
            near = get_close_matches(str(location[-1]), known, 1)
            remedy = f"Did you mean `{near[0]}`?" if near else f"Remove it; known here: {', '.join(known)}."
            return f"{_dotted(location)} is not a known key", remedy
        case "missing":
            example = SCHEMA if location == ("schema",) else "..."
            return "missing", f"Add `{location[-1]}: {example}`."
        case "string_type" if isinstance(detail["input"], int | float):
            return f"must be text, not {given}", f'Put it in quotes: "{given}".'
        case "string_type":
            return f"must be text, not {given}", "Write one text here."
        case "tuple_type":
            one = isinstance(detail["input"], str)
            return f"must be a list, not {given}", f"Write `[{given}]`." if one else "Write a list of `- ...` lines."
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"must be a mapping, not {given}", "Write `key: value` lines below it."
        case "literal_error":
            return f"must be {context['expected']}, not {given}", "Use one of these."
        case "value_error":
            return str(context["error"]), getattr(context["error"], "remedy", "Correct it.")
        case "string_pattern_mismatch":
            return f"{given} does not match {context['pattern']}", "Use only what that pattern allows."
        case _:
            said = detail["msg"].removeprefix("Input ")
            return f"{said[:1].lower()}{said[1:]}, not {given}", "Correct the value."


def _short(value: Any) -> str:
    shown = repr(value)
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _keys_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the keys that a record knows at a location."""
    for part in location:
        if isinstance(part, str):
            field = next(field for name, field in model.model_fields.items() if part in (name, field.alias))
            model = _model_in(field.annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
