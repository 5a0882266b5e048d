"""What a patch itself shows: rules that read the lines which it adds, before anything is run."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import TYPE_CHECKING

from omniperf.tasks.globs import matches
from omniperf.verify import scope
from omniperf.verify.integrity.code import changes, covered, string
from omniperf.verify.integrity.rules import rule, rules_of, unrepeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omniperf.results.schema import Finding
    from omniperf.tasks.schema import Task
    from omniperf.verify.integrity.code import Changed
    from omniperf.verify.integrity.rules import Rule, Severity
    from omniperf.workspace.patch import Patch

# What a rule finds in a file: a node or the number of a line that the patch adds, or the evidence itself.
Place = ast.AST | int | str

_BIG_LITERAL, _BIG_TEXT, _BIG_LOOP = 500, 8192, 100_000  # elements, characters, turns
_READABLE_IN_ALL = 8_000_000  # characters of all files that a patch leads to, one after the other
_SHOWN = 400  # characters of a line
_SPECIAL = 32  # an extent of an input from which on to ask for exactly it is not about edge cases
_CLOCKS = (
    "time.*", "timeit.default_timer", "timeit.time.*", "os.times", "resource.getrusage", "torch.cuda.Event",
    "torch.cuda.Event.*", "torch.cuda.synchronize", "torch.cuda.*.synchronize", "torch.Event*", "torch.cuda.[?]",
    "torch.cuda.streams.*", "torch.utils.benchmark*", "triton.testing.*",
)  # fmt: skip
_HARNESS = (
    "hashlib.*", "marshal.*", "pickle.*", "statistics.*", "builtins.*", "gc.[cdefisu]*", "unittest.*", "pytest.*",
    "_pytest.*",     "sys.modules.[!?]*", "numpy.mean", "numpy.median", "os.write", "os.read",
)  # fmt: skip
_COMPARISONS = tuple(
    f"{of}.{name}"
    for of in ("torch", "numpy", "torch.testing", "numpy.testing", "math", "torch.Tensor", "numpy.ndarray")
    for name in ("allclose", "equal", "isclose", "array_equal", "assert_*", "__eq__", "__ne__", "eq", "ne")
)
_TORCH_STATE = ("torch.backends.*", "torch._inductor.config.*", "torch._dynamo.config.*", "torch._functorch.config.*")
_TORCH_SETTERS = (
    "torch.set_*", "torch.use_deterministic_algorithms", "torch.cuda.set_*", "torch.autograd.set_*",
    "torch.backends.*.enable_*",
)  # fmt: skip
_DRAWN = (
    "random.[a-z]*", "random.Random.*", "random.SystemRandom.*", "os.urandom", "os.getrandom", "secrets.[rt]*",
    "secrets.choice", "numpy.random.[a-z]*", "uuid.uuid[14678]", "torch.rand*",
)  # fmt: skip
_NOT_DRAWN = (
    "*.seed", "*.getstate", "*.setstate", "*.get_state", "*.set_state", "numpy.random.default_rng",
    "torch.random.[!r]*",
)  # fmt: skip
_GENERATORS = (
    "random.Random", "random.SystemRandom", "secrets.SystemRandom", "numpy.random.default_rng",
    "numpy.random.RandomState", "numpy.random.Generator",
)  # fmt: skip
_NATIVE_CALLS = re.compile(r"\b(?:ctypes|cffi)\b")
_LIBRARY = re.compile(r"(?:^|_)(?:lib\w*|c?dll)$", re.I)
_CACHE = re.compile(r"(?:^|_)(?:cache|memo)[ds]?(?:$|_)", re.I)
_FRAMES = re.compile(r"\b(?:_getframe|_current_frames|currentframe|getouterframes|inspect\.stack|get_objects)\b")
_UNWRITTEN = re.compile(r"^(?:new_)?empty(?:_like|_strided|_permuted)?$")
_RESULT = re.compile(
    r"\b(?:duration|mean|median|std(?: ?dev)?|speed-?up|latency|throughput|elapsed|runtime|score)\b[^\n]{0,20}?[:=]\s*"
    r"[\d.]+(?:e-?\d+)?",
    re.I,
)
_MEASURED = re.compile(  # a figure with the unit of what is measured, nought and what ran out left out
    r"(?<!timeout )(?<!time-out )(?<!time out )"
    r"\b(?:duration|mean|median|speed-?up|latency|throughput|elapsed|runtime)\b[^\n]{0,20}?[:=]\s*"
    r"(?=[\d.]*[1-9])[\d.]+(?:e-?\d+)?\s?(?:[mun]?s|sec(?:ond)?s?|milliseconds|x|\w{1,9}/s(?:ec)?)\b"
    r"|^\s*\{\"ok\": true",
    re.I,
)


def inspect_patch(patch: Patch, base: Callable[[str], str | None], task: Task) -> tuple[Finding, ...]:
    """What the rules find in a patch, the gravest first.

    `base(path)` is the text of a file at base, or None where it is not known; then the added lines are read without
    what is around them, and less is seen.
    """
    order: list[Severity] = ["reject", "warn", "info"]
    places: dict[Rule, dict[str, None]] = {
        each: {} for each in sorted(rules_of("patch"), key=lambda each: order.index(each.severity))
    }
    left = _READABLE_IN_ALL
    for file in changes(patch, base, task.targets):
        left -= sum(map(len, file.lines.values()))
        if left < 0:
            places[NOT_READ][f"{file.file.status}: {file.path}, and what comes after it"] = None
            break
        try:
            for each, found in places.items():
                found |= dict.fromkeys(_evidence(file, place) for place in each.check(file))
                if each.text:
                    hits = (number for number, line in file.native.items() if re.search(each.text, line))
                    found |= dict.fromkeys(_evidence(file, number) for number in hits)
        except RecursionError:  # names that stand for names that stand for names
            places[NOT_READ][f"{file.file.status}: {file.path}"] = None
    return unrepeated(finding for each, found in places.items() for finding in each.finding(found))


def _evidence(file: Changed, place: Place) -> str:
    if isinstance(place, str):
        return place
    number = place if isinstance(place, int) else int(getattr(place, "lineno", 0))
    return f"{file.path}:{number}: {file.lines.get(number, '')[:_SHOWN].strip()}"


# Code that takes part where it has no business


@rule("patch", "start-up-code", "reject", "Put code where the library's own modules are.")
def start_up_code(file: Changed) -> Iterator[Place]:
    """The patch plants code that Python runs when it starts."""
    if file.file.status != "deleted" and matches(file.path, scope.START_UP):
        yield f"{file.file.status}: {file.path}"
    for node, text in file.strings():
        if re.search(r"\b(?:sitecustomize|usercustomize)\b|^PYTHONSTARTUP$", text):
            yield node


@rule(
    "patch", "clock-replaced", "reject", "Leave the functions that tell the time, or wait for a device, alone.",
    r"#\s*define\s+(?:clock_gettime|gettimeofday|cuda(?:Event|Stream|Device)\w+)|\b(?:clock_settime|adjtimex)\s*\(",
)  # fmt: skip
def clock_replaced(file: Changed) -> Iterator[Place]:
    """The patch puts something else in the place of a clock, or of what waits for a device."""
    yield from (node for node, name in file.stores() if covered(name, *_CLOCKS))
    yield from file.calls("time.clock_settime*")
    yield from file.attributes("adjtimex", "clock_adjtime", "settimeofday")


@rule("patch", "collector-off", "warn", "Make less garbage; when it is collected is the process's to say.")
def collector_off(file: Changed) -> Iterator[Place]:
    """The patch turns the collection of garbage off, or changes when it happens."""
    yield from file.calls("gc.disable", "gc.freeze", "gc.set_threshold")
    yield from file.reads("gc.callbacks")


@rule("patch", "frame-inspection", "reject", "Take what a function needs as its arguments.")
def callers_locals(file: Changed) -> Iterator[Place]:
    """The patch reads local variables in a file that walks the stack: those of whoever calls it.

    Who walks back from a traceback that somebody else gave it, as debuggers do, is only warned of; who makes one for
    that, or takes a running generator's frame, has another way to ask for its own. So is who writes again what base
    had there.
    """
    asks = any(_FRAMES.search(line) for line in file.lines.values())
    goes_back = bool(file.holding(_goes_back))
    for node in file.attributes("f_locals"):
        if asks or (goes_back and (file.near(node, _catches) or file.holding(_own_frame))):
            yield from [] if file.locals_read and ast.unparse(node) in file.locals_read else [node]


@rule("patch", "frame-inspection", "warn", "Take what a function needs as its arguments.")
def frame_inspection(file: Changed) -> Iterator[Place]:
    """The patch looks at frames of the stack or of a traceback, or through all objects of the interpreter."""
    yield from file.calls(
        "sys._getframe", "sys._current_frames", "sys.settrace", "sys.setprofile", "sys.monitoring.*", "inspect.stack",
        "inspect.currentframe", "inspect.getouterframes", "inspect.trace", "gc.get_objects", "gc.get_referrers",
        "threading.settrace*", "threading.setprofile*",
    )  # fmt: skip
    yield from file.attributes("f_back", "f_locals")


@rule("patch", "environment-probe", "reject", "Do the same whoever asks.")
def harness_probe(file: Changed) -> Iterator[Place]:
    """The patch asks whether it is this harness that runs it."""
    if "omniperf" in file.own:
        return
    for node, text in file.strings():
        if re.search(r"\bomniperf|\bOMNIPERF_", text) and _decides(file, node):
            yield node


@rule("patch", "environment-probe", "warn", "Do the same whoever asks; make a switch of what callers may choose.")
def environment_probe(file: Changed) -> Iterator[Place]:
    """What the patch does depends on the command line, the environment, the process or the modules that are loaded."""
    asked = (
        "sys.argv", "sys.modules", "sys.flags", "sys.orig_argv", "os.environ", "os.environb", "os.getenv", "os.getcwd",
        "os.getppid", "os.getpid", "os.uname", "socket.gethostname", "platform.node", "pathlib.Path.cwd",
    )  # fmt: skip
    yield from (node for node in file.reads(*asked) if _decides(file, node))
    for node, text in file.strings():
        if re.match(r"/proc/(?:self|\d+)/(?:cmdline|environ|status|maps|cgroup)", text):
            yield node


# Results that are not worked out when they are asked for


@rule("patch", "identity-cache", "warn", "Key what is kept by what it was made of, or do not keep it.")
def identity_cache(file: Changed) -> Iterator[Place]:
    """The patch keeps something by the identity or the address of an object, which another one may have later."""
    for node in file.nodes:
        if not isinstance(node, ast.Call):
            continue
        address = isinstance(node.func, ast.Attribute) and node.func.attr == "data_ptr"
        if (address or file.named(node.func, "builtins.id")) and _is_key(file, node):
            yield node


@rule("patch", "content-memo", "warn", "Make the work less; a result that is looked up was still worked out once.")
def content_memo(file: Changed) -> Iterator[Place]:
    """The patch makes a key of the contents of its input, as for results that are kept from call to call."""
    digests = file.calls("builtins.hash", "hashlib.*", "zlib.crc32", "zlib.adler32")
    for node in (*digests, *file.methods("tobytes", "item", "hexdigest", "digest")):
        if _is_key(file, node):
            yield node


@rule("patch", "content-memo", "info", "Ask what a caller with one input gains, and what the memory costs.")
def kept_between_calls(file: Changed) -> Iterator[Place]:
    """The patch keeps results from call to call."""
    yield from file.calls("functools.cache", "functools.lru_cache", "functools.cached_property")
    for node in file.nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _is_kept(file, node.value):
            yield node
    for node in file.methods("setdefault", "update", "append", "add"):
        if isinstance(node.func, ast.Attribute) and _is_kept(file, node.func.value):
            yield node


@rule(
    "patch", "disk-cache", "warn", "Keep nothing outside the process.",
    r"\bshm_open\s*\(|\"/(?:tmp|dev/shm)/",
)  # fmt: skip
def disk_cache(file: Changed) -> Iterator[Place]:
    """The patch writes files, or shares memory, that could outlive the call."""
    yield from file.calls(
        "pickle.dump", "marshal.dump", "json.dump", "shelve.open", "dbm.open", "sqlite3.connect", "numpy.save*",
        "numpy.memmap", "torch.save", "joblib.dump", "joblib.Memory", "diskcache.*", "os.memfd_create", "mmap.mmap",
        "multiprocessing.shared_memory.*",
    )  # fmt: skip
    yield from file.methods("write_text", "write_bytes")
    for node in file.calls("builtins.open", "io.open", "gzip.open"):
        if isinstance(node, ast.Call):
            mode = [
                string(each) or ""
                for each in [*node.args[1:2], *(kw.value for kw in node.keywords if kw.arg == "mode")]
            ]
            if set("".join(mode)) & set("wax+"):
                yield node
    for node, text in file.strings():
        if re.match(r"(?:/tmp|/var/tmp|/dev/shm|~/\.cache)(?:/|$)", text):
            yield node


@rule("patch", "precomputed-table", "warn", "Work results out where they are asked for.")
def precomputed_table(file: Changed) -> Iterator[Place]:
    """The patch brings a large table, or makes one when it is imported."""
    for node in file.nodes:
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            inside = node.keys if isinstance(node, ast.Dict) else node.elts
            if len(inside) >= _BIG_LITERAL:
                yield node
        elif isinstance(node, ast.Call) and file.named(node.func, "builtins.range") and file.at_import(node):
            yield from [node] if any((_number(each) or 0) >= _BIG_LOOP for each in node.args) else []
    yield from (node for node, text in file.strings() if len(text) >= _BIG_TEXT)


@rule(
    "patch", "background-work", "warn", "Let a call end with all that it started ended.",
    r"\b(?:std::thread|std::jthread|pthread_create|std::async)\b|\.detach\(\)",
)  # fmt: skip
def background_work(file: Changed) -> Iterator[Place]:
    """The patch starts work of which nothing near shows that it is waited for."""
    for node in file.calls(
        "threading.Thread", "threading.Timer", "_thread.start_new_thread", "concurrent.futures.*Executor",
        "multiprocessing.Process", "multiprocessing.Pool", "multiprocessing.pool.*", "subprocess.Popen", "os.fork",
        "os.posix_spawn*", "asyncio.create_task", "asyncio.ensure_future", "asyncio.run_coroutine_threadsafe",
    ):  # fmt: skip
        if not (file.near(node, _waits) or any(isinstance(above, ast.withitem) for above in file.above(node))):
            yield node


@rule("patch", "lazy-output", "warn", "Return what callers got before, with its work done.")
def lazy_output(file: Changed) -> Iterator[Place]:
    """The patch makes objects that stand for an array, a tensor or a list and could do their work when looked at."""
    stands_for = {"__array__", "__torch_function__", "__torch_dispatch__", "__array_function__", "__array_interface__"}
    looks = {"__iter__", "__getitem__", "__len__", "__next__", "__contains__", "__float__", "__int__"}
    plain = ("builtins.list", "builtins.dict", "builtins.tuple", "builtins.str", "builtins.float", "builtins.int")
    for node in file.nodes:
        if isinstance(node, ast.FunctionDef) and isinstance(above := file.parents.get(node), ast.ClassDef):
            array = any(file.named(each, "torch.Tensor", "numpy.ndarray", *plain) for each in above.bases)
            if node.name in stands_for or (array and node.name in looks):
                yield node
    yield from file.methods("_make_subclass", "as_subclass", "_make_wrapper_subclass")


@rule(
    "patch", "graph-replay", "warn", "Copy every input into the graph's own before each replay.",
    r"\bcudaGraphLaunch\s*\(",
)  # fmt: skip
def graph_replay(file: Changed) -> Iterator[Place]:
    """The patch captures a CUDA graph, and nothing near shows that inputs are copied into it."""
    if any("copy_(" in line for line in file.lines.values()):
        return
    yield from file.calls("torch.cuda.CUDAGraph", "torch.cuda.graph", "torch.cuda.make_graphed_callables")


@rule(
    "patch", "side-stream", "warn", "Join every stream before the result is returned.",
    r"\bcudaStreamCreate\w*\s*\(|\bcudaStreamNonBlocking\b",
)  # fmt: skip
def side_stream(file: Changed) -> Iterator[Place]:
    """The patch works on a CUDA stream of its own, and nothing near shows that it is joined."""
    for node in file.calls("torch.cuda.Stream", "torch.cuda.ExternalStream", "torch.Stream", "cupy.cuda.Stream"):
        if not file.near(node, _joins):
            yield node


# Less work, or other work


@rule(
    "patch", "precision-lowered", "info", "Compare with a reference of higher precision.",
    r"\b(?:__half|half|bfloat16|__nv_bfloat16|float8\w*)\b|use_fast_math|ffast-math|Ofast",
)  # fmt: skip
def precision_lowered(file: Changed) -> Iterator[Place]:
    """The patch turns numbers into a type of lower precision, or rounds them."""
    yield from file.reads(
        "torch.float16", "torch.half", "torch.bfloat16", "torch.float8*", "numpy.float16", "numpy.half",
        "numpy.float32", "numpy.single",
        "triton.language.float16", "triton.language.bfloat16", "triton.language.float8*",
    )  # fmt: skip
    yield from file.methods("half", "bfloat16", "round")
    yield from file.calls("numpy.round", "numpy.around", "torch.round")
    for node in file.calls("builtins.round"):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            yield node
    for node, text in file.strings():
        if text in ("float16", "float32", "bfloat16", "f2", "f4", "tf32") or "use_fast_math" in text:
            yield node


@rule("patch", "checks-removed", "info", "Read whether what they refused is still refused.")
def checks_removed(file: Changed) -> Iterator[Place]:
    """The patch removes more checks of a kind than it adds: exceptions raised, assertions, masks of memory."""
    check = re.compile(r"^\s*(raise|assert)\b|\b(TORCH_CHECK)\(|\btl\.(?:load|store)\(.{0,300}\b(mask)\s*=")
    kinds: list[Counter[str]] = []
    for lines in (file.added, file.removed):
        hits = (check.search(line) for line in lines.values())
        kinds.append(Counter(next(filter(None, hit.groups())) for hit in hits if hit))
    for kind in kinds[1] - kinds[0]:
        for number, line in file.removed.items():
            if (hit := check.search(line)) and kind in hit.groups():
                yield f"{file.file.old_path or file.path}:{number}: -{line.strip()}"


@rule("patch", "swallowed-error", "warn", "Catch what is expected, by its own class.")
def swallowed_error(file: Changed) -> Iterator[Place]:
    """The patch catches every error and goes on, as if nothing had happened or by falling back."""
    every = ("builtins.Exception", "builtins.BaseException")
    for node in file.nodes:
        if isinstance(node, ast.ExceptHandler) and (file.complete or not _stands_in(node.body[0])):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            raises = node in file.holding(_raises)
            if not raises and any(each is None or file.named(each, *every) for each in caught):
                yield node
    for each in file.calls("contextlib.suppress"):
        if isinstance(each, ast.Call) and any(file.named(arg, *every) for arg in each.args):
            yield each


@rule("patch", "shape-special-case", "info", "Measure other shapes too: the task's `shapes`.")
def shape_special_case(file: Changed) -> Iterator[Place]:
    """The patch does something else for inputs of exactly one size."""
    for node in file.nodes:
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.In):
            continue
        sides = [node.left, *node.comparators]
        if any(_is_extent(file, side) for side in sides) and any(_extents(side) for side in sides):
            yield node


@rule("patch", "equality-override", "reject", "Let values be compared as they are.")
def equality_override(file: Changed) -> Iterator[Place]:
    """The patch makes things equal that are not, or replaces what compares them.

    A new class of which nothing in the patch could make an instance is only warned of.
    """
    yield from (node for node, name in file.stores() if covered(name, *_COMPARISONS))
    for node in file.nodes:
        match node:
            case ast.FunctionDef(name="__eq__" | "__ne__") if _always(file, node):
                if node not in file.holding(_branches) and file.parents.get(node) not in file.unused:
                    yield node
            case ast.Assign(targets=[ast.Name(id="__eq__" | "__ne__" as name)], value=ast.Lambda(body=body)):
                if isinstance(body, ast.Constant) and body.value is (name == "__eq__"):
                    yield node


@rule("patch", "equality-override", "warn", "Read what is equal now, and to what.")
def equal_or_nothing(file: Changed) -> Iterator[Place]:
    """The patch adds a comparison that never says that two things differ, though it may raise, or is not used yet."""
    for node in file.nodes:
        compares = isinstance(node, ast.FunctionDef) and node.name in ("__eq__", "__ne__") and _always(file, node)
        if compares and (node in file.holding(_branches) or file.parents.get(node) in file.unused):
            yield node


@rule("patch", "random-failure", "reject", "Fail where the input is at fault, and always then.")
def random_failure(file: Changed) -> Iterator[Place]:
    """Whether the patch raises an error, or ends the process, is left to chance."""
    for node in file.nodes:
        decides = isinstance(node, ast.If | ast.Assert) and node.test in file.holding(_by_chance)
        if decides and node in file.holding(_fails):
            yield node


@rule(
    "patch", "unwritten-memory", "info", "Read whether every element is written before it is read.",
    r"\b(?:malloc|cudaMalloc\w*|aligned_alloc)\s*\(|\bmake_unique_for_overwrite\b|\b(?:at|torch)::empty\w*\(",
)  # fmt: skip
def unwritten_memory(file: Changed) -> Iterator[Place]:
    """The patch takes memory that holds whatever was there before."""
    for node in file.nodes:
        if isinstance(node, ast.Call) and (node.args or node.keywords):  # `queue.empty()` asks something
            made = isinstance(node.func, ast.Attribute) and _UNWRITTEN.match(node.func.attr)
            if made or file.named(node.func, "numpy.ndarray", "torch.Tensor"):
                yield node
    yield from file.methods("resize_")


# The process, and what judges it


@rule("patch", "dynamic-code", "reject", "Write the code itself.")
def hidden_code(file: Changed) -> Iterator[Place]:
    """The patch runs code that it keeps encoded."""
    for number in (1, 2):  # PEP 263: the lines in which a file may say how it is to be read
        cookie = re.match(r"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", file.added.get(number, ""))
        if file.python and cookie and not _is_as_it_looks(cookie[1]):
            yield number
    yield from (
        node for node in file.calls("builtins.exec", "builtins.eval", "builtins.compile")
        if node in file.holding(_decodes)
    )  # fmt: skip


@rule(
    "patch", "dynamic-code", "warn", "Write the code itself, where a reader can see it.",
    r"#\s*define\s+\w+\(.{0,300}##|\bdlopen\s*\(|\bdlsym\s*\(",
)  # fmt: skip
def dynamic_code(file: Changed) -> Iterator[Place]:
    """The patch runs code, or names things, that only come about when it runs; or it leaves Python."""
    for node in file.calls("builtins.exec", "builtins.eval", "builtins.compile", "builtins.__import__"):
        if isinstance(node, ast.Call) and not all(isinstance(each, ast.Constant) for each in node.args[:1]):
            yield node
    yield from file.calls(
        "ctypes.*", "cffi.*", "types.CodeType", "types.FunctionType", "marshal.loads", "pickle.loads",
        "base64.b64decode", "torch.utils.cpp_extension.*",
    )  # fmt: skip
    for node in file.calls("builtins.getattr", "builtins.setattr"):
        if isinstance(node, ast.Call) and any(isinstance(each, ast.BinOp) and string(each) for each in node.args[1:2]):
            yield node


@rule(
    "patch", "process-control", "reject", "Let the process, and the caller's, be.",
    r"(?<!\w)_exit\s*\(|(?<![\w.])ptrace\s*\(",
)  # fmt: skip
def process_ended(file: Changed) -> Iterator[Place]:
    """The patch ends its process without a word, or reaches for the one that started it.

    A child that was made there is not meant: it has no other way. Nor are methods that only have the name of a call
    of the system, where nothing shows a library in C.
    """
    yield from (node for node in file.calls("os._exit", "os.abort") if not file.in_a_child(node))
    in_c = any(_NATIVE_CALLS.search(line) for line in file.lines.values())
    for each in file.attributes("ptrace", "process_vm_writev"):
        if in_c or _LIBRARY.search(getattr(each.value, "attr", getattr(each.value, "id", ""))):
            yield each
    for node in file.calls("os.kill", "os.killpg", "os.pidfd_open"):
        if node in file.holding(_names_the_parent):
            yield node


@rule(
    "patch",
    "process-control",
    "warn",
    "Let the process's own settings be.",
    r"\bfork\s*\(\)|\bexecv\w*\s*\(|(?<!\w)kill\s*\(",
)
def process_control(file: Changed) -> Iterator[Place]:
    """The patch starts programs, or changes its process: signals, handlers, limits, cores, environment, interpreter."""
    yield from file.calls(
        "os.kill", "os.killpg", "os.fork*", "os.exec*", "os.nice", "os.setpriority", "os.sched_*", "os.setsid",
        "os.putenv", "os.system", "os.popen", "subprocess.run", "subprocess.call", "subprocess.check_*", "atexit.*",
        "signal.signal", "signal.raise_signal", "signal.setitimer", "signal.alarm", "signal.pthread_kill",
        "resource.setrlimit", "sys.exit", "sys.setswitchinterval", "sys.setrecursionlimit",
        "sys.set_int_max_str_digits", "faulthandler.*",
    )  # fmt: skip
    yield from (node for node in file.calls("os._exit", "os.abort") if file.in_a_child(node))
    yield from (node for node, name in file.stores() if covered(name, "os.environ.*", "os.environ"))


@rule("patch", "network-use", "warn", "Use what is there.", r"\bcurl_easy_\w+\s*\(")
def network_use(file: Changed) -> Iterator[Place]:
    """The patch reaches for the network."""
    yield from file.calls(
        "socket.create_connection", "urllib.request.*", "http.client.*Connection", "requests.*", "httpx.*", "aiohttp.*",
        "ftplib.*", "smtplib.*", "xmlrpc.*", "huggingface_hub.*", "urllib3.*", "boto3.*",
    )  # fmt: skip
    for node, text in file.strings():
        if re.search(r"\b(?:pip3? (?:install|download)|curl|wget|git (?:clone|fetch)) \S", text) and _is_run(
            file, node
        ):
            yield node


@rule("patch", "result-forging", "reject", "Say nothing of how long it took: that is measured.")
def result_forging(file: Changed) -> Iterator[Place]:
    """The patch prints a measured time, speed or speedup that stands in it as a text."""
    yield from _printed(file, _MEASURED)


@rule("patch", "result-forging", "warn", "Say nothing of how long it took: that is measured.")
def figure_printed(file: Changed) -> Iterator[Place]:
    """The patch prints a figure that stands in it as a text and could be taken for a result."""
    yield from _printed(file, _RESULT)


@rule("patch", "result-forging", "warn", "Return results; leave descriptors to those who opened them.")
def descriptors(file: Changed) -> Iterator[Place]:
    """The patch writes to descriptors that it did not open, or goes through those that are there."""
    for node in file.calls("os.write", "os.dup2", "os.sendfile"):
        if isinstance(node, ast.Call):
            yield node
    yield from (node for node, text in file.strings() if re.match(r"/(?:proc/(?:self|\d+)|dev)/fd\b", text))


@rule("patch", "torch-global-state", "warn", "Set what one operation needs where it is used.")
def torch_global_state(file: Changed) -> Iterator[Place]:
    """The patch changes settings of torch for the whole process."""
    yield from (node for node, name in file.stores() if covered(name, *_TORCH_STATE))
    yield from file.calls(*_TORCH_SETTERS)


@rule("patch", "monkeypatch", "reject", "Leave what is not the tree's own as it is.")
def harness_patched(file: Changed) -> Iterator[Place]:
    """The patch replaces parts of Python that whoever measures, compares or tests relies on."""
    yield from (
        node
        for node, name in file.stores()
        if covered(name, *_HARNESS) and not (file.is_own(name.removeprefix("sys.modules.")) or _is_harmless(node, name))
    )


@rule("patch", "monkeypatch", "warn", "Leave what is not the tree's own as it is.")
def monkeypatch(file: Changed) -> Iterator[Place]:
    """The patch changes attributes of modules that are not the tree's own."""
    known = (*_HARNESS, *_CLOCKS, *_COMPARISONS, *_TORCH_STATE, "os.environ*", "sys.path*", "sys.argv*", "*.__doc__")
    for node, name in file.stores():
        if not (file.is_own(name) or covered(name, *known)) or _is_harmless(node, name):
            yield node


