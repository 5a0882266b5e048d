"""Whole processes under the outer clock: commands, and servers under a load generator that never sees the tree."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.measure import process
from omniperf.measure.arms import make_arm
from omniperf.measure.clock import Sample, Timing, WorkloadError, sample
from omniperf.measure.figures import masked, read_figures
from omniperf.measure.process import observe_process
from omniperf.tasks.schema import Task
from tests.toy_processes import LOAD, SERVER, SERVICE, toy

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.settings import Settings


@pytest.fixture
def taken(tmp_path: Path, settings: Settings, bubblewrap: None) -> Callable[..., Sample]:
    """Make the toy task and take one sample of base."""

    def take(rest: str, seconds: float = 30.0, **toys: object) -> Sample:
        bench = toy(tmp_path, settings, rest, **toys)  # type: ignore[arg-type]
        with bench.tree("base") as tree:
            arm = make_arm("base", bench.task, bench.environment, bench.backend, tree, tmp_path)
            return sample(bench.backend, arm, bench.task, bench.kind, [1, 2], Timing(1, seconds))

    return take


def command(code: str, more: str = "") -> str:
    return f'workload: {{command: "python -c \\"{code}\\"", reach: none{more}}}\n'


def test_a_command_is_timed_from_its_start_to_its_exit(taken: Callable[..., Sample]) -> None:
    code = "import os, time; time.sleep(0.3); print(os.environ['OMNIPERF_SEED'], '{seed}', os.getcwd())"
    found = taken(command(code))
    assert 0.3 <= found.seconds < 2
    assert found.output == b"2 2 /workspace\n", "the last seed, in its environment and in its words"


def test_what_a_command_leaves_running_is_not_waited_for(taken: Callable[..., Sample]) -> None:
    code = "import os, sys, time; sys.stdout.flush(); os.fork() or time.sleep(20)"
    assert taken(command(code)).seconds < 5


def test_a_file_beside_the_task_is_seen_read_only(taken: Callable[..., Sample]) -> None:
    code = "import os; print(os.path.isfile('/omniperf/load.py'), os.access('/omniperf/load.py', os.W_OK))"
    assert taken(command(code, ", files: [load.py]")).output == b"True False\n"


FAILS = {
    "ends with a status": (command("import sys; sys.exit('no luck')"), "the command ended with status 1: no luck"),
    "dies of a signal": (command("import os; os.kill(os.getpid(), 9)"), "the command died of signal 9"),
    "never ends": (command("import time; time.sleep(60)"), "the command did not end within 2 s"),
    "is no program": ("workload: {command: no-such-program, reach: none}\n", "no-such-program: No such file"),
    "never gets ready": (command("print(1)", ", ready: {regex: up}"), "ended with status 0: 1; it never was ready"),
    "takes all memory": (
        command("import time; x = bytearray(400 * 2**20); time.sleep(5)") + "resources: {memory_gib: 0.25}\n", "Memory"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rest", "said"), FAILS.values(), ids=FAILS.keys())
def test_a_command_that(taken: Callable[..., Sample], rest: str, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        taken(rest, seconds=2.0)


def test_start_up_is_until_the_sign_of_being_ready(taken: Callable[..., Sample]) -> None:
    code = "import time; time.sleep(0.2); print('up', flush=True); time.sleep(0.4)"
    found = taken(command(code, ", ready: {regex: up}"))
    assert 0.2 <= found.startup < found.seconds - 0.3


def test_a_service_is_measured_by_its_load_generator(taken: Callable[..., Sample]) -> None:
    found = taken(SERVICE)
    assert found.completed == 8
    assert set(found.figures) == {"throughput", "p50"}
    assert 0 < found.startup == found.imported
    assert found.output.startswith(b'"') and len(found.output) == 66, "the outputs, and nothing else, are compared"


def test_a_server_can_be_ready_by_what_it_says(taken: Callable[..., Sample]) -> None:
    assert taken(SERVICE.replace("load: load.py", "load: load.py, ready: {regex: listening}")).startup > 0


def test_the_port_of_a_sample_is_its_own(taken: Callable[..., Sample]) -> None:
    with socket.socket() as other:
        with suppress(OSError):  # somebody else's then, which is as good
            other.bind(("127.0.0.1", process._PORT))
            other.listen()
        assert taken(SERVICE).completed == 8


BAD_SERVERS = {
    "never listens": ("import time; time.sleep(60)", "the server was not ready within 2 s"),
    "ends at once": ("raise SystemExit('no model')", "the server ended with status 1: no model; it never was ready"),
    "finds its port taken": (
        "import socket, sys\nother = socket.create_server(('127.0.0.1', int(sys.argv[1])), backlog=0)\n"
        "socket.create_server(('127.0.0.1', int(sys.argv[1])))",
        "Address already in use",
    ),
    "dies midway": (
        SERVER.replace("def do_POST(self):", "def do_POST(self):\n        import os; os._exit(3)"),
        "the server ended with status 3: .*while the load generator ran|the load generator ended with status 1",
    ),
    "answers nothing": (
        SERVER.replace("def do_POST(self):", "def do_POST(self):\n        import time; time.sleep(60)"),
        "the load generator did not end within 3 s",
    ),
}


@pytest.mark.parametrize(("server", "said"), BAD_SERVERS.values(), ids=BAD_SERVERS.keys())
def test_a_server_that(taken: Callable[..., Sample], server: str, said: str) -> None:
    rest = SERVICE.replace("load: load.py", "load: load.py, ready: {port: true, seconds: 2}")
    with pytest.raises(WorkloadError, match=said):
        taken(rest, seconds=3.0, files={"toy/server.py": server})


BAD_LOADS = {
    "no JSON": ("print('fast')", "is no JSON object"),
    "a list": ("print([1])", "is no JSON object"),
    "a key twice": ('print(\'{"completed": 1, "completed": 2}\')', "a key is given twice"),
    "no count": ("print('{\"outputs\": 1}')", "reports None as `completed`"),
    "no requests": ('print(\'{"outputs": 1, "completed": 0}\')', "reports 0 as `completed`"),
    "no outputs": ("print('{\"completed\": 3}')", "reports no `outputs`"),
    "no figure": ('print(\'{"outputs": 1, "completed": 3}\')', "metric throughput: json 'throughput' is not in"),
    "an error": ("raise ValueError('refused')", "the load generator ended with status 1: ValueError: refused"),
}


@pytest.mark.parametrize(("load", "said"), BAD_LOADS.values(), ids=BAD_LOADS.keys())
def test_a_load_generator_that_reports(taken: Callable[..., Sample], load: str, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        taken(SERVICE, load=load)


LOOK = """
import glob, os, socket
def outside():
    try:
        socket.create_connection(("1.1.1.1", 53), 1)
        return "connected"
    except OSError as error:
        return error.strerror
