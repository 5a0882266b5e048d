"""What a patch adds and removes, file by file, with the added Python as syntax and its names resolved."""

from __future__ import annotations

import ast
import builtins
import re
import sys
import textwrap
import warnings
from collections import Counter
from dataclasses import dataclass
from fnmatch import translate
from functools import cache, cached_property
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from omniperf.results.schema import PatchFile
    from omniperf.workspace.patch import Patch

    Which = Callable[["Changed", ast.AST], bool]

# Who writes a patch must not decide how long it takes to read it: beyond these its syntax is not looked at.
READABLE = 1_000_000  # characters of a file
_MOST_NODES = 400_000  # of its syntax: of ordinary code, far more than a file of that length has
_DEEPEST = 300  # levels of its syntax: who reads it goes down by recursion
_TRIED = READABLE  # of lines that are tried as statements, those that are tried again included
_LONGEST_NAME = 500  # characters of a dotted name
_NATIVE = (
    ".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hh", ".hpp", ".inl", ".pyx", ".pxd", ".pxi", ".rs", ".go",
)  # fmt: skip
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_EMBEDDED = re.compile(r"#include\b|__global__|__device__")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_BUILTINS = frozenset(dir(builtins))
# What names stand for where only lines are known, not what was imported.
_USUAL = {name: name for name in ("torch", "numpy", "triton", "cupy", "requests", "httpx", *sys.stdlib_module_names)}
_USUAL |= {"np": "numpy", "cp": "cupy", "tl": "triton.language", "F": "torch.nn.functional"}


