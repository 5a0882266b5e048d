"""A comment in a file, which changes nothing: what `null` appends to the first target, and a task's self-test too."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from omniperf.tasks.globs import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMENT = "This comment changes nothing."

_SUFFIXES = {
    "#": "py pyi pyx pxd pxi toml yaml yml sh bash zsh rb pl r jl cmake mk cfg conf nix tcl ex exs star bzl bazel",
    "//": "c h cc cpp cxx hh hpp hxx cu cuh cl hip metal js jsx mjs cjs ts tsx rs go java kt kts scala swift cs zig "
    "proto glsl wgsl dart php fs v sv",
    "--": "sql lua hs adb ads",
    ";": "ini asm lisp clj scm el ll",
    "!": "f90 f95 f03 f08",
    "%": "tex erl",
    "/* */": "css s",
    "<!-- -->": "html htm xml svg md",
}  # fmt: skip
_BY_SUFFIX = {f".{suffix}": style for style, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_BY_NAME = dict.fromkeys(("Makefile", "Dockerfile", "CMakeLists.txt", "Gemfile", "BUILD", "meson.build"), "#")


def existing(tree: Path, globs: tuple[str, ...]) -> Iterator[str]:
    """Yield the files of a tree that the globs cover: in the globs' order, then by path."""
    paths = sorted(_files(tree))
    for glob in globs:
        yield from (path for path in paths if matches(path, (glob,)))


def _files(tree: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            path = Path(folder, name)
            if name != ".git" and not path.is_symlink():
                yield path.relative_to(tree).as_posix()


def comment_style(path: str) -> str | None:
    """Return how a comment is written in a file of this name: its start, or start and end; None where it is unknown."""
    pure = PurePosixPath(path)
    return _BY_NAME.get(pure.name) or _BY_SUFFIX.get(pure.suffix.lower())


def with_comment(text: str, style: str) -> str:
    """Append the comment as a line of its own; the text ends with a newline if it did before, of the same kind."""
    newline = "\r\n" if "\r\n" in text else "\n"
    start, _, end = style.partition(" ")
    comment = f"{start} {COMMENT} {end}".rstrip()
    return f"{text}{comment}{newline}" if text.endswith("\n") or not text else f"{text}{newline}{comment}"