def seen():
    processes = [open(path).read() for path in glob.glob("/proc/[0-9]*/cmdline")]
    return {"processes": len(processes), "other": [text for text in processes if OTHER in text],
            "files": os.listdir("/omniperf") + os.listdir("/tmp"), "tree": os.listdir("/workspace"),
            "interfaces": [name for _, name in socket.if_nameindex()], "outside": outside(),
            "writable": [place for place in ("/workspace", "/omniperf", "/env") if os.access(place, os.W_OK)]}
"""


def test_server_and_load_generator_share_loopback_and_nothing_else(taken: Callable[..., Sample]) -> None:
    answer = "distinct(items)).encode()"
    server = LOOK + "OTHER = 'load' + '.py'\n" + SERVER.replace(answer, answer + "; body = repr(seen()).encode()")
    load = "OTHER = 'toy.' + 'server'\n" + LOOK + LOAD.replace(
        '"outputs": digest.hexdigest()', '"outputs": {"server": eval(body), "load": seen()}'
    )  # fmt: skip
    mark = "open('/tmp/left', 'w').write('x')\n"
    found = json.loads(taken(SERVICE, files={"toy/server.py": mark + server}, load=mark + load).output)
    for name, own in (("server", {"confined.py", "launch.py"}), ("load", {"confined.py", "launch.py", "load.py"})):
        sees = found[name]
        assert sees["interfaces"] == ["lo"]
        assert sees["outside"] == "Network is unreachable"
        assert sees["other"] == [], "the other's processes"
        files = {*sees["files"]} - {"__pycache__"}  # of the scripts
        assert files == own | {"left"}, "its own scripts, and what itself left in its own /tmp"
        assert sees["writable"] == []
    assert "toy" in found["server"]["tree"]
    assert found["load"]["tree"] == []


def running(token: str) -> list[str]:
    """The command lines on this host that hold a token."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_text().replace("\0", " "))
    return [line for line in found if token in line]


def gone(token: str) -> bool:
    deadline = time.monotonic() + 10
    while running(token) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not running(token)


def marked(token: str) -> str:
    serve = f'workload: {{serve: "python -m toy.server {{port}} {token}", load: load.py, args: [{token}]}}\n'
    return serve + "metrics: [{name: latency, primary: true}]\n"


def test_both_end_with_the_sample(taken: Callable[..., Sample]) -> None:
    token = f"sample-{os.getpid()}"
    child = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', sys.argv[2]])"
    )
    taken(marked(token), files={"toy/server.py": SERVER.replace("    server = H", f"    {child}\n    server = H")})
    assert gone(token)


