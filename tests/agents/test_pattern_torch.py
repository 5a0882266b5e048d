"""What the rules about torch and Triton take, what each must leave alone, and in which order launches are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.arms.pattern import PatternAgent
from omniperf.agents.arms.pattern.candidates import functions, parts
from omniperf.agents.arms.pattern.source import Source
from omniperf.agents.protocol import Hotspot, Kernel, Profile
from tests.agents.test_pattern_agent import session
from tests.agents.test_pattern_refusals import body_of
from tests.agents.test_pattern_rules import RULES, applied_to

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "import torch\nimport triton\nimport triton.language as tl\nfrom torch import Tensor\n"
KERNEL = "@triton.jit\ndef k(x, n, BLOCK: tl.constexpr):\n    pass\n"

TAKEN = {
    "gather_loop": [
        ("out = torch.zeros(len(y))\nfor i in range(len(y)):\n    out[i] = y[i]", "out[:len(y)] = y[:len(y)]"),
        (
            "out = x.new_empty(y.size(0))\nfor i in range(y.size(0)):\n    out[i] = x[y[i]]\nreturn out",
            "out[:y.size(0)] = x[y[:y.size(0)]]",
        ),
    ],
    "elements_to_list": [
        ("for i in n:\n    work(bool(x[i]))", "work(bool(x_list[i]))"),
        ("while x[n].item():\n    n = n - 1", "while x_list[n]:"),
    ],
    "cat_in_loop": [
        ("out = x * 2\nwhile n:\n    if y:\n        out = torch.cat([out, y])\nreturn out", "out_parts.append(y)"),
        ("out = x + 1\nfor i in n:\n    part = y * i\n    out = torch.cat([out, part], 1)", "torch.cat(out_parts, 1)"),
    ],
    "item_in_loop": [
        ("out = []\nfor i in n:\n    out.append(torch.mean(x).item())", "out.extend(torch.stack(out_items)"),
    ],
    "needless_synchronize": [("torch.cuda.empty_cache()\nreturn x", "return x")],
    "created_on_device": [
        ("return torch.tensor([n]).cuda()", 'torch.tensor([n], device="cuda")'),
        ("return torch.zeros(n).to('cuda:1')", "torch.zeros(n, device='cuda:1')"),
    ],
    "hoist_conversion": [
        ("for i in n:\n    y = y * x.to(torch.float16)\nreturn y", "x_to = x.to(torch.float16)"),
        ("while n:\n    n = work(torch.add(torch.arange(4), n))", "torch_arange = torch.arange(4)"),
    ],
    "mask_to_where": [("x[y <= -1] = y[y <= -1]", "x.copy_(torch.where(y <= -1, y, x))")],
    "fused_matmul": [("return y + torch.bmm(x, x)", "torch.baddbmm(y, x, x)")],
    "fused_add": [
        ("return x - x * y", "torch.addcmul(x, x, y, value=-1)"),
        ("return (x + y * 2).sum()", "torch.add(x, y, alpha=2).sum()"),
    ],
    "double_conversion": [
        ("return x.half().half()", "return x.half()"),
        ("return x * x.to(torch.float64).to(x.dtype)", "return x * x"),
    ],
    "needless_contiguous": [("return torch.matmul(x.T.contiguous(), y)", "torch.matmul(x.T, y)")],
    "in_place": [("z = torch.exp(x)\nz = z * y\nreturn z", "z *= y")],
    "python_scalar": [("return x + torch.tensor(-0.0)", None), ("return x - torch.tensor(1.5)", "x - 1.5")],
    "no_grad": [("if n:\n    return 0.0\nreturn float(x.sum())", "@torch.no_grad()")],
}  # fmt: skip


@pytest.mark.parametrize(("rule", "body", "seen"), [(name, *one) for name, several in TAKEN.items() for one in several])
def test_idioms_of_torch_are_taken(rule: str, body: str, seen: str | None) -> None:
    changed = applied_to(rule, body_of("x: Tensor, y: Tensor, n", body, HEAD))
    assert changed is None if seen is None else changed is not None and seen in changed


LEFT = {
    "gather_loop": [
        "out = torch.zeros(n)\nfor i in range(n):\n    out[i] = x[i]",  # n may be negative, or less than there is
        "out = torch.zeros(9)\nfor i in range(len(x)):\n    out[x[i]] = y[i]",  # which of two would stay?
        "out = torch.zeros(9)\nfor i in range(len(x)):\n    out[i] = x[i] + 1",
        "out = torch.zeros(9)\nfor i in range(len(x)):\n    out[i] = x[i]\nreturn out, i",
        "for i in range(len(x)):\n    y[i] = x[i]",  # they may share memory
        "out = torch.zeros(9)\nfor i in range(1, len(x)):\n    out[i] = x[i]",
        "out = torch.zeros(9)\nview = out[1:]\nfor i in range(len(x)):\n    out[i] = view[i]",
        "out = torch.zeros(9)\nfor i in range(len(x)):\n    out[i] = out[i]",
        "out = torch.zeros(9)\nfor i in range(len(x)):\n    out[i] = n[i]",  # n may be a list
    ],
    "elements_to_list": [
        "for i in n:\n    x[i] = x[i].item() + 1",
        "for i in n:\n    work(x[i].item())\n    x += 1",
        "for i in n:\n    work(x[i].item())\n    y.add_(1)",  # y may be a view of x
        "for i in n:\n    work(x, x[i].item())",
        "for i in n:\n    work(x[i, 0].item())",
        "for i in n:\n    work(x[:i].item())",
        "for i in n:\n    work(int(n[i]))",  # no tensor, as far as can be seen
        "for i in n:\n    x = y\n    work(x[i].item())",
        "for i in n:\n    k[(1,)](y, 4)\n    work(x[i].item())",
        "return x[n].item()",
    ],
    "cat_in_loop": [
        "for i in n:\n    x = torch.cat([x, y])\nreturn x",  # the caller's, whose name stays
        "out = x * 1\nfor i in n:\n    out = torch.cat([out, y])\n    work(out)",
        "out = x * 1\nfor i in n:\n    out = torch.cat([y, out])",
        "out = x * 1\nfor i in n:\n    out = torch.cat([out, y])\n    y.mul_(2)",  # each part would be the last y
        "out = x * 1\nfor i in n:\n    out = torch.cat([out, y])\n    y[0] = i",
        "out = x * 1\nfor i in n:\n    out = torch.cat([out, work(i)])",  # work may give the same memory again
        "out = x * 1\nfor i in n:\n    out = torch.cat([out, y])\n    work(y)",
        "out = x * 1\npart = x * 2\nfor i in n:\n    part += i\n    out = torch.cat([out, part])",
        "out = x * 1\nwhile n:\n    out = torch.cat([out, y], out=out)",
        "out = x * 1\nout = torch.cat([out, y])",
        "out = x * 1\ntry:\n    for i in n:\n        out = torch.cat([out, x * i])\nexcept ValueError:\n    n(out)",
        "out = x * 1\nfor i in n:\n    yield out\n    out = torch.cat([out, x * i])",
        "out = x * 1\nfor i in n:\n    out = torch.cat([out, x * i])\nelse:\n    return out",
    ],
    "item_in_loop": [
        "t = 0\nfor i in n:\n    t += x.sum().item()\n    if t > 3:\n        break",
        "t = 0\nfor i in n:\n    t += x.sum(0).item()",  # of one element, but of which shape?
        "t = 0\nfor i in n:\n    t += x[i].item()",  # the tensor's own memory
        "t = 0\nfor i in n:\n    t += n.sum().item()",
        "t = x\nfor i in n:\n    t += x.sum().item()",
        "t = work()\nfor i in n:\n    t.append(x.sum().item())",
        "t = 0\nfor i in n:\n    t += x.sum().item()\n    yield i",
        "t = 0\ntry:\n    for i in n:\n        t += x.sum().item()\nexcept ValueError:\n    print(t)",
        "t = 0\nt += x.sum().item()",
    ],
    "needless_synchronize": [
        "begun = time.perf_counter()\ntorch.cuda.synchronize()",
        "y = x.to('cpu', non_blocking=True)\ntorch.cuda.synchronize()",
        "with torch.cuda.stream(n):\n    work(x)\ntorch.cuda.synchronize()",
        "n.synchronize()",
        "y = torch.cuda.synchronize()",
    ],
    "created_on_device": [
        "return torch.randn(n).to(x.device)",  # other numbers
        "return torch.zeros(n).to(torch.float16)",
        "return torch.zeros(n).to(y)",  # a tensor, a type or a device
        "return torch.zeros(n).to(x.device, torch.float16)",
        "return torch.zeros(n, device='cpu').to(x.device)",
        "return torch.zeros(n, requires_grad=True).cuda()",
        "return torch.zeros(n).pin_memory().cuda()",
        "return torch.zeros(n).cuda(non_blocking=True)",
        "return work.zeros(n).cuda()",
    ],
    "hoist_conversion": [
        "for i in n:\n    x.mul_(2)\n    y = y * x.float()",
        "for i in n:\n    work(x.float())",  # may keep it or write into it
        "for i in n:\n    z = x.float()\n    z += 1",
        "for i in n:\n    x = x * 2\n    y = y * x.float()",
        "for i in n:\n    y = y * x.to(i)",
        "for i in n:\n    y = y + torch.rand(4)",
        "for i in n:\n    y = y + torch.tensor(work(4))",
        "for i in n:\n    y = y + torch.full((4,), i)",
        "for i in n:\n    y.add_(1)\n    x = y * x.float()",
        "for i in n:\n    y[i] = 1\n    print(y * x.float())",  # y may be a view of x
        "for i in n:\n    y = y * n.float()",
        "return y * x.float()",
    ],
    "mask_to_where": [
        "x[y > 0] = 1",
        "x[y > 0] = y[x > 0]",
        "x[n] = y[n]",  # of fewer dimensions, or indices
        "m = y > 0\ny = y[1:]\nx[m] = y[m]",
        "m = y > n\nx[m] = y[m]",
        "return x[y > 0].sum()",
        "return x[x > 0].sum(0)",
        "return x[x > 0].mean()",
        "n[n > 0] = x[n > 0]",
    ],
    "fused_matmul": [
        "return torch.mm(x, y) + 1",
        "return torch.mm(x, y) + n",
        "return torch.mm(x, y) - x",
        "return torch.matmul(x, y) + x",  # of any number of dimensions
        "return torch.mm(x, y, out=n) + x",
        "return n.mm(x, y) + x",
    ],
    "fused_add": [
        "return x + n * y",
        "return n + x * y",
        "return x + 2 * 3",
        "return x * (x + y)",
        "return x + y / 2",
        "return x * y + x",
    ],
    "double_conversion": [
        "z = x.float().to(x.dtype)\nz += 1\nreturn z",  # would now be x
        "return x.float().to(x.dtype)",
        "return x * y.float().to(x.dtype)",
        "return x * x.half().to(x.dtype)",
        "return x.float().half()",
        "return x.to(n).to(y)",
        "return x.to(work()).to(work())",
        "return n.float().float()",
        "return x * (x.float() * 2).to(x.dtype)",
    ],
    "needless_contiguous": [
        "return x.t().contiguous()",
        "z = x.t().contiguous()\nreturn z @ y",  # somebody may view it as well
        "return x.contiguous().view(-1)",  # would be x itself, where it was a copy
        "k[(1,)](x.contiguous(), 4)",
        "return x.t().contiguous() + y",  # what comes out lies otherwise
        "return x.contiguous(memory_format=n) @ y",
    ],
    "in_place": [
        "x = x + 1\nreturn x",  # the caller's
        "z = x * 2\nw = z\nz = z + 1\nreturn w",
        "z = x * 2\nwork(z)\nz = z + 1",
        "z = x[1:]\nz = z + 1",
        "z = x.view(-1)\nz = z + 1",
        "z = x * 2\nz = z + z.t()",
        "z = x * 2\nz = 1 - z",
        "z = x * 2\nz = z ** 2",
        "z = x * 2\nif n:\n    z = z + 1",
        "z = n * 2\nz = z + 1",
        "z = torch.relu(x, inplace=True)\nz = z + 1",
        "z = x * 2\ng = lambda: z\nz = z + 1",
        "z = x * 2\nz = z @ y",
    ],
    "python_scalar": [
        "return x * torch.tensor(0.1)",  # a float of 32 bits is another number
        "return x * torch.tensor(2)",  # a whole number makes no floats of whole numbers
        "return n * torch.tensor(2.0)",
        "return x * torch.tensor(2.0, dtype=torch.float64)",
        "return x * torch.tensor(2.0, requires_grad=True)",
        "return x * torch.tensor([2.0])",
        "return torch.tensor(2.0) * torch.tensor(3.0)",
        "return x * torch.tensor(1e300)",
    ],
    "no_grad": [
        "return x.sum()",
        "z = x.sum()\nz.backward()\nreturn z.item()",
        "work(x)\nreturn x.sum().item()",
        "n.append(x * 2)\nreturn x.sum().item()",
        "n.held = x * 2\nreturn x.sum().item()",
        "x.add_(y)\nreturn x.sum().item()",
        "x += y\nreturn x.sum().item()",
        "yield x.sum().item()",
        "return n.item()",
        "x.sum().item()",
        "return [x.sum().item(), x]",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("rule", "body"), [(name, body) for name, several in LEFT.items() for body in several])
def test_what_only_looks_like_an_idiom_of_torch_stays(rule: str, body: str) -> None:
    assert applied_to(rule, body_of("x: Tensor, y: Tensor, n", body, HEAD)) is None


@pytest.mark.parametrize("rule", sorted(set(TAKEN) - {"gather_loop"}))
def test_without_torch_there_is_nothing_to_take(rule: str) -> None:
    for body, _ in TAKEN[rule]:
        assert applied_to(rule, body_of("x: Tensor, y: Tensor, n", body)) is None


# Triton


def alternatives(rule: str, text: str, name: str) -> list[str]:
    source = Source.parse(HEAD + text)
    assert source is not None
    (chosen,) = (function for function in functions(source) if function.name == name)
    return [candidate.text for candidate in parts(source, chosen, RULES[rule])]


def test_a_launch_without_numbers_gets_others_than_the_defaults() -> None:
    found = alternatives("triton_default_launch", f"{KERNEL}def f(x):\n    k[(1,)](x, 4, num_stages=1)\n", "f")
    assert [text.rpartition("num_stages=1")[2] for text in found] == [", num_warps=8)\n", ", num_warps=2)\n"]


@pytest.mark.parametrize(
    "text",
    [
        f"@triton.autotune([], key=[])\n{KERNEL}def f(x):\n    k[(1,)](x, 4)\n",  # the tuner says
        f"{KERNEL}def f(x):\n    k[(1,)](x, 4, **x)\n",
        f"{KERNEL}def f(x):\n    k(x, 4)\n",
        "def f(x, k):\n    k[(1,)](x, 4)\n",  # a kernel, or a table of functions
        f"{KERNEL}k = wrapped(k)\ndef f(x):\n    k[(1,)](x, 4)\n",
    ],
)
def test_launches_that_may_be_told_otherwise_stay(text: str) -> None:
    assert alternatives("triton_default_launch", text, "f") == []


def test_computed_numbers_are_halved_and_doubled_for_grid_and_launch() -> None:
    text = "def f(x, k, n):\n    BLOCK, warps = settings(n)\n    k[(n // BLOCK,)](x, BLOCK_N=BLOCK, num_warps=warps)\n"
    added = [
        one.split("settings(n)\n    ")[1].split("\n")[0] for one in alternatives("triton_computed_launch", text, "f")
    ]
    assert added == [
        "BLOCK = max(16, BLOCK // 2)", "BLOCK = 2 * BLOCK", "warps = min(32, 2 * warps)", "warps = max(1, warps // 2)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        "B = 64\nk[(n,)](x, BLOCK=B)",  # for triton_launch
        "B = g(n)\nB = g(B)\nk[(n,)](x, BLOCK=B)",
        "B = g(n)\nk[(n,)](x, SIZE=B)",
        "B = g(n)\nwork(BLOCK=B)",
        "B, c = n\nk[(n,)](x, BLOCK=B)",  # written out somewhere
    ],
)
def test_numbers_that_are_no_guess_stay(body: str) -> None:
    assert alternatives("triton_computed_launch", body_of("x, k, n, g", body), "f") == []


@pytest.mark.parametrize(
    ("offered", "wider"),
    [
        ("num_stages in [2, 3]", "num_stages in [1, 2, 3, 4]"),
        ("BT in [16, 64]", "BT in [16, 64, 128]"),
        ("num_warps in [1, 32]", None),
        ("num_warps in [3, 5]", None),
        ("depth in [2, 4]", None),
        ("num_warps in WARPS", None),
    ],
)
def test_lists_of_an_autotuner_grow_at_their_ends(offered: str, wider: str | None) -> None:
    text = f"@triton.autotune([triton.Config({{}}) for {offered}], key=[])\n{KERNEL}"
    assert alternatives("triton_more_configs", text, "k") == ([HEAD + text.replace(offered, wider)] if wider else [])
    assert alternatives("triton_more_configs", text.replace("triton.autotune(", "work("), "k") == []


@pytest.mark.parametrize(
    ("decorator", "loop"),
    [
        ("", "for i in range(n):\n        tl.load(x + i)"),  # Python's own
        ("@triton.jit\n", "for i in range(n):\n        n += i"),
        ("@triton.jit\n", "for i in range(4):\n        tl.load(x + i)"),
        ("@triton.jit\n", "for i in tl.static_range(n):\n        tl.load(x + i)"),
        ("@triton.jit\n", "while n:\n        tl.load(x)"),
    ],
)
def test_loops_that_load_no_blocks_in_turn_stay(decorator: str, loop: str) -> None:
    assert alternatives("triton_pipelined_loop", f"{decorator}def f(x, n):\n    {loop}\n", "f") == []


def test_hints_go_to_each_access_that_has_none() -> None:
    text = "@triton.jit\ndef f(x, i):\n    tl.load(x + tl.load(i), cache_modifier='.cg')\n    tl.load(x)\n"
    first, last = alternatives("triton_cache_hint", text, "f")
    assert first.count('"evict_first"') == last.count('"evict_last"') == 2
    assert "tl.load(i, evict" in first and "'.cg')" in first
    assert alternatives("triton_cache_hint", text.replace("@triton.jit\n", ""), "f") == []


# The order


TWO = """\
import triton


