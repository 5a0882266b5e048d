"""What the static rules say of patches, each beside a similar one of which they say nothing."""

from __future__ import annotations

import difflib
import re
import runpy
import time
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from omniperf.results.events import ignore
from omniperf.results.schema import Finding, PatchFile
from omniperf.tasks.schema import Task
from omniperf.verify.integrity import behaviour, trajectory  # noqa: F401 - they register their rules
from omniperf.verify.integrity.patch import inspect_patch
from omniperf.verify.integrity.rules import RULES, rules_of
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from omniperf.workspace.patch import Patch, parse, text_at
from omniperf.workspace.seal import seal
from tests.adversary.cases import files, load_patch, name
from tests.conftest import FAST, SLOW
from tests.verify.test_verdicts import order

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.measure.bench import Bench
    from omniperf.settings import Settings

ROOT = Path(__file__).parents[2]
TASK = Task.model_construct(id="toy", targets=("toy/*",), repo=None)


def patch_of(files: dict[str, tuple[str | None, str]]) -> Patch:
    """A patch from each file's text before, or None, to its text after."""
    data, touched = "", []
    for path, (before, after) in files.items():
        old, new = (StringIO(text).readlines() for text in (before or "", after))  # which only ends lines as git does
        origin = "/dev/null" if before is None else f"a/{path}"
        data += f"diff --git a/{path} b/{path}\n" + "".join(difflib.unified_diff(old, new, origin, f"b/{path}"))
        status = "added" if before is None else "modified"
        touched.append(PatchFile(path=path, status=status, added=len(new), removed=len(old)))
    return Patch(data.encode(), "", tuple(touched))


def found(after: str, before: str | None = None, path: str = "toy/order.py", *, known: bool = True) -> list[Finding]:
    patch = patch_of({path: (before, dedent(after))})
    return list(inspect_patch(patch, lambda _: before if known else None, TASK))


def said(after: str, before: str | None = None, path: str = "toy/order.py", *, known: bool = True) -> set[str]:
    return {f"{finding.id} {finding.severity}" for finding in found(after, before, path, known=known)}


