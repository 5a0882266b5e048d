"""Each rule against its own example, and against code that it must leave alone."""

from __future__ import annotations

import re
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.arms.pattern import rules
from omniperf.agents.arms.pattern.candidates import function_at, functions, parts, proposals, whole
from omniperf.agents.arms.pattern.rules import all_rules, flagged, name_of
from omniperf.agents.arms.pattern.source import Source

if TYPE_CHECKING:
    from omniperf.agents.arms.pattern.rules import Rule

HAS_TORCH = find_spec("torch") is not None
RULES = {name_of(rule): rule for rule in all_rules()}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def applied(rule: Rule, text: str, function: str | None = None) -> str | None:
    """The module after the rule was applied to one function (the last, if none is named); None where it does not."""
    source = Source.parse(text)
    assert source is not None
    chosen = next(f for f in reversed(functions(source)) if function in (None, f.name))
    return next((candidate.text for candidate in proposals(source, chosen, rule)), None)


def applied_to(name: str, text: str, function: str | None = None) -> str | None:
    return applied(RULES[name], textwrap.dedent(text).lstrip("\n"), function)


def calls(rule: Rule) -> tuple[str, ...]:
    """What can be called of a rule's example here: nothing that needs torch where that is not installed."""
    return rule.EXAMPLE_CALLS if HAS_TORCH or "import torch" not in rule.EXAMPLE_BEFORE else ()


def becomes(name: str, before: str, after: str) -> None:
    assert applied_to(name, before) == textwrap.dedent(after).lstrip("\n")


def value(text: str, expression: str) -> Any:
    space: dict[str, Any] = {}
    exec(compile(text, "<example>", "exec"), space)
    return eval(expression, space)


def test_rules_are_found_and_those_that_change_complexity_come_first() -> None:
    assert list(RULES) == [
        "growing_list_membership", "gather_loop", "list_membership", "elements_to_list", "queue_as_deque",
        "list_accumulation", "sliced_search", "cat_in_loop", "short_circuit", "item_in_loop", "sort_end",
        "needless_synchronize", "key_membership", "created_on_device", "flat_deepcopy", "hoist_conversion",
        "mask_to_where", "fused_matmul", "fused_add", "double_conversion", "string_building",
        "needless_contiguous", "zeros_to_empty", "needless_fill", "zeros_before_launch", "in_place",
        "triton_launch", "triton_computed_launch", "triton_default_launch", "triton_more_configs",
        "triton_pipelined_loop", "triton_cache_hint", "compile_regex", "python_scalar", "no_grad",
        "constant_membership", "hoist_element", "group_append", "dict_items", "index_loop", "hoist_attribute",
    ]  # fmt: skip


def test_the_table_of_the_rules_is_complete_and_in_order() -> None:
    readme = (Path(rules.__file__).parent / "README.md").read_text()
    assert re.findall(r"^\| (\d+) \| `(\w+)` \|", readme, re.M) == [
        (str(rule.RANK), name) for name, rule in RULES.items()
    ]


@each_rule
def test_example(rule: Rule) -> None:
    assert applied(rule, rule.EXAMPLE_BEFORE) == rule.EXAMPLE_AFTER


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if not flagged(rule, "ALTERNATIVES")], ids=name_of)
def test_example_is_at_rest_afterwards(rule: Rule) -> None:
    assert applied(rule, rule.EXAMPLE_AFTER) is None


@each_rule
def test_example_behaves_the_same(rule: Rule) -> None:
    if not calls(rule) and rule.EXAMPLE_CALLS:
        pytest.skip("torch is not installed")
    for expression in calls(rule):
        assert value(rule.EXAMPLE_BEFORE, expression) == value(rule.EXAMPLE_AFTER, expression)


@each_rule
@pytest.mark.parametrize("other", RULES)
def test_rules_cope_with_each_other(rule: Rule, other: str) -> None:
    first = applied(rule, RULES[other].EXAMPLE_BEFORE) or RULES[other].EXAMPLE_BEFORE
    second = applied(RULES[other], first) or first
    for expression in calls(RULES[other]):
        assert value(second, expression) == value(RULES[other].EXAMPLE_BEFORE, expression)