@dataclass(frozen=True, eq=False)
class Changed:
    """One file of a patch: the lines that it adds and removes by their numbers, and the text that it leads to.

    `lines` is the whole of the new text where base's is known (`whole`), else only what the hunks show. `words` counts
    the words of all of the patch.
    """

    file: PatchFile
    added: Mapping[int, str]
    removed: Mapping[int, str]
    lines: Mapping[int, str]
    whole: bool
    own: frozenset[str]
    words: Callable[[], Counter[str]]

    @property
    def path(self) -> str:
        """Where the file is after the patch."""
        return self.file.path

    @property
    def python(self) -> bool:
        """Whether it is read as Python."""
        return self.path.endswith((".py", ".pyi"))

    @cached_property
    def unread(self) -> bool:
        """Whether it is Python whose syntax is not looked at: too long, too deep, too large, or broken too often."""
        return self.python and (_length(self.lines) > READABLE or self._parsed is None or _too_large(self._parsed))

    @cached_property
    def native(self) -> dict[int, str]:
        """The added lines in other languages: all of such a file, or a text in Python that holds C++."""
        if self.path.endswith(_NATIVE):
            return dict(self.added)
        texts = [node for node in self._all if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        spans = {(node.lineno, node.end_lineno or 0) for node in texts if _EMBEDDED.search(str(node.value))}
        inside: dict[int, str] = {}
        past = 0
        for first, last in sorted(spans):
            numbers = range(max(first, past), last + 1)
            inside |= {number: self.added[number] for number in numbers if number in self.added}
            past = max(past, last + 1)
        return inside

    @property
    def complete(self) -> bool:
        """Whether its syntax is that of the whole new text."""
        return self._tree is not None

    @cached_property
    def _tree(self) -> ast.AST | None:
        return _tree("\n".join(self.lines.values())) if self.whole else None

    @cached_property
    def _parsed(self) -> list[ast.AST] | None:
        """Its syntax, or that of the added lines where they are all that is known, or all that can be parsed."""
        return _fragments(self.added) if self._tree is None else [self._tree]

    @cached_property
    def _all(self) -> list[ast.AST]:
        if not self.python or self.unread:
            return []
        return [node for tree in self._parsed or () for node in ast.walk(tree)]  # from the outside in

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """What each node is a part of."""
        return {child: node for node in self._all for child in ast.iter_child_nodes(node)}

    @cached_property
    def _scopes(self) -> dict[ast.AST, tuple[ast.AST, ast.AST]]:
        """The innermost and the outermost function that each node is in, where it is in one."""
        found: dict[ast.AST, tuple[ast.AST, ast.AST]] = {}
        for node in self._all:
            if (parent := self.parents.get(node)) is not None:
                above = found.get(parent)
                if isinstance(parent, _SCOPES):
                    found[node] = parent, above[1] if above else parent
                elif above:
                    found[node] = above
        return found

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node whose first line the patch added."""
        return [node for node in self._all if getattr(node, "lineno", 0) in self.added]

    @cached_property
    def _imported(self) -> dict[str, str]:
        """What names stand for by the file's imports, wherever they are."""
        found: dict[str, str] = {}
        for node in self._all:
            if isinstance(node, ast.Import):
                for each in node.names:
                    top = each.name.partition(".")[0]
                    found[each.asname or top] = each.name if each.asname else top
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                found |= {each.asname or each.name: f"{module}.{each.name}" for each in node.names}
        return found

    @cached_property
    def _aliases(self) -> dict[str, ast.expr]:
        """Names that are assigned another name, an attribute or the like: what they are assigned."""
        found: dict[str, ast.expr] = {}
        for node in self._all:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name not in self._imported:
                    if not isinstance(value, ast.Name) or value.id != name:
                        found.setdefault(name, value)
        return found

    @cached_property
    def containers(self) -> frozenset[str]:
        """Names that are bound to a dict, a list or a set at the top of the file."""
        made = ("builtins.dict", "builtins.list", "builtins.set", "collections.*", "weakref.*")
        found = set()
        for node in self._all:
            if isinstance(node, ast.Assign | ast.AnnAssign) and self.at_import(node) and node.value is not None:
                displayed = isinstance(node.value, ast.Dict | ast.List | ast.Set)
                if displayed or (isinstance(node.value, ast.Call) and self.named(node.value.func, *made)):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    found |= {each.id for each in targets if isinstance(each, ast.Name)}
        return frozenset(found)

    @cached_property
    def unused(self) -> set[ast.AST]:
        """New classes of nothing, at the top of the file, that neither the file nor the patch names anywhere else."""
        if not self.complete:
            return set()
        here = _words("\n".join(self.lines.values()))
        removed = _words("\n".join(self.removed.values()))
        found: set[ast.AST] = set()
        for node in self.nodes:
            if isinstance(node, ast.ClassDef) and isinstance(self.parents.get(node), ast.Module):
                plain = all(self.named(each, "builtins.object") for each in node.bases)
                span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                inside = _words("\n".join(self.lines.get(number, "") for number in span))[node.name]
                once = inside == here[node.name] == self.words()[node.name] and not removed[node.name]
                if plain and once and not node.keywords and not node.decorator_list:
                    found.add(node)
        return found

    @cached_property
    def locals_read(self) -> set[str]:
        """The frames' variables that removed lines read, as they were written."""
        trees = _fragments(self.removed)
        if not self.python or trees is None or _too_large(trees):
            return set()
        nodes = [node for tree in trees for node in ast.walk(tree)]
        return {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "f_locals"}

    @cached_property
    def _in_children(self) -> set[ast.AST]:
        """Statements, and functions by all their uses, that run only in processes which have just been made there."""
        found: set[ast.AST] = set()
        for node in self._all:
            if isinstance(node, ast.If) and (child := self._child_goes_on(node.test)) is not None:
                found |= set(node.body if child else node.orelse)
            for name in ("body", "orelse", "finalbody"):
                left = False
                for each in block if isinstance(block := getattr(node, name, None), list) else ():
                    found |= {each} if left else set()
                    if isinstance(each, ast.If) and self._child_goes_on(each.test) is False:
                        left = left or isinstance(
                            each.body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break
                        )  # the parent has
        uses: dict[tuple[type[ast.AST], str], list[ast.AST]] = {}
        for node in self._all:
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                name = node.id if isinstance(node, ast.Name) else node.attr
                uses.setdefault((type(node), name), []).append(node)
        for node in self._all:
            named = ast.Attribute if isinstance(self.parents.get(node), ast.ClassDef) else ast.Name
            if isinstance(node, ast.FunctionDef) and (users := uses.pop((named, node.name), [])):
                new = node.lineno in self.added and node.name not in self._functions_removed
                runs = all(
                    (new and self._is_started(use)) or (found and any(at in found for at in self.above(use)))
                    for use in users
                )
                found |= {node} if runs else set()
        return found

    @cached_property
    def _functions_removed(self) -> set[str]:
        hits = (re.search(r"\bdef (\w+)", line) for line in self.removed.values())
        return {hit[1] for hit in hits if hit}

    def _is_started(self, use: ast.AST) -> bool:
        """Whether a function is used as what a new process runs."""
        keyword = self.parents.get(use)
        call = self.parents.get(keyword) if isinstance(keyword, ast.keyword) and keyword.arg == "target" else None
        if not isinstance(call, ast.Call):
            return False
        match call.func:
            case ast.Attribute(value=ast.Name(id=name), attr="Process"):
                if self._returned.get(name) == "multiprocessing.get_context":
                    return True
            case ast.Attribute(value=ast.Call(func=function), attr="Process"):
                return self.named(function, "multiprocessing.get_context")
        return self.named(call.func, "multiprocessing.Process", "multiprocessing.context.*Process")

    def in_a_child(self, node: ast.AST) -> bool:
        """Whether a node runs only in a process that `os.fork` has just made, as far as the file shows."""
        return any(each in self._in_children for each in self.above(node))

    def _child_goes_on(self, test: ast.AST) -> bool | None:
        """Whether it is the child that goes on where a test of what `os.fork` returned holds; None for other tests."""
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=pid) if self._is_forked(pid):
                return True
            case ast.Compare(left=pid, ops=[op], comparators=[ast.Constant(value=0)]) if self._is_forked(pid):
                return True if isinstance(op, ast.Eq) else False if isinstance(op, ast.NotEq | ast.Gt) else None
        return False if self._is_forked(test) else None

    def _is_forked(self, node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name):
                return self._returned.get(name) in ("os.fork", "os.forkpty", "pty.fork")
            case ast.NamedExpr(value=ast.Call(func=function)) | ast.Call(func=function):
                return self.named(function, "os.fork")
        return False

    @cached_property
    def _returned(self) -> dict[str, str]:
        """Names that only ever get what one function returns: the dotted name of that."""
        found: dict[str, str] = {}
        for node in self._all:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                parent = self.parents.get(node)
                if isinstance(parent, ast.Tuple) and parent.elts[0] is node:  # `os.forkpty` gives a descriptor too
                    parent = self.parents.get(parent)
                    pair = isinstance(parent, ast.Assign) and self._forks_a_pair(parent.value)
                    parent = parent if pair else None
                value = parent.value if isinstance(parent, ast.Assign | ast.NamedExpr) else None
                name = self.name(value.func) if isinstance(value, ast.Call) else ""
                found[node.id] = name if found.get(node.id, name) == name else ""
        return found

    def _forks_a_pair(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and self.named(node.func, "os.forkpty", "pty.fork")

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node is in, from the inside out."""
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent

    def scope(self, node: ast.AST) -> ast.AST | None:
        """The function that a node is in; None at the top of a file, or where only lines are known."""
        return self._scopes.get(node, (None, None))[0]

    def holding(self, which: Which) -> set[ast.AST]:
        """Every node of the file within which there is such a node, or which is one."""
        if which not in self._holding:
            found = self._holding[which] = set()
            for each in self._all:
                node: ast.AST | None = each if which(self, each) else None
                while node is not None and node not in found:
                    found.add(node)
                    node = self.parents.get(node)
        return self._holding[which]

    @cached_property
    def _holding(self) -> dict[Which, set[ast.AST]]:
        return {}

    def near(self, node: ast.AST, which: Which) -> bool:
        """Whether there is such a node in the function that a node is in, or else in the file."""
        scope = self.scope(node)
        return bool(self.holding(which)) if scope is None else scope in self.holding(which)

    def at_import(self, node: ast.AST) -> bool:
        """Whether a node runs when the file is imported, as far as that is known."""
        return self.complete and self.scope(node) is None

    def name(self, node: ast.AST | None) -> str:
        """The dotted name of what an expression stands for, `builtins.` before builtin ones; "" where unknown."""
        if node is None:
            return ""
        if node not in self._names:
            found = self._name(node)
            self._names[node] = found if len(found) <= _LONGEST_NAME else ""
        return self._names[node]

    @cached_property
    def _names(self) -> dict[ast.AST, str]:
        return {}

    def _name(self, node: ast.AST) -> str:
        match node:
            case ast.Name(id=name):
                return self._meant(node, name)
            case ast.Attribute(value=value, attr="__dict__"):
                return self.name(value)
            case ast.Attribute(value=value, attr=attribute):
                return f"{of}.{attribute}" if (of := self.name(value)) else ""
            case ast.Subscript(value=value, slice=key):
                of, text = self.name(value), string(key)
                if of == "sys.modules":
                    return text or ""
                holds = _is_dict_of(value)
                return f"{of}.{text}" if of and text and holds else ""
            case ast.Call(func=function, args=[first, *more]):
                called = self.name(function)
                if called in ("builtins.__import__", "importlib.import_module"):
                    return string(first) or ""
                if called == "builtins.vars":
                    return self.name(first)
                if called == "builtins.getattr" and more and (of := self.name(first)):
                    return f"{of}.{string(more[0]) or '?'}"
        return ""

    def _meant(self, node: ast.Name, name: str) -> str:
        if name in self._imported:
            return "" if self._is_local(node) else self._imported[name]
        if name in self._aliases and name not in self._asked:
            self._asked.add(name)  # aliases may go round in a circle
            meant = self.name(self._aliases[name])
            self._asked.discard(name)
            return "" if meant.startswith("builtins.") else meant
        if name in _BUILTINS:
            return "" if self._is_local(node) else f"builtins.{name}"
        return "" if self.complete else _USUAL.get(name, "")

    @cached_property
    def _asked(self) -> set[str]:
        return set()

    def _is_local(self, node: ast.Name) -> bool:
        """Whether a name is an argument, or is given a value, in a function that it is used in."""
        return node in self._scopes and node.id in self._locals[self._scopes[node][1]]

    @cached_property
    def _locals(self) -> dict[ast.AST, set[str]]:
        """The arguments and variables of each outermost function, and of those in it."""
        found: dict[ast.AST, set[str]] = {outer: set() for _, outer in self._scopes.values()}
        for node, (_, outer) in self._scopes.items():
            if isinstance(node, ast.arg):
                found[outer].add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found[outer].add(node.id)
        return found

    def named(self, node: ast.AST | None, *patterns: str) -> bool:
        """Whether what an expression stands for has a name that one of the patterns covers."""
        return covered(self.name(node), *patterns)

    def calls(self, *patterns: str) -> Iterator[ast.AST]:
        """Added calls, and uses as a decorator or as an argument of a call, of what the patterns cover."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                looked = [node.func]
                if not self.named(node.func, "builtins.isinstance", "builtins.issubclass"):
                    looked += node.args
                if any(self.named(each, *patterns) for each in looked):
                    yield node
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from (each for each in node.decorator_list if self.named(each, *patterns))

    def reads(self, *patterns: str) -> Iterator[ast.expr]:
        """Added expressions that stand for what the patterns cover, and are not assigned to."""
        for node in self.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and not isinstance(node.ctx, ast.Store | ast.Del):
                yield from [node] if self.named(node, *patterns) else []

    def attributes(self, *names: str) -> Iterator[ast.Attribute]:
        """Added uses of attributes of any object."""
        return (node for node in self.nodes if isinstance(node, ast.Attribute) and node.attr in names)

    def methods(self, *names: str) -> Iterator[ast.Call]:
        """Added calls of methods of any object."""
        for node in self.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
                yield node

    def stores(self) -> Iterator[tuple[ast.AST, str]]:
        """What is put in the place of a thing with a dotted name, by whichever way; `?` for a part that is unknown."""
        for node in self.nodes:
            if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
                name = self._stored(node) if self.complete or self._alone(node) else ""
            elif isinstance(node, ast.Call):
                name = self._set(node)
            else:
                continue
            if name:
                yield node, name

    def _alone(self, node: ast.AST) -> bool:
        """Whether a target is a statement's only one: lines of a call's arguments look like several."""
        parent = self.parents.get(node)
        return not isinstance(parent, ast.Tuple) and not (isinstance(parent, ast.Assign) and len(parent.targets) > 1)

    def _stored(self, node: ast.Attribute | ast.Subscript) -> str:
        of = self.name(node.value)
        if isinstance(node, ast.Attribute):
            return _part(of, node.attr)
        # A module has no items, so what has some is no module.
        return _part(of, string(node.slice)) if "." in of or _is_dict_of(node.value) else ""

    def _set(self, node: ast.Call) -> str:
        called = self.name(node.func)
        if called in ("builtins.setattr", "builtins.delattr", "unittest.mock.patch.object") and len(node.args) > 1:
            return _part(self.name(node.args[0]), string(node.args[1]))
        if called == "unittest.mock.patch" and node.args:
            return string(node.args[0]) or ""
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("update", "__setitem__", "setdefault"):
            of = self.name(node.func.value)
            return _part(of, None) if _is_dict_of(node.func.value) or of in ("sys.modules", "os.environ") else ""
        return ""

    def strings(self) -> Iterator[tuple[ast.AST, str]]:
        """Added texts, those of docstrings left out."""
        for node in self.nodes:
            if isinstance(node, ast.Constant) and not isinstance(self.parents.get(node), ast.Expr):
                match node.value:
                    case str(text):
                        yield node, text
                    case bytes(data):
                        yield node, data.decode("latin-1")

    def is_own(self, name: str) -> bool:
        """Whether a dotted name is the tree's own: relative, or of a package that is one of its folders or files."""
        return name.startswith(".") or name.partition(".")[0] in self.own


def covered(name: str, *patterns: str) -> bool:
    """Whether one of the patterns covers a name that is known."""
    return bool(name) and _any_of(patterns).match(name) is not None


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # By hand: `fnmatch` keeps fewer patterns than there are rules.
    return re.compile("|".join(f"(?:{translate(pattern)})" for pattern in patterns))


def _part(of: str, part: str | None) -> str:
    """A part of what has a name; builtins, which any variable may be called by, are left out."""
    return f"{of}.{part or '?'}" if of and not of.startswith("builtins.") else ""


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def _length(lines: Mapping[int, str]) -> int:
    return sum(map(len, lines.values())) + len(lines)


def _too_large(trees: list[ast.AST]) -> bool:
    depth, nodes, level = 0, 0, trees
    while level and depth <= _DEEPEST and nodes <= _MOST_NODES:
        depth, nodes = depth + 1, nodes + len(level)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return bool(level)


def string(node: ast.AST | None) -> str | None:
    """The text that an expression is, put together where it is made of parts; None where that is not known."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, other = string(left), string(right)
            return None if one is None or other is None else one + other
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str(between)), attr="join"),
            args=[ast.List(elts=parts) | ast.Tuple(elts=parts)],
        ):
            texts = [string(part) for part in parts]
            return None if None in texts else between.join(filter(None, texts))
    return None


def _is_dict_of(node: ast.AST) -> bool:
    """Whether an expression is the namespace of a thing: `x.__dict__` or `vars(x)`."""
    match node:
        case ast.Attribute(attr="__dict__") | ast.Call(func=ast.Name(id="vars")):
            return True
    return False


def _tree(text: str, first: int = 1) -> ast.AST | None:
    """A text's syntax, the text's first line having that number; None where it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if "\r" not in text:
        return ast.increment_lineno(tree, first - 1) if first != 1 else tree
    # To Python a carriage return ends a line as well; to a diff it does not, and it must hide nothing there.
    numbers = [0]
    for number, line in enumerate(text.split("\n"), first):
        numbers += [number] * (1 + line.removesuffix("\r").count("\r"))
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.stmt | ast.excepthandler | ast.arg | ast.keyword | ast.alias):
            node.lineno, node.end_lineno = numbers[node.lineno], numbers[node.end_lineno or node.lineno]
    return tree