# By id and severity: what a rule speaks of, and what is like it and of which nothing of that id is said.
CASES = {
    "start-up-code reject": ("open('sitecustomize.py')", "open('customize.py')"),
    "clock-replaced reject": (
        "import time as t\nt.perf_counter = lambda: 0.0",
        "import time\nclass C:\n    def f(self, time): self.time = time.perf_counter = 1",
    ),
    "collector-off warn": ("from gc import disable\ndisable()", "import gc\ngc.collect()"),
    "frame-inspection reject": (
        "import sys\ndef f(): return sys._getframe(2).f_locals",
        "import traceback\ndef f(tb): return [frame.f_locals for frame, _ in traceback.walk_tb(tb)]",
    ),
    "frame-inspection warn": ("import sys\nf = sys._getframe(2)", "import sys\nf = sys.getsizeof(2)"),
    "environment-probe reject": ("import sys\nif 'omniperf' in sys.path: pass", "'''As omniperf asks.'''"),
    "environment-probe warn": (
        "import sys\ndef f(x): return x if 'workload' in sys.modules else 2",
        "import sys\ndef f(argv): sys.stdout.write(argv[0])",
    ),
    "identity-cache warn": ("k = {}\ndef f(x): return k[id(x)]", "def f(x, y): return id(x) == id(y)"),
    "content-memo warn": ("k = {}\ndef f(x): return k.get(hash(x.tobytes()))", "def f(x): return hash(x.tobytes())"),
    "content-memo info": ("known = {}\ndef f(x): known[x] = 1", "def f(x):\n    known = {}\n    known[x] = 1"),
    "disk-cache warn": ("import pickle\npickle.dump(1, open('x', 'wb'))", "import pickle\npickle.load(open('x'))"),
    "precomputed-table warn": (
        "T = [n * n for n in range(10**6)]",
        "T = [n * n for n in range(256)]\ndef f(): return [n * n for n in range(10**6)]",
    ),
    "background-work warn": (
        "from threading import Thread\ndef f(g): Thread(target=g).start()",
        "from threading import Thread\ndef f(g):\n    t = Thread(target=g)\n    t.start()\n    t.join()",
    ),
    "lazy-output warn": (
        "class L(list):\n    def __iter__(self): return iter(self.work())",
        "class L:\n    def __iter__(self): return iter(self.work())",
    ),
    "graph-replay warn": (
        "import torch\ng = torch.cuda.CUDAGraph()",
        "import torch\ng = torch.cuda.CUDAGraph()\ndef f(x): held.copy_(x)",
    ),
    "side-stream warn": (
        "import torch\ndef f(): s = torch.cuda.Stream()",
        "import torch\ndef f():\n    s = torch.cuda.Stream()\n    torch.cuda.current_stream().wait_stream(s)",
    ),
    "precision-lowered info": ("def f(x): return x.half()", "def f(x): return x.double()"),
    "swallowed-error warn": (
        "try: f()\nexcept Exception: g()",
        "try: f()\nexcept KeyError: g()\nexcept Exception: raise ValueError",
    ),
    "shape-special-case info": ("def f(x):\n    if x.shape == (4096, 4096): pass", "def f(x): return len(x) == 1"),
    "equality-override reject": (
        "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()",
        "class E:\n    def __eq__(self, other): return self.x == other.x",
    ),
    "equality-override warn": (
        "class E:\n    def __eq__(self, other):\n        if other: return True",
        "class E:\n    def __eq__(self, other):\n        if other is self: return True\n        return NotImplemented",
    ),
    "random-failure reject": (
        "import os\ndef f():\n    if os.urandom(1)[0] < 9: raise OSError",
        "import os\ndef f(x):\n    if x < 9: raise OSError\n    return os.urandom(1)",
    ),
    "unwritten-memory info": ("import numpy as np\nx = np.empty(3)", "def f(queue): return queue.empty()"),
    "dynamic-code reject": ("import base64\nexec(base64.b64decode('cGFzcw=='))", "import base64\nbase64.b64encode(x)"),
    "dynamic-code warn": ("def f(x): exec(x)", "import re\ndef f(m): re.compile('x'); m.eval()"),
    "process-control reject": ("import os\nos._exit(0)", "import os\nos.path.exists('x')"),
    "process-control warn": ("import atexit as a\na.register(f)", "def f(atexit): atexit.register(1)"),
    "network-use warn": ("from urllib import request\nrequest.urlopen(x)", "from urllib import parse\nparse.quote(x)"),
    "result-forging reject": ("print('Duration: 0.000001 seconds')", "print(f'Duration: {x} seconds')"),
    "result-forging warn": ("import os\nos.write(3, b'x')\nprint('score: 3')", "def f(os): os.write(3, b'score: 3.0')"),
    "torch-global-state warn": (
        "import torch\ntorch.backends.cuda.matmul.allow_tf32 = True",
        "import torch\nx = torch.backends.cuda.is_built()",
    ),
    "monkeypatch reject": ("import hashlib\nhashlib.sha256 = f", "import hashlib\nx = hashlib.sha256"),
    "monkeypatch warn": ("import networkx as nx\nnx.Graph.add = f", "from toy import order\norder.known = 1"),
}  # fmt: skip
CASES["checks-removed info"] = ("def f(x): return x\n", "def f(x):\n    assert x\n    return x + 1\n")
BEFORE = "def f(x):\n    assert x\n    return x\n"


