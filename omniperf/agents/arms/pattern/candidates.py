"""From a profile to candidates: the hot functions of a module, and what each rule would make of them."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.kernels import compiled
from omniperf.agents.arms.pattern.rules import flagged, name_of
from omniperf.agents.arms.pattern.syntax import bound_names, syntax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.rules import Rewrite, Rule
    from omniperf.agents.arms.pattern.source import Source

MOST_SITES = 20  # in one function; a rule that never comes to rest stops here


@dataclass(frozen=True)
class Function:
    """One function of a module; `name` is qualified, and numbered where a name is defined again (a property's setter).

    `first` to `last` are its lines, decorators included.
    """

    name: str
    first: int
    last: int
    node: cst.FunctionDef


@dataclass(frozen=True)
class Candidate:
    """A rule applied to one function, at all places or at one: the module's new text and what it says of itself."""

    function: str
    rule: str
    sites: tuple[str, ...]
    text: str
    speculative: bool = False

    @property
    def description(self) -> str:
        """One line, for the commit and the summary."""
        sites = "; ".join(" ".join(site.split()) for site in self.sites)  # code that spans lines, on one
        return f"{self.rule} in {self.function}: {sites}"


def functions(source: Source) -> list[Function]:
    """Return the functions of a module, however deep they are, in the order of their `def`s."""
    nodes = [cst.ensure_type(node, cst.FunctionDef) for node in m.findall(source.module, m.FunctionDef())]
    found: list[Function] = []
    taken: dict[str, int] = {}
    for node, (name, twin) in zip(nodes, _definitions(source.tree, ""), strict=True):
        taken[name] = taken.get(name, 0) + 1
        numbered = name if taken[name] == 1 else f"{name}#{taken[name]}"
        first = min([twin.lineno, *(decorator.lineno for decorator in twin.decorator_list)])
        found.append(Function(numbered, first, twin.end_lineno or twin.lineno, node))
    return found


def _definitions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        inner = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}", node
            inner = f"{prefix}{node.name}."
        elif isinstance(node, ast.ClassDef):
            inner = f"{prefix}{node.name}."
        yield from _definitions(node, inner)


def function_at(found: list[Function], line: int) -> Function | None:
    """Return the innermost function around a line.

    The profiler names a function by its first line, which is its first decorator's; a comprehension or a lambda has a
    line inside.
    """
    around = [function for function in found if function.first <= line <= function.last]
    return max(around, key=lambda function: function.first, default=None)


def is_kernel(function: Function) -> bool:
    """Whether a function is compiled for a GPU by its decorator, so that its Python is not what runs."""
    return compiled(function.node)


def proposals(source: Source, function: Function, rule: Rule) -> Iterator[Candidate]:
    """Yield what a rule proposes for a function: all of its places at once, or its alternatives one by one."""
    if flagged(rule, "ALTERNATIVES"):
        yield from parts(source, function, rule)
    elif candidate := whole(source, function, rule):
        yield candidate


def whole(source: Source, function: Function, rule: Rule) -> Candidate | None:
    """Apply a rule at every place of a function."""
    node, grown = function.node, source
    taken: list[Rewrite] = []
    while len(taken) < MOST_SITES and (rewrite := next(rule.rewrites(node, grown), None)):
        node, grown = rewrite.function, grown.grown(rewrite)
        taken.append(rewrite)
    return _candidate(source, function, rule, node, grown.prelude, taken) if taken else None


def parts(source: Source, function: Function, rule: Rule) -> Iterator[Candidate]:
    """Apply a rule at one place at a time."""
    for rewrite in rule.rewrites(function.node, source):
        if candidate := _candidate(source, function, rule, rewrite.function, rewrite.prelude, [rewrite]):
            yield candidate


def _candidate(
    source: Source,
    function: Function,
    rule: Rule,
    node: cst.FunctionDef,
    prelude: tuple[str, ...],
    taken: list[Rewrite],
) -> Candidate | None:
    """Write the module out; None where the result is no Python or says the same as before."""
    module = cst.ensure_type(source.module.deep_replace(function.node, node), cst.Module)
    text = with_prelude(module, prelude).code if prelude else module.code
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "<candidate>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    if fingerprint(text) == fingerprint(source.module.code):
        return None
    sites = tuple(rewrite.description for rewrite in taken)
    return Candidate(function.name, name_of(rule), sites, text, any(rewrite.speculative for rewrite in taken))


def fingerprint(text: str) -> int:
    """Return a number that is the same for texts that differ only in layout and comments."""
    return hash(ast.dump(ast.parse(text)))


def with_prelude(module: cst.Module, statements: tuple[str, ...]) -> cst.Module:
    """Put statements after the imports that they need, at the end of that run of imports."""
    body = list(module.body)
    wanted = ast.parse("\n".join(statements))
    provided = bound_names(wanted)
    needed = {node.id for node in ast.walk(wanted) if isinstance(node, ast.Name)} - set(provided)
    at = _place(body, needed)
    config = module.config_for_parsing
    new: list[cst.SimpleStatementLine] = []
    for number, statement in enumerate(statements):
        line = cst.ensure_type(cst.parse_statement(statement, config=config), cst.SimpleStatementLine)
        starts_constants = not _is_import(line) and (number == 0 or _is_import(new[-1]))
        after_other = number == 0 and at > 0 and not _is_import(body[at - 1])
        if (starts_constants and number + at > 0) or after_other:
            line = line.with_changes(leading_lines=[cst.EmptyLine(indent=False)])
        new.append(line)
    return module.with_changes(body=[*body[:at], *new, *body[at:]])


def _place(body: list[cst.SimpleStatementLine | cst.BaseCompoundStatement], needed: set[str]) -> int:
    """Return the index after the last import that binds a needed name, or after the first imports of the module."""
    at = 0
    for index, statement in enumerate(body):
        if _is_import(statement) and needed.intersection(bound_names(syntax(statement))):
            at = index + 1
    if not at:
        imports = [index for index, statement in enumerate(body) if _is_import(statement)]
        docstring = bool(body) and _is_docstring(body[0])
        at = imports[0] + 1 if imports else int(docstring)
    while at < len(body) and _is_import(body[at]):
        at += 1
    return at


def _is_import(statement: cst.BaseStatement) -> bool:
    return isinstance(statement, cst.SimpleStatementLine) and all(
        isinstance(small, cst.Import | cst.ImportFrom) for small in statement.body
    )


def _is_docstring(statement: cst.BaseStatement) -> bool:
    return m.matches(statement, m.SimpleStatementLine([m.Expr(m.SimpleString() | m.ConcatenatedString())]))
