"""What the rules about lists, dicts, texts, arrays and kernels take, and what each must leave alone."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from omniperf.agents.arms.pattern.candidates import functions, parts, whole
from omniperf.agents.arms.pattern.source import Source
from tests.agents.test_pattern_rules import RULES, applied_to, becomes, calls, value


def body_of(arguments: str, body: str, before: str = "") -> str:
    return f"{before}def f({arguments}):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"


# list_membership

LISTS = {
    "in a while loop's test": ("n", "xs = list(n)\nwhile n not in xs:\n    n = n + 1\nreturn n"),
    "in a comprehension's condition": ("n, xs: list[int]", "return [m for m in n if m in xs]"),
    "in a generator that is used up at once": ("n, xs: tuple", "return sum(1 for m in n if m not in xs)"),
    "of elements that are appended elsewhere": (
        "n", "xs = []\nxs.append(n)\nys = []\nfor m in n:\n    if m in xs:\n        ys.append(m)\nreturn ys",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "body"), LISTS.values(), ids=LISTS)
def test_lists_are_asked_as_sets(arguments: str, body: str) -> None:
    changed = applied_to("list_membership", body_of(arguments, body))
    assert changed is not None and "xs_set = set(xs)" in changed and " in xs_set" in changed


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ("n, xs", "return [m for m in n if m in xs]"),  # a str would be searched for substrings
        ("n, xs: list = None", "return [m for m in n if m in xs]"),  # may be None
        ("n, xs: Sequence", "return [m for m in n if m in xs]"),
        ("n, xs: list", "for m in n:\n    if m in xs:\n        xs.append(m)"),
        ("n, xs: list", "for m in n:\n    if m in xs:\n        work(m)"),  # may change the caller's list
        ("n, xs: list", "for m in n:\n    if m in xs:\n        yield m"),
        ("n, xs: list", "for m in n:\n    if m in xs:\n        m.left = 1"),  # a property may change it
        ("n, xs: list", "for m in n:\n    if m in xs:\n        n[m] = 1"),
        ("n, xs: list", "return 3 in xs"),  # once
        ("n, xs: list", "for m in n:\n    xs = [m]\n    if m in xs:\n        return m"),
        ("n", "xs = list(n)\nkeep(xs)\nfor m in n:\n    if m in xs:\n        work(m)"),  # others have it
        ("n", "xs = list(n)\ng = lambda: xs.clear()\nfor m in n:\n    if m in xs:\n        g()"),
        ("n", "xs = list(n)\nxs = n\nreturn [m for m in n if m in xs]"),
        ("n", "xs = list(n)\nfor m in xs:\n    print(m)"),  # gone through, not asked
        ("n", "xs = list(n)\nfor m in n:\n    if m in xs:\n        xs[0] = m"),
        ("n", "global xs\nxs = list(n)\nfor m in n:\n    if m in xs:\n        work()"),
        ("n, xs: list", "for m in n in xs:\n    pass"),
    ],
)
def test_lists_that_may_change_or_be_something_else_are_asked_as_they_are(arguments: str, body: str) -> None:
    assert applied_to("list_membership", body_of(arguments, body)) is None


def test_a_list_is_asked_as_it_is_where_set_is_not_the_built_in() -> None:
    text = body_of("n, xs: list", "return [m for m in n if m in xs]")
    assert applied_to("list_membership", "from sets import set\n" + text) is None
    assert applied_to("list_membership", "class list: pass\n" + text) is None


# queue_as_deque


def test_a_list_with_elements_becomes_a_deque_by_the_name_the_module_has() -> None:
    becomes(
        "queue_as_deque",
        """
        import collections
        def f(x):
            todo = [y for y in x]
            while len(todo) and (todo[0] or x):
                if todo[-1] not in todo: todo.insert(0, x)
                x = todo.pop(0)
                todo.append(todo.pop())
        """,
        """
        import collections
        def f(x):
            todo = collections.deque([y for y in x])
            while len(todo) and (todo[0] or x):
                if todo[-1] not in todo: todo.appendleft(x)
                x = todo.popleft()
                todo.append(todo.pop())
        """,
    )


@pytest.mark.parametrize(
    "use",
    [
        "return q",
        "work(q)",
        "q[1] = x",
        "x = q[1]",
        "x = q[:2]",
        "q.sort()",
        "q.pop(1)",
        "q.pop(i)",
        "q.insert(1, x)",
        "q.remove(x)",
        "q += [x]",
        "q = []",
        "p = q",
        "p = q or x",
        "for y in q:\n            pass",
        "g = lambda: q",
        "q.extend(*x)",
        "pop = q.pop",
        "x = sorted(q)",
        "x = q + [1]",
        "x = q == []",
        "yield q",
        "q.pop(False)",
        "x = [q]",
    ],
)
def test_a_list_that_is_used_as_more_than_a_queue_stays(use: str) -> None:
    text = f"def f(x, i):\n    q = [x]\n    while q:\n        q.pop(0)\n        {use}\n"
    assert applied_to("queue_as_deque", text) is None


def test_a_list_whose_front_moves_but_once_stays() -> None:
    assert applied_to("queue_as_deque", "def f(x):\n    q = [x]\n    q.pop(0)\n    while q:\n        q.pop()\n") is None
    assert applied_to("queue_as_deque", "def f(q):\n    while q:\n        q.pop(0)\n") is None


# list_accumulation


@pytest.mark.parametrize(
    "body",
    [
        "best = xs\nxs = xs + [x]",  # the old list is still held
        "xs = xs + [x]\nyield xs",
        "xs = xs + [x]\nwork(xs)",
        "xs = xs + x",  # no list, or another's
        "xs = [x] + xs",
        "xs = ys + [x]",
        "xs = xs + [x]\nfor y in xs:\n    xs = xs + [y]",  # would never end
        "xs = xs + [x]\ng = lambda: xs",
        "xs = xs + [*x]",
        "xs = xs + []",
        "xs = xs + [x]\nrows[0] = xs",
        "ys = xs = xs + [x]",
        "xs = xs + [x]\nself.xs = xs",
        "xs = xs + [x]\nrows.append(xs)",
    ],
)
def test_a_list_that_others_may_hold_is_copied_as_before(body: str) -> None:
    text = (
        "def f(self, n, rows):\n    xs = []\n    for x in n:\n" + textwrap.indent(body, " " * 8) + "\n    return xs\n"
    )
    assert applied_to("list_accumulation", text) is None


def test_a_list_from_outside_is_copied_as_before() -> None:
    loop = "    for x in n:\n        xs = xs + [x]\n    return xs\n"
    for start in ("def f(n, xs: list):\n", "def f(n):\n    xs = n.xs\n", "def f(n):\n    xs = ()\n"):
        assert applied_to("list_accumulation", start + loop) is None
    assert applied_to("list_accumulation", "def f(x):\n    xs = []\n    xs = xs + [x]\n    return xs\n") is None


# sliced_search


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("s[i:].startswith(x)", "s.startswith(x, i)"),
        ("s[i:j].startswith(x)", "s.startswith(x, i, j)"),
        ("s[:j].startswith(x)", "s.startswith(x, 0, j)"),
        ("s[i:].endswith(x)", "s.endswith(x, i)"),
        ("s[:-j].find(x)", "s.find(x, 0, -j)"),
        ("s[:j].rfind(x)", "s.rfind(x, 0, j)"),
        ("s[i:].find(x) < 0", "s.find(x, i) < 0"),
        ("s[i+1:j-1].find(x) >= 0", "s.find(x, i+1, j-1) >= 0"),
        ("(s[i:].startswith(x) or s[j:].endswith(x))", "(s.startswith(x, i) or s.endswith(x, j))"),
    ],
)
@pytest.mark.parametrize("s", ["", "abcab", "ababab"])
@pytest.mark.parametrize("x", ["ab", "b", "abcabc"])
def test_slices_are_searched_in_place(before: str, after: str, s: str, x: str) -> None:
    text = f"def f(s, x, i, j):\n    return {before}\n"
    assert applied_to("sliced_search", text) == text.replace(before, after)
    for i in range(-3, 8):
        for j in range(-3, 8):
            call = f"f({s!r}, {x!r}, {i}, {j})"
            assert value(text.replace(before, after), call) == value(text, call), call


@pytest.mark.parametrize(
    "expression",
    [
        "s[i:].find(x)",  # its place counts from i
        "s[i:].find(x) == 0",
        "s[i:].index(x)",
        "s[i:].rfind(x) != -1",
        "s[i:].count(x)",
        "s[i:].startswith(x, 1)",
        "s[i:].startswith(next(x))",  # would now run before i is read
        "s[next(i):].startswith(x)",
        "s[i:j:2].startswith(x)",
        "s[i].startswith(x)",
        "s[:].startswith(x)",
        "s[i:].startswith(*x)",
        "s[i:, j:].startswith(x)",
        "s[i:].strip(x)",
    ],
)
def test_slices_whose_place_or_order_matters_stay(expression: str) -> None:
    assert applied_to("sliced_search", f"def f(s, x, i, j):\n    return {expression}\n") is None


# short_circuit


@pytest.mark.parametrize(
    "body",
    [
        "return any([close(x) for x in xs])",
        "return any([x.pop() for x in xs])",
        "return all([next(x) for x in xs])",
        "return all([x.send_all() for x in xs])",
        "return any([(y := x) for x in xs])",
        "return any([table[x](x) for x in xs])",
        "return any([helper(x) for x in xs])",  # which stores something, below
        "return any([shout(x) for x in xs])",
        "return any([a, b])",
        "return any([x for x in xs], *rest)",
        "return sum([x for x in xs])",
        "ys = [x > 1 for x in xs]\nreturn any(ys), ys",
        "ys = [x > 1 for x in xs]\nwork()\nreturn any(ys)",  # what is gone through may change meanwhile
        "ys = [x > 1 for x in xs]\nreturn [any(ys) for x in xs]",  # asked again and again
        "ys = [x > 1 for x in xs]\nreturn lambda: any(ys)",
        "ys = [x > 1 for x in xs]\nif xs:\n    return any(ys)",
        "ys = [x > 1 for x in xs]\nreturn any(y in ys for y in xs)",
        "ys = [x > 1 for x in xs]\nreturn any(x and y for x in xs for y in ys)",
        "ys = [x.append(1) for x in xs]\nreturn any(ys)",
        "ys = {x > 1 for x in xs}\nreturn any(ys)",
        "return any([await x for x in xs])",
    ],
)
def test_elements_whose_making_may_do_something_are_all_made(body: str) -> None:
    module = "seen = {}\n\ndef helper(x):\n    seen[x] = 1\n    return x\n\ndef shout(x):\n    log(x)\n    return x\n\n"
    text = body_of("xs, table, a, b, rest", body, module)
    assert applied_to("short_circuit", text.replace("def f(", "async def f(") if "await" in body else text) is None


def test_any_of_the_module_is_not_the_built_in() -> None:
    assert applied_to("short_circuit", "def any(x): ...\ndef f(xs):\n    return any([x for x in xs])\n") is None
    assert applied_to("short_circuit", "from numpy import *\ndef f(xs):\n    return any([x for x in xs])\n") is None


def test_elements_made_by_a_function_that_only_answers_are_made_as_needed() -> None:
    helper = "def near(x):\n    '''Whether.'''\n    y = x + 1\n    return y > 3\n\n"
    text = body_of("xs", "found = [near(x) for x in xs]\nreturn all(found)", helper)
    assert applied_to("short_circuit", text) == text.replace("[near(x) for x in xs]", "(near(x) for x in xs)")


# key_membership


@pytest.mark.parametrize(
    "asked", ["list(d)", "list(d.keys())", "tuple(d)", "set(d)", "d.keys()", "frozenset(d.keys())"]
)
def test_keys_are_asked_of_the_dict(asked: str) -> None:
    text = f"def f(x, d: dict[str, int]):\n    return x in {asked}, x not in {asked}\n"
    assert applied_to("key_membership", text) == text.replace(asked, "d")


@pytest.mark.parametrize(
    "text",
    [
        "def f(x, d):\n    return x in d.keys()\n",  # a database row's keys are not what it contains
        "def f(x, d: list):\n    return x in list(d)\n",
        "def f(x, d: dict = None):\n    return x in d.keys()\n",
        "def f(x, d: dict):\n    return x in d.values()\n",
        "def f(x, d: dict):\n    return x in list(d.values())\n",
        "def f(x, d: dict):\n    return x == d.keys()\n",
        "def f(x, d: dict):\n    return x in sorted(d)\n",
        "def f(x, d: dict):\n    d = x\n    return x in d.keys()\n",
        "def f(x, d: dict):\n    g = lambda: d\n    return x in d.keys()\n",
        "def list(x): ...\ndef f(x, d: dict):\n    return x in list(d)\n",
        "def f(x, d: 'Row'):\n    return x in d.keys()\n",
    ],
)
def test_keys_of_what_may_be_no_dict_stay(text: str) -> None:
    assert applied_to("key_membership", text) is None


# flat_deepcopy


@pytest.mark.parametrize(
    "module",
    [
        "import copy\nD = {'a': []}\n",
        "import copy\nD = {'a': 1, **other}\n",
        "import copy\nD = [1, E]\n",
        "import copy\nD = (1, 2)\n",
        "import copy\nD = {'a': 1}\nD['b'] = []\n",
        "import copy\nD = [1]\nD.append([])\n",
        "import copy\nD = [1]\nregister(D)\n",
        "import copy\nD = [1]\nD = [[1]]\n",
        "import copy\nfrom x import D\n",
        "import copy\nD = [1]\ndef g():\n    global D\n    D = [[]]\n",
        "import mycopy as copy\nD = [1]\n",
        "import copy\nD = [1]\nE = D\n",
        "import copy\nD = [f'{1}']\n",
    ],
)
def test_what_may_be_deep_is_copied_deeply(module: str) -> None:
    assert applied_to("flat_deepcopy", module + "\ndef f():\n    return copy.deepcopy(D)\n") is None


def test_deepcopy_by_its_own_name() -> None:
    text = "from copy import deepcopy\nD = [1, -2, (3, 'a')]\n\ndef f():\n    return deepcopy(D), D[0] in D, len(D)\n"
    assert applied_to("flat_deepcopy", text) == text.replace("deepcopy(D)", "D.copy()")


# group_append


@pytest.mark.parametrize(
    "body",
    [
        "if k not in d:\n    d[k] = [1]\nd[k].append(v)",
        "if k not in d:\n    d[k] = []\nelse:\n    work()\nd[k].append(v)",
        "if k not in d:\n    d[k] = []\n    work()\nd[k].append(v)",
        "if k not in d:\n    d[v] = []\nd[k].append(v)",
        "if k not in d:\n    d[k] = []\nd[v].append(v)",
        "if k not in d:\n    d[k] = []\nx = d[k]",
        "if k in d:\n    d[k] = []\nd[k].append(v)",
        "if k() not in d:\n    d[k()] = []\nd[k()].append(v)",
        "if k not in e:\n    e[k] = []\ne[k].append(v)",  # e may be anything
        "if k not in d:\n    d[k] = []\nwork()\nd[k].append(v)",
        "if k not in d:\n    # so that there is one\n    d[k] = []\nd[k].append(v)",
    ],
)
def test_keys_that_are_looked_up_for_more_stay(body: str) -> None:
    assert applied_to("group_append", body_of("k, v, e", f"d = {{}}\n{body}\nreturn d")) is None


# dict_items


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ("d", "for k in d:\n    use(d[k])"),  # may be no dict
        ("d: dict", "for k in d:\n    use(d[k])"),  # may change the caller's
        ("d: dict", "for k in d:\n    d[k] = 1"),
        ("d: dict", "for k in d:\n    k = 1\n    x = d[k]"),
        ("d: dict", "for k in d:\n    d = d[k]"),
        ("d: dict", "for k in d:\n    x = d[1]"),
        ("d: dict", "for k in sorted(d):\n    x = d[k]"),
        ("d: dict", "for k in d:\n    x = lambda: d[k]"),
        ("d: dict", "for k in d:\n    x = [d[k] for k in d]"),
        ("d: dict", "for k in d:\n    del d[k]"),
        ("d: dict", "for k in d:\n    d.pop(k)\n    x = d[k]"),
        ("d: dict", "for k in d:\n    x = d[k]\nelse:\n    x = d[k]"),
        ("e", "d = {}\ne(d)\nfor k in d:\n    e(d[k])"),
        ("e", "d = {}\nfor k in d:\n    d[k] += 1"),
    ],
)
def test_dicts_that_may_change_are_looked_up(arguments: str, body: str) -> None:
    assert applied_to("dict_items", body_of(arguments, body)) is None


def test_items_of_a_dict_that_only_the_function_has() -> None:
    text = body_of("e", "d = dict(e)\nfor k in d.keys():\n    e(d[k], k)\n")
    expected = text.replace("k in d.keys()", "k, d_k in d.items()").replace("e(d[k], k)", "e(d_k, k)")
    assert applied_to("dict_items", text) == expected


# index_loop


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ("xs", "for i in range(len(xs)):\n    use(xs[i])"),  # may be no sequence
        ("xs: list", "for i in range(len(xs)):\n    use(xs[i])"),  # may change
        ("xs: list", "for i in range(len(xs)):\n    xs[i] = 1"),
        ("xs: list", "for i in range(len(xs)):\n    x = xs[i]\n    i = 3"),
        ("xs: list", "for i in range(len(xs)):\n    x = xs[i + 1]"),
        ("xs: list", "for i in range(1, len(xs)):\n    x = xs[i]"),
        ("xs: list", "for i in range(len(xs) - 1):\n    x = xs[i]"),
        ("xs: list", "for i in range(len(xs)):\n    xs.append(xs[i])"),
        ("xs: list", "for i in range(len(xs)):\n    x = lambda: xs[i]"),
        ("xs: list", "for i in range(len(xs)):\n    xs = xs[i]"),
        ("xs: dict", "for i in range(len(xs)):\n    x = xs[i]"),
        ("xs: list", "for i in range(len(xs)):\n    yield xs[i]"),
        ("xs: list", "for i in range(len(xs)):\n    del xs[i]"),
        ("xs: list", "for i in range(len(xs)):\n    x = [xs[i] for i in xs]"),
    ],
)
def test_indices_that_do_more_stay(arguments: str, body: str) -> None:
    assert applied_to("index_loop", body_of(arguments, body)) is None


def test_an_index_that_is_used_after_the_loop_is_still_bound() -> None:
    text = body_of("xs: str, use", "for i in range(len(xs)):\n    if use(xs[i]):\n        break\nreturn i")
    changed = text.replace("i in range(len(xs))", "i, xs_i in enumerate(xs)").replace("use(xs[i])", "use(xs_i)")
    assert applied_to("index_loop", text) == changed


# hoist_element


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ("t: list, i, n", "for j in n:\n    x = t[i][j]"),  # there may be none, and no turn
        ("t, n", "for i in range(len(t)):\n    for j in n:\n        x = t[i][j]"),
        ("t: list, n", "for i in range(len(t)):\n    for j in n:\n        t[i] = j"),
        ("t: list, n", "for i in range(len(t)):\n    for j in n:\n        work(t[i])"),
        ("t: list, n", "for i in range(len(t)):\n    for j in n:\n        t.append(t[i])"),
        ("t: list, n", "for i in range(len(t)):\n    for j in n:\n        i = j\n        x = t[i]"),
        ("t: list, n", "for i in range(len(t)):\n    for j in n:\n        x = lambda: t[i]"),
        ("t: list, n", "for i in range(len(t)):\n    i = 9\n    for j in n:\n        x = t[i]"),
        ("t: list, n", "for i in range(len(t)):\n    t.pop()\n    for j in n:\n        x = t[i]"),
        ("t: list, n", "for i in range(len(t) + 1):\n    for j in n:\n        x = t[i]"),
        ("t: dict, i, n", "x = i and t[i]\nfor j in n:\n    x = t[i]"),  # only sometimes read before
        ("t: dict, i, n", "x = t[i]\ni = 3\nfor j in n:\n    x = t[i]"),
        ("t: dict, i, n", "x = t[i]\ndel t[i]\nfor j in n:\n    x = t[i]"),
    ],
)
def test_elements_that_may_change_or_not_be_there_stay(arguments: str, body: str) -> None:
    assert applied_to("hoist_element", body_of(arguments, body)) is None


def test_an_element_that_was_read_before_leaves_the_loop() -> None:
    becomes(
        "hoist_element",
        """
        def f(source, edges):
            near = [{}, {}]
            side = 1
            near[side][source] = 0
            # every edge
            for node, cost in edges:
                near[side][node] = near[side][source] + cost
            return near
        """,
        """
        def f(source, edges):
            near = [{}, {}]
            side = 1
            near[side][source] = 0
            # every edge
            near_side = near[side]
            for node, cost in edges:
                near_side[node] = near_side[source] + cost
            return near
        """,
    )


# zeros_to_empty and needless_fill

ARRAYS = "import torch\nimport numpy as np\nfrom torch import zeros\nfrom torch import ones\n"


@pytest.mark.parametrize(
    ("made", "written", "after"),
    [
        ("torch.zeros(n, device=d)", "x[:] = y", "torch.empty(n, device=d)"),
        ("torch.zeros_like(y)", "x[...] = y", "torch.empty_like(y)"),
        ("torch.ones(n)", "x.copy_(y)", "torch.empty(n)"),
        ("y.new_zeros(n, n)", "x.fill_(3)", "y.new_empty(n, n)"),
        ("zeros(n)", "x.normal_()", "torch.empty(n)"),
        ("torch.zeros(n)", "torch.mm(y, y, out=x)", "torch.empty(n)"),
        ("torch.zeros(n)", "torch.cat([y, y], dim=0, out=x)", "torch.empty(n)"),
        ("np.zeros((n, 2), dtype=float)", "np.add(y, 1, out=x)", "np.empty((n, 2), dtype=float)"),
        ("np.ones_like(y)", "x.fill(0)", "np.empty_like(y)"),
    ],
)
def test_arrays_that_are_overwritten_are_made_empty(made: str, written: str, after: str) -> None:
    text = body_of("n, y, d", f"x = {made}\nz = y + 1\n{written}\nreturn x", ARRAYS)
    assert applied_to("zeros_to_empty", text) == text.replace(made, after)


@pytest.mark.parametrize(
    "body",
    [
        "x = torch.zeros(n)\nx[0] = y\nreturn x",
        "x = torch.zeros(n)\nx[1:] = y\nreturn x",
        "x = torch.zeros(n)\nx[mask] = y\nreturn x",
        "x = torch.zeros(n)\nx += y\nreturn x",
        "x = torch.zeros(n)\nx[:] = x + y\nreturn x",
        "x = torch.zeros(n)\nx[:] += y\nreturn x",
        "x = torch.zeros(n)\nz = x\nx[:] = y\nreturn z",
        "x = torch.zeros(n)\nx.add_(y)\nreturn x",
        "x = torch.zeros(n)\nx.copy_(x + 1)\nreturn x",
        "x = torch.zeros(n)\nx.scatter_(0, y, 1)\nreturn x",
        "x = torch.zeros(n)\ntorch.addmm(x, y, y, out=x)\nreturn x",
        "x = torch.zeros(n)\ntorch.index_select(y, 0, y, out=x)\nreturn x",
        "x = np.zeros(n)\nnp.add(y, 1, out=x, where=mask)\nreturn x",
        "x = np.zeros(n)\nnp.divide(y, 1, x)\nreturn x",
        "x = torch.zeros(n)\nif y:\n    x[:] = y\nreturn x",
        "x = torch.zeros(n)\nfor i in y:\n    x[:] = i\nreturn x",
        "x = torch.zeros(n)\nreturn x",
        "x = torch.zeros(n, out=y)\nx[:] = y",
        "x = torch.zeros(n, layout=torch.sparse_coo)\nx[:] = y",
        "x = torch.zeros(n, **y)\nx[:] = 1",
        "try:\n    x = torch.zeros(n)\n    x[:] = y\nexcept ValueError:\n    pass\nreturn x",
        "with suppress(ValueError):\n    x = torch.zeros(n)\n    x[:] = y\nreturn x",
        "x = torch.zeros(n)\ng = lambda: x\nx[:] = y",
        "x = y.zeros(n)\nx[:] = y",
        "x = torch.full(n, 0)\nx[:] = y",
        "x[:] = torch.zeros(n)\nx[:] = y",
        "x = torch.zeros(n)\nkernel[(1,)](y, x)\nreturn x",  # for zeros_before_launch, under poison
        "x = torch.zeros(n)\nx[:], z = y\nreturn x",
        "x = torch.zeros(n); y[0] = 1\nx[0] = 1",
    ],
)
def test_arrays_whose_zeros_may_be_read_are_filled(body: str) -> None:
    assert applied_to("zeros_to_empty", body_of("n, y, mask, kernel", body, ARRAYS)) is None


@pytest.mark.parametrize(
    ("body", "gone"),
    [
        ("x = torch.zeros(n)\nx.zero_()\nreturn x", "x.zero_()"),
        ("x = torch.zeros(n)\nx.fill_(0.0)\nreturn x", "x.fill_(0.0)"),
        ("x = torch.ones(n)\nx.fill_(1)\nreturn x", "x.fill_(1)"),
        ("x = np.zeros(n)\nx[:] = 0\nreturn x", "x[:] = 0"),
        ("x = torch.empty(n)\nx.zero_()\nx.copy_(y)\nreturn x", "x.zero_()"),
        ("x = torch.ones(n)\nx.zero_()\nx[...] = y\nreturn x", "x.zero_()"),
    ],
)
def test_fills_that_nobody_reads_go(body: str, gone: str) -> None:
    text = body_of("n, y", body, ARRAYS)
    assert applied_to("needless_fill", text) == text.replace(f"    {gone}\n", "")


@pytest.mark.parametrize(
    "body",
    [
        "x = torch.empty(n)\nx.zero_()\nreturn x",
        "x = torch.ones(n)\nx.zero_()\nreturn x",
        "x = torch.zeros(n)\nx += y\nx.zero_()\nreturn x",
        "x = torch.zeros(n)\nx.fill_(2)\nreturn x",
        "x = torch.zeros(n)\nx.fill_(y)\nreturn x",
        "x = torch.zeros(n)\nx[0] = 0\nreturn x",
        "x = torch.zeros(n)\nz = x.view(-1)\nx.zero_()\nreturn z",
        "x.zero_()\nx.copy_(y)",  # an argument's: y may be a view of it
        "x = torch.empty(n)\nx.zero_()\nx.add_(y)\nreturn x",
        "x = torch.empty(n)\nx.zero_()\nx.copy_(x + y)\nreturn x",
        "x = torch.zeros(n)\nif y:\n    x.zero_()\nreturn x",
        "x = torch.zeros(n)\ny = x.zero_()\nreturn y",
    ],
)
def test_fills_that_may_be_read_stay(body: str) -> None:
    assert applied_to("needless_fill", body_of("n, x, y", body, ARRAYS)) is None


# zeros_before_launch


def alternatives(name: str, text: str) -> list[tuple[str, bool]]:
    source = Source.parse(text)
    assert source is not None
    return [(one.text, one.speculative) for one in parts(source, functions(source)[-1], RULES[name])]


def test_zeros_before_a_launch_are_speculations_with_and_without_the_first_element() -> None:
    text = body_of("n, y, kernel", "ends = torch.zeros(n + 1)\nkernel[(n,)](y, ends, n)\nreturn ends", ARRAYS)
    empty = text.replace("torch.zeros", "torch.empty")
    first = empty.replace("(n + 1)\n", "(n + 1)\n    ends[0] = 0\n")
    assert alternatives("zeros_before_launch", text) == [(empty, True), (first, True)]
    for call in ("ops.fill(ends, y)", "torch.ops.moe.align(y, out=ends)"):
        assert len(alternatives("zeros_before_launch", text.replace("kernel[(n,)](y, ends, n)", call))) == 2


@pytest.mark.parametrize(
    "body",
    [
        "x = torch.zeros(n)\nz = work(x)\nreturn z",
        "x = torch.zeros(n)\nx.add_(y)\nkernel[(1,)](x)",
        "x = torch.zeros(n)\nx.index_add_(0, y, y)",
        "x = torch.zeros(n)\nkernel[(x.numel(),)](y)",
        "# the padding must be zero\nx = torch.zeros(n)\nkernel[(1,)](y, x)",
        "x = torch.zeros(n)\nkernel[(1,)](y, x[0])",
        "x = torch.ones(n)\nkernel[(1,)](y, x)",
        "x = torch.empty(n)\nkernel[(1,)](y, x)",
        "x = torch.zeros(n)\nreturn x",
    ],
)
def test_zeros_that_are_read_before_a_launch_are_no_speculation(body: str) -> None:
    assert alternatives("zeros_before_launch", body_of("n, y, kernel", body, ARRAYS)) == []


def test_no_other_rule_speculates() -> None:
    for name, rule in RULES.items():
        source = Source.parse(rule.EXAMPLE_BEFORE)
        assert source is not None
        candidate = whole(source, functions(source)[-1], rule)
        assert candidate is not None and candidate.speculative is (name == "zeros_before_launch")


# triton_launch


@pytest.mark.parametrize(
    ("launch", "numbers"),
    [
        ("k[g](x, num_warps=4)", ["num_warps=8", "num_warps=2"]),
        ("k[g](x, num_warps=32)", ["num_warps=16"]),
        ("k[g](x, num_warps=1)", ["num_warps=2"]),
        ("k[g](x, num_stages=3)", ["num_stages=4", "num_stages=2"]),
        ("k[g](x, num_stages=1)", ["num_stages=2"]),
        ("k[g](x, BLOCK_SIZE=1024)", ["BLOCK_SIZE=2048", "BLOCK_SIZE=512"]),
        ("k[g](x, BT=16)", ["BT=32"]),
        ("triton.Config({'BLOCK_M': 64, 'GROUP': 8}, num_warps=4)", [
            "num_warps=8", "num_warps=2", "'BLOCK_M': 128", "'BLOCK_M': 32",
        ]),
        ("Config({}, num_stages=2)", ["num_stages=3", "num_stages=1"]),
    ],
)  # fmt: skip
def test_numbers_of_a_launch_are_tried_both_ways(launch: str, numbers: list[str]) -> None:
    text = f"import triton\nfrom triton import Config\ndef f(k, g, x):\n    return {launch}\n"
    found = [after for after, _ in alternatives("triton_launch", text)]
    assert len(found) == len(numbers)
    for number in numbers:
        assert sum(number in after for after in found) == 1


def test_a_block_size_that_the_grid_knows_too_is_changed_for_both() -> None:
    text = """\
