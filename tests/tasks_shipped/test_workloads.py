"""The tasks that come with OmniPerf: complete, consistent, and silent about their solutions."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from omniperf.tasks.schema import Task

TASKS = Path(__file__).parents[2] / "tasks"


def read(file: Path) -> Task:
    return Task.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


SHIPPED = {file.parent.name: task for file in sorted(TASKS.glob("*/task.yaml")) if not (task := read(file)).prompt_only}
BUNDLED = ["quickstart"]
# What the reference commits say of themselves: nothing an agent may read.
SUBJECTS = {
    "fla-cumsum-vector": "optimize local chunk vector cumsum",
    "fla-l2norm-rstd": "Speedup by saving rstd",
    "fla-l2norm-small-dim": "optimize kernel speed for small-valued last dimension",
    "fla-nsa-backward": "Speed up parallel backward: gather+batch bwd_dkv",
    "graphql-lexer": "Optimize performance of character class predicates",
    "graphql-overlap": "Fix performance degradation on handling conflict fields",
    "liger-cross-entropy-cast": "Optimize CE Loss by casting dtype to float32 inside kernel",
    "liger-cross-entropy-single-shot": "single-shot dx_y gradient correction",
    "liger-dyt-autotune": "enable triton.autotune for DyT forward and backward kernels",
    "liger-dyt-elementwise": "element-wise-DyT faster than the origin LigerDyT",
    "liger-flce-memory": "optimize grad_weight accumulation with addmm",
    "liger-fused-add-rms-backward": "Improve bwd kernel for fused_add_rms_norm",
    "liger-layer-norm-backward": "Optimize LayerNorm Backward: Replace Atomics with Persistent Reduction",
    "liger-poly-norm-pointers": "optimize poly_norm backward kernel pointer handling",
    "liger-rms-norm-aggregation": "RMSNorm aggregation",
    "liger-rms-norm-qk": "add block rms_norm for qk norm",
    "markdown-it-fragments-join": "Fix quadratic complexity in `fragments_join` / `text_join`",
    "more-itertools-nth-permutation": "Simplify and speed up nth_permutation",
    "networkx-bidirectional-dijkstra": "Bidirectional dijkstra optimization: from 1.1x to 25x faster",
    "networkx-dijkstra-all-paths": "Optimizing Dijkstra's path construction for all targets case",
    "networkx-edmonds-karp": "Speed up the residual flow reset in `edmonds_karp`",
    "networkx-is-reachable": "optimise `is_reachable()`",
    "networkx-single-shortest-path": "optimize _single_shortest_path function",
    "sqlglot-generator": "cache generator dispatch table for faster sql()",
    "sqlglot-schema": "improve schema module perf by caching normalized tables/names",
    "tomlkit-escape": "only iter on found escape sequences",
    "tornado-cookie": "Fix quadratic performance of cookie parsing",
    "werkzeug-multipart": "slow multipart parsing for huge files with few CR/LF characters",
}

# Runs a workload of a tree (sys.argv[1], sys.argv[2]) once for each further argument, a seed; prints the outputs.
RUN = """
import importlib.util, json, sys
tree, file, *seeds = sys.argv[1:]
sys.path.insert(0, tree)
spec = importlib.util.spec_from_file_location("workload", file)
workload = importlib.util.module_from_spec(spec)
spec.loader.exec_module(workload)
print(json.dumps([workload.run(workload.setup(int(seed))) for seed in seeds]))
"""


def functions(file: Path) -> dict[str, list[str]]:
    """The functions at the top level of a module and the names of the arguments that they must be given."""
    body = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    return {
        node.name: [arg.arg for arg in node.args.args[: len(node.args.args) - len(node.args.defaults)]] for node in body
    }


def outputs(tree: Path, task: Task, seeds: list[int]) -> list[object]:
    argv = [sys.executable, "-c", RUN, str(tree), str(TASKS / task.id / task.workload.file), *map(str, seeds)]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment, timeout=60)
    return json.loads(done.stdout)


@pytest.fixture
def tree(request, tmp_path):
    """A copy of a bundled library, as it is and with the reference applied."""
    task = SHIPPED[request.param]
    source = TASKS / task.id / task.repo.path
    trees = [tmp_path / "base", tmp_path / "reference"]
    for each in trees:
        shutil.copytree(source, each, ignore=shutil.ignore_patterns("__pycache__"))
    patch = str(TASKS / task.id / task.repo.human_patch)
    # A repository of its own: git apply inside another work tree skips files it thinks lie outside.
    subprocess.run(["git", "init", "-q"], cwd=trees[1], check=True)
    subprocess.run(["git", "apply", "--check", patch], cwd=trees[1], check=True)
    subprocess.run(["git", "apply", patch], cwd=trees[1], check=True)
    return task, *trees


def test_there_are_enough_real_tasks():
    libraries = {task.repo.url for task in SHIPPED.values() if task.repo.url and "cpu" in task.tags}
    assert len(libraries) >= 6
    assert sum(task.repo.url is not None and "cpu" in task.tags for task in SHIPPED.values()) >= 10
    assert any(task.repo.pypi for task in SHIPPED.values())
    assert "quickstart" in SHIPPED


@pytest.mark.parametrize("folder", SHIPPED)
class TestShipped:
    def test_id_is_the_folder(self, folder):
        assert SHIPPED[folder].id == folder

    def test_files_exist(self, folder):
        task = SHIPPED[folder]
        wanted = [task.workload.file, task.repo.path, task.repo.human_patch]
        assert [name for name in wanted if name and not (TASKS / folder / name).exists()] == []

    def test_workload_defines_setup_and_run(self, folder):
        found = functions(TASKS / folder / SHIPPED[folder].workload.file)
        assert found["setup"] == ["seed"]
        assert len(found["run"]) == 1
        assert len(found.get("export", ["output"])) == 1
        assert len(found.get("check", ["output", "reference"])) == 2

    def test_commits_are_whole(self, folder):
        repo = SHIPPED[folder].repo
        shas = [sha for sha in (repo.base, repo.human) if sha]
        assert all(re.fullmatch(r"[0-9a-f]{40}", sha) for sha in shas)
        assert len(shas) == len(set(shas))

    def test_setup_is_pinned(self, folder):
        for command in SHIPPED[folder].environment.setup:
            words = command.split()
            assert words[:2] == ["pip", "install"]
            assert all("==" in word or word.startswith("-") or word == "." for word in words[2:]), command

    def test_has_tests_and_a_licence(self, folder):
        task = SHIPPED[folder]
        assert task.tests or "gpu" in task.tags  # those compare outputs only: their suites need models to import
        assert task.provenance["license"]

    def test_does_not_tell_the_solution(self, folder):
        task = SHIPPED[folder]
        shown = [task.title, task.description, *task.tags, *task.constraints]
        shown += [text for texts in task.hints.model_dump().values() for text in texts]
        text = " ".join(" ".join(shown).lower().split())
        if task.repo.human:
            assert task.repo.human[:7] not in text
            assert " ".join(SUBJECTS[folder].lower().split()) not in text
        assert "://" not in text

    def test_is_portable(self, folder):
        text = (TASKS / folder / "task.yaml").read_text(encoding="utf-8")
        assert re.findall(r"(?<![\w.])/(?:home|root|work|tmp|opt)\b", text) == []


@pytest.mark.parametrize("tree", BUNDLED, indirect=True)
class TestBundled:
    def test_equal_seeds_give_equal_outputs(self, tree):
        task, base, _ = tree
        first, again, other = outputs(base, task, [1, 1, 2])
        assert first == again
        assert first != other
        assert outputs(base, task, [1]) == [first]

    def test_the_reference_gives_the_same_outputs(self, tree):
        task, base, reference = tree
        assert outputs(base, task, [1, 2, 3]) == outputs(reference, task, [1, 2, 3])

    def test_the_library_passes_its_tests(self, tree):
        task, base, reference = tree
        for each in (base, reference):
            for command in task.tests:
                program, *arguments = command.split()
                assert program == "python"
                subprocess.run([sys.executable, *arguments], cwd=each, check=True, capture_output=True, timeout=60)