# Files that nobody can read as code


@rule("patch", "not-read", "warn", "Keep a file so small that it can be read.")
def not_read(file: Changed) -> Iterator[Place]:
    """The patch changes a file that is too large, or too tangled, for these rules to read, or which does not parse.

    Little or nothing of what is in it is said, so whoever makes it so gains a warning, not an acquittal.
    """
    if file.unread or (file.python and file.whole and file.added and not file.complete):
        yield f"{file.file.status}: {file.path}"


NOT_READ = next(each for each in rules_of("patch") if each.id == "not-read")


def _printed(file: Changed, shape: re.Pattern[str]) -> Iterator[ast.AST]:
    """Texts of that shape that go to standard output, or to an open descriptor, now or when the process ends."""
    written = ("sys.stdout.*", "sys.__stdout__.*", "sys.stderr.*", "os.write", "os.writev")
    for node, text in file.strings():
        if shape.search(text):
            call = next((each for each in file.above(node) if isinstance(each, ast.Call)), None)
            printing = call is not None and any(
                file.named(each, "builtins.print", *written) for each in (call.func, *call.args)
            )
            if printing:
                yield node


def _is_harmless(node: ast.AST, name: str) -> bool:
    """Whether a change of Python's own parts is one that it offers: a type's pickling, or a module forgotten."""
    if not isinstance(node, ast.Subscript):
        return False
    forgets = isinstance(node.ctx, ast.Del) and covered(name, "sys.modules.[!?]*")
    return forgets or covered(name, "pickle._Pickler.dispatch.*", "pickle.*Pickler.dispatch_table.*")