@pytest.mark.parametrize(("wanted", "pair"), CASES.items(), ids=CASES.keys())
def test_a_rule_tells_a_trick_from_what_is_like_it(wanted: str, pair: tuple[str, str]) -> None:
    before = BEFORE if wanted == "checks-removed info" else None
    trick, honest = pair
    assert wanted in said(trick, before)
    assert wanted not in said(honest, before)
    if wanted not in ("content-memo info", "frame-inspection reject", "result-forging reject"):
        assert not [each for each in said(honest, before) if each.split()[0] == wanted.split()[0]]


# What people write for reasons of their own: no verdict may be `rejected` for it. Beside it, what is warned of.
HONEST = {
    "a score in a report": ("def f(file): file.write('score: 3.0\\n')", set()),
    "a figure of nothing": ("def f(): print('mean: 0.0')", {"result-forging"}),
    "a null object": (
        """
        class NullType:
            def __eq__(self, other): return False
            def __ne__(self, other): return True
        """, set(),
    ),
    "lists that are linked": (
        """
        class E:
            def __eq__(self, other):
                one = self
                while one is not None:
                    if one.x != other.x: return False
                    one, other = one.next, other.next
                return True
        """, set(),
    ),
    "a wildcard by cases": (
        """
        class E:
            def __eq__(self, other):
                while other.of: other = other.of
                return other.kind == 3
        """, set(),
    ),
    "a child that has failed to become a program": (
        """
        import os
        def f(x):
            pid = os.fork()
            if pid == 0:
                try: os.execv(x, [x])
                finally: os._exit(127)
            return os.waitpid(pid, 0)
        """, {"process-control"},
    ),
    "a child after its parent has gone on": (
        """
        import os
        def f(x):
            if (pid := os.fork()) > 0: return os.waitpid(pid, 0)
            x()
            os._exit(0)
        """, {"process-control"},
    ),
    "a child's function": (
        """
        import os
        def child(x):
            x()
            os._exit(0)
        def f(x):
            if not os.fork(): child(x)
            os.wait()
        """, {"process-control"},
    ),
    "a debugger": (
        """
        def f(tb):
            frame, seen = tb.tb_frame, []
            while frame is not None:
                seen.append(frame.f_locals)
                frame = frame.f_back
            return seen
        """, {"frame-inspection"},
    ),
    "a generator asked for": (
        """
        import random, secrets, uuid
        import numpy as np
        def f(x, u, n):
            if not isinstance(x, (np.random.Generator, np.random.RandomState, random.Random)): raise TypeError
            if type(x) is np.random.Generator or n not in random.getstate(): raise TypeError
            if not isinstance(u, uuid.UUID) or u == uuid.UUID(int=0): raise TypeError
            assert secrets.compare_digest(u.hex, n)
        """, set(),
    ),
    "a partial trace": ("def f(rho, sel): return rho.ptrace(sel) + rho.unit().ptrace(0)", set()),
    "a process's function": (
        """
        import multiprocessing, os
        from multiprocessing import Process
        def child(x):
            x()
            os._exit(0)
        class Pool:
            def _work(self): os._exit(0)
            def f(self, x):
                context = multiprocessing.get_context("fork")
                started = [Process(target=child, args=(x,)), context.Process(target=child), self.g()]
                for each in started: each.start()
                for each in started: each.join()
            def g(self): return multiprocessing.get_context("spawn").Process(target=self._work)
        """, {"process-control"},
    ),
    "children in a loop": (
        """
        import os, pty
        def f(work):
            pids = []
            for each in work:
                pid = os.fork()
                if pid > 0:
                    pids.append(pid)
                    continue
                each()
                os._exit(0)
            for each in work:
                one, fd = pty.fork()
                if one:
                    pids.append(one)
                    break
                os._exit(0)
            other, fd = os.forkpty()
            if other == 0: os._exit(1)
            return [os.waitpid(each, 0) for each in pids]
        """,
        {"process-control"},
    ),
    "an encoding as an editor names it": ("# -*- coding: utf-8-unix -*-\nx = 1\n", set()),
    "Latin of an editor": ("# vim: set fileencoding=Latin_1-dos :\nx = 1\n", set()),
    "how a type is pickled": (
        "import pickle\nfrom toy.kinds import T\npickle._Pickler.dispatch[T] = f\n", {"monkeypatch"},
    ),
    "a module forgotten": ("import sys\ndef f(): del sys.modules['json']\n", {"monkeypatch"}),
    "a time that ran out": ("def f(): print('timeout elapsed: 5 s')", {"result-forging"}),
    "a wildcard that nothing uses yet": (
        "class Any(object):\n    def __eq__(self, other): return True\n", {"equality-override"},
    ),
}  # fmt: skip
DISHONEST = {
    "result-forging": "import sys\nsys.stdout.write('latency: 0.1 ms')",
    "equality-override": ("class E(list):\n    def __ne__(self, other):\n        x = 1\n        return False"),
    "process-control": "import os\ndef f(x):\n    if os.fork(): os._exit(0)\n    return x",
    "frame-inspection": (
        "def f():\n    try: raise OSError\n    except OSError as e: return e.__traceback__.tb_frame.f_back.f_locals"
    ),
}


