"""Task files: what is wrong is named with file, line and remedy, and what is right has one hash."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from omniperf.errors import UsageError
from omniperf.settings import Settings
from omniperf.shipped import shipped
from omniperf.tasks.load import list_tasks, load_task, task_sha256, workload_kind
from omniperf.tasks.new import new_task
from omniperf.tasks.plain_yaml import parse

GOOD = """\
schema: omniperf/task/v1
id: words
title: Speed up words
repo: {path: library}
targets: ["words.py"]
workload: workload.py
"""
MODULE = "def setup(seed):\n    return seed\n\n\ndef run(state):\n    return state\n"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return Settings(
        results=tmp_path / "results",
        worktrees=tmp_path / "worktrees",
        cache=tmp_path / "cache",
        tasks=tmp_path / "tasks",
    )


def write(settings: Settings, text: str, workload: str = MODULE, name: str = "words") -> Path:
    folder = settings.tasks / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.yaml").write_text(text)
    (folder / "workload.py").write_text(workload)
    return folder


BAD = {
    # name: (text, line, what is said, remedy)
    "unknown key": (GOOD + "titel: x\n", 7, "titel is not a known key", "Did you mean `title`?"),
    "unknown key inside": (GOOD + "limits:\n  stepz: 4\n", 8, "limits.stepz is not a known key", "`steps`"),
    "unknown key in a list": (
        GOOD + "metrics:\n  - name: latency\n    primary: true\n    gard: 1.1\n", 10, "metrics[0].gard", "`guard`"
    ),
    "unlike any key": (GOOD + "zzz: 1\n", 7, "zzz is not a known key", "Remove it; known here: schema, id,"),
    "missing key": (GOOD.replace("title: Speed up words\n", ""), 1, "title: missing", "Add `title: ...`."),
    "missing schema": (
        GOOD.replace("schema: omniperf/task/v1\n", ""), 1, "schema: missing", "`schema: omniperf/task/v1`"
    ),
    "missing parts": ("schema: omniperf/task/v1\nid: a\ntitle: b\n", 1, "missing: repo, targets, workload", "Correct"),
    "other version": (GOOD.replace("task/v1", "task/v9"), 1, "schema: must be 'omniperf/task/v1'", "Use one of these"),
    "number for text": (
        GOOD + "environment:\n  python: 3.11\n", 8, "environment.python: must be text, not 3.11", '"3.11"'
    ),
    "commit as number": (GOOD.replace("library}", "l, base: 1234567}"), 4, "repo.base: must be text", '"1234567"'),
    "text for a list": (GOOD.replace('["words.py"]', "words.py"), 5, "targets: must be a list", "['words.py']"),
    "list for a mapping": (GOOD + "limits: [1]\n", 7, "limits: must be a mapping, not a list", "`key: value`"),
    "out of range": (
        GOOD + "limits: {steps: 0}\n", 7, "limits.steps: should be greater than or equal to 1, not 0", "Correct"
    ),
    "text for a number": (GOOD + "limits: {steps: many}\n", 7, "limits.steps: should be a valid integer", "Correct"),
    "bad id": (GOOD.replace("id: words", "id: My Words"), 2, "id: 'My Words' does not match", "Use only"),
    "absolute target": (GOOD.replace("words.py", "/etc/words.py"), 5, "targets[0]: '/etc/words.py' must be", "Correct"),
    "target that leaves": (GOOD.replace("words.py", "../words.py"), 5, "must be a relative path inside", "Correct"),
    "two sources": (GOOD.replace("{path: library}", "{path: a, pypi: b==1}"), 4, "found path and pypi", "Correct"),
    "url without base": (GOOD.replace("{path: library}", "{url: https://x/y}"), 4, "a url needs `base`", "Correct"),
    "no primary metric": (GOOD + "metrics: [{name: latency}]\n", 7, "exactly one metric `primary: true`", "Correct"),
    "margin above effect": (GOOD + "measure: {margin: 0.5}\n", 7, "measure: margin (0.5) must be below", "Correct"),
    "not a mapping": ("- a\n", 1, "has to be a mapping of keys to values", "omniperf/task/v1"),
    "empty": ("", 1, "has to be a mapping of keys to values", "omniperf/task/v1"),
    "key twice": (GOOD + "id: again\n", 7, "'id' is given twice, first on line 2", "Keep one"),
    "alias": (GOOD + "tags: [*x]\n", 7, "the alias *x is not allowed", "Write the value out"),
    "anchor": (GOOD + "tags: &x [a]\n", 7, "the anchor &x is not allowed", "Write the value out"),
    "billion laughs": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 1, "the anchor &a is not allowed", "Write"),
    "merge": (GOOD + "limits:\n  <<: {steps: 1}\n", 8, "the merge key << is not allowed", "Write the values out"),
    "tag": (GOOD + "tags: !!python/object/apply:os.system [id]\n", 7, "the tag !!python/object", "Remove the tag"),
    "harmless tag": (GOOD + "tags: [!!str 1]\n", 7, "the tag !!str is not allowed", "quote"),
    "key that is a number": (GOOD + "legacy: {1: a}\n", 7, "the key '1' is not text", "quotes"),
    "tab": (GOOD + "limits:\n\tsteps: 1\n", 8, "not valid YAML", "Indent with spaces"),
    "colon": (GOOD.replace("Speed up words", "words: faster"), 3, "not valid YAML", "quotes: it contains a colon"),
    "bracket": (GOOD + "tags: [a\n", 7, "not valid YAML", "Correct that line, or the one above"),
    "control character": (GOOD + "tags: ['\x01']\n", 7, "not valid YAML", "Remove that character"),
    "two documents": (GOOD + "---\na: 1\n", 7, "a second document starts here", "one task a file"),
    "deep": (GOOD + "legacy: " + "[" * 50 + "]" * 50 + "\n", 7, "nested more than 32 deep", "Flatten"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_an_error_with_file_line_and_remedy(settings: Settings, case: str) -> None:
    text, line, said, remedy = BAD[case]
    write(settings, text)
    with pytest.raises(UsageError) as caught:
        load_task("words", settings)
    message = str(caught.value)
    assert message.startswith(f"tasks/words/task.yaml:{line}: "), message
    assert said in message
    assert remedy in message.partition(said)[2]
    assert "\n" not in message


def test_several_errors_are_listed_in_order_a_line_each(settings: Settings) -> None:
    write(settings, GOOD.replace("id: words", "id: NO") + "a: 1\nlimits: {steps: 0}\n")
    with pytest.raises(UsageError) as caught:
        load_task("words", settings)
    head, *lines = str(caught.value).splitlines()
    assert head == "tasks/words/task.yaml has 3 errors:"
    assert [line.split(":")[1] for line in lines] == ["2", "7", "8"]


def test_many_errors_are_cut_short(settings: Settings) -> None:
    write(settings, GOOD + "".join(f"key{number}: 1\n" for number in range(20)))
    with pytest.raises(UsageError, match=r"has 20 errors:\n(.*\n){6}  and 14 more"):
        load_task("words", settings)


def test_bytes_that_are_not_utf8_are_located(settings: Settings) -> None:
    (write(settings, GOOD) / "task.yaml").write_bytes(GOOD.encode() + b"# caf\xe9\n")
    with pytest.raises(UsageError, match=r"task\.yaml:7: byte 0xe9 is not UTF-8\. Save the file as UTF-8"):
        load_task("words", settings)


def test_a_huge_file_is_refused_before_it_is_parsed(settings: Settings) -> None:
    write(settings, GOOD + "#" * (1 << 20))
    with pytest.raises(UsageError, match="Keep it below"):
        load_task("words", settings)


def test_values_follow_yaml_1_2(settings: Settings) -> None:
    write(settings, GOOD + "tags: [no, on, 1:30, 2026-01-01, '1']\nlimits: {usd: 1e1}\ndescription: 'yes'\n")
    task = load_task("words", settings)
    assert task.tags == ("no", "on", "1:30", "2026-01-01", "1")
    assert task.limits.usd == 10
    assert task.description == "yes"
    assert parse(b"a: ~\nb: true\n").value == {"a": None, "b": True}


@pytest.mark.parametrize("base", ["0123456", "0" * 40, "1" * 40])
def test_a_commit_of_digits_that_can_only_be_a_commit_needs_no_quotes(settings: Settings, base: str) -> None:
    write(settings, GOOD.replace("library}", f"library, base: {base}}}"))
    repo = load_task("words", settings).repo
    assert repo is not None
    assert repo.base == base


@pytest.mark.parametrize("name", ["words", "tasks/words", "tasks/words/task.yaml", "./tasks/words/"])
def test_a_task_is_found_by_name_folder_or_file(settings: Settings, name: str) -> None:
    folder = write(settings, GOOD)
    assert load_task(name, settings).folder == folder.resolve()


def test_a_local_task_hides_the_shipped_one_of_the_same_name(settings: Settings) -> None:
    assert load_task("quickstart", settings).folder == (shipped("tasks") / "quickstart").resolve()
    write(settings, GOOD, name="quickstart")
    assert load_task("quickstart", settings).id == "words"


@pytest.mark.parametrize(
    ("name", "remedy"), [("word", "Did you mean 'words'"), ("zzzz", "tasks list"), ("no/such", "Name a task.yaml")]
)
def test_an_unknown_task_is_an_error_with_what_is_there(settings: Settings, name: str, remedy: str) -> None:
    write(settings, GOOD)
    with pytest.raises(UsageError, match=remedy):
        load_task(name, settings)


def test_a_list_shows_broken_files_beside_good_ones(settings: Settings) -> None:
    write(settings, GOOD)
    write(settings, "{", name="broken")
    entries = {entry.name: entry for entry in list_tasks(settings)}
    assert entries["words"].task is not None
    assert entries["words"].origin == "local"
    assert "tasks/broken/task.yaml:1: not valid YAML" in entries["broken"].error
    assert entries["quickstart"].origin == "shipped"


@pytest.mark.parametrize(
    ("workload", "kind"),
    [
        (MODULE, "module"),
        ("if True:\n    def setup(seed): ...\n    def run(state): ...\n", "script"),
        ("print('hello')\n", "script"),
    ],
)
def test_the_kind_of_a_workload_is_read_from_it(settings: Settings, workload: str, kind: str) -> None:
    write(settings, GOOD, workload)
    assert workload_kind(load_task("words", settings)) == kind


@pytest.mark.parametrize(
    ("text", "workload", "message"),
    [
        (GOOD, "def setup(:\n", r"workload\.py:1: invalid syntax"),
        (GOOD, "x = 1\n\0", r"workload\.py:.*null bytes"),
        (GOOD.replace("workload.py", "{file: workload.py, kind: module}"), "def run(s): ...\n", "it lacks setup"),
        (GOOD, "async def setup(seed): ...\ndef run(state): ...\n", "it lacks setup"),
        (GOOD.replace("workload.py", "other.py"), "", r"task\.yaml:6: workload: there is no file other\.py"),
        (
            GOOD.replace("library}", "library, human_patch: a.diff}"),
            MODULE,
            r"task\.yaml:4: repo\.human_patch: there is",
        ),
    ],
)
def test_a_workload_that_cannot_be_is_an_error(settings: Settings, text: str, workload: str, message: str) -> None:
    write(settings, text, workload)
    with pytest.raises(UsageError, match=message):
        load_task("words", settings)


def test_a_workload_is_read_and_never_run(settings: Settings) -> None:
    write(settings, GOOD, MODULE + "raise SystemExit('ran')\n")
    assert load_task("words", settings).id == "words"


def test_the_hash_is_of_the_content_not_of_its_layout_or_place(settings: Settings) -> None:
    write(settings, GOOD)
    write(settings, "# a comment\n" + "\n".join(reversed(GOOD.strip().splitlines())), name="moved")
    first = task_sha256(load_task("words", settings))
    assert task_sha256(load_task("moved", settings)) == first
    write(settings, GOOD, MODULE + "\n")
    assert task_sha256(load_task("words", settings)) != first
    write(settings, GOOD + "limits: {steps: 3}\n")
    assert task_sha256(load_task("words", settings)) != first


def test_the_hash_covers_the_human_patch(settings: Settings) -> None:
    folder = settings.tasks / "words"
    folder.mkdir(parents=True)
    (folder / "a.diff").write_text("one")
    write(settings, GOOD.replace("library}", "library, human_patch: a.diff}"))
    first = task_sha256(load_task("words", settings))
    (folder / "a.diff").write_text("two")
    assert task_sha256(load_task("words", settings)) != first


LEGACY = """\
schema: omniperf/task/v1
id: old
title: From the earlier system
targets: ["a.py"]
legacy: {template: gso, repo: a, test_script: script.txt}
"""


def test_a_task_of_legacy_metadata_alone_is_prompt_only(settings: Settings) -> None:
    folder = settings.tasks / "old"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(LEGACY)
    with pytest.raises(UsageError, match=r"task\.yaml:5: legacy\.test_script: there is no file script\.txt beside it"):
        load_task("old", settings)
    (folder / "script.txt").write_bytes(b"one \n")
    task = load_task("old", settings)
    assert task.prompt_only
    first = task_sha256(task)
    (folder / "script.txt").write_bytes(b"one\n")
    assert task_sha256(load_task("old", settings)) != first


@pytest.mark.parametrize(
    ("legacy", "said"),
    [
        (
            "{template: gso, repo: a, test_script: ../script.txt}",
            "legacy.test_script: '../script.txt' must be a relative",
        ),
        ("{template: gso, repo: a, test_script: s, scripts: b}", "legacy.scripts is not a known key. Did you mean"),
        ("{template: ../gso, repo: a, test_script: s}", "legacy.template: '../gso' does not match"),
        ("{template: gso, repo: a, test_script: s, human: main}", "legacy.human: 'main' does not match"),
        ("{repo: a, test_script: s}", "legacy.template: missing"),
        ("{}", "legacy.repo: missing"),
    ],
)
def test_legacy_metadata_has_a_schema(settings: Settings, legacy: str, said: str) -> None:
    write(settings, GOOD + f"legacy: {legacy}\n")
    with pytest.raises(UsageError, match=re.escape(said)):
        load_task("words", settings)


def test_tasks_are_found_in_groups(settings: Settings) -> None:
    write(settings, GOOD, name="group/inside")
    write(settings, GOOD, name="words")
    (settings.tasks / "words" / "library").mkdir()
    (settings.tasks / "words" / "library" / "task.yaml").write_text("not ours")
    assert load_task("inside", settings).folder == (settings.tasks / "group" / "inside").resolve()
    names = {entry.name for entry in list_tasks(settings) if entry.origin == "local"}
    assert names == {"words", "inside"}
    with pytest.raises(UsageError, match="Did you mean 'inside'"):
        load_task("insid", settings)


def test_every_shipped_task_loads(settings: Settings) -> None:
    broken = [entry.error for entry in list_tasks(settings) if entry.task is None]
    assert not broken


def test_a_new_task_loads_and_overwrites_nothing(settings: Settings) -> None:
    written = new_task(settings.tasks / "mine", "mine")
    task = load_task("mine", settings)
    assert task.id == "mine"
    assert workload_kind(task) == "module"
    with pytest.raises(UsageError, match="already there"):
        new_task(settings.tasks / "mine", "mine")
    written[0].unlink()
    with pytest.raises(UsageError, match=r"workload\.py is already there"):
        new_task(settings.tasks / "mine", "mine")
    assert not written[0].exists()


@pytest.mark.parametrize(("kind", "metrics"), [("module", 2), ("command", 3), ("service", 3)])
def test_every_commented_key_of_a_new_task_is_a_key(settings: Settings, kind: str, metrics: int) -> None:
    file = new_task(settings.tasks / "mine", "mine", kind=kind)[0]
    assert workload_kind(load_task("mine", settings)) == kind
    file.write_text(re.sub(r"^( *)#(?! \S)", r"\1", file.read_text(), flags=re.MULTILINE))
    for name in ("input.json", "config.json"):
        (file.parent / name).touch()
    task = load_task("mine", settings)
    assert task.tags == ("cpu",)
    assert len(task.metrics) == metrics


def test_an_unknown_kind_of_a_new_task_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"no kind 'server' to start from\. Use module, command, service"):
        new_task(settings.tasks / "mine", "mine", kind="server")


@pytest.mark.parametrize("task_id", ["", "No", "-a", "a/b", "../a", "a" * 101])
def test_a_bad_id_for_a_new_task_is_refused(settings: Settings, task_id: str) -> None:
    with pytest.raises(UsageError, match="cannot be a task's id"):
        new_task(settings.tasks / "x", task_id)
    assert not settings.tasks.exists()


def test_published_schemas_are_those_of_the_code() -> None:
    folder = Path(__file__).parents[2] / "docs" / "schema"
    for name, text in runpy.run_path(str(folder / "generate.py"))["schemas"]().items():
        assert json.loads((folder / name).read_text()) == json.loads(text), "run python docs/schema/generate.py"


def test_a_new_task_can_start_from_a_local_repository(settings: Settings, tmp_path: Path) -> None:
    from tests.conftest import git, write

    repo = tmp_path / "shop"
    write(repo, {"shop/orders.py": "x = 1\n"})
    git(repo, "init", "-q")
    with pytest.raises(UsageError, match="no commit to start from"):
        new_task(settings.tasks / "mine", "mine", repo)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "one")
    file, _ = new_task(settings.tasks / "mine", "mine", repo / "shop")
    task = load_task(str(file), settings)
    assert task.repo is not None
    assert (file.parent / str(task.repo.path)).resolve() == repo
    assert task.repo.base == git(repo, "rev-parse", "HEAD")
    with pytest.raises(UsageError, match="not in a git repository"):
        new_task(settings.tasks / "other", "other", tmp_path / "nowhere")
