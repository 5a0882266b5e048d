"""YAML with nothing in it that surprises: the values, and the line each one stands on.

Only the core schema of YAML 1.2 counts (`no` is text, `1e3` is a number). Tags, anchors, aliases, merge keys, duplicate
keys and keys that are not text are refused: a task file is data to be read by people, and none of these survives that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

Location: TypeAlias = tuple[str | int, ...]

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times faster, where PyYAML was built with libyaml

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


class NotPlainError(Exception):
    """The text is not plain YAML; `line` counts from 1."""

    def __init__(self, line: int, message: str, remedy: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class Document:
    """A parsed file. `lines` has every key and every list item by its location, and `()` for the whole."""

    value: Any
    lines: dict[Location, int]

    def line(self, location: Location) -> int:
        """Return the line of a location, or of the nearest thing around it that is there."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]


def parse(data: bytes) -> Document:
    """Parse one document. Raises NotPlainError."""
    if len(data) > _MAX_BYTES:
        raise NotPlainError(1, f"the file has {len(data)} bytes", f"Keep it below {_MAX_BYTES}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotPlainError(line, f"byte 0x{data[error.start]:02x} is not UTF-8", "Save the file as UTF-8.") from None
    try:
        return _Reader(text).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line + 1, len(text.splitlines())) if mark else 1  # at the end, the mark is past the last line
        raise NotPlainError(
            line, f"not valid YAML: {error.problem or error.context}", _yaml_remedy(text, line)
        ) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        said = str(error).splitlines()[0]
        raise NotPlainError(
            line, f"not valid YAML: {said}", "Remove that character, or write it as an escape."
        ) from None


def _yaml_remedy(text: str, line: int) -> str:
    written = (text.splitlines() or [""])[min(line, text.count("\n") + 1) - 1 : line]
    if written and "\t" in written[0][: len(written[0]) - len(written[0].lstrip())]:
        return "Indent with spaces, not tabs."
    if written and re.search(r":\s*[^\"'#\s][^\"'#]*: ", written[0]):
        return "Put the value in quotes: it contains a colon."
    return "Correct that line, or the one above it; check indentation and quotes."


class _Reader:
    """Builds values from the parser's events, one at a time, so that an alias is seen before anything expands it."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._lines: dict[Location, int] = {}

    def document(self) -> Document:
        event = next(self._events)
        while not isinstance(event, yaml.DocumentStartEvent | yaml.StreamEndEvent):
            event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return Document(None, {(): 1})
        first = next(self._events)
        self._lines[()] = _line(first)
        value = self._value(first, ())
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise NotPlainError(_line(event), "a second document starts here", "Keep one task a file.")
        return Document(value, self._lines)

    def _value(self, event: Any, location: Location) -> Any:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            raise NotPlainError(line, f"the alias *{event.anchor} is not allowed", "Write the value out.")
        if event.anchor:
            raise NotPlainError(
                line, f"the anchor &{event.anchor} is not allowed", "Write the value out where it is used."
            )
        if event.tag is not None:
            name = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise NotPlainError(
                line, f"the tag {name} is not allowed", "Remove the tag; quote a value to make it text."
            )
        if len(location) > _MAX_DEPTH:
            raise NotPlainError(line, f"nested more than {_MAX_DEPTH} deep", "Flatten it.")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event.value) if event.implicit[0] else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(location)
        return self._mapping(location)

    def _sequence(self, location: Location) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            here = (*location, len(values))
            self._lines[here] = _line(event)
            values.append(self._value(event, here))
        return values

    def _mapping(self, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            key = self._value(event, (*location, "")) if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) else None
            if not isinstance(key, str):
                shown = repr(event.value) if isinstance(event, yaml.ScalarEvent) else "a list or mapping"
                raise NotPlainError(line, f"the key {shown} is not text", "Put the key in quotes.")
            if key == "<<":
                raise NotPlainError(line, "the merge key << is not allowed", "Write the values out.")
            if key in values:
                first = self._lines[*location, key]
                raise NotPlainError(line, f"{key!r} is given twice, first on line {first}", "Keep one of the two.")
            self._lines[*location, key] = line
            values[key] = self._value(next(self._events), (*location, key))
        return values


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(text: str) -> Any:
    """Return the value of an unquoted scalar under the core schema of YAML 1.2."""
    if text.lower() in _WORDS and text in (text.lower(), text.upper(), text.capitalize()):
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        # As written: 0123456 is more likely an abbreviated commit than a number, and no number of a task starts so.
        return text if re.match(r"[-+]?0[0-9]", text) or len(text) > 18 else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