def test_both_end_when_the_harness_is_killed(tmp_path: Path, settings: Settings, bubblewrap: None) -> None:
    token = f"killed-{os.getpid()}"
    bench = toy(tmp_path, settings, marked(token), load="import time\ntime.sleep(60)\n")
    with bench.tree("base") as tree:
        arm = make_arm("base", bench.task, bench.environment, bench.backend, tree, tmp_path)
        harness = os.fork()
        if harness == 0:
            with suppress(BaseException):
                sample(bench.backend, arm, bench.task, bench.kind, [1, 2], Timing(1, 60))
            os._exit(0)
        deadline = time.monotonic() + 20
        while not any("load.py" in line for line in running(token)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert any("toy.server" in line for line in running(token))
        os.kill(harness, signal.SIGKILL)
        os.waitpid(harness, 0)
    assert gone(token)


RUNS = """\
import subprocess, sys, threading
from toy.order import distinct
distinct([0])
class Body:
    distinct([1])
def in_a_thread(): distinct([2])
def in_a_process(): pass
def unused(): pass
if __name__ == "__main__":
    thread = threading.Thread(target=in_a_thread); thread.start(); thread.join()
    subprocess.run([sys.executable, "-c", "import toy.cli; toy.cli.in_a_process()"], check=True)
"""


def test_what_runs_is_seen_in_every_thread_and_process(tmp_path: Path, settings: Settings, bubblewrap: None) -> None:
    seen = observed(tmp_path, settings, "python -m toy.cli")
    assert ["/workspace/toy/order.py", "<module>"] in seen["modules"]
    names = {name for file, name in seen["functions"] if file.startswith("/workspace")}
    assert names == {"distinct", "in_a_thread", "in_a_process"}


def test_what_runs_only_while_a_module_is_imported_does_not_count(
    tmp_path: Path, settings: Settings, bubblewrap: None
) -> None:
    seen = observed(tmp_path, settings, "python -c 'import toy.cli'")
    assert ["/workspace/toy/order.py", "<module>"] in seen["modules"]
    assert not [file for file, _ in seen["functions"] if file.startswith("/workspace")]


def observed(tmp_path: Path, settings: Settings, line: str) -> dict[str, list[list[Any]]]:
    bench = toy(tmp_path, settings, f'workload: {{command: "{line}"}}\n', files={"toy/cli.py": RUNS})
    with bench.tree("base") as tree:
        arm = make_arm("base", bench.task, bench.environment, bench.backend, tree, tmp_path)
        return observe_process(bench.backend, arm, bench.task, bench.kind, Timing(seconds=30), "reach", 1)


def described(reading: str) -> Task:
    metrics = [
        {"name": "latency", "primary": True},
        {"name": "rate", "unit": "1/s", "from": {reading[:5].strip(): reading[5:]}},
    ]
    return Task.model_validate(
        {
            "schema": "omniperf/task/v1", "id": "a", "title": "a", "repo": {"path": "x"}, "targets": ["x"],
            "workload": {"command": "x"}, "metrics": metrics,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reading", "printed", "wrong"),
    [
        ("regexrate: (\\S+)", "speed 3", "matches 0 times"),
        ("regexrate: (\\S+)", "rate: 3\nrate: 3000", "matches 2 times"),
        *(("regexrate: (\\S+)", f"rate: {value}", "no finite number above zero")
          for value in ("nan", "inf", "0", "-1", "fast", "1e999")),
        ("json a.b", '{"a": {"c": 1}}', "is not in the object"),
        ("json a.b", '{"a": 3}', "is not in the object"),
        ("json a", '{"a": true}', "no finite number above zero"),
        ("json a", '{"a": null}', "no finite number above zero"),
        ("json a", '{"a": NaN}', "no finite number above zero"),
        ("json a", '{"a": 0}', "no finite number above zero"),
        ("json a", '{"a": 1, "a": 2}', "given twice"),
        ("json a", '{"a": 1}\nbye', "no JSON object"),
    ],
)  # fmt: skip
def test_a_figure_that_is_not_plainly_there_is_an_error(reading: str, printed: str, wrong: str) -> None:
    with pytest.raises(WorkloadError, match=wrong):
        read_figures(described(reading), printed)


def test_figures_are_read_and_masked() -> None:
    regex, nested = described("regexrate: (\\S+)"), described("json a.b")
    assert read_figures(regex, "one\nrate: 2.5\n") == {"rate": 2.5}
    assert masked(regex, "one\nrate: 2.5\n") == "one\n<figure>\n"
    assert read_figures(nested, 'one\n{"a": {"b": 4}, "c": 5}\n\n') == {"rate": 4}
    assert masked(nested, 'one\n{"a": {"b": 4}, "c": 5}\n') == masked(nested, 'one\n{"c": 5, "a": {"b": 7}}\n')
    assert masked(nested, '{"a": {"b": 4}, "c": 5}') != masked(nested, '{"a": {"b": 4}, "c": 6}')
