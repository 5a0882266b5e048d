"""What NVIDIA's tools print, written here as their manuals show it, and tools that are absent, refuse or hang."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from omniperf.measure.arms import make_arm, on_lane
from omniperf.measure.bench import Bench
from omniperf.measure.gpu_tools import (
    Counters,
    function_name,
    kernel_counters,
    memory_check,
    ncu_argv,
    parse_counters,
    parse_memcheck,
)
from omniperf.measure.lanes import Lane
from omniperf.sandbox.spec import Mount

HEADER = (
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device",'
    '"CC","Section Name","Metric Name","Metric Unit","Metric Value"'
)
DURATION, SM = "gpu__time_duration.sum", "sm__throughput.avg.pct_of_peak_sustained_elapsed"
DRAM = "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed"
WARPS, REGISTERS = "sm__warps_active.avg.pct_of_peak_sustained_active", "launch__registers_per_thread"


def row(launch: int, kernel: str, metric: str, unit: str, value: str) -> str:
    cells = (launch, 77, "python3.11", "127.0.0.1", kernel, 1, 7, "(128, 1, 1)", "(64, 1, 1)", 0, "9.0")
    return ",".join(f'"{cell}"' for cell in (*cells, "Command line profiler metrics", metric, unit, value))


NCU = "\n".join(
    (
        "==PROF== Connected to process 77 (/env/bin/python)",
        "what the workload prints",
        '==PROF== Profiling "scale_kernel" - 0: 0%....50%....100% - 2 passes',
        "==PROF== Disconnected from process 77",
        HEADER,
        row(0, "scale_kernel", DURATION, "nsecond", "1,234,560"),
        row(0, "scale_kernel", SM, "%", "12.50"),
        row(0, "scale_kernel", DRAM, "%", "87.25"),
        row(0, "scale_kernel", WARPS, "%", "93.1"),
        row(0, "scale_kernel", REGISTERS, "register/thread", "32"),
        row(1, "reduce_kernel", DURATION, "ns", "500"),
        row(1, "reduce_kernel", DRAM, "%", "n/a"),
        row(2, "scale_kernel", DURATION, "nsecond", "9"),
    )
)


def test_counters_are_read_from_among_all_that_is_printed() -> None:
    scale, reduce = parse_counters(NCU)
    assert scale == Counters("scale_kernel", pytest.approx(1.23456e-3), 12.5, 87.25, 93.1, 32)
    assert (reduce.name, reduce.seconds) == ("reduce_kernel", pytest.approx(5e-7))
    assert math.isnan(reduce.dram_percent)


@pytest.mark.parametrize("output", ["", HEADER, "==ERROR== nothing", '"a","b"\n"c"', NCU.replace(HEADER, "")])
def test_without_a_table_there_are_no_counters(output: str) -> None:
    assert parse_counters(output) == ()


@pytest.mark.parametrize(
    ("kernel", "function"),
    [
        ("_rms_norm_forward_kernel", "_rms_norm_forward_kernel"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>(at::native::ReduceOp)", "reduce_kernel"),
        ("void (anonymous namespace)::softmax<float>(float*)", "softmax"),
        ("gemv2T_kernel_val(int, int)", "gemv2T_kernel_val"),
        ("Memcpy DtoH (Device -> Pageable)", ""),
        ("Memset (Device)", ""),
    ],
)
def test_a_kernel_is_known_by_its_function(kernel: str, function: str) -> None:
    assert function_name(kernel) == function


def test_ncu_is_asked_for_these_kernels_alone() -> None:
    argv = ncu_argv(["a", "b"])
    assert argv[argv.index("--kernel-name") + 1] == "regex:^(a|b)$"
    assert argv[argv.index("--clock-control") + 1] == "none"


MEMCHECK = """\
========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at scale_kernel+0x1d0
=========     by thread (31,0,0) in block (63,0,0)
=========     Address 0x7f1234567890 is out of bounds
=========     and is 1 bytes after the nearest allocation at 0x7f1234560000 of size 30864 bytes
=========
========= Invalid __global__ write of size 4 bytes
=========     at scale_kernel+0x1d0
=========     by thread (32,0,0) in block (63,0,0)
=========
========= Invalid __shared__ read of size 16 bytes
=========     at other_kernel+0x40
=========
========= Target application returned an error
========= ERROR SUMMARY: 3 errors
"""


def test_the_errors_of_memcheck_are_told_once_each_with_their_kernels() -> None:
    write = "Invalid __global__ write of size 4 bytes at scale_kernel+0x1d0"
    assert (
        parse_memcheck(MEMCHECK) == f"3 errors: {write}; Invalid __shared__ read of size 16 bytes at other_kernel+0x40"
    )
    assert parse_memcheck("========= COMPUTE-SANITIZER\nhello\n========= ERROR SUMMARY: 0 errors\n") == "no errors"
    assert parse_memcheck("========= COMPUTE-SANITIZER\n") == ""


PERMISSION = "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters"


@pytest.fixture
def under(bench: Bench, tmp_path: Path) -> Callable[..., tuple[object, str]]:
    """What both tools say in a sandbox in which this script is the only `ncu` and `compute-sanitizer`."""

    def run(script: str | None, limit: float = 30.0) -> tuple[object, str]:
        folder = tmp_path / "tools"
        folder.mkdir()
        for name in ("ncu", "compute-sanitizer") if script is not None else ():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        with bench.tree("base") as tree:
            made = make_arm("base", bench.task, bench.environment, bench.backend, tree, tmp_path)
            spec = replace(made.spec, mounts=(*made.spec.mounts, Mount(folder, "/tools")))
            spec = replace(spec, env={**spec.env, "PATH": "/env/bin:/tools:/usr/bin:/bin"})
            arm = on_lane(replace(made, spec=spec), Lane(()))
            seen = bench.backend, arm, bench.task
            return kernel_counters(*seen, ["scale_kernel"], limit), memory_check(*seen, limit)

    return run


def test_tools_that_are_absent_are_not_mentioned(under: Callable[..., tuple[object, str]]) -> None:
    assert under(None) == (((), ""), "")


def test_what_a_tool_refuses_is_a_reason_of_one_line(under: Callable[..., tuple[object, str]]) -> None:
    (counters, reason), memcheck = under(f'echo "{PERMISSION}"; echo "========= Error: no device"; exit 9')
    assert (counters, reason) == ((), PERMISSION.removeprefix("==ERROR== "))
    assert memcheck == "no device"


def test_a_run_that_fails_under_a_tool_is_no_clean_run(under: Callable[..., tuple[object, str]]) -> None:
    watch = 'while [ "$1" != python ]; do shift; done; "$@"; status=$?'
    (counters, reason), memcheck = under(f'{watch}; echo "========= ERROR SUMMARY: 0 errors"; exit $status')
    assert counters == ()
    assert "No module named 'torch'" in reason
    assert "No module named 'torch'" in memcheck


def test_a_tool_that_hangs_is_stopped(under: Callable[..., tuple[object, str]]) -> None:
    (counters, reason), memcheck = under("sleep 60", limit=0.5)
    assert counters == ()
    assert "stopped at its time limit" in reason
    assert "stopped at its time limit" in memcheck
