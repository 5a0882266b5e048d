"""Globs over the paths of a tree: `*` stays inside a folder, `**` crosses folders."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    """Translate one glob; a glob that names a folder covers what is in it."""
    pattern, position = "", 0
    glob = glob.removeprefix("./").rstrip("/")
    while position < len(glob):
        if glob.startswith("**/", position):
            pattern, position = pattern + "(?:[^/]+/)*", position + 3
        elif glob.startswith("**", position):
            pattern, position = pattern + ".*", position + 2
        elif glob[position] == "*":
            pattern, position = pattern + "[^/]*", position + 1
        elif glob[position] == "?":
            pattern, position = pattern + "[^/]", position + 1
        elif glob[position] == "[" and "]" in glob[position + 2 :]:
            end = glob.index("]", position + 2)
            inside = glob[position + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            pattern += "[" + ("^/" + inside[1:] if inside[0] in "!^" else inside) + "]"
            position = end + 1
        else:
            pattern, position = pattern + re.escape(glob[position]), position + 1
    return re.compile(pattern + "(?:/.*)?", re.DOTALL)


def matches(path: str, globs: Iterable[str]) -> bool:
    """Whether any of the globs covers the path (relative, forward slashes)."""
    return any(glob in (".", "./") or _compiled(glob).fullmatch(path) for glob in globs)
