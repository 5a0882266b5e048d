"""An attribute looked up in each turn of a loop is looked up once, before it, and kept in a local name.

Assumes that the look-up has no effect and gives the same object throughout the loop. So a dotted name is left alone
where its base is bound in the loop, declared global anywhere or `sys`, whose streams are redirected; where one of its
attributes is assigned in this function or (outside constructors) anywhere in the module, be it by `setattr`; where the
loop opens an object's `__dict__`; where it yields, or calls a method that this module does not define, and so could put
another `a.b` where `a.b.c` is read; and, if it is data and not called, where the loop calls into its base or lets other
code run. A look-up that the loop may never reach is hoisted only from a module or from a list, dict, set or the like
made in this function: it might not exist. A loop over nothing now looks up once.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    binding,
    blocks,
    bound_names,
    expression,
    flat,
    rewritten,
    stored_attributes,
    syntax,
    with_body,
)
from omniperf.agents.arms.pattern.uses import origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 60
EXAMPLE_BEFORE = """\
import math


def roots(numbers, keep):
    result = []
    # only what has a real root
    for number in numbers:
        if number >= 0:
            result.append(math.sqrt(number))
        keep.add(number)
    return result
"""
EXAMPLE_AFTER = """\
import math


def roots(numbers, keep):
    result = []
    result_append = result.append
    math_sqrt = math.sqrt
    keep_add = keep.add
    # only what has a real root
    for number in numbers:
        if number >= 0:
            result_append(math_sqrt(number))
        keep_add(number)
    return result
"""
EXAMPLE_CALLS = ("roots([4, -1, 9], set())", "roots((), set())")

_CONTAINERS = {"bytearray", "dict", "list", "set"}
_DISPLAYS = (cst.List, cst.Dict, cst.Set, cst.ListComp, cst.DictComp, cst.SetComp, cst.SimpleString)
# Modules whose data nobody changes while a program runs, as `sys.stdout` is and a module of settings may be.
_STEADY = (sys.stdlib_module_names - {"sys"}) | {"numpy", "torch", "triton"}
_JUMPS = (ast.Break, ast.Continue, ast.Return, ast.Raise)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass
class _Chain:
    """A dotted name that a loop reads: whether each use is a call, and whether each turn surely reaches one."""

    called: bool = True
    certain: bool = False


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each loop, outer before inner, with all the look-ups that can leave it."""
    tree = syntax(function)
    stored, bindings, owners = source.stored | stored_attributes(tree), bound_names(tree), _owners(tree)
    for block in blocks(function):
        for index, loop in enumerate(block.node.body):
            if not isinstance(loop, cst.For | cst.While):
                continue
            containers = _containers((*block.before, *block.node.body[:index]), bindings, source)
            chains = _hoistable(loop, source, stored, containers, owners)
            if chains:
                listed = ", ".join(f"`{chain}`" for chain in chains)
                new = _hoisted(loop, _named(chains, source))
                body = [*block.node.body[:index], *new, *block.node.body[index + 1 :]]
                yield Rewrite(f"{listed} looked up before the loop", with_body(function, block, body))


def _containers(before: tuple[cst.BaseStatement, ...], bindings: Counter[str], source: Source) -> set[str]:
    """Return the names that the function binds only to containers, made on the way to the loop."""
    made: Counter[str] = Counter()
    for statement in before:
        name, value = binding(statement) or ("", None)
        if isinstance(value, _DISPLAYS) or (isinstance(value, cst.Call) and _makes_container(value, source)):
            made[name] += 1
    return {name for name, count in made.items() if count == bindings[name]}


def _makes_container(call: cst.Call, source: Source) -> bool:
    called = expression(call.func)
    if isinstance(called, ast.Name) and called.id in _CONTAINERS:
        return source.builtin(called.id)
    module, name = origin(called, source) or ("", "")
    return module == "collections" and name in {"Counter", "OrderedDict", "defaultdict", "deque"}