@triton.jit
def small(x):
    pass


@triton.jit
def large(x):
    pass


def first(x):
    small[(1,)](x, num_warps=4)


def second(x):
    large[(1,)](x, num_warps=1)
"""


@pytest.mark.parametrize("hot", ["small", "large"])
def test_launches_of_the_kernel_that_takes_longest_on_the_gpu_come_first(tmp_path: Path, hot: str) -> None:
    """Python's part of a launch is short, and whichever call comes first may wait for all kernels before it."""
    given, tools = session(tmp_path, {"src/a.py": TWO}, {})
    seconds = {"small": 0.1, "large": 0.1, "elementwise": 5.0, hot: 2.0}
    spots = tuple(
        Hotspot("src/a.py", line, name, 1, own, own)
        for line, name, own in ((14, "first", 0.01), (18, "second", 0.0001))
    )
    kernels = tuple(Kernel(name, 3, taken) for name, taken in seconds.items())
    tools.profile = lambda: Profile(spots, kernels)  # type: ignore[method-assign]
    PatternAgent().solve(given)
    tried = ["small" if "small[(1,)](x, num_warps=4)" not in text else "large" for text in tools.screened]
    assert tried[0] == hot and set(tried) == {"small", "large"}


@pytest.mark.parametrize("limits", [{"steps": 9}, {"minutes": 1}])
def test_whatever_limit_is_reached_the_best_launch_so_far_is_kept(tmp_path: Path, limits: dict[str, Any]) -> None:
    script: dict[str, Any] = {"speedups": {"num_warps=8": 1.5, "num_warps=16": 1.2}, "clock_stops_at_benchmark": 2}
    if "steps" in limits:
        script["clock_stops_at_benchmark"] = 0
    given, tools = session(tmp_path, {"src/a.py": TWO}, {("src/a.py", "first"): 1.0}, limits=limits, **script)
    outcome = PatternAgent().solve(given)
    assert outcome.kind == "budget" and next(iter(limits)) in outcome.detail
    assert "small[(1,)](x, num_warps=8)" in (tmp_path / "tree/src/a.py").read_text()
    assert len(tools.commits) == 1