@each_rule
def test_windows_newlines_stay(rule: Rule) -> None:
    text = applied(rule, rule.EXAMPLE_BEFORE.replace("\n", "\r\n"))
    assert text == rule.EXAMPLE_AFTER.replace("\n", "\r\n")


def test_sites_can_be_taken_one_by_one() -> None:
    rule = RULES["compile_regex"]
    source = Source.parse(rule.EXAMPLE_BEFORE)
    assert source is not None
    first, second = parts(source, functions(source)[0], rule)
    assert "_TOKENIZE_RE.match(line)" in first.text and "re.findall(" in first.text
    assert "re.match(" in second.text and "_TOKENIZE_RE.findall(line)" in second.text


def test_a_description_is_one_line() -> None:
    source = Source.parse("def f(x):\n    return x in [\n        1,\n        2, 3,\n    ]\n")
    assert source is not None
    candidate = whole(source, functions(source)[0], RULES["constant_membership"])
    assert candidate is not None
    assert candidate.description == "constant_membership in f: a set in `x in { 1, 2, 3, }`"


@pytest.mark.parametrize("text", ["def f(:\n", "x = '\udce9'\n", "\ufeffx = 1\n", "x = 1\x00\n"])
def test_what_cannot_be_read_and_written_back_is_no_source(text: str) -> None:
    assert Source.parse(text) is None


def test_functions_are_found_by_the_lines_that_a_profiler_reports() -> None:
    source = Source.parse(
        textwrap.dedent("""\
        import functools

        class Table:
            @property
            def size(self):
                return 1

            @size.setter
            def size(self, value):
                self.total = sum(v for v in value)

        @functools.cache
        @functools.wraps(print)
        async def outer():
            def inner(): return [x for x in ()]
            return inner
        """)
    )
    assert source is not None
    found = functions(source)
    names = {line: function.name if (function := function_at(found, line)) else None for line in range(17)}
    assert [f.name for f in found] == ["Table.size", "Table.size#2", "outer", "outer.inner"]
    assert names[4] == names[5] == "Table.size"
    assert names[8] == names[10] == "Table.size#2"
    assert names[12] == names[14] == names[16] == "outer"
    assert names[15] == "outer.inner"
    assert names[0] is names[1] is names[3] is None


# compile_regex


def test_regex_names_flags_and_aliases() -> None:
    becomes(
        "compile_regex",
        """
        from re import IGNORECASE, sub
        _CLEAN_RE = 1
        def clean(s):
            return sub(pattern='a' 'b', repl='', string=s, flags=IGNORECASE) + sub(r'x', '', s, 1)
        """,
        """
        from re import IGNORECASE, sub
        import re

        _CLEAN_RE_2 = re.compile('a' 'b', IGNORECASE)
        _CLEAN_RE_3 = re.compile(r'x')
        _CLEAN_RE = 1
        def clean(s):
            return _CLEAN_RE_2.sub(repl='', string=s) + _CLEAN_RE_3.sub('', s, 1)
        """,
    )


def test_regex_compiled_in_a_function_and_shared() -> None:
    becomes(
        "compile_regex",
        """
        import re as regex
        try:
            import fast
        except ImportError:
            fast = None

        class Reader:
            def __init__(self, s):
                self.a = regex.compile("a+").match(s)
                self.b = regex.match("a+", s)
        """,
        """
        import re as regex

        _INIT_RE = regex.compile("a+")
        try:
            import fast
        except ImportError:
            fast = None

        class Reader:
            def __init__(self, s):
                self.a = _INIT_RE.match(s)
                self.b = _INIT_RE.match(s)
        """,
    )