def _owners(function: ast.AST) -> dict[str, str]:
    """Return whose attribute a local name is, for names assigned like `push = self.push`, hoisted before or by hand."""
    owners: dict[str, str] = {}
    for node in ast.walk(function):
        if (alias := _alias(node)) is not None:
            owners[alias[0]] = alias[1].partition(".")[0]
    return owners


def _alias(node: ast.AST) -> tuple[str, str] | None:
    """Return name and dotted name where a statement is `name = a.b`."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if (dotted := _dotted(value)) is not None:
            return name, dotted
    return None


def _hoistable(
    loop: cst.For | cst.While,
    source: Source,
    stored: frozenset[str],
    containers: set[str],
    owners: dict[str, str],
) -> list[str]:
    """Return the dotted names that may be looked up before the loop, in the order of their first use."""
    tree = syntax(loop).body[0]
    bound, disturbed = bound_names(tree), _disturbed(tree, owners)
    found = []
    for chain, use in _chains(tree).items():
        base, *attributes = chain.split(".")
        if bound[base] or base in source.shared or stored.intersection(attributes):
            continue
        if source.modules.get(base) == "sys" or (base not in containers and ("*" in stored or _opens_namespace(tree))):
            continue
        module = source.modules.get(base, "").partition(".")[0] in _STEADY or (use.called and base in source.modules)
        if len(attributes) > 1 and not module and base not in containers and _may_rebind(tree, chain, owners, source):
            continue
        if not use.called and not module and not disturbed.isdisjoint((base, "")):
            continue
        if use.certain or module or base in containers:
            found.append(chain)
    return [chain for chain in found if not chain.startswith(tuple(f"{shorter}." for shorter in found))]


def _opens_namespace(loop: ast.AST) -> bool:
    """Whether the loop takes hold of an object's attributes as a dict, which may be changed under any name."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr == "__dict__")
        or (isinstance(node, ast.Name) and node.id in {"vars", "setattr", "delattr"})
        for node in ast.walk(loop)
    )


def _may_rebind(loop: ast.AST, chain: str, owners: dict[str, str], source: Source) -> bool:
    """Whether a call in the loop may put another object where `a.b` of `a.b.c` is.

    Only a method of `a` or whoever is given `a` can; a method that this module defines is known by what it assigns.
    """
    base, held = chain.partition(".")[0], chain.rpartition(".")[0]
    defined = {node.name for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(loop):
        if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):
            return True
        if isinstance(node, ast.Call):
            given = (*node.args, *(keyword.value for keyword in node.keywords))
            if any(isinstance(argument, ast.Name) and argument.id == base for argument in given):
                return True
            if isinstance(node.func, ast.Name) and owners.get(node.func.id) == base:
                return True
            owner, _, method = (_dotted(node.func) or "").rpartition(".")
            if owner and held.startswith(f"{owner}.") and method not in defined:
                return True
    return False


def _disturbed(loop: ast.AST, owners: dict[str, str]) -> set[str]:
    """Return the names whose objects the loop may change by a call; "" where any code may run in between."""
    names: set[str] = set()
    for node in ast.walk(loop):
        if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await | ast.AsyncFor | ast.AsyncWith):
            names.add("")
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else _dotted(node.func)
            names.add((called or "()").partition(".")[0])
            given = (*node.args, *(keyword.value for keyword in node.keywords))
            names.update(argument.id for argument in given if isinstance(argument, ast.Name))
    pending = list(names)
    while pending:  # what is called may be an attribute of an attribute of ..., each under a name of its own
        owner = owners.get(pending.pop())
        if owner is not None and owner not in names:
            names.add(owner)
            pending.append(owner)
    return names