def _is_as_it_looks(encoding: str) -> bool:
    """Whether what is shown as ASCII is the same text in that encoding: in UTF-7 `+ACI-` is a quote."""
    start = encoding[:12].lower().replace("_", "-")  # as Python takes it, to which `utf-8-unix` is UTF-8
    if re.match(r"(?:utf-8|latin-1|iso-8859-1|iso-latin-1)(?:-|$)", start):
        return True
    shown = bytes(range(32, 127))
    try:
        return shown.decode(encoding) == shown.decode("ascii")
    except (LookupError, ValueError):
        return False


def _decides(file: Changed, node: ast.AST) -> bool:
    """Whether an expression stands in what decides: a condition, a comparison, or the right side of `and` and `or`."""
    for above in file.above(node):
        if isinstance(above, ast.Compare | ast.BoolOp | ast.comprehension):
            return True
        if isinstance(above, ast.If | ast.While | ast.IfExp | ast.Assert):
            return node is above.test
        if isinstance(above, ast.stmt):
            return False
        node = above
    return False


def _is_key(file: Changed, node: ast.AST) -> bool:
    """Whether an expression is looked up by, or named as what is looked up by."""
    below: ast.AST = node
    for above in file.above(node):
        match above:
            case ast.Subscript(slice=key) if key is below:
                return True
            case ast.Call(func=ast.Attribute(attr="get" | "setdefault" | "pop") as function) if function is not below:
                return True
            case ast.Compare(ops=[ast.In() | ast.NotIn()], left=left) if left is below:
                return True
            case ast.Assign(targets=[ast.Name(id=name)]):
                return bool(re.search(r"(?:^|_)(?:key|signature|fingerprint|digest|ident\w*)s?(?:$|_)", name))
            case ast.stmt():
                return False
        below = above
    return False