import triton
def f(k, x):
    BLOCK = 256
    k[(triton.cdiv(x.numel(), BLOCK),)](x, BLOCK_SIZE=BLOCK)
"""
    found = [after for after, _ in alternatives("triton_launch", text)]
    assert found == [text.replace("256", "512"), text.replace("256", "128")]


@pytest.mark.parametrize(
    "text",
    [
        "def f(k, g, x):\n    k[g](x, num_warps=4)\n",  # no triton here
        "import triton\ndef f(k, g, x):\n    k[g](x, num_warps=3)\n",
        "import triton\ndef f(k, g, x):\n    k[g](x, num_warps=x)\n",
        "import triton\ndef f(k, g, x):\n    k(x, num_warps=4)\n",
        "import triton\ndef f(k, g, x):\n    k[g](x, 128)\n",
        "import triton\ndef f(k, g, x):\n    k[g](x, N=128, BLOCK=100)\n",
        "import triton\ndef f(k, g, x):\n    Config({'BLOCK': 64})\n",
        "import triton\ndef f(k, g, x):\n    B = 64\n    B = x\n    k[g](x, BLOCK=B)\n",
        "import triton\ndef f(k, g, x, B=64):\n    k[g](x, BLOCK=B)\n",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert alternatives("triton_launch", text) == []


def test_rules_keep_what_a_program_prints(tmp_path: Any) -> None:
    """All rules one after the other over one module, which is run before and after."""
    lines = [line for rule in RULES.values() if calls(rule) for line in rule.EXAMPLE_BEFORE.splitlines(keepends=True)]
    imports = dict.fromkeys(line for line in lines if line.startswith("import "))
    text = "".join((*imports, *(line for line in lines if line not in imports)))
    now = Source.parse(text)
    assert now is not None
    changed, done = text, 0
    for rule in RULES.values():
        for number in range(len(functions(now))):
            candidate = whole(now, functions(now)[number], rule)
            if candidate is not None and not candidate.speculative:
                changed, done = candidate.text, done + 1
                now = Source.parse(changed)
                assert now is not None
    assert done >= 20
    for call in (call for rule in RULES.values() for call in calls(rule)):
        assert value(changed, call) == value(text, call), call


# What each rewrite would have changed, by rule

NOTICED = {
    "list_membership": [
        """
        def f(n, xs: list):
            ys = xs
            for m in n:
                if m in xs:
                    ys += [m]  # is xs
        """,
        """
        def f(n, xs: list):
            ys = [xs]
            for m in n:
                if m in xs:
                    ys[0] += [m]
        """,
        """
        def f(n, xs: list):
            for m in n:
                if m in xs and max(n, key=work):
                    return m
        """,
        """
        def f(n, xs: list):
            a = [m for m in n if m in xs]; xs.append(2); a += [m for m in n if m in xs]
            return a
        """,
        """
        def f(n, c):
            if c:
                xs = list(c)
            for m in n:
                if c and m in xs:  # without c there is none
                    return m
        """,
    ],
    "list_accumulation": [
        f"""
        def f(n):
            xs = []
            late = None
            for x in n:
                xs = xs + [x]
                late = late or {handed_on}
            return late
        """
        for handed_on in (
            "enumerate(xs)", "reversed(xs)", "zip(xs, n)", "enumerate(zip(xs, n))", "map(str, xs)", "filter(None, xs)",
            "(x for x in xs)", "(y in xs for y in n)", "max(xs, [])", "max([], default=xs)", "sum([], xs)",
            "min(xs, key=len, default=xs)",
        )
    ] + [
        """
        def print(xs): KEPT.append(xs)
        def f(n):
            xs = []
            for x in n:
                xs = xs + [x]
                print(xs)
        """,
    ],
    "growing_list_membership": [
        """
        def f(n):
            seen = []
            late = None
            for x in n:
                if x not in seen:
                    seen.append(x)
                late = late or (y in seen for y in n)
            seen = [1]
            return list(late)
        """,
        """
        def f(n):
            seen = []
            for x in n:
                if x in seen == [1]:  # and seen == [1]
                    seen.append(x)
            return seen
        """,
    ],
    "constant_membership": ["def f(x, y):\n    return x in [1, 2, 3] == y\n"],
    "key_membership": ["def f(x, d: dict):\n    return x in list(d) == [1]\n"],
    "flat_deepcopy": [
        """
        import copy
        D = [1]
        from other import *
        def f():
            return copy.deepcopy(D)
        """,
    ],
    "index_loop": [
        """
        def f(xs: list, ys):
            for i in range(len(xs)):
                ys += [xs[i]]  # f(a, a)
        """,
        """
        def f(xs: list):
            global i
            for i in range(len(xs)):
                x = xs[i]
        """,
        """
        def f():
            i = 0
            def g(xs: list):
                nonlocal i
                for i in range(len(xs)):
                    x = xs[i]
            return g
        """,
    ],
    "dict_items": [
        """
        def f(work):
            global k
            d = {1: 2}
            for k in d:
                work()  # may bind k
                x = d[k]
        """,
    ],
    "hoist_element": [
        """
        def f(n, work):
            t = [[1], [2]]
            x = t[K]
            for j in n:
                work()  # may bind K
                x = t[K]
        """,
        """
        def f(t: list, n, i, work):
            x = work(t[i])
            for j in n:
                x = t[i]
        """,
        """
        def f(t: list, n, work):
            for i in range(len(t)):
                work()
                for j in n:
                    x = t[i]
        """,
    ],
    "needless_fill": [
        f"""
        import numpy as np
        def f(n, y, kind):
            x = {made}
            x.fill(0.0)
            return x
        """
        for made in (
            "np.zeros(n, dtype=object)", "np.zeros(n, object)", "np.zeros(n, dtype='O')", "np.zeros(n, dtype='U3')",
            "np.zeros(n, dtype=kind)", "np.zeros(n, np.dtype(kind))", "np.zeros_like(y)", "np.zeros(*n)",
        )
    ],
    "sort_end": [
        """
        def f(x):
            try:
                return sorted(x)[0]
            except ValueError:  # which min raises
                return None
        """,
        "def f(x, it):\n    return sorted(x, key=lambda y: next(it))[-1]\n",
        "def f(x, key):\n    return sorted(x, key=key)[-1]\n",
        "def f(self):\n    return sorted(self.more())[:self.n]\n",
    ],
    "string_building": [
        f"""
        def f(xs):
            s = ""
            for x in xs:
                try:
                    s += x
                except{caught}:
                    s += "?"
            return s
        """
        for caught in ("", " TypeError", " Exception", " (ValueError, TypeError)", " error.Odd")
    ] + [
        """
        def f(xs):
            s = ""
            for x in xs:
                with contextlib.suppress(TypeError):
                    s += x
            return s
        """,
    ],
    "hoist_attribute": [
        f"""
        class A:
            def f(self, xs):
                for x in xs:
                    self.emit(x)
                    {change}
        """
        for change in (
            "setattr(self, 'emit', x)", "setattr(self, x, x)", "delattr(self, 'emit')", "self.__dict__['emit'] = x",
            "self.__dict__.update(x)", "vars(self)['emit'] = x", "d = vars(self)", "d = self.__dict__",
        )
    ] + [
        """
        class A:
            def turn(self, name, to):
                setattr(self, name, to)
            def f(self, xs):
                for x in xs:
                    self.emit(x)
        """,
        """
        def switch():
            global current
            current = other()
        def f(xs):
            for x in xs:
                current.step(x)
        """,
        """
        def f(given, xs):
            found = dict(given).get("found")
            for x in xs:
                if found:
                    found.send(x)
        """,
        """
        class A(Base):
            def __init__(self):
                self.rows = []
            def f(self, xs):
                for x in xs:
                    self.rows.append(x)
                    yield x
        """,
        """
        import sys
        def f(xs, buffer):
            for x in xs:
                with redirect_stdout(buffer):
                    sys.stdout.write(x)
        """,
        """
        import settings
        def f(xs, work):
            for x in xs:
                work(settings)
                if settings.loud:
                    work(x)
        """,
    ],
    "short_circuit": [
        """
        class A:
            def valid(self, x):
                self.errors += [x]
                return x
            def f(self, xs):
                return all([self.valid(x) for x in xs])
        """,
        """
        def note(x):
            seen[x] = 1
            return x
        def check(x):
            return note(x) > 1
        def f(xs):
            return all([check(x) for x in xs])
        """,
        """
        def valid(x):
            if x < 0:
                raise ValueError(x)
            return x
        def f(xs):
            return all([valid(x) for x in xs])
        """,
        """
        class A:
            @property
            def bad(self):
                self.asked = True
                return True
            def f(self, xs):
                return any([x.bad for x in xs])
        """,
        """
        def note(x, kept=[]):
            kept += [x]
            return x
        def f(xs):
            return all([note(x) for x in xs])
        """,
        """
        @counted
        def near(x):
            return x > 1
        def f(xs):
            return all([near(x) for x in xs])
        """,
        """
        from collections import defaultdict
        def f(xs):
            groups = defaultdict(list)
            none = all([groups[x] for x in xs])
            return groups
        """,
        """
        import random
        def f(xs):
            return any([random.random() < x for x in xs])
        """,
        """
        def near(x, ask):
            return ask(x)
        def f(xs, ask):
            return all([near(x, ask) for x in xs])
        """,
    ] + [
        f"def f(xs, check, seen, ys):\n    return any([{element} for x in xs])\n"
        for element in ("check(x)", "x.valid()", "xs.get(x)", "sorted(ys, key=seen.append)", "list(map(check, ys))")
    ] + [
        "def f(xs):\n    try:\n        return any([int(x) > 1 for x in xs])\n    except ValueError:\n        pass\n",
        "def f(xs):\n    with suppress(ValueError):\n        return any([int(x) > 1 for x in xs])\n",
        "def f(xs):\n    try:\n        ys = [int(x) for x in xs]\n        return any(ys)\n    finally:\n        pass\n",
        "def f(xs):\n    it = iter(xs)\n    return any([x > 1 for x in it]), list(it)\n",
        "def f(xs, it):\n    a = next(it)\n    return any([x in it for x in xs])\n",
        "def f(xs: Iterator[int]):\n    return any([x > 1 for x in xs])\n",
        "def f(make):\n    it = make()\n    return any([x > 1 for x in it]), list(it)\n",
        "def f(xs):\n    it = (x for x in xs)\n    for x in xs:\n        work(any([y > x for y in it]))\n",
        "def f(xs, work):\n    ys = [x > 1 for x in xs]\n    return work(xs), any(ys)\n",
        "def f(xs, n):\n    ys = [(y > x for y in n) for x in xs]\n    return any(all(y) for y in ys)\n",
        "def f(xs):\n    ys = [lambda: x for x in xs]\n    return any(y for y in ys)\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in NOTICED.items() for text in texts])
def test_what_somebody_would_notice_stays(rule: str, text: str) -> None:
    assert applied_to(rule, text) is None


def test_functions_that_only_answer_are_believed_through_all_they_call() -> None:
    text = """\
