"""What an agent does to its environment stays in its attempt: no other attempt and no verification sees any of it."""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.sandbox import bubblewrap
from omniperf.sandbox.bubblewrap import Bubblewrap
from omniperf.sandbox.spec import Mount, Spec
from omniperf.sandbox.standing import StandingSandbox
from omniperf.settings import Settings
from tests.conftest import MakeTask
from tests.sandbox.conftest import ORDINARY, as_ordinary_user

_ENVIRONMENT_AS_A_TEXT = "cd /env && find . -type f -o -type l | sort | xargs sha256sum 2>/dev/null | sha256sum"


@pytest.fixture(params=["overlay", "copy"])
def laid(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways of laying it; a copy as on a host that has no overlay."""
    if request.param == "copy":
        monkeypatch.setattr(bubblewrap, "why_no_overlay", lambda mount: "not here")
    yield request.param


@pytest.fixture
def set_up(make_task: MakeTask, settings: Settings, bubblewrap: None) -> Bench:
    """A bench whose environment was made by a set-up, so it has pip."""
    task = make_task()
    environment = task.environment.model_copy(update={"setup": ["true"]})
    return open_bench(task.model_copy(update={"environment": environment}), settings, ignore)


def wheel(folder: Path) -> None:
    """A wheel of one module."""
    info = "local_thing-1.0.dist-info"
    with zipfile.ZipFile(folder / "local_thing-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("local_thing.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: local-thing\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"local_thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def test_an_agent_changes_its_environment_and_nobody_else_sees_it(set_up: Bench, laid: str) -> None:
    bench = set_up
    one, other = bench.workspace("one"), bench.workspace("other")
    wheel(one.tree)
    with (
        StandingSandbox(bench.backend, bench.spec(one, agent=True)) as attempt,
        StandingSandbox(bench.backend, bench.spec(other, agent=True)) as another,
        StandingSandbox(bench.backend, bench.spec(other)) as verification,
    ):
        before = another.run(_ENVIRONMENT_AS_A_TEXT, 60).output
        install = (
            "python -m pip install --no-index ./*.whl && python -c 'import local_thing; print(local_thing.answer)'"
        )
        done = attempt.run(install, 60)
        assert done.output.endswith("42\n"), done.output
        edit = "echo 'print(1234)' > $(python -c 'import pip; print(pip.__file__)') && python -c 'import pip'"
        assert attempt.run(edit, 20).output == "1234\n"
        assert attempt.run("pip --version; rm -rf /env/lib && ls /env && ! python -c 'import pip'", 20).ok
        for untouched in (another, verification):
            assert untouched.run("python -c 'import pip' && ! python -c 'import local_thing' 2>/dev/null", 20).ok
            assert untouched.run(_ENVIRONMENT_AS_A_TEXT, 60).output == before
    with StandingSandbox(bench.backend, bench.spec(one)) as verification:  # of the tree of the one that did it
        assert verification.run(_ENVIRONMENT_AS_A_TEXT, 60).output == before, (
            "verifying the tree of the one that did it"
        )
        assert not verification.run("touch /env/x", 10).ok


def test_nothing_odd_in_a_layer_is_seen_elsewhere(set_up: Bench, laid: str) -> None:
    one, other = set_up.workspace("one"), set_up.workspace("other")
    odd = """
        cd /env; mkfifo odd-pipe; ln -s / odd-link; ln bin/activate odd-hard; echo odd >> odd-hard
        python -c "import socket; socket.socket(socket.AF_UNIX).bind('/env/odd-socket')"
        python -c "import os; os.setxattr('/env/lib', 'user.overlay.opaque', b'y')" 2>/dev/null
        for lib in lib/python3*; do mkdir -p $lib/__pycache__; echo odd > $lib/__pycache__/odd.pyc; done
        rm -rf lib/python3*/site-packages/pip; mkdir lib/python3*/site-packages/pip
        mknod odd-node c 0 0; chmod u+s odd-hard; test -S odd-socket -a -p odd-pipe
    """
    look = "find /env -name 'odd*'; grep -l odd /env/bin/activate; python -c 'import pip; print(bool(pip.__file__))'"
    with StandingSandbox(set_up.backend, set_up.spec(one, agent=True)) as attempt:
        assert attempt.run(odd, 20).ok
    for spec in (set_up.spec(one), set_up.spec(other, agent=True)):
        with StandingSandbox(set_up.backend, spec) as later:
            assert later.run(look, 20).output == "True\n"
    one.remove()
    assert not one.root.exists()


def test_it_is_private_for_an_ordinary_user_too(spec: Spec, laid: str) -> None:
    env = spec.source("/env")
    (env / "lib").mkdir()
    (env / "lib" / "package.py").write_text("original\n")
    for path in (env.parent, env, env / "lib", env / "lib/package.py"):
        if os.getuid() == 0:
            os.chown(path, ORDINARY, ORDINARY)  # who makes an environment uses it

    def seen_from(name: str) -> Spec:
        private = Mount(env, "/env", True, env.parent / name / "env")
        return replace(spec, mounts=tuple(private if one.target == "/env" else one for one in spec.mounts))

    def use() -> list[str]:
        with (
            StandingSandbox(Bubblewrap(), seen_from("one")) as one,
            StandingSandbox(Bubblewrap(), seen_from("other")) as other,
        ):
            wrote = one.run("echo changed >> /env/lib/package.py; cat /env/lib/package.py; rm -r /env/lib; ls /env", 10)
            return [wrote.output, other.run("cat /env/lib/package.py", 10).output]

    assert as_ordinary_user(use) == ["original\nchanged\nbin\n", "original\n"]
    assert (env / "lib/package.py").read_text() == "original\n"


def test_the_layer_goes_with_the_workspace(set_up: Bench) -> None:
    workspace = set_up.workspace("one")
    with StandingSandbox(set_up.backend, set_up.spec(workspace, agent=True)) as sandbox:
        assert sandbox.run("mkdir -p /env/a/b; chmod 0 /env/a; rm -rf /env/lib", 20).ok
    workspace.remove()
    assert not workspace.root.exists()