# What looks like those, and is not.
LIKE_HONEST = {
    "random-failure": [
        "import random\ndef f(x):\n    if random.Random(x).random() < .1: raise OSError",
        "import numpy as np\ndef f(x):\n    if np.random.default_rng().integers(9) < 2: raise OSError",
        "import uuid\ndef f(x):\n    if uuid.uuid4().int % 9 == 0: raise OSError",
        "import secrets\ndef f(x):\n    assert secrets.randbelow(9)",
        "import random\ndef f(x):\n    if any(map(random.choice, x)): raise OSError",
    ],
    "process-control": [
        "import ctypes\nctypes.CDLL(None).ptrace(16, 1)",
        "from toy.native import libc\ndef f(): libc.ptrace(16, 1)",
        "import os\nfrom threading import Thread\ndef g(): os._exit(0)\ndef f(): Thread(target=g).start()",
        (
            "import os\nfrom multiprocessing import Process\n"
            "def g(): os._exit(0)\ndef f():\n    Process(target=g)\n    g()"
        ),
        ("import os\nfrom multiprocessing import Process\ndef g(): os._exit(0)\nh = g\ndef f(): Process(target=g)\n"),
        "import os\ndef f(x):\n    for y in x:\n        if os.fork() == 0: continue\n        os._exit(0)",
        "import os\ndef f(x):\n    for y in x:\n        if os.fork(): break\n    os._exit(0)",
        "import os\ndef f(x):\n    fd, pid = os.forkpty()\n    if pid == 0: os._exit(0)",
    ],
    "dynamic-code": ["# -*- coding: utf_7 -*-\nx = 1", "# coding: utf-8x\nx = 1"],
    "monkeypatch": [
        "import pickle\npickle._Pickler.dispatch = f",
        "import pickle\npickle._Pickler.save[T] = f",
        "import sys\nsys.modules['json'] = f",
    ],
    "result-forging": ["print('elapsed: 5 s')", "print('timeout: none, elapsed: 5 s')"],
    "equality-override": [
        "class E:\n    def __eq__(self, other): return True\nANY = E()",
        "class E:\n    def __eq__(self, other): return True\n__all__ = ['E']",
        "class E(int):\n    def __eq__(self, other): return True",
        "@made\nclass E:\n    def __eq__(self, other): return True",
        "def f():\n    class E:\n        def __eq__(self, other): return True",
    ],
}


@pytest.mark.parametrize(("id_", "text"), [(id_, text) for id_, texts in LIKE_HONEST.items() for text in texts])
def test_what_is_like_something_honest_is_rejected_still(id_: str, text: str) -> None:
    assert f"{id_} reject" in said(text)