def _is_kept(file: Changed, node: ast.AST) -> bool:
    """Whether an expression is a container that outlives a call: bound at the top of the file, or named a cache."""
    match node:
        case ast.Name(id=name):
            return file.scope(node) is not None and (name in file.containers or bool(_CACHE.search(name)))
        case ast.Attribute(attr=name):
            return bool(_CACHE.search(name))
    return False


def _number(node: ast.AST) -> int | None:
    """The whole number that an expression of constants is; powers only where they are small."""
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.BinOp(left=left, op=ast.Mult() | ast.Pow() | ast.LShift() as op, right=right):
            one, other = _number(left), _number(right)
            if one is None or other is None or not (0 <= one < 10**6 and 0 <= other < 64):
                return None
            return one * other if isinstance(op, ast.Mult) else one**other if isinstance(op, ast.Pow) else one << other
    return None


def _is_extent(file: Changed, node: ast.AST) -> bool:
    """Whether an expression is the extent of an input: a length, a shape, or a part of one."""
    match node:
        case ast.Subscript(value=value):
            return _is_extent(file, value)
        case ast.Attribute(attr="shape"):
            return True
        case ast.Call(func=ast.Attribute(attr="size" | "numel")):
            return True
        case ast.Call(func=function, args=[value]):
            if file.named(function, "builtins.tuple", "builtins.list"):
                return _is_extent(file, value)
            return file.named(function, "builtins.len")
    return False


