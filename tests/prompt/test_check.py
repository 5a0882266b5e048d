"""What counts as giving the solution away, what does not, and what says that it was not checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omniperf.prompt.check import Reference, check_prompt

BASE = """\
def distinct(items):
    seen = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen


def first(items, default=None):
    return next(iter(items), default)
"""
PATCH = b"""\
diff --git a/toy/order.py b/toy/order.py
index 1111111..2222222 100644
--- a/toy/order.py
+++ b/toy/order.py
@@ -1,6 +1,6 @@
 def distinct(items):
-    seen = []
-    for item in items:
-        if item not in seen:
-            seen.append(item)
-    return seen
+    known = frozenset(first(items) for _ in items)
+    cache = {}
+    for item in items:
+        cache.setdefault(item, len(cache))
+    return list(cache)
"""
MESSAGE = """\
[Core] perf: use a dictionary for order (#4321)

A dictionary keeps the order in which its keys came.
Small.

Signed-off-by: Ada <ada@example.org>
"""
STATISTICS = """\
 src/deep/folder/toy/order.py | 10 ++++------
 1 file changed, 5 insertions(+), 5 deletions(-)
"""
SHA = "19d98e0cfe" + "5" * 30
FULL = Reference(patch=PATCH, base=lambda: BASE, message=MESSAGE, statistics=STATISTICS, sha=SHA)
CLEAN = f"""\
# Speed up distinct

`distinct` is slow for long lists. This is its code:

{BASE}

Use a dictionary if you like, and mind the order. See (#99), 1 file changed by you, commit 1234567.
- `toy/order.py`
| table | 10 |
"""


def statuses(prompt: str, reference: Reference = FULL) -> dict[str, str]:
    return {part.name: part.status for part in check_prompt(prompt, reference).parts}


def test_a_prompt_that_quotes_base_and_states_the_goal_is_clean() -> None:
    check = check_prompt(CLEAN, FULL)
    assert check.status == "clean"
    assert {part.name for part in check.parts if part.status == "clean"} == {
        "patch lines", "patch 8-grams", "commit message", "statistics", "commit sha"
    }  # fmt: skip
    assert not any(part.evidence for part in check.parts)


LEAKS = {
    # what the prompt has besides: (the part that finds it, its evidence)
    "an added line": ("    cache.setdefault(item, len(cache))", "patch lines", "cache.setdefault(item, len(cache))"),
    "an added line, indented anew": (
        "cache.setdefault(item,  len(cache))", "patch lines", "cache.setdefault(item, len(cache))"
    ),
    "an added line with its sign": (
        "+        cache.setdefault(item, len(cache))", "patch lines", "+cache.setdefault(item, len(cache))"
    ),
    "a removed line with its sign": ("-        if item not in seen:", "patch lines", "-if item not in seen:"),
    "a quoted diff": ("> -        if item not in seen:", "patch lines", "-if item not in seen:"),
    "code in a sentence": (
        "Try `cache.setdefault(item, len(cache))` there.", "patch 8-grams", "cache.setdefault(item, len(cache))"
    ),
    "code over a line's end": ("cache.setdefault(\n    item, len(cache)\n)", "patch 8-grams", "item, len(cache))"),
    "code of several lines of a diff": (
        "  +    cache = {}\n  +    for item in items:", "patch 8-grams", "cache = {} for item in items:"
    ),
    "the subject": ("Use a Dictionary\nfor order!", "commit message", "use a dictionary for order"),
    "a sentence of the body": (
        "a dictionary keeps the order in which its keys came", "commit message", "A dictionary keeps the order"
    ),
    "the author": ("Signed-off-by: Ada <ada@example.org>", "commit message", "Signed-off-by: Ada"),
    "the pull request": ("as in #4321", "commit message", "the pull request #4321"),
    "its address": ("https://example.org/a/b/pull/4321/files", "commit message", "the pull request #4321"),
    "its name": ("as Pull Request 4321 does", "commit message", "the pull request #4321"),
    "its short name": ("as in PR 4321", "commit message", "the pull request #4321"),
    "its short name with a sign": ("as in pr #4321", "commit message", "the pull request #4321"),
    "a row of the statistics": ("src/deep/folder/toy/order.py | 10 +++---", "statistics", "toy/order.py | 10"),
    "a row made short": (".../toy/order.py   | 10 ++++++++++----------", "statistics", ".../toy/order.py | 10"),
    "the total": ("1 file changed, 5 insertions(+), 5 deletions(-)", "statistics", "5 insertions(+)"),
    "the sha": (f"as in {SHA}", "commit sha", SHA),
    "the sha, abbreviated": ("as in 19D98E0", "commit sha", "19D98E0"),
    "the sha in a path": ("/data/x_19d98e0c_generator.py", "commit sha", "19d98e0c in /data/x_19d98e0c_generator.py"),
}  # fmt: skip


@pytest.mark.parametrize("case", LEAKS)
def test_what_the_solution_says_is_found_with_its_line(case: str) -> None:
    text, name, evidence = LEAKS[case]
    check = check_prompt(CLEAN + text + "\n", FULL)
    assert check.status == "leaks"
    part = next(part for part in check.parts if part.name == name)
    assert part.status == "leaks"
    assert any(evidence in found for found in part.evidence), part.evidence
    if name != "patch 8-grams":
        assert part.evidence[0].startswith(f"line {CLEAN.count(chr(10)) + 1}: ")


@pytest.mark.parametrize(
    "text",
    [
        "    for item in items:",  # base has it too
        "    cache = {}",  # stands in any program
        "+    return seen",  # too few words, even with a sign
        "A dictionary keeps order.",
        "Small.",
        "See #43210 and issue 4321.",
        ".../other/order.py | 10 +++---",
        "toy/order.py | 9 +++---",
        "1 file changed, 5 insertions(+)",
        "19d98e, 19d98e0d and e19d98e0c",
    ],
)
def test_what_anybody_could_say_is_no_leak(text: str) -> None:
    assert check_prompt(f"{CLEAN}{text}\n", FULL).status == "clean"


def test_lines_that_look_like_headers_are_lines_of_the_patch() -> None:
    patch = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n--- removed words of sql here\n+++ added words of sql here\n"
    for text in ("--- removed words of sql here", "+++ added words of sql here"):
        assert statuses(text, Reference(patch=patch))["patch lines"] == "leaks"


def test_code_that_base_has_elsewhere_is_no_leak() -> None:
    moved = replace(FULL, base=lambda: BASE + "cache.setdefault(item, len(cache))\n")
    assert check_prompt(CLEAN + "cache.setdefault(item, len(cache))\n", moved).status == "clean"


def test_base_is_read_only_where_something_is_shared() -> None:
    def read() -> str:
        raise AssertionError("read")

    assert check_prompt("Make it faster.", replace(FULL, base=read)).status == "clean"
    with pytest.raises(AssertionError, match="read"):
        check_prompt("cache.setdefault(item, len(cache))", replace(FULL, base=read))


def test_a_check_that_has_nothing_to_compare_says_so() -> None:
    check = check_prompt(CLEAN, Reference())
    assert check.status == "not checked"
    assert {part.status for part in check.parts} == {"not checked"}
    assert all(part.detail for part in check.parts)
    assert not check.blocks


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (Reference(patch=b""), "patch lines"),
        (Reference(patch=b"@@ -1 +1 @@\n-x = 1\n+x = 2\n"), "patch lines"),
        (Reference(patch=b"@@ -1 +1 @@\n-x = 1\n+x = 2\n"), "patch 8-grams"),
        (Reference(patch=b"GIT binary patch\ndelta 5\nMcmZ3)0AT0<\n"), "patch 8-grams"),
        (Reference(message="Speed up"), "commit message"),
        (Reference(message=""), "commit message"),
        (Reference(statistics="nothing like it\n"), "statistics"),
        (Reference(sha=""), "commit sha"),
    ],
)
def test_a_part_that_says_too_little_to_compare_is_not_checked(reference: Reference, name: str) -> None:
    assert statuses("x = 2, Speed up", reference)[name] == "not checked"


def test_a_short_subject_still_has_its_pull_request() -> None:
    short = Reference(message="Speed up (#4321)")
    assert statuses("Speed up", short)["commit message"] == "clean"
    assert statuses("see #4321", short)["commit message"] == "leaks"
    assert statuses("see #43210, PR 43210, 4321 items and /pull/14321", short)["commit message"] == "clean"


@pytest.mark.parametrize(
    ("targets", "status"), [(("toy/*.py",), "leaks"), (("toy/order.py",), "leaks"), (("toy/other.py",), "clean")]
)
def test_a_diff_shown_as_an_example_may_not_change_the_targets(targets: tuple[str, ...], status: str) -> None:
    reference = Reference(example=PATCH.decode(), targets=targets)
    assert statuses(f"An example:\n{PATCH.decode()}", reference)["example diff"] == status
    assert statuses("No example.", reference)["example diff"] == "clean"


OTHERS = {"vllm": frozenset({"vllm"}), "markdown_it": frozenset({"markdown_it", "markdown_it_py"})}


@pytest.mark.parametrize(
    ("line", "repo"),
    [
        ("from vllm.model_executor.layers import moe", "vllm"),
        ("    import vllm", "vllm"),
        ("grep -n zeros vllm/model_executor/moe.py", "vllm"),
        ("- `markdown_it/rules.py`", "markdown_it"),
        ("call markdown_it.parse on it", "markdown_it"),
        ("vLLM serves models; vllm. And so on", ""),
        ("import vllm_flash", ""),
        ("torch.ops.vllm.inplace", ""),
        ("in worktrees/vllm/model.py", ""),
        ("https://example.org/vllm/docs", ""),
        ("from sglang.srt import x", ""),
    ],
)
def test_text_of_another_repository_is_named(line: str, repo: str) -> None:
    check = check_prompt(f"# Task\n{line}\n", Reference(own_names=frozenset({"sglang"}), other_names=OTHERS))
    assert check.status == ("foreign" if repo else "not checked")
    assert check.blocks == bool(repo)
    assert list(check.parts[-1].evidence) == ([f"line 2 ({repo}): {line.strip()}"] if repo else [])


def test_what_is_at_home_in_the_task_is_not_foreign() -> None:
    own = Reference(own_names=frozenset({"vllm"}), other_names=OTHERS)
    assert statuses("import vllm\n", own)["other repositories"] == "clean"


def test_a_leak_is_the_worse_of_two() -> None:
    check = check_prompt(f"import vllm  # {SHA}", replace(FULL, other_names=OTHERS))
    assert check.status == "leaks"
    assert check.parts[-1].status == "foreign"
