"""Reading and editing one function's syntax: libcst nodes are what is edited, their `ast` twin is what is asked.

`ast` knows which names are stored, loaded or deleted and is fast; libcst keeps every blank and comment. So a question
about names is put to `ast.parse` of a node's code, and an edit is made on the node.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Replacement = cst.CSTNode | cst.FlattenSentinel[cst.BaseStatement]

_PRINTER = cst.Module([])
_OTHER_SCOPES = (cst.FunctionDef, cst.ClassDef, cst.Lambda)
_CLAUSES = (cst.If, cst.Else, cst.ExceptHandler, cst.ExceptStarHandler, cst.Finally, cst.MatchCase)


def code(node: cst.CSTNode) -> str:
    """Return a node's text, without the indentation it stands at."""
    return _PRINTER.code_for_node(node)


def syntax(statement: cst.CSTNode) -> ast.Module:
    """Return the `ast` twin of a statement."""
    return ast.parse(code(statement))


def expression(node: cst.BaseExpression) -> ast.expr:
    """Return the `ast` twin of an expression, which may span lines inside somebody's parentheses."""
    return ast.parse(f"({code(node)}\n)", mode="eval").body


def bound_names(tree: ast.AST) -> Counter[str]:
    """Count how often each name is bound (or deleted, or declared global) in a tree, over all scopes but classes'.

    What a class body binds (a method called `set`) no function sees under that name.
    """
    names: Counter[str] = Counter()
    pending = [(tree, False)]
    while pending:
        node, in_class = pending.pop()
        if isinstance(node, ast.Global | ast.Nonlocal) or not in_class:
            names.update(_bound_by(node))
        opens = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            inside = isinstance(node, ast.ClassDef) and child in node.body
            pending.append((child, inside or (in_class and not opens)))
    return names


def _bound_by(node: ast.AST) -> list[str]:
    """Return the names that one node by itself binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.alias(name=name, asname=asname):
            return [asname or name.partition(".")[0]]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.MatchMapping(rest=str(name)):
            return [name]
        case ast.Global(names=several) | ast.Nonlocal(names=several):
            return several
    return []


def stored_attributes(tree: ast.AST) -> set[str]:
    """Return the names of all attributes that are assigned or deleted in a tree, on whatever object; "*" for any."""
    return {name for node in ast.walk(tree) for name in stored_by(node)}


def stored_by(node: ast.AST) -> list[str]:
    """Return the attributes that one node by itself assigns or deletes; "*" where it does not say which."""
    match node:
        case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.Call(func=ast.Name(id="setattr" | "delattr") | ast.Attribute(attr="__setattr__" | "__delattr__")):
            texts = [given.value for given in node.args[:2] if isinstance(given, ast.Constant)]
            return [text for text in texts if isinstance(text, str)] or ["*"]
        case ast.Subscript(value=space, ctx=ast.Store() | ast.Del()) if _namespace(space):
            return ["*"]
        case ast.Call(func=ast.Attribute(value=space, attr=method)) if _namespace(space):
            return [] if method in {"copy", "get", "items", "keys", "values"} else ["*"]
    return []


def _namespace(space: ast.expr) -> bool:
    """Whether an expression is the dict of an object's attributes."""
    match space:
        case ast.Attribute(attr="__dict__") | ast.Call(func=ast.Name(id="vars" | "globals")):
            return True
    return False


def mentions(tree: ast.AST, name: str) -> int:
    """Count the places where a name is read, bound or deleted as a variable."""
    return sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


def private_local(function: cst.FunctionDef, name: str) -> bool:
    """Whether no other scope can see this local: not global, not nonlocal, in no nested function or class."""
    tree = syntax(function).body[0]
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global | ast.Nonlocal) and name in node.names:
            return False
        if isinstance(node, scopes) and node is not tree and mentions(node, name):
            return False
    return True


def binding(statement: cst.CSTNode) -> tuple[str, cst.BaseExpression] | None:
    """Return name and value where a statement is `name = value` or `name: type = value` and nothing else."""
    match statement:
        case cst.SimpleStatementLine(
            body=[
                cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value)
                | cst.AnnAssign(target=cst.Name(value=name), value=cst.BaseExpression() as value)
            ]
        ):
            return name, value
    return None


