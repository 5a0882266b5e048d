"""Kernels that a module compiles for a GPU, and the places that launch one: `kernel[grid](...)`."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.syntax import code

if TYPE_CHECKING:
    from omniperf.agents.arms.pattern.source import Source

BLOCK = re.compile(r"(.*_)?(BLOCK|TILE|CHUNK)(_.*)?|B[A-Z]|XBLOCK|YBLOCK")  # names of how much a kernel takes at a time
LEAST_BLOCK, MOST_BLOCK = 16, 65536
MOST_WARPS = 32

_COMPILES = re.compile(r"(^|\.)jit$|(^|\.)jit\(")


def compiled(function: cst.FunctionDef) -> bool:
    """Whether a function is compiled for a GPU by its decorator."""
    return any(_COMPILES.search(code(decorator.decorator)) for decorator in function.decorators)


def only_compiled(source: Source) -> set[str]:
    """Return the kernels of a module that nothing tunes: a launch alone says how many warps and stages they take."""
    return {
        node.name
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef)
        and [bool(_COMPILES.search(ast.unparse(decorator))) for decorator in node.decorator_list] == [True]
        and source.bound[node.name] == 1
    }


def launches(function: cst.FunctionDef) -> list[tuple[str, cst.Call]]:
    """Return the places where a function launches a kernel, each with the kernel's name."""
    calls = [
        cst.ensure_type(call, cst.Call) for call in m.findall(function.body, m.Call(func=m.Subscript(value=m.Name())))
    ]
    return [(code(call.func).partition("[")[0], call) for call in calls]
