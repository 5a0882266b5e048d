"""A function of which only numbers get out builds a graph for gradients that nobody can ask for: `torch.no_grad()`.

Every return gives numbers (`.item()`, `.tolist()`, `int(...)` and the like), and the function calls nothing but torch,
built-ins and methods of tensors, stores nothing and says nothing of gradients.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code
from omniperf.agents.arms.pattern.tensors import is_tensor, of_torch, tensors, twin_of
from omniperf.agents.arms.pattern.uses import PURE, SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 44
EXAMPLE_BEFORE = """\
import torch


def error(x: torch.Tensor, y: torch.Tensor):
    gap = (x - y).abs()
    return gap.mean().item(), gap.sum().tolist()
"""
EXAMPLE_AFTER = """\
import torch


@torch.no_grad()
def error(x: torch.Tensor, y: torch.Tensor):
    gap = (x - y).abs()
    return gap.mean().item(), gap.sum().tolist()
"""
EXAMPLE_CALLS = ("error(torch.tensor([1.0, 3.0], requires_grad=True), torch.ones(2))",)

_OF_GRADIENTS = re.compile(r"backward|grad|inference")
_NUMBERS = {"bool", "float", "int"}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield the function without gradients."""
    torch, twin = source.local_name("torch"), twin_of(function)
    known = tensors(twin, source)
    if torch is None or not known or function.decorators or function.asynchronous or not source.builtin(*_NUMBERS):
        return
    if _OF_GRADIENTS.search(code(function)) or not all(_harmless(node, twin, known, source) for node in ast.walk(twin)):
        return
    returned = [node.value for node in ast.walk(twin) if isinstance(node, ast.Return)]
    if returned and all(_number(value, known, source) for value in returned):
        decorator = cst.Decorator(cst.parse_expression(f"{torch}.no_grad()"))
        new = function.with_changes(decorators=[decorator])
        yield Rewrite(f"`@{torch}.no_grad()`", new)


def _harmless(node: ast.AST, function: ast.AST, known: set[str], source: Source) -> bool:
    """Whether one node can leave no tensor behind, nor run code that may."""
    match node:
        case ast.Yield() | ast.YieldFrom() | ast.Await() | ast.Global() | ast.Nonlocal() | ast.With():
            return False
        case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
            return False
        case ast.AugAssign(target=ast.Name(id=name)):
            return name not in known
        case ast.Call(func=ast.Name(id=name)) if name in PURE:
            return source.builtin(name)
        case ast.Call(func=ast.Attribute(value=base, attr=method)) if is_tensor(base, known, source):
            return not method.endswith("_")
        case ast.Call(func=called, keywords=keywords):
            return bool(of_torch(called, source)) and all(keyword.arg != "out" for keyword in keywords)
    return node is function or not isinstance(node, SCOPES)


def _number(value: ast.expr | None, known: set[str], source: Source) -> bool:
    match value:
        case ast.Constant():
            return True
        case ast.Tuple(elts=parts):
            return all(_number(part, known, source) for part in parts)
        case ast.Call(func=ast.Attribute(value=base, attr="item" | "tolist"), args=[], keywords=[]):
            return is_tensor(base, known, source)
        case ast.Call(func=ast.Name(id=name)):
            return name in _NUMBERS
    return False