def _fragments(lines: Mapping[int, str]) -> list[ast.AST] | None:
    """Parse lines that are no whole file: each run of them as a block, or else statement by statement.

    Where the body of a statement is missing, `...` stands for it. What cannot be parsed so is passed over. None where
    so much of it cannot that it would take too long.
    """
    found, left = [], _TRIED
    for first, run in _runs(lines):
        if (tree := _tree(textwrap.dedent("\n".join(run)), first)) is not None:
            found.append(tree)
            continue
        ends, start = _ends(run), 0
        while start < len(run):
            for end in dict.fromkeys((ends[start], start + 1)):
                block = run[start:end]
                left -= sum(map(len, block)) + len(block)
                if left < 0:
                    return None
                text, before = _completed("\n".join(block).strip())
                if (tree := _tree(text, first + start - before)) is not None:
                    found.append(tree)
                    break
            start = end
    return found


def _runs(lines: Mapping[int, str]) -> Iterator[tuple[int, list[str]]]:
    """Lines with numbers that follow each other, and the number of the first."""
    first, run = 0, list[str]()
    for number, line in lines.items():
        if run and number != first + len(run):
            yield first, run
            run = []
        if not run:
            first = number
        run.append(line)
    if run:
        yield first, run


def _ends(run: list[str]) -> list[int]:
    """For each line, before which one a statement that begins there is over: its brackets and triple quotes closed.

    The next one where they are never closed. All at once, from behind, with the lines that can still be an end.
    """
    depths, inside = [0], [0]
    for line in run:
        depths.append(depths[-1] + sum(map(line.count, "([{")) - sum(map(line.count, ")]}")))
        inside.append((inside[-1] + line.count('"""')) % 2)
    ends = [0] * len(run)
    open_ends: tuple[list[int], list[int]] = [], []
    for at in reversed(range(len(depths))):
        candidates = open_ends[inside[at]]
        while candidates and depths[candidates[-1]] > depths[at]:
            candidates.pop()
        if at < len(run):
            ends[at] = candidates[-1] if candidates else at + 1
        candidates.append(at)
    return ends


