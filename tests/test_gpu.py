"""A task on a real GPU, end to end: a Triton kernel with needlessly small blocks."""

import difflib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from omniperf.agents.protocol import Outcome, Profile, Session
from omniperf.errors import OmniPerfError
from omniperf.measure import arms, checker, worker
from omniperf.measure.bench import open_bench
from omniperf.measure.nvml import gpus
from omniperf.results.events import ignore
from omniperf.results.store import read_lines
from omniperf.sandbox.environment import find_interpreter
from omniperf.settings import Settings, load_settings
from omniperf.tasks.load import load_task
from omniperf.tasks.schema import Task
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from tests.conftest import git, write
from tests.test_attempt import install, run

SLOW = dedent(
    """\
    import torch
    import triton
    import triton.language as tl


    @triton.jit
    def scale_kernel(x, out, count, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(out + at, tl.load(x + at, mask=at < count) * 2, mask=at < count)


    def scale(x):
        block = 16
        out = torch.empty_like(x)
        scale_kernel[(triton.cdiv(x.numel(), block),)](x, out, x.numel(), BLOCK=block)
        return out
    """
)
WORKLOAD = dedent(
    """\
    import torch

    from toy.scale import scale


    def setup(seed):
        generator = torch.Generator("cuda").manual_seed(seed % 2**63)
        return torch.randn(2**26, generator=generator, device="cuda")


    def run(state):
        for _ in range(16):
            state = scale(state)
        return state[::4099].clone()
    """
)
GPU = """
resources: {gpus: 1, gpu_memory_gib: 2}
"""


def why_no_gpu() -> str:
    """What is missing here for a task on a GPU, or ""."""
    if not gpus():
        return "this host has no NVIDIA GPU"
    try:
        find_interpreter(">=3.11", ("torch", "triton"))
    except OmniPerfError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu())


@pytest.fixture
def task(make_task: Callable[..., Task], bubblewrap: None) -> Task:
    made = make_task(GPU, WORKLOAD, {"toy/scale.py": SLOW})
    repo, file = made.folder / "repo", made.folder / "task.yaml"
    # The human commit of the toy changes another file: here it is a commit on top, of the kernel.
    write(repo, {"toy/scale.py": SLOW.replace("block = 16", "block = 1024")})
    git(repo, "commit", "-q", "-a", "-m", "larger blocks")
    environment = "{host_packages: [torch, triton], pythonpath: [.]}"
    text = file.read_text().replace(made.repo.human, git(repo, "rev-parse", "HEAD"))  # type: ignore[union-attr, arg-type]
    file.write_text(text.replace('{pythonpath: ["."]}', environment))
    return load_task(str(made.folder), load_settings({}))


def test_larger_blocks_are_faster_and_the_gpu_is_on_record(task: Task, settings: Settings) -> None:
    folder, result = run(task, settings, "oracle")
    assert result.verdict.class_ == "improved", result.verdict.reason
    pairs = [line for line in read_lines(folder / "measurements.jsonl") if "pair" in line]
    assert all(state["sm_clock_mhz"] > 0 for line in pairs for state in line["gpus"])
    assert result.environment["gpus"]


