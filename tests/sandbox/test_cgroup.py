"""Control groups of sandboxes: made only below the folder that a setting names. The last test needs such a folder."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from omniperf.errors import InfraError, UsageError
from omniperf.sandbox.bubblewrap import Bubblewrap
from omniperf.sandbox.cgroup import Groups, why_not
from omniperf.sandbox.choose import choose_backend
from omniperf.sandbox.spec import Allowance, Mount
from omniperf.sandbox.standing import StandingSandbox
from omniperf.settings import load_settings
from tests.sandbox.conftest import Inside

MIB = 2**20


def test_nothing_is_in_a_group_unless_a_setting_names_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMNIPERF_CGROUP", raising=False)
    assert load_settings({}).cgroup is None
    monkeypatch.setenv("OMNIPERF_CGROUP", str(tmp_path))
    assert load_settings({}).cgroup == tmp_path


def test_a_folder_that_is_no_group_is_refused_in_one_sentence(bubblewrap: None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{tmp_path}: it is no control group of version 2\. Name a group") as raised:
        choose_backend("auto", tmp_path)
    assert "\n" not in str(raised.value)


def test_the_root_of_all_groups_and_one_without_controllers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    assert why_not(tmp_path) == "it is the root of all groups, which nobody can be given"
    (tmp_path / "cgroup.type").write_text("domain\n")
    assert why_not(tmp_path) == "the controllers pids are not delegated to it"


def test_what_is_measured_has_no_quota_of_time(tmp_path: Path) -> None:
    """In a plain folder, where a limit is a file."""
    allowance = Allowance(memory=2**30, processes=100, cpus=2)
    standing, measured = (Groups(tmp_path).made(allowance, measured=measured) for measured in (False, True))
    limits = {file.name: file.read_text() for file in standing.iterdir()}
    assert limits == {"memory.max": str(2**30 + 256 * MIB), "pids.max": "108", "cpu.max": "200000 100000"}
    assert not (measured / "cpu.max").exists()


def test_a_sandbox_enters_its_group_before_it_is_one(inside: Inside, tmp_path: Path) -> None:
    """In a plain folder, where entering writes a file: the harness itself is asked to go nowhere."""
    if inside.name != "bubblewrap as root":
        pytest.skip("a plain folder of whoever runs the tests")
    with StandingSandbox(Bubblewrap(tmp_path), inside.spec) as sandbox:
        assert "network" not in sandbox.run("ps -eo args", 10).output
    (group,) = tmp_path.glob("omniperf-*")
    assert (group / "cgroup.procs").read_text() == "0", "the process that writes it"


def test_a_group_is_over_with_its_sandbox(inside: Inside, tmp_path: Path) -> None:
    """In a plain folder, which is a group no more once it is empty."""
    if inside.name != "bubblewrap as root":
        pytest.skip("a plain folder of whoever runs the tests")
    backend = Bubblewrap(tmp_path)
    for _ in range(2):
        with StandingSandbox(backend, inside.spec):
            (group,) = tmp_path.glob("omniperf-*")
            assert backend._groups is not None
            backend._groups._remove()
            assert group in backend._groups._over
        for file in group.iterdir():
            file.unlink()
        backend._groups._remove()
        assert not group.exists()
    with pytest.raises(InfraError):
        StandingSandbox(backend, replace(inside.spec, mounts=(*inside.spec.mounts, Mount(Path("/no"), "/no"))))
    (over,) = backend._groups._over.values()
    assert over()


@pytest.mark.skipif("OMNIPERF_CGROUP" not in os.environ, reason="no control group is delegated (OMNIPERF_CGROUP)")
def test_a_group_limits_a_sandbox_and_goes_with_it(inside: Inside) -> None:
    folder = Path(os.environ["OMNIPERF_CGROUP"])
    if inside.name != "bubblewrap as root":
        pytest.skip("the group is delegated to the user who runs the tests")
    assert why_not(folder) == ""
    with StandingSandbox(Bubblewrap(folder), inside.spec) as sandbox:
        (group,) = folder.glob("omniperf-*")
        assert (group / "cgroup.procs").read_text().split()
        assert sandbox.run("cat /proc/self/cgroup", 10).output.endswith(":/\n")
    Groups(folder)._remove()
    sandbox.backend._groups._remove()  # type: ignore[attr-defined]
    assert not list(folder.glob("omniperf-*"))