@pytest.mark.parametrize(
    "text",
    [
        "import re\ndef f(s, p):\n    return re.match(p, s)",
        "import re\ndef f(s, p):\n    return re.match(f'{p}x', s)",
        "import re\ndef f(s, p):\n    return re.match('a' f'{p}x', s)",
        "import re\ndef f(s, p):\n    return re.match('a', s, p)",
        "import re\ndef f(*a):\n    return re.match('a', *a)",
        "import re\ndef f(s):\n    return re.match('(', s)",
        "import re\ndef f(s):\n    return re.match('a', s, re.DEBUG)",
        "import re\ndef f(s):\n    return re.escape('a')",
        "import re\nimport fake as re\ndef f(s):\n    return re.match('a', s)",
        "import re\ndef f(s, re):\n    return re.match('a', s)",
        "import re\nfrom other import *\ndef f(s):\n    return re.match('a', s)",
        "try:\n    import regex as re\nexcept ImportError:\n    import re\ndef f(s):\n    return re.match('a', s)",
        "import re\ndef f(s, p=re.compile('a')):\n    return p.match(s)",
    ],
)
def test_regex_left_alone(text: str) -> None:
    assert applied_to("compile_regex", text) is None


# constant_membership


def test_membership_forms() -> None:
    becomes(
        "constant_membership",
        """
        def f(x):
            if x not in (
                1,  # one
                -2, (3, 'a'), None,
            ) and 1 < x in [b'a', 2.0, True]:
                return x
        """,
        """
        def f(x):
            if x not in {
                1,  # one
                -2, (3, 'a'), None,
            } and 1 < x in {b'a', 2.0, True}:
                return x
        """,
    )


@pytest.mark.parametrize(
    "condition", ["x in [1, 2]", "x in [1, 2, y]", "x in [1, 2, [3]]", "x in 'abc'", "[x] in [1, 2, 3]",
                  "x in [*y, 1, 2]",
                  "x == [1, 2, 3]", "x in {1, 2, 3}", "x in (1, 2, (y,))", "x in ['a', 'b', f'{x}']"],
)  # fmt: skip
def test_membership_left_alone(condition: str) -> None:
    assert applied_to("constant_membership", f"def f(x, y):\n    return {condition}\n") is None


# string_building


def test_string_that_starts_with_text_and_grows_in_several_loops() -> None:
    becomes(
        "string_building",
        """
        class Page:
            def render(self, rows):
                if rows:
                    html: str = '<ul>'  # open
                    for row in rows:
                        try:
                            html += self.one(row) if row else ''
                        except ValueError:
                            continue
                    html += '</ul>'
                    n = len(rows)
                    while n: html = html + '.' + '\\n'; n -= 1
                    log(n)
                    return html
        """,
        """
        class Page:
            def render(self, rows):
                if rows:
                    html_parts = ['<ul>']  # open
                    for row in rows:
                        try:
                            html_parts.append(self.one(row) if row else '')
                        except ValueError:
                            continue
                    html_parts.append('</ul>')
                    n = len(rows)
                    while n: html_parts.append('.' + '\\n'); n -= 1
                    html: str = "".join(html_parts)
                    log(n)
                    return html
        """,
    )


@pytest.mark.parametrize(
    "body",
    [
        "for x in xs:\n    s += x\n    print(s)\nreturn s",  # read in the loop
        "for x in xs:\n    s = x + s\nreturn s",  # grows in front
        "for x in xs:\n    s = s + x if x else s\nreturn s",
        "for x in xs:\n    s += s\nreturn s",
        "while len(s) < 9:\n    s += 'x'\nreturn s",
        "s += 'a'\nreturn s",  # no loop
        "for x in xs:\n    s += x\n    if x:\n        return s",
        "for x in xs:\n    g = lambda: s\n    s += x\nreturn s",
        "for x in xs:\n    s -= x\nreturn s",
        "for x in xs:\n    del s\nreturn s",
    ],
)
def test_string_left_alone(body: str) -> None:
    text = "def f(xs):\n    s = ''\n" + textwrap.indent(body, "    ") + "\n"
    assert applied_to("string_building", text) is None


def test_string_that_others_may_see_half_built_is_left_alone() -> None:
    shared = "def f(xs):\n    global s\n    s = ''\n    for x in xs:\n        s += x\n"
    assert applied_to("string_building", shared) is None
    handled = """
    def f(xs):
        try:
            s = ''
            for x in xs:
                s += x
        except ValueError:
            return s
    """
    assert applied_to("string_building", handled) is None
    left_by_break = """
    def f(rows):
        for row in rows:
            s = ''
            for x in row:
                s += x
            if not row:
                break
            s += '.'
        return s
    """
    assert applied_to("string_building", left_by_break) is None
    number = "def f(xs):\n    s = 0\n    for x in xs:\n        s += x\n    return s\n"
    assert applied_to("string_building", number) is None