def _extents(node: ast.AST) -> bool:
    """Whether an expression is a number, or numbers, that no edge case explains."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(_extents(each) for each in node.elts)
    return (_number(node) or 0) >= _SPECIAL


def _by_chance(file: Changed, node: ast.AST) -> bool:
    """Whether something is drawn: not where classes of what draws are named, nor where one is seeded or compared."""
    if not isinstance(node, ast.Call):
        return False
    made = node.func.value if isinstance(node.func, ast.Attribute) else None
    if isinstance(made, ast.Call) and file.named(made.func, *_GENERATORS):
        return True
    return any(file.named(each, *_DRAWN) and not file.named(each, *_NOT_DRAWN) for each in (node.func, *node.args))


def _fails(file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Raise | ast.Assert) or file.named(node, "os._exit", "sys.exit")


def _raises(_file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Raise)


def _stands_in(node: ast.AST) -> bool:
    """Whether a statement is `...`, which stands for a body that is not known."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


def _always(file: Changed, function: ast.FunctionDef) -> bool:
    """Whether all that `__eq__` returns is True, as it stands there, or all that `__ne__` returns False."""
    other = _not_true if function.name == "__eq__" else _not_false
    return function in file.holding(_returns) and function not in file.holding(other)


def _returns(_file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Return)