def _completed(text: str) -> tuple[str, int]:
    """A statement with what it cannot be parsed without, and how many lines of that stand before it."""
    text = re.sub(r"^elif\b", "if", text)
    if text.startswith("@"):
        return f"{text}\ndef _(): ...", 0
    text = f"{text} ..." if text.endswith(":") else text
    return (f"try: ...\n{text}", 1) if text.startswith("except") else (text, 0)


def changes(patch: Patch, base: Callable[[str], str | None], targets: tuple[str, ...]) -> Iterator[Changed]:
    """What a patch in git's own form does to each file. `base` gives a file's text, or None where it is not known."""
    paths = [PurePosixPath(path) for path in (*targets, *(file.path for file in patch.files))]
    own = frozenset(part.removesuffix(".py") for path in paths for part in path.parts if "*" not in part)
    # A line of a hunk never starts like this, nor does one of binary data.
    sections = iter(re.split(rb"^(?=diff --git )", patch.data, flags=re.M)[1:])
    words = cache(lambda: _words(patch.data.decode("utf-8", "replace")))
    for file in patch.files:
        count = 2 if file.status == "type_changed" else 1  # one that deletes, one that adds
        yield _changed(file, b"".join(islice(sections, count)), base, own, words)


def _changed(
    file: PatchFile,
    section: bytes,
    base: Callable[[str], str | None],
    own: frozenset[str],
    words: Callable[[], Counter[str]],
) -> Changed:
    old, new = 0, 0
    added: dict[int, str] = {}
    removed: dict[int, str] = {}
    for raw in section.split(b"\n"):
        line = raw.decode("utf-8", "replace")
        if hunk := _HUNK.match(raw):
            old, new = int(hunk[1]), int(hunk[3])
        elif not (old or new):
            continue
        elif raw.startswith(b"+"):
            added[new] = line[1:]
            new += 1
        elif raw.startswith(b"-"):
            removed[old] = line[1:]
            old += 1
        elif raw.startswith(b" "):
            old, new = old + 1, new + 1
        elif not raw.startswith(b"\\"):
            old = new = 0  # a header
    if file.status in ("added", "deleted", "type_changed"):
        return Changed(file, added, removed, added, whole=True, own=own, words=words)
    text = base(file.old_path or file.path)
    if text is None:
        return Changed(file, added, removed, added, whole=False, own=own, words=words)
    kept = (line for number, line in enumerate(text.split("\n"), 1) if number not in removed)
    return Changed(file, added, removed, _merged(added, kept), whole=True, own=own, words=words)


def _merged(added: Mapping[int, str], kept: Iterator[str]) -> dict[int, str]:
    """The new text: the added lines at their numbers, those of base that were kept in between."""
    lines: dict[int, str] = {}
    while True:
        number = len(lines) + 1
        line = added[number] if number in added else next(kept, None)
        if line is None:
            return lines
        lines[number] = line