@dataclass(frozen=True)
class Block:
    """An indented block of a function's own scope, and how execution gets there.

    `before` are the statements that ran to their end before the block is entered; `enclosing` are the compound
    statements around the block, outermost first.
    """

    node: cst.IndentedBlock
    before: tuple[cst.BaseStatement, ...]
    enclosing: tuple[cst.BaseStatement, ...]


def blocks(function: cst.FunctionDef) -> Iterator[Block]:
    """Yield the blocks of a function, outer before inner; nested functions and classes are left out."""
    if isinstance(function.body, cst.IndentedBlock):
        yield from _blocks(Block(function.body, (), ()))


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for index, statement in enumerate(block.node.body):
        for inner in _inner_blocks(statement):
            before = (*block.before, *block.node.body[:index])
            yield from _blocks(Block(inner, before, (*block.enclosing, statement)))


def _inner_blocks(node: cst.CSTNode) -> Iterator[cst.IndentedBlock]:
    if isinstance(node, (*_OTHER_SCOPES, cst.SimpleStatementLine)):
        return
    for child in node.children:
        if isinstance(child, cst.IndentedBlock):
            yield child
        elif isinstance(child, _CLAUSES):
            yield from _inner_blocks(child)


def replaced(function: cst.FunctionDef, old: cst.CSTNode, new: cst.CSTNode) -> cst.FunctionDef:
    """Return the function with one of its nodes replaced."""
    return cst.ensure_type(function.deep_replace(old, new), cst.FunctionDef)


def with_body(function: cst.FunctionDef, block: Block, body: Sequence[cst.BaseStatement]) -> cst.FunctionDef:
    """Return the function with other statements in one of its blocks."""
    return replaced(function, block.node, block.node.with_changes(body=body))


class _Rewriter(cst.CSTTransformer):
    def __init__(self, change: Callable[[cst.CSTNode], Replacement]) -> None:
        super().__init__()
        self.change = change

    def on_visit(self, node: cst.CSTNode) -> bool:
        return not isinstance(node, _OTHER_SCOPES)

    def on_leave(  # type: ignore[override]
        self,
        original_node: cst.CSTNode,  # noqa: ARG002 - libcst's signature
        updated_node: cst.CSTNode,
    ) -> Replacement:
        return self.change(updated_node)


def rewritten(
    statement: cst.BaseStatement, change: Callable[[cst.CSTNode], Replacement]
) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
    """Return the statement after `change` on each of its nodes, children first; other scopes are skipped."""
    return statement.visit(_Rewriter(change))  # type: ignore[return-value]


def flat(statement: cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]) -> tuple[cst.BaseStatement, ...]:
    """Return what `rewritten` made of one statement as a tuple."""
    return tuple(statement) if isinstance(statement, cst.FlattenSentinel) else (statement,)


def with_element(
    node: cst.BaseStatement | cst.BaseSuite, container: str, key: str, name: str
) -> cst.BaseStatement | cst.BaseSuite:
    """Return the node with a name wherever it reads `container[key]`; `key` is code as `ast` writes it."""

    def change(inner: cst.CSTNode) -> cst.CSTNode:
        match inner:
            case cst.Subscript(value=cst.Name(value=base)) if base == container:
                twin = expression(inner)
                if isinstance(twin, ast.Subscript) and ast.unparse(twin.slice) == key:
                    return cst.Name(name, lpar=inner.lpar, rpar=inner.rpar)
        return inner

    return node.visit(_Rewriter(change))  # type: ignore[return-value]


def elements(tree: ast.AST, container: str, key: str) -> list[ast.Subscript]:
    """Return the places where a tree reads or stores `container[key]`; `key` is code as `ast` writes it."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == container
        and ast.unparse(node.slice) == key
    ]


def scoped_mentions(tree: ast.AST, name: str) -> bool:
    """Whether a nested function, class or lambda of a tree mentions a name."""
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    return any(isinstance(node, scopes) and node is not tree and mentions(node, name) > 0 for node in ast.walk(tree))