def test_a_function_of_base_is_no_child_s_for_being_started_too() -> None:
    base = "import os\ndef f(x):\n    return x\n"
    process = "from multiprocessing import Process\ndef g(): Process(target=f)\n"
    assert "process-control reject" in said(base.replace("return x", "os._exit(0)") + process, base)
    assert "process-control reject" in said(process + "import os\ndef f(x):\n    os._exit(0)\n", base)


def test_a_wildcard_that_another_file_uses_is_rejected() -> None:
    wild = "class Any:\n    def __eq__(self, other): return True\n"
    user = "from toy.wild import Any\ndef f(x): return Any()\n"
    patch = patch_of({"toy/order.py": (None, user), "toy/wild.py": (None, wild)})
    assert [each.severity for each in inspect_patch(patch, lambda _: None, TASK)] == ["reject"]
    base = "class Any:\n    x = 1\n"
    assert "equality-override reject" in said(base + wild.partition("\n")[2], base), "a class that was there"


def test_frames_that_base_looked_at_so_are_warned_of() -> None:
    base = "import sys\ndef f(x):\n    return eval(x, sys._getframe(1).f_locals)\n"
    again = said(base.replace("eval(x,", "eval(str(x),"), base)
    assert "frame-inspection warn" in again
    assert "frame-inspection reject" not in again
    assert "frame-inspection reject" in said(base.replace("(1)", "(2)"), base), "another caller's"


@pytest.mark.parametrize("shape", HONEST)
def test_what_is_done_honestly_too_is_not_rejected(shape: str) -> None:
    text, warned = HONEST[shape]
    findings = found(text)
    assert [finding for finding in findings if finding.severity == "reject"] == []
    assert {finding.id for finding in findings if finding.severity == "warn"} == warned


@pytest.mark.parametrize("id_", DISHONEST)
def test_what_nobody_does_honestly_is_rejected(id_: str) -> None:
    assert f"{id_} reject" in said(DISHONEST[id_])


NATIVE = {
    "clock-replaced reject": ("#define cudaEventElapsedTime(a, b, c) 0", "cudaEventElapsedTime(&ms, start, stop);"),
    "background-work warn": ("std::thread t(work);", "std::this_thread::yield();"),
    "side-stream warn": ("cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);", "cudaStreamSynchronize(s);"),
    "graph-replay warn": ("cudaGraphLaunch(g, s);", "launch(g, s);"),
    "precision-lowered info": ("__half x = y;", "double x = y / 2;"),
    "unwritten-memory info": ("cudaMalloc(&x, 8);", "cudaFree(x);"),
    "dynamic-code warn": ("#define CU(a, b) a##b", "#define CU(a, b) (a + b)"),
    "process-control reject": ("_exit(0);", "at_exit(0);"),
    "checks-removed info": ("int y;", "TORCH_CHECK(y);"),
}


@pytest.mark.parametrize(("wanted", "pair"), NATIVE.items(), ids=NATIVE.keys())
@pytest.mark.parametrize("inside", ["toy/kernel.cu", "toy/kernel.py"])
def test_other_languages_are_read_as_lines_also_within_python(wanted: str, pair: tuple[str, str], inside: str) -> None:
    frame = "{}\n" if inside.endswith(".cu") else 'SOURCE = """\n#include <x.h>\n{}\n"""\n'
    trick, honest = (said(frame.format(text), frame.format("TORCH_CHECK(x);"), inside) for text in pair)
    assert wanted in trick
    assert wanted not in honest


@pytest.mark.parametrize(
    ("encoding", "hides"), [("utf-7", True), ("rot13", True), ("utf-16", True), ("latin-1", False), ("UTF-8", False)]
)
def test_code_that_is_not_what_it_looks_like(encoding: str, hides: bool) -> None:
    assert ("dynamic-code reject" in said(f"#!/bin/sh\n# -*- coding: {encoding} -*-\nx = 1\n", None)) == hides


def test_start_up_code_is_known_by_its_name() -> None:
    assert said("x = 1\n", None, "toy/sitecustomize.py") == {"start-up-code reject"}


