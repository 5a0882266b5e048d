"""What a model reads of what the tools return."""

from types import SimpleNamespace
from typing import Any, cast

from omniperf.agents.protocol import Hotspot, Kernel, Profile
from omniperf.agents.providers.protocol import ToolCall
from omniperf.agents.toolset import Toolset
from omniperf.gateway.budget import Budget
from omniperf.measure.gpu_tools import Counters
from omniperf.tasks.schema import Limits


def profiled(profile: Profile) -> str:
    tools = SimpleNamespace(profile=lambda *, deep: profile)
    session = SimpleNamespace(tools=tools, budget=Budget(Limits(steps=40, minutes=5)))
    return Toolset(cast("Any", session)).use(ToolCall("1", "profile", "{}")).text


def test_a_profile_of_a_gpu_has_the_functions_and_below_them_the_kernels_with_their_share() -> None:
    functions = (Hotspot("toy/a.py", 3, "scale", 16, 0.5, 0.75),)
    text = profiled(Profile(functions, (Kernel("scale_kernel", 16, 0.003), Kernel("x" * 300, 1, 0.001))))
    above, below = text.split("\n\n")
    assert above.splitlines()[1].split() == ["0.5000", "0.7500", "16", "toy/a.py:3", "scale"]
    rows = below.splitlines()
    assert rows[1].split() == ["3.0000", "75.0%", "16", "scale_kernel"]
    assert len(rows[2]) < 160


def test_what_nvidias_tools_say_stands_below_the_kernels() -> None:
    kernels = (Kernel("scale_kernel", 16, 0.003),)
    told = Profile((), kernels, (Counters("scale_kernel", 0.0002, 12.5, 87.25, 93.1, 32),), memcheck="no errors")
    *_, table, memcheck = profiled(told).split("\n\n")
    assert table.splitlines()[1].split() == ["0.2000", "12.5%", "87.2%", "93.1%", "32", "scale_kernel"]
    assert memcheck == "compute-sanitizer memcheck, one run: no errors"
    refused = profiled(Profile((), kernels, no_counters="not permitted"))
    assert refused.endswith("\n\nncu: not permitted")


def test_without_a_gpu_there_is_no_word_of_kernels() -> None:
    assert "kernel" not in profiled(Profile((Hotspot("toy/a.py", 3, "scale", 16, 0.5, 0.75),)))


def test_a_run_that_calls_nothing_of_the_checkout_says_so() -> None:
    assert profiled(Profile(())) == "No function of the checkout was called."