from paths import is_route as joined
def linked(graph, start, end):
    def around(graph, node):
        return {other for other in graph if other in graph[node] or any(joined(graph, x) for x in graph)}
    def closed(graph, nodes):
        count = 0
        for node in set(graph) - nodes:
            count += len(graph[node])
        return count == 0
    areas = [around(graph, node) for node in graph]
    return all(not (closed(graph, area) and start in area and end not in area) for area in areas)
"""
    lazy = text.replace("[around(graph, node) for node in graph]", "(around(graph, node) for node in graph)")
    assert applied_to("short_circuit", text, "linked") == lazy


def test_methods_that_only_answer_and_calls_taken_once_are_asked_as_needed() -> None:
    text = """\
import math
class A:
    def near(self, x):
        return math.sqrt(x) < self.far
    def f(self, make):
        found = make()
        return all([self.near(x) and not x.text.startswith("-") for x in found])
"""
    listed = '[self.near(x) and not x.text.startswith("-") for x in found]'
    assert applied_to("short_circuit", text) == text.replace(listed, listed[1:-1])


def test_lazy_readers_that_are_used_up_at_once_only_read() -> None:
    text = """\
def f(n):
    xs = []
    for x in n:
        xs = xs + [x]
        total = sum(i * y for i, y in enumerate(xs))
        pairs = list(zip(xs, n)), max(xs), [y for y in reversed(xs)]
    return xs
"""
    assert applied_to("list_accumulation", text) == text.replace("xs = xs + [x]", "xs.append(x)")


def test_numbers_of_ones_own_grow_while_a_list_is_asked() -> None:
    text = body_of(
        "n, xs: list", 'a, b, s = 0, -1.5, ""\nfor m in n:\n    if m in xs:\n        a += m\n        s += "x"'
    )
    assert "xs_set" in (applied_to("list_membership", text) or "")


def test_an_index_in_parentheses_is_the_index() -> None:
    text = body_of("xs: list", "n = 0\nfor i in range(len(xs)):\n    n += xs[(i)]\nreturn n")
    after = applied_to("index_loop", text)
    assert after is not None and value(after, "f([5, 6])") == 11


def test_an_element_that_was_just_stored_is_there() -> None:
    text = body_of("n, x", "t = {}\nt[x] = {}\nfor j in n:\n    t[x][j] = 1\nreturn t")
    assert "t_x[j] = 1" in (applied_to("hoist_element", text) or "")
