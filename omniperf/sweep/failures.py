"""Failures of host or provider that are alike: the next attempt would meet the same."""

from __future__ import annotations

import re

IDENTICAL = 3  # in a row, after which a run or a sweep ends


class Failures:
    """The failures in a row so far. Numbers do not count: a request's id or a port makes no other failure."""

    def __init__(self) -> None:
        self._last: list[tuple[str | None, str]] = []

    def end(self) -> None:
        """An attempt has ended by itself."""
        self._last.clear()

    def add(self, kind: str | None, detail: str) -> str:
        """Note a failure; why to stop now, or ""."""
        # A full disk is the same wherever it is noticed.
        self._last = [*self._last, (kind, "" if kind == "disk" else re.sub(r"\w*\d\w*", "", detail))][-IDENTICAL:]
        alike = len(self._last) == IDENTICAL and len(set(self._last)) == 1
        return f"{IDENTICAL} attempts in a row failed alike: {detail}" if alike else ""
