"""A tensor converted or made anew in each turn of a loop, and the same each time, is made once, before the loop.

`x.float()`, `x.to(dtype)`, `x.cuda()`, `torch.tensor(...)`, `torch.arange(...)` and the like, of names that the loop
neither binds nor, as far as it can be seen, writes into. What they give is only calculated with: nobody keeps it or
writes into it. A loop over nothing now converts once.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    blocks,
    bound_names,
    code,
    expression,
    flat,
    rewritten,
    syntax,
    with_body,
)
from omniperf.agents.arms.pattern.tensors import (
    CONVERSIONS,
    CREATORS,
    calculated_with,
    of_torch,
    tensors,
    twin_of,
    unwritten,
)
from omniperf.agents.arms.pattern.uses import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source
    from omniperf.agents.arms.pattern.uses import Function

RANK = 25
EXAMPLE_BEFORE = """\
import torch


def projected(rows: torch.Tensor, weight: torch.Tensor):
    total = torch.zeros(weight.shape[1])
    for row in rows:
        total = total + row @ weight.float() * torch.tensor([2.0, 0.5])
    return total
"""
EXAMPLE_AFTER = """\
import torch


def projected(rows: torch.Tensor, weight: torch.Tensor):
    total = torch.zeros(weight.shape[1])
    weight_float = weight.float()
    torch_tensor = torch.tensor([2.0, 0.5])
    for row in rows:
        total = total + row @ weight_float * torch_tensor
    return total
"""
EXAMPLE_CALLS = ("projected(torch.ones(2, 3), torch.eye(3)[:, :2].double()).tolist()",)

_RANDOM = {"empty", "rand", "randint", "randn", "randperm"}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each loop, outer before inner, and conversion that can leave it."""
    twin = twin_of(function)
    known = tensors(twin, source)
    if source.local_name("torch") is None:
        return
    for block in blocks(function):
        for index, loop in enumerate(block.node.body):
            if not isinstance(loop, cst.For | cst.While):
                continue
            tree, said = syntax(loop).body[0], set()
            for found in m.findall(loop.body, m.Call(func=m.Attribute(value=m.Name()))):
                call = cst.ensure_type(found, cst.Call)
                wanted = expression(call)
                assert isinstance(wanted, ast.Call)
                if ast.dump(wanted) in said or not _same_each_turn(wanted, tree, twin, known, source):
                    continue
                said.add(ast.dump(wanted))
                name = source.fresh(code(call.func).replace(".", "_"))
                first = cst.parse_statement(f"{name} = {code(call)}").with_changes(leading_lines=loop.leading_lines)
                text = ast.dump(wanted)
                new = flat(rewritten(loop, lambda node, text=text, name=name: _named(node, text, name)))  # type: ignore[misc]
                body = [
                    *block.node.body[:index],
                    first,
                    new[0].with_changes(leading_lines=()),
                    *block.node.body[index + 1 :],
                ]
                yield Rewrite(f"`{code(call)}` made before the loop", with_body(function, block, body))


def _same_each_turn(call: ast.Call, loop: ast.AST, function: Function, known: set[str], source: Source) -> bool:
    """Whether each turn makes an equal tensor, and only calculates with it."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if not all(_plain(one, known, source) for one in given) or any(keyword.arg is None for keyword in call.keywords):
        return False
    locals_, bound = bound_names(function), bound_names(loop)
    names = {node.id for one in given for node in ast.walk(one) if isinstance(node, ast.Name)} - set(source.modules)
    if any(bound[name] or not locals_[name] for name in names):
        return False
    match call.func:
        case ast.Attribute(value=ast.Name(id=name), attr=method) if name in known:
            if method not in CONVERSIONS or not unwritten(loop, name, function, source):
                return False
        case called if of_torch(called, source) not in CREATORS - _RANDOM:
            return False
    return calculated_with(call, function, source)


def _plain(given: ast.expr, known: set[str], source: Source) -> bool:
    """Whether an argument is made of constants, names, and attributes of tensors and of torch."""
    if isinstance(given, ast.List | ast.Tuple):
        return all(_plain(one, known, source) for one in given.elts)
    return plain(given) and all(
        isinstance(node.value, ast.Name) and (node.value.id in known or of_torch(node, source))
        for node in ast.walk(given)
        if isinstance(node, ast.Attribute)
    )


def _named(node: cst.CSTNode, text: str, name: str) -> cst.CSTNode:
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and ast.dump(expression(node)) == text:
        return cst.Name(name)
    return node