def test_the_profile_names_the_kernel(task: Task, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def body(session: Session) -> Outcome:
        seen["profile"] = session.tools.profile()
        return Outcome("finished")

    install(monkeypatch, body)
    _, result = run(task, settings, "scripted")
    assert result.verdict.class_ == "no_patch"
    profile = seen["profile"]
    assert isinstance(profile, Profile)
    assert (profile.kernels[0].name, profile.kernels[0].launches) == ("scale_kernel", 16)
    assert 0 < profile.kernels[0].seconds < 1
    assert "scale" in {spot.function for spot in profile.functions}


TOOLS_PATH = "/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin"  # what a sandbox looks through


@pytest.mark.skipif(
    not any(shutil.which(tool, path=TOOLS_PATH) for tool in ("ncu", "compute-sanitizer")),
    reason="neither ncu nor compute-sanitizer is installed",
)
def test_a_deep_profile_has_what_nvidias_tools_say(
    task: Task, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Profile] = {}

    def body(session: Session) -> Outcome:
        seen["profile"] = session.tools.profile(deep=True)
        return Outcome("finished")

    install(monkeypatch, body)
    run(task, settings, "scripted")
    profile = seen["profile"]
    if shutil.which("ncu", path=TOOLS_PATH) is None:
        assert (profile.counters, profile.no_counters) == ((), "")
    elif profile.no_counters:  # most hosts keep counters from ordinary users, some have no more than the command
        assert profile.counters == ()
    else:
        counted = profile.counters[0]
        assert counted.name == "scale_kernel"
        assert 0 < counted.seconds < 0.1
        assert 0 < counted.dram_percent <= 100
        assert counted.registers > 0
    sanitizer = shutil.which("compute-sanitizer", path=TOOLS_PATH) is not None
    assert profile.memcheck == ("no errors" if sanitizer else "")


def test_memory_that_torch_keeps_is_spoilt_before_every_run(tmp_path: Path) -> None:
    """Without torch's own filling: a tensor made of memory as it is holds NaN, small or large, in every state."""
    workload = dedent(
        """\
        import torch

        def setup(seed):
            return seed

        def run(seed):
            torch._C._set_deterministic_algorithms(False)
            made = [torch.empty(n, device="cuda") for n in (3, 1000, 200_000, 1_000_000, 100_000_000)]
            seen = [one.isnan().all().item() for one in made]
            for one in made:
                one.zero_()
            return seen
        """
    )
    (tmp_path / "workload.py").write_text(workload)
    config = {"kind": "module", "export": False, "poison": True, "gpu": True, "flush": True, "pause": False}
    python = find_interpreter(">=3.11", ("torch", "triton"))
    config |= {"workload": str(tmp_path / "workload.py"), "args": [], "pythonpath": [*map(str, python.folders)]}
    setup = b'{"do": "setup", "seeds": [1, 2, 3], "shape": {}, "clean": true}'
    done = subprocess.run(
        (python.executable, "-s", "-S", "-P", worker.__file__),
        input=b"\n".join((json.dumps(config).encode(), setup, b"run", b'{"do": "export"}', b"")), capture_output=True,
        check=True, env={**os.environ, **arms.POISONED},
    )  # fmt: skip
    _ready, _made, _digest, length, rest = done.stdout.split(b"\n", 4)
    assert checker.read(rest[: int(length)]) == [[True] * 5] * 3


ROOMY = dedent(
    """\
    import torch

    def scale(x):
        room = torch.empty(2**30, dtype=torch.uint8, device="cuda")
        room[0] = 1
        return x * 2
    """
)
# As much memory, taken before anybody looks, and not through torch, which would count it.
TAKEN_AT_IMPORT = dedent(
    """\
    import ctypes
    import torch

    torch.zeros(1, device="cuda")
    address = ctypes.c_uint64()
    assert ctypes.CDLL("libcuda.so.1").cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(2**30)) == 0

    def scale(x):
        return x * 2
    """
)


def test_memory_taken_at_import_is_memory_taken(
    make_task: Callable[..., Task], settings: Settings, bubblewrap: None
) -> None:
    extra = GPU + "metrics: [{name: peak_memory, unit: MiB, primary: true}]\n"
    made = make_task(extra, WORKLOAD, {"toy/scale.py": ROOMY})
    environment = made.environment.model_copy(update={"host_packages": ("torch",)})
    bench = open_bench(made.model_copy(update={"environment": environment}), settings, ignore)
    data = "".join(
        difflib.unified_diff(
            ROOMY.splitlines(True), TAKEN_AT_IMPORT.splitlines(True), "a/toy/scale.py", "b/toy/scale.py"
        )
    )
    verdict = verify_patch(bench, data.encode(), preflight(bench, ignore), print, ignore)
    assert verdict.class_ not in ("improved", "inconclusive"), verdict