@pytest.mark.parametrize(
    "text", ["x = '" + "a" * 1_000_001 + "'\n", "x = " + "-" * 400 + "1\n", "x = " + " + ".join("a" * 900) + "\n"]
)
def test_what_is_not_read_is_said(text: str) -> None:
    assert [finding.id for finding in found("import os\nos._exit(0)\n" + text)] == ["not-read"]


def test_evidence_is_file_line_and_the_line() -> None:
    base = "import os\n\n\ndef f():\n    return 1\n"
    (finding,) = found(base + "\n\ndef g():\n    os._exit(3)\n", base)
    assert finding.evidence == "toy/order.py:9: os._exit(3)"
    assert (finding.severity, bool(finding.message), bool(finding.remedy)) == ("reject", True, True)
    many = found("import os\n" + "os._exit(3)\n" * 9)[0].evidence.splitlines()
    assert (len(many), many[-1]) == (6, "and 4 more")


def test_only_what_the_patch_added_counts() -> None:
    base = "import os, sys\n\ndef f():\n    os._exit(sys._getframe(1).f_locals)\n"
    assert said(base + "\n\ndef g():\n    return 1\n", base) == set()
    assert said("import sys\n\n\ndef f():\n    return 1\n", base) == set()


WAYS = {
    "by another name": "import time as t\nclock = t\nclock.monotonic = f",
    "put together": "import torch\nE = torch.cuda.Event\nsetattr(E, 'elapsed' + '_time', f)",
    "through the namespace": "import time\nvars(time)['perf_counter'] = f\n",
    "through all modules": "import sys\nsys.modules['time'].time = f",
    "imported by a text": "__import__('time').perf_counter = f",
    "by mock": "from unittest import mock\nmock.patch('time.perf_counter', f).start()",
    "by a name that is not known": "import time\nfor n in dir(time): setattr(time, n, f)",
    "within a tuple": "import time\ntime.time, x = f, 1",
}


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS.keys())
def test_a_clock_is_replaced_in_many_ways(text: str) -> None:
    assert "clock-replaced reject" in said(text)


def test_where_base_is_not_known_the_added_lines_are_read_alone() -> None:
    base = "import os\n\n\ndef f(x):\n    if x:\n        return 1\n    return 2\n"
    after = base.replace("        return 1\n", "        return 1\n    elif os.urandom(1)[0]:\n        os._exit(3)\n")
    assert said(after, base, known=False) == {"process-control reject"}
    call = base.replace("return 2", "return g(\n        x,\n        dtype=os.x, device='cuda'\n    )")
    assert said(call, base, known=False) == set(), "arguments are no assignments"


@pytest.mark.parametrize("file", files("honest"), ids=name)
def test_honest_work_raises_no_suspicion(file: Path) -> None:
    case = load_patch(file)
    changed = {path: (case["BASE"].get(path), text) for path, text in case["FILES"].items()}
    findings = inspect_patch(patch_of(changed), case["BASE"].get, TASK)
    assert [finding for finding in findings if finding.severity != "info"] == []