# growing_list_membership


def test_list_with_costly_elements_and_one_line_suites() -> None:
    becomes(
        "growing_list_membership",
        """
        def walk(start, edges):
            seen: list[int] = [start]
            for node in seen:
                for other in edges[node]:
                    if other not in seen: seen.append(other)
                    elif not len(seen) and other.key in seen:
                        seen.append(other.key())
            other(seen)
            return seen
        """,
        """
        def walk(start, edges):
            seen: list[int] = [start]
            seen_set = set(seen)
            for node in seen:
                for other in edges[node]:
                    if other not in seen_set: seen.append(other); seen_set.add(other)
                    elif not len(seen) and other.key in seen_set:
                        seen.append(other.key())
                        seen_set.add(seen[-1])
            other(seen)
            return seen
        """,
    )


@pytest.mark.parametrize(
    "body",
    [
        "seen.append(x)",  # never asked
        "x in seen",  # never grows
        "if x not in seen:\n    seen.append(x)\n    seen.pop()",
        "if x not in seen:\n    seen.append(x)\n    seen[0] = 1",
        "if x not in seen:\n    seen += [x]",
        "if x not in seen:\n    seen.append(x)\n    seen = []",
        "if x not in seen:\n    seen.append(x)\n    other(seen)",
        "if x not in seen:\n    seen.append(x)\n    y = seen",
        "if x not in seen:\n    seen.append(x)\n    yield seen",
        "[y for y in x if not (y in seen or seen.append(y))]",
        "if x not in seen:\n    seen.append(x)\n    g = lambda: seen.clear()",
        "if x not in seen:\n    seen.append(*x)",
    ],
)
def test_list_left_alone(body: str) -> None:
    text = "def f(xs):\n    seen = []\n    for x in xs:\n" + textwrap.indent(body, " " * 8) + "\n    return seen\n"
    assert applied_to("growing_list_membership", text) is None


def test_list_is_left_alone_where_set_means_something_else() -> None:
    rule = RULES["growing_list_membership"]
    assert applied(rule, "from sets import set\n" + rule.EXAMPLE_BEFORE) is None
    method = "class A:\n    def set(self): pass\n"
    assert applied(rule, method + rule.EXAMPLE_BEFORE) == method + rule.EXAMPLE_AFTER


# hoist_attribute


def test_look_ups_leave_the_outermost_loop_they_can_leave() -> None:
    becomes(
        "hoist_attribute",
        """
        class Grid:
            def fill(self, rows):
                for row in rows:
                    for cell in row.cells:
                        self.put(row.index, cell)
        """,
        """
        class Grid:
            def fill(self, rows):
                for row in rows:
                    self_put = self.put
                    row_index = row.index
                    for cell in row.cells:
                        self_put(row_index, cell)
        """,
    )


def test_while_loops_prefixes_and_names_that_collide() -> None:
    becomes(
        "hoist_attribute",
        """
        def drain(queue, a_b):
            # until empty
            while queue.more():
                a_b.c(1)
                a.b_c(2)
                take(cfg.x)
                cfg.x.y.run()
        """,
        """
        def drain(queue, a_b):
            queue_more = queue.more
            a_b_c = a_b.c
            a_b_c_2 = a.b_c
            cfg_x_y_run = cfg.x.y.run
            # until empty
            while queue_more():
                a_b_c(1)
                a_b_c_2(2)
                take(cfg.x)
                cfg_x_y_run()
        """,
    )