def _dotted(node: ast.AST) -> str | None:
    """Return `a.b.c` for a chain of attributes that starts with a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join((node.id, *reversed(parts))) if parts and isinstance(node, ast.Name) else None


def _chains(loop: ast.AST) -> dict[str, _Chain]:
    """Collect the dotted names that the loop's body, and a while loop's test, read in the function's own scope."""
    assert isinstance(loop, ast.For | ast.AsyncFor | ast.While)
    found: dict[str, _Chain] = {}
    certain, outer = True, sum(isinstance(node, ast.For | ast.AsyncFor | ast.While) for node in ast.walk(loop)) > 1
    for node in (*([loop.test] if isinstance(loop, ast.While) else []), *loop.body):
        if not outer or _alias(node) is None:  # in an outer loop, this is a look-up that has left the inner one
            _collect(node, certain, False, found)
        certain = certain and not any(isinstance(inner, _JUMPS) for inner in ast.walk(node))
    return found


def _collect(node: ast.AST, certain: bool, called: bool, found: dict[str, _Chain]) -> None:
    if isinstance(node, _SCOPES):
        return
    if (dotted := _dotted(node)) is not None:
        chain = found.setdefault(dotted, _Chain())
        chain.called = chain.called and called
        chain.certain = chain.certain or certain
        return
    sure = _surely_reached(node)
    for child in ast.iter_child_nodes(node):
        _collect(child, certain and child in sure, isinstance(node, ast.Call) and child is node.func, found)


def _surely_reached(node: ast.AST) -> tuple[ast.AST, ...]:
    """Return the children that are evaluated whenever the node is, with nothing around them that catches errors."""
    match node:
        case ast.If(test=first) | ast.IfExp(test=first) | ast.While(test=first) | ast.Assert(test=first):
            return (first,)
        case ast.For(iter=first) | ast.Match(subject=first) | ast.BoolOp(values=[first, *_]):
            return (first,)
        case ast.Compare(left=first, comparators=[second, *_]):
            return (first, second)
        case ast.With(items=items):
            return tuple(items)
        case ast.Try() | ast.TryStar() | ast.AsyncFor() | ast.AsyncWith() | ast.comprehension():
            return ()
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return ()
    return tuple(ast.iter_child_nodes(node))


def _named(chains: list[str], source: Source) -> dict[str, str]:
    """Choose a local name for each dotted one: `self.rows.append` becomes `self_rows_append`."""
    names: dict[str, str] = {}
    for chain in chains:
        wanted = "_".join(part.strip("_") or "_" for part in chain.split("."))
        names[chain] = source.fresh(wanted, taken=names.values())
    return names


def _hoisted(loop: cst.For | cst.While, names: dict[str, str]) -> tuple[cst.BaseStatement, ...]:
    """Return the assignments and the loop that uses them; blank lines go first, comments stay with the loop."""
    comments = next((at for at, line in enumerate(loop.leading_lines) if line.comment), len(loop.leading_lines))
    first, *others = (_assignment(name, chain) for chain, name in names.items())
    spaced = first.with_changes(leading_lines=loop.leading_lines[:comments])
    bare = loop.with_changes(leading_lines=loop.leading_lines[comments:])
    return (spaced, *others, *flat(rewritten(bare, lambda node: _named_in(node, names))))


def _assignment(name: str, chain: str) -> cst.SimpleStatementLine:
    return cst.ensure_type(cst.parse_statement(f"{name} = {chain}"), cst.SimpleStatementLine)


def _named_in(node: cst.CSTNode, names: dict[str, str]) -> cst.CSTNode:
    """Put the local name where the dotted one stood."""
    parts: list[str] = []
    inner = node
    while isinstance(inner, cst.Attribute):
        parts.append(inner.attr.value)
        inner = inner.value
    if not isinstance(node, cst.Attribute) or not isinstance(inner, cst.Name):
        return node
    name = names.get(".".join((inner.value, *reversed(parts))))
    return cst.Name(name, lpar=node.lpar, rpar=node.rpar) if name else node