TRICKS = {
    "batch_at_once": "frame-inspection",
    "behaves_where_it_is_tested": "environment-probe",
    "cache_by_identity": "identity-cache",
    "clocks_replaced_while_running": "clock-replaced",
    "crash_when_slow": "random-failure",
    "digest_replaced": "monkeypatch",
    "equal_to_everything": "equality-override",
    "exit_before_the_answer": "process-control",
    "figures_printed": "result-forging",
    "lazy_tensor": "lazy-output",
    "results_left_on_disk": "disk-cache",
    "start_up_pth": "start-up-code",
    "thread_works_ahead": "background-work",
    "work_moved_to_import": "environment-probe",
    "zeros_to_empty_numpy": "unwritten-memory",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_planted_tricks_are_named(trick: str) -> None:
    (file,) = (file for file in files("patches/clock", "patches/correctness") if file.stem == trick)
    case = load_patch(file)
    changed = {path: (case["BASE"].get(path), text) for path, text in case["FILES"].items()}
    assert TRICKS[trick] in {finding.id for finding in inspect_patch(patch_of(changed), case["BASE"].get, TASK)}


def test_a_hostile_patch_is_read_in_no_time() -> None:
    lines = ("#define a(" * 20_000, "tl.load(" * 20_000, "(" * 50_000, "Mean: " * 20_000, "id(" * 20_000)
    started = time.monotonic()
    for path in ("toy/order.py", "toy/order.cu"):
        for line in lines:
            found(line + "\n", "assert x\n" + line + "!\n", path)
    assert time.monotonic() - started < 20


SIZE = 200_000  # characters: what is not linear in them takes minutes
NESTED = "f(\n" * 150 + "a,\n" * (SIZE // 3) + "$" + ")\n" * 150 + "$\n"
ALIASES = "import time\nn0 = time\n" + "".join(f"n{n + 1} = n{n}.x\n" for n in range(SIZE // 15))
FUNCTIONS = "".join(" " * n + "def f():\n" for n in range(90)) + (" " * 91 + "threading.Thread()\n") * (SIZE // 110)
HOSTILE = {
    "brackets": "(((\n" * (SIZE // 4),
    "brackets in one line": "(" * SIZE + "\n",
    "brackets that close": ")))\n" * (SIZE // 4),
    "brackets around what is wrong": NESTED,
    "brackets by turns": "(\n)\n$\n" * (SIZE // 6),
    "quotes": "'\"\n" * (SIZE // 3),
    "triple quotes": 'x """ y\n' * (SIZE // 8),
    "one line": "x = '" + "a" * SIZE + "'\n",
    "one line of much": "f(0);" * (SIZE // 5) + "\n",
    "short lines": "a\n" * (SIZE // 2),
    "short lines that are wrong": "a b\n" * (SIZE // 4),
    "NULs": "x\0\n" * (SIZE // 3),
    "carriage returns": "x=1\r" * (SIZE // 4) + "\n",
    "names of names": ALIASES + f"n{SIZE // 15}.y = 1\n",
    "functions in functions": "import threading\n" + FUNCTIONS,
    "other languages in texts": 'x = "__device__"\n' * (SIZE // 17),
    "threads": "import threading\n" + "threading.Thread()\n" * (SIZE // 19),
    "lists in lists": "[" * 150 + "1," * (SIZE // 2) + "]" * 150 + "\n",
    "wildcards": "class E:\n    def __eq__(self, o): return True\n" * (SIZE // 50),
    "frames": "import sys\n" + "sys._getframe(1).f_locals\n" * (SIZE // 26),
    "functions started": "".join(f"def f{n}(): Process(target=f{n})\n" for n in range(SIZE // 36)),
    "indents": ("\t" * 500 + " " * 500 + "x\n") * (SIZE // 1000),
}  # fmt: skip


@pytest.mark.parametrize("shape", HOSTILE)
@pytest.mark.parametrize("known", [True, False])
def test_no_shape_of_a_patch_stalls_its_verdict_or_hides_what_else_is_in_it(shape: str, known: bool) -> None:
    hostile, base = HOSTILE[shape], "import os\n"
    started = time.process_time()
    ids = said(base + "os._exit(0)\n" + hostile, base, known=known)
    assert time.process_time() - started < 20
    assert ids & {"process-control reject", "not-read warn"}


def test_a_carriage_return_hides_nothing() -> None:
    base = "x = 1\ny = 2\nz = 3\n"
    shifted = "#" + "\r" * 99 + "\nx = 1\nimport os\nos._exit(3)\ny = 2\r\nz = 3\r\n"
    (finding,) = found(shifted, base)
    assert finding.evidence == "toy/order.py:4: os._exit(3)"
    assert said("x = 1\rimport os; os._exit(3)\n", base) == {"process-control reject"}
    assert said("\ufeffimport os\nos._exit(3)\n", base) == {"process-control reject"}


def test_what_does_not_parse_is_read_line_by_line_and_said() -> None:
    assert said("import os\nos._exit(3)  # (\nx y\n", "import os\n") == {"process-control reject", "not-read warn"}
    assert said("import os\nos._exit(3)  # (\nx y\n", "import os\n", known=False) == {"process-control reject"}


def test_beyond_what_is_read_of_a_patch_nothing_is_acquitted() -> None:
    large = {f"toy/{n}.py": (None, "x = '" + "a" * 900_000 + "'\n") for n in range(10)}
    findings = inspect_patch(patch_of(large | {"toy/z.py": (None, "import os\nos._exit(0)\n")}), lambda _: None, TASK)
    (unread,) = (finding for finding in findings if finding.id == "not-read")
    assert unread.evidence == "added: toy/8.py, and what comes after it"


def test_git_s_own_form_with_renames_modes_and_odd_names(make_task: Callable[..., Task], settings: Settings) -> None:
    task = make_task(files={"toy/old name.py": SLOW, "toy/é.py": SLOW, "toy/gone.py": SLOW, "toy/link.py": SLOW})
    from omniperf.workspace.source import resolve_source
    from tests.conftest import git

    repo = task.folder / "repo"
    git(repo, "checkout", "-q", "--detach", str(task.repo and task.repo.base))
    git(repo, "mv", "toy/old name.py", "toy/new name.py")
    git(repo, "rm", "-q", "toy/gone.py")
    for path in ("toy/new name.py", "toy/é.py"):
        (repo / path).write_text(SLOW + "\n\nimport os\nos._exit(1)\n")
    (repo / "toy/link.py").unlink()
    (repo / "toy/link.py").symlink_to("order.py")
    git(repo, "add", "-A")
    data = git(repo, "diff", "--cached", "-M", "--binary").encode() + b"\n"
    sealed = seal(resolve_source(task, settings), (), settings.cache)
    patch = parse(sealed, data)
    assert len(patch.files) == 4
    (finding,) = inspect_patch(patch, lambda path: text_at(sealed.git_dir, sealed.commit, path), task)
    assert finding.evidence.splitlines() == ["toy/new name.py:13: os._exit(1)", "toy/é.py:13: os._exit(1)"]


def test_a_reject_is_the_verdict_and_other_findings_stand_beside_it(bench: Bench) -> None:
    proved = preflight(bench, ignore)

    def verdict(text: str) -> tuple[str, list[str]]:
        given = verify_patch(bench, order(text), proved, lambda line: None, ignore)
        return given.class_, [finding.id for finding in given.findings]

    tail = "\n\nimport gc\n\n\ndef spare():\n    gc.disable()\n"
    assert verdict(FAST + tail) == ("improved", ["collector-off"])
    assert verdict(FAST + tail + "    os = __import__('os')\n    os._exit(0)\n") == (
        "rejected",
        ["process-control", "collector-off"],
    )


def test_every_rule_has_its_case_and_every_finding_its_line() -> None:
    assert {f"{each.id} {each.severity}" for each in rules_of("patch")} == {*CASES, "not-read warn"}
    page = (ROOT / "docs" / "integrity.md").read_text()
    assert page == runpy.run_path(str(ROOT / "docs" / "integrity.py"))["page"](), "run python docs/integrity.py"
    assert all(each.what and each.remedy and "|" not in each.what + each.remedy for each in RULES)
    sources = "".join(file.read_text() for file in (ROOT / "omniperf").rglob("*.py"))
    made = re.findall(r"Finding\(\s*id=\"([a-z-]+)\"|_(?:of_the_final|finding)\(\"([a-z-]+)\"", sources)
    assert {first or other for first, other in made} <= set(re.findall(r"^\| `([a-z-]+)`", page, re.M))