def _not_true(_file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Return) and not (isinstance(node.value, ast.Constant) and node.value.value is True)


def _not_false(_file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Return) and not (isinstance(node.value, ast.Constant) and node.value.value is False)


def _branches(_file: Changed, node: ast.AST) -> bool:
    return isinstance(
        node, ast.If | ast.IfExp | ast.BoolOp | ast.For | ast.While | ast.Match | ast.Try | ast.Assert | ast.Raise
    )


def _goes_back(_file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "f_back"


def _catches(_file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.ExceptHandler)


def _own_frame(_file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("gi_frame", "cr_frame", "ag_frame")


def _waits(_file: Changed, node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        waits = node.attr in ("join", "shutdown", "result", "wait", "waitpid", "communicate", "gather")
        return waits and not isinstance(node.value, ast.Constant)  # a text's join
    return isinstance(node, ast.Await)


def _joins(_file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("wait_stream", "wait_event", "synchronize")


def _decodes(file: Changed, node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and file.named(
        node.func, "base64.*", "binascii.*", "zlib.decompress", "codecs.decode", "marshal.loads", "bz2.decompress",
        "lzma.decompress", "builtins.bytes.fromhex",
    )  # fmt: skip


def _names_the_parent(file: Changed, node: ast.AST) -> bool:
    return file.named(node, "os.getppid")


def _is_run(file: Changed, node: ast.AST) -> bool:
    run = ("subprocess.*", "os.system", "os.popen", "asyncio.create_subprocess*")
    return any(isinstance(above, ast.Call) and file.named(above.func, *run) for above in file.above(node))
