"""Real repositories: an sdist from the index, and public git repositories where a mirror is at hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from omniperf.errors import InfraError
from omniperf.measure.bench import open_bench
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.settings import Settings, load_settings
from omniperf.sweep.run import run_task
from omniperf.tasks.load import load_task
from omniperf.verify.validate import validate_task
from omniperf.workspace.source import mirror_of


def test_an_sdist_becomes_a_task_that_runs(settings: Settings, bubblewrap: None) -> None:
    task = load_task("idna-domains", settings)
    try:
        open_bench(task, settings, ignore)
    except InfraError as error:
        if error.kind == "network":
            pytest.skip(f"the package index cannot be reached: {error}")
        raise
    spec = AttemptSpec(run_id="", agent="oracle", n=0)
    _, results = run_task(task, spec, 1, settings, ignore)
    assert results[0].verdict.class_ == "improved"
    assert results[0].provenance.source == "pypi:idna==3.6"


@pytest.mark.parametrize("name", ["networkx-is-reachable", "tomlkit-escape", "werkzeug-multipart"])
def test_a_public_task_holds_what_its_file_claims(name: str, settings: Settings, bubblewrap: None) -> None:
    mirrors = load_settings().mirrors
    task = load_task(name, settings)
    assert task.repo is not None
    assert task.repo.url is not None
    if mirror_of(task.repo.url, mirrors) is None:
        pytest.skip(f"no mirror of {task.repo.url}: name one in OMNIPERF_MIRRORS")
    from dataclasses import replace

    checks = validate_task(task, replace(settings, mirrors=mirrors), ignore)
    assert [check.name for check in checks if not check.ok] == []


def test_mirrors_are_looked_up_by_host_owner_and_name_or_by_template(tmp_path: Path) -> None:
    url = "https://example.org/owner/name.git"
    for folder in ("a/example.org/owner/name", "b/owner/name.git", "c/owner+name/repo"):
        subprocess.run(("git", "init", "-q", "--bare", str(tmp_path / folder)), check=True)
    found = [mirror_of(url, (str(tmp_path / mirror),)) for mirror in ("a", "b", "c/{owner}+{name}/repo", "absent")]
    expected = ["a/example.org/owner/name", "b/owner/name.git", "c/owner+name/repo"]
    assert found == [*(tmp_path / folder for folder in expected), None]


def test_a_repository_that_cannot_be_fetched_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "far"
    folder.mkdir(parents=True)
    (folder / "workload.py").write_text("def setup(seed): return seed\ndef run(state): return state\n")
    (folder / "task.yaml").write_text(
        "schema: omniperf/task/v1\nid: far\ntitle: t\ntargets: ['*.py']\nworkload: workload.py\n"
        f"repo: {{url: 'file://{tmp_path}/absent.git', base: '{'a' * 40}'}}\n"
    )
    command = (sys.executable, "-m", "omniperf", "run", "far", "--agent", "null")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert "OMNIPERF_MIRRORS" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()
