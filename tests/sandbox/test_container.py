"""What docker and podman are told, and what is said where they cannot be had."""

from pathlib import Path

import pytest

from omniperf.errors import InfraError
from omniperf.sandbox import container
from omniperf.sandbox.choose import choose_backend
from omniperf.sandbox.container import Container
from omniperf.sandbox.spec import Allowance, Mount, Spec


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    container.why_not.cache_clear()


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_a_host_without_the_program_gets_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match=rf"{name} was not found on PATH\. Install or start {name}, or use `--sandbox"):
        choose_backend(name)  # type: ignore[arg-type]


def test_a_client_without_a_daemon_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    if container.shutil.which("docker") is None:
        pytest.skip("docker's client is not installed")
    with pytest.raises(InfraError, match=r"`docker info` fails \(.*\)\. Install or start docker, or use") as raised:
        choose_backend("docker")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_every_wall_is_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of docker this is all that is tested on a host without its daemon."""
    monkeypatch.setattr(container, "limits", lambda program: frozenset({"memory", "pids"}))
    tree = tmp_path / 'a, "strange" name'
    mounts = (Mount(tree, "/workspace", True), Mount(tmp_path, "/env"))
    spec = Spec(mounts, tmp_path / "python", allowance=Allowance(memory=2**30, processes=77, scratch=2**20))
    options = Container(name)._options(spec)  # type: ignore[arg-type]
    words = " ".join(options)
    for asked in (
        "--rm",
        "--pull never",
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--ipc private",
        "--pids-limit 77",
        f"--memory {2**30 + 256 * 2**20}",
        f"--shm-size {2**20}",
        f"--mount type=bind,source={tmp_path},target=/env,readonly",
        f'--mount type=bind,"source={tmp_path}/a, ""strange"" name",target=/workspace ',
        "--mount type=bind,source=/usr,target=/usr,readonly",
    ):
        assert asked in f"{words} ", asked
    assert "--privileged" not in words
    assert not options[options.index("--user") + 1].startswith("0:")
    assert sum(word.startswith(("/tmp:rw", "/home/agent:rw")) for word in options) == 2
    assert ("notmpcopyup" in words) == (name == "podman"), (
        "docker does not know it, podman shows what is below without it"
    )