@pytest.mark.parametrize(
    "body",
    [
        "x.run()",  # the loop's own variable
        "y = g()\ny.run()",
        "if x:\n    obj.run()",  # may never be reached, may not exist
        "if x:\n    continue\nobj.run()",
        "try:\n    obj.run()\nexcept AttributeError:\n    pass",
        "obj.count += 1",
        "obj.stored()",  # assigned elsewhere in the module
        "use(obj.position)\nuse(obj)",  # data, and others may change it
        "yield obj.position",
        "g = lambda: obj.run()",
        "x and obj.run()",
        "[obj.run() for _ in x]",
        "g().run()",
        "with suppress(AttributeError):\n    obj.run()",
    ],
)
def test_look_up_left_alone(body: str) -> None:
    text = "def f(xs, obj):\n    for x in xs:\n" + textwrap.indent(body, " " * 8)
    assert applied_to("hoist_attribute", text + "\n\ndef other(o):\n    o.stored = 1\n", "f") is None


def test_data_stays_in_the_loop_however_the_calls_that_may_change_it_are_spelled() -> None:
    once = """
    def read(parser, xs):
        for x in xs:
            parser.step()
            use(parser.place)
    """
    twice = """
    def read(parser, xs):
        parser_step = parser.step
        for x in xs:
            parser_step()
            use(parser.place)
    """
    becomes("hoist_attribute", once, twice)
    assert applied_to("hoist_attribute", twice) is None


def test_an_attribute_assigned_only_in_a_constructor_is_hoisted() -> None:
    text = """
    class A:
        def __init__(self):
            self.rows = []
        def run(self, xs):
            for x in xs:
                self.rows.append(x)
    """
    assert "self_rows_append = self.rows.append" in (applied_to("hoist_attribute", text) or "")


# sort_end


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("sorted(x)[0]", "min(x)"),
        ("sorted(x)[-1]", "max(reversed(list(x)))"),
        ("sorted(x, reverse=True)[0]", "max(x)"),
        ("sorted(x, key=abs, reverse=True)[-1]", "min(reversed(list(x)), key=abs)"),
        ("sorted(x, reverse=False, key=abs)[0]", "min(x, key=abs)"),
        ("sorted(-v for v in x)[0]", "min(-v for v in x)"),
        ("sorted(-v for v in x)[-1]", "max(reversed(list(-v for v in x)))"),
        ("sorted(-v for v in x)[:2]", "heapq.nsmallest(2, (-v for v in x))"),
        ("sorted(x, key=abs, reverse=True)[0:n]", "heapq.nlargest(n, x, key=abs)"),
        ("sorted((v for v in x), key=abs)[:n]", "heapq.nsmallest(n, (v for v in x), key=abs)"),
    ],
)
@pytest.mark.parametrize("data", [[3, -1, 1, -3, 2], [1, True, 1.0, -1], [2]])
def test_ends(before: str, after: str, data: list[Any]) -> None:
    text = f"def f(x, n):\n    return {before}\n"
    expected = ("import heapq\n" if "heapq" in after else "") + text.replace(before, after)
    assert applied_to("sort_end", text) == expected
    assert repr(value(expected, f"f({data}, 2)")) == repr(value(text, f"f({data}, 2)"))


@pytest.mark.parametrize(
    "expression", ["sorted(x)[1]", "sorted(x)[n]", "sorted(x)[-2:]", "sorted(x)[:-1]", "sorted(x)[::2]",
                   "sorted(x)[1:n]",
                   "sorted(x, reverse=n)[0]", "sorted(*x)[0]", "x.sort()[0]", "sorted(x)[:None]", "sorted(x)[:n+1]"],
)  # fmt: skip
def test_other_places_left_alone(expression: str) -> None:
    assert applied_to("sort_end", f"def f(x, n):\n    return {expression}\n") is None


def test_ends_left_alone_where_the_error_matters_or_the_names_mean_something_else() -> None:
    caught = "def f(x):\n    try:\n        return sorted(x)[0]\n    except IndexError:\n        return None\n"
    assert applied_to("sort_end", caught) is None
    assert applied_to("sort_end", "from numpy import min\ndef f(x):\n    return sorted(x)[0]\n") is None
    assert applied_to("sort_end", "heapq = 1\ndef f(x):\n    return sorted(x)[:2]\n") is None
    imported = applied_to("sort_end", "import heapq as hq\ndef f(x):\n    return sorted(x)[:2]\n")
    assert imported == "import heapq as hq\ndef f(x):\n    return hq.nsmallest(2, x)\n"
