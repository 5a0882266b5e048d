"""The process that runs a workload under the harness's clock. Standard library only: it runs on the task's Python.

It is told what to do by JSON lines and answers with JSON lines, except for the two timed moments: `run` is answered by
the 64 hex digits of the outputs' digest, and `export` by a length and the bytes that digest was taken of. The clock is
the parent's: it starts when `run` is written and stops when the digest has arrived. Nothing here measures.

Outputs are plain data of exact types; numpy arrays and torch tensors become (..., kind, dtype, shape, bytes). They are
written with marshal, version 2, which has no references and refuses every subclass; `checker` reads them with a reader
of its own that makes nothing but plain data.
"""

import contextlib
import ctypes
import gc
import hashlib
import json
import marshal
import os
import site
import sys
import traceback
import types

SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
# Bound before any code of the tree is imported, so that replacing the originals changes nothing here.
dumps, sha256, collect = marshal.dumps, hashlib.sha256, gc.collect
collecting, set_threshold, unfreeze = gc.enable, gc.set_threshold, gc.unfreeze
is_collecting, get_threshold, frozen = gc.isenabled, gc.get_threshold, gc.get_freeze_count
THRESHOLD = get_threshold()
become = os.execve


def collect_as_started():
    """Have garbage collected as in a fresh interpreter: who turns that off for good has made nothing faster."""
    collecting()
    set_threshold(*THRESHOLD)
    unfreeze()


def keep_collecting():
    """Make the ways to turn collecting off do nothing, for code that is imported from now on."""
    gc.disable = gc.freeze = gc.set_threshold = lambda *_: None


def collect_what_was_put_off():
    """Collect now where a run has left collecting turned off: its garbage is its own, and so is the time it takes."""
    if not is_collecting() or get_threshold() != THRESHOLD or frozen():
        collect_as_started()
        collect()


with open("/proc/self/cmdline", "rb") as words:
    ITSELF = words.read().split(b"\0")[:-1]


class NotPlainError(TypeError):
    """An output holds something that is not plain data."""


def plain(value):
    """The value with arrays made into tuples. Raises NotPlainError for anything that is not plain data."""
    kind = type(value)
    if kind in SCALARS:
        return value
    if kind is list or kind is tuple:
        if SCALARS.issuperset(map(type, value)):
            return value
        return kind([plain(item) for item in value])
    if kind is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if kind is set or kind is frozenset:
        return kind([plain(item) for item in value])
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and (
        kind is numpy.ndarray or (isinstance(value, numpy.generic) and kind.__module__ == "numpy")
    ):
        if value.dtype.hasobject:
            raise NotPlainError("a numpy array of objects")
        name = "ndarray" if kind is numpy.ndarray else "scalar"
        return (..., name, value.dtype.str, tuple(value.shape), value.tobytes())
    if torch is not None and kind is torch.Tensor:
        host = value.detach().cpu().contiguous()
        raw = host.view(torch.uint8) if host.dim() else host.reshape(1).view(torch.uint8)
        return (..., "tensor", str(host.dtype), tuple(host.shape), raw.numpy().tobytes())
    raise NotPlainError(f"a {kind.__module__}.{kind.__qualname__}")


# What tells the time, or waits for work to be over: whoever puts something else in their place has a reason.
CLOCKS = {
    "time": [f"{name}{unit}" for name in ("time", "perf_counter", "monotonic", "process_time") for unit in ("", "_ns")],
    "timeit": ["default_timer"],
    "torch.cuda": ["synchronize", "Event.record", "Event.elapsed_time", "Event.synchronize", "Stream.synchronize"],
    "torch._C": ["_cuda_synchronize", "_CudaEventBase.elapsed_time", "_CudaEventBase.record"],
}


def clocks():
    """(name, object) of every clock there is by now."""
    for module, names in CLOCKS.items():
        for name in names:
            found = sys.modules.get(module)
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is not None:
                yield f"{module}.{name}", found


class Gpu:
    """What a task on a GPU needs of torch, bound before any code of the tree is imported."""

    def __init__(self, flush, poisoned):
        import torch

        self.wait, self.stats = torch._C._cuda_synchronize, torch.cuda.memory_stats
        event = torch.cuda.Event
        self.begun, self.ended = event(enable_timing=True), event(enable_timing=True)
        self.mark, self.between = event.record, event.elapsed_time
        torch.cuda.init()
        # Twice the L2 cache: written before a run, it leaves nothing there of what earlier runs read.
        size = 2 * torch.cuda.get_device_properties(0).L2_cache_size if flush else 0
        self.filler = torch.empty(size, dtype=torch.uint8, device="cuda") if flush else None
        self.fill = torch.Tensor.zero_
        self.poisoned, self.fresh = poisoned, True

    def flush(self):
        if self.filler is not None:
            self.fill(self.filler)

    def seconds(self):
        """Between the two marks of the last batch, as the GPU counted them."""
        return self.between(self.begun, self.ended) / 1e3

    def spoil(self):
        """In a poisoned worker, fill what torch's allocator keeps to hand out, which kernels find in their outputs.

        At first it keeps nothing: so half of the device's free memory is taken and given back to it, as one block for
        large tensors and as many for small ones. Blocks of streams other than the current one are not reached.
        """
        if not self.poisoned:
            return
        import torch

        def filled(size):
            return torch.empty(size // 4, dtype=torch.int32, device="cuda").fill_(UNWRITTEN)

        self.wait()
        held = []
        if self.fresh:
            self.fresh = False
            held = [filled(torch.cuda.mem_get_info()[0] // 2 & -(1 << 21)), *(filled(SMALL) for _ in range(64))]
            held.clear()
        stream = torch.cuda.current_stream().cuda_stream
        for segment in torch.cuda.memory_snapshot():
            if segment["stream"] != stream:
                continue
            for block in segment["blocks"]:
                if block["state"] == "inactive":
                    size = block["size"]
                    # Only what is small comes from the small blocks' pool: a piece that is larger would be new memory.
                    most = SMALL if segment["segment_type"] == "small" else size
                    held += [filled(min(most, size - at)) for at in range(0, size, most)]
        self.wait()

    def peak(self):
        """Bytes that torch's allocator had taken from the device at most."""
        return self.stats().get("reserved_bytes.all.peak", 0)


SMALL = 1 << 20  # bytes: up to here torch's allocator for GPUs takes memory from a pool of its own
# What 32 bits of unwritten memory hold: a NaN of every floating type, the largest int32, large as an int64.
UNWRITTEN = 0x7FFFFFFF


class MemoryHandler(ctypes.Structure):
    """`PyDataMem_Handler` of numpy's C API, from 1.22 on: how the memory of arrays is taken and given back."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("malloc", "calloc", "realloc", "free")),
    ]


class Poison:
    """Spoils the memory that numpy and torch hand out unwritten, from the moment they are imported.

    The environment of a poisoned worker has malloc do the same for everybody, but numpy keeps small blocks for itself,
    and a byte that repeats, which is all that malloc can write, makes no NaN.
    """

    def __init__(self):
        self.spoils = {"numpy": self.spoil_numpy, "torch": self.spoil_torch}
        for name, spoil in self.spoils.items():
            if name in sys.modules:
                spoil(sys.modules[name])
        sys.meta_path.insert(0, self)

    def find_spec(self, name, path=None, target=None):
        """The spec that the other finders have, with a loader that spoils the module it has run."""
        if name not in self.spoils:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_spoil(module):
                run(module)
                self.spoils[name](module)

            spec.loader.exec_module = run_and_spoil
        return spec

    def spoil_numpy(self, numpy):
        """Have every array that numpy does not zero start out spoilt, by whatever function or C code it is made.

        The functions of numpy's default handler are replaced in their place, which holds for all threads. Raises
        RuntimeError for a numpy that has none.
        """
        if tuple(map(int, numpy.__version__.split(".")[:2])) < (1, 22):
            raise RuntimeError("before 1.22 numpy's memory cannot be poisoned")
        table = ctypes.cast(
            capsule_pointer((getattr(numpy, "_core", None) or numpy.core)._multiarray_umath._ARRAY_API, None),
            ctypes.POINTER(ctypes.c_void_p),
        )
        current = ctypes.PYFUNCTYPE(ctypes.py_object)(table[305])()  # PyDataMem_GetHandler
        handler = MemoryHandler.from_address(capsule_pointer(current, b"mem_handler"))
        if handler.name != b"default_allocator" or handler.version != 1:
            raise RuntimeError("numpy's memory is not taken as it was up to now")
        pointer, size, libc = ctypes.c_void_p, ctypes.c_size_t, ctypes.CDLL(None)
        take, give = libc.malloc, libc.free
        take.restype, take.argtypes, give.restype, give.argtypes = pointer, [size], None, [pointer]
        clear, resize = libc.calloc, libc.realloc
        clear.restype, clear.argtypes, resize.restype, resize.argtypes = pointer, [size, size], pointer, [pointer, size]
        pattern, copy = UNWRITTEN.to_bytes(4, "little") * 256, ctypes.memmove

        def taken(_context, count):
            at = take(count or 1)
            if at:
                filled = min(count, len(pattern))
                copy(at, pattern, filled)
                while filled < count:  # doubled, until it is full
                    more = min(filled, count - filled)
                    copy(at + filled, at, more)
                    filled += more
            return at

        self.kept = (  # for as long as numpy may call them
            ctypes.CFUNCTYPE(pointer, pointer, size)(taken),
            ctypes.CFUNCTYPE(pointer, pointer, size, size)(lambda _context, count, each: clear(count or 1, each or 1)),
            ctypes.CFUNCTYPE(pointer, pointer, pointer, size)(lambda _context, at, count: resize(at, count or 1)),
            ctypes.CFUNCTYPE(None, pointer, pointer, size)(lambda _context, at, _count: give(at)),
        )
        handler.malloc, handler.calloc, handler.realloc, handler.free = (
            ctypes.cast(function, pointer).value for function in self.kept
        )

    @staticmethod
    def spoil_torch(torch):
        """Have torch itself fill what it makes unwritten, on every device, `resize_` included.

        As `torch.use_deterministic_algorithms(True, warn_only=True)`, which loads torch's whole compiler. Raises
        RuntimeError for a torch before 2.2, which cannot.
        """
        if not hasattr(torch.utils, "deterministic"):
            raise RuntimeError("before 2.2 torch cannot fill what is unwritten")
        torch._C._set_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True


def capsule_pointer(capsule, name):
    """The address that a capsule of a C API holds."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(capsule, name)


def parts(value, place, found, depth=0):
    """Put a digest of every plain part of a state into `found`, by its place; what is opaque is left out.

    Lists and mappings of moderate size near the top are looked at item by item, so that one opaque or changed item
    leaves the others to be judged.
    """
    kind, few, torch = type(value), None, sys.modules.get("torch")
    if torch is not None and kind is torch.Tensor and value.is_cuda:
        found[place] = sums_on_device(torch, value)
        return
    if kind is list or kind is tuple:
        few = enumerate(value)
    elif kind is dict and SCALARS.issuperset(map(type, value)):
        few = value.items()
    if few is not None and depth < 3 and len(value) <= 100 and not SCALARS.issuperset(type(item) for _, item in few):
        found[place] = f"{kind.__name__} of {len(value)}"
        for key, item in enumerate(value) if kind is not dict else value.items():
            parts(item, f"{place}[{key!r}]", found, depth + 1)
        return
    with contextlib.suppress(NotPlainError, ValueError, RecursionError):
        whole = bytes(value) if kind is bytearray else value
        found[place] = sha256(dumps(plain(whole), 2)).hexdigest()


def sums_on_device(torch, tensor):
    """What tells a tensor from a changed one, without taking it off its device: sums of its bytes, plain and weighted.

    No digest: who means to could find another tensor of the same sums. It is for finding mistakes, in the process that
    makes them.
    """
    flat = tensor.detach().contiguous().reshape(-1)
    words, sums = flat.view(torch.uint8), [str(tensor.dtype), tuple(tensor.shape)]
    if words.numel() % 4 == 0:
        words = words.view(torch.int32)
    for piece in words.split(1 << 24):
        longs = piece.to(torch.int64)
        places = torch.arange(1, len(piece) + 1, device=tensor.device)
        sums += [longs.sum().item(), (longs * places).sum().item()]
    return sha256(repr(sums).encode()).hexdigest()


def renewed(value, other):
    """Put into a plain mutable object what another of its type holds, within it too; whether it now is as the other."""
    kind, numpy, torch = type(value), sys.modules.get("numpy"), sys.modules.get("torch")
    if kind is not type(other):
        return False
    if kind is tuple:
        return len(value) == len(other) > 0 and all(renewed(*both) for both in zip(value, other))  # noqa: B905 - Python 3.9 has no `strict`
    if kind is list:
        within = len(value) == len(other) <= 100
        value[:] = [old if renewed(old, new) else new for old, new in zip(value, other)] if within else other  # noqa: B905
    elif kind is dict:
        kept = {key: value[key] for key in value.keys() & other.keys()}
        value.clear()
        value.update((key, kept[key] if key in kept and renewed(kept[key], new) else new) for key, new in other.items())
    elif kind is set:
        value.clear()
        value.update(other)
    elif kind is bytearray:
        value[:] = other
    elif numpy is not None and kind is numpy.ndarray and value.dtype == other.dtype and value.shape == other.shape:
        if not value.flags.writeable:
            return False
        value[...] = other
    elif torch is not None and kind is torch.Tensor and value.dtype == other.dtype and value.shape == other.shape:
        value.detach().copy_(other.detach())
    else:
        return False
    return True


def parts_of(states):
    """`parts` of some states, each beginning with its number; the list that holds them is none."""
    found = {}
    for index, state in enumerate(states):
        parts(state, f"state[{index}]", found)
    return found


class Module:
    """A workload of the kind `module`."""

    def __init__(self, config, pause):
        self.gpu = Gpu(config["flush"], config["poison"]) if config["gpu"] else None
        if config["pause"]:
            pause()
        self.clocks = dict(clocks())
        # Compiled here and never cached: a cache that a warm-up may write is no place for the workload.
        self.module = sys.modules["workload"] = types.ModuleType("workload")
        self.module.__file__ = config["workload"]
        with open(config["workload"], "rb") as source:
            exec(compile(source.read(), config["workload"], "exec"), self.module.__dict__)
        # Bound before any code of the tree has run for real: what it puts in their place later is never called.
        self.make, self.run = self.module.setup, self.module.run
        self.export = self.module.export if config["export"] else None
        self.states, self.spent, self.outputs, self.inputs = [], [], [], []

    def setup(self, seeds, shape, clean):
        self.states = self.spent = None
        collect_as_started()
        collect(2 if clean else 1)  # to look at all of torch as well takes longer than many a workload
        if self.gpu is not None:
            self.gpu.spoil()
        self.states = [self.make(seed, **shape) for seed in seeds]
        if clean:
            collect()
        if self.gpu is not None:
            self.gpu.wait()

    def work(self):
        """Run every state once and return the digest of all outputs.

        Spent states are kept until others are made: to free them is no part of the workload.
        """
        run, self.spent, self.states, self.outputs = self.run, self.states, [], []
        if self.gpu is not None:
            self.gpu.mark(self.gpu.begun)
        for state in self.spent:
            collect_as_started()
            if self.gpu is not None:
                self.gpu.spoil()
                self.gpu.flush()
            self.outputs.append(run(state))
            collect_what_was_put_off()
        if self.gpu is not None:
            self.gpu.mark(self.gpu.ended)
            self.gpu.wait()
        return self.digest()

    def inspect(self):
        """What the GPU's own clock saw of the last batch, and the clocks that were replaced since the start."""
        now = dict(clocks())
        replaced = [name for name, found in self.clocks.items() if now.get(name) is not found]
        replaced += ["gc.callbacks"] if gc.callbacks else []  # what runs there runs where no clock is
        return {"device_seconds": self.gpu and self.gpu.seconds(), "replaced": replaced}

    def look(self):
        """Take digests of the states before they are run."""
        self.inputs = parts_of(self.states)

    def kept(self):
        """The places of what was looked at and is after the runs as it was, and of what is not."""
        now = parts_of(self.spent)
        kept = [place for place, digest in self.inputs.items() if now.get(place) == digest]
        return {"kept": kept, "changed": sorted(self.inputs.keys() - kept)}

    def refer(self):
        """Let the task's own `reference` make the outputs."""
        self.outputs = [self.module.reference(state) for state in self.states]

    def renew(self, seeds):
        """Run one state, put what another holds into the very same object, and run that; False where it cannot."""
        collect_as_started()
        one, other = (self.make(seed) for seed in seeds)
        self.outputs = [self.run(one)]
        if not renewed(one, other):
            return False
        self.outputs.append(self.run(one))
        return True

    def digest(self):
        outputs = self.exported()
        if "numpy" in sys.modules or "torch" in sys.modules:
            return sha256(dumps(plain(outputs), 2)).hexdigest()
        # Without arrays marshal alone will do, which is ten times as fast. It takes any buffer for bytes; `blob`, after
        # the clock has stopped, looks at every type and refuses those.
        try:
            return sha256(dumps(outputs, 2)).hexdigest()
        except ValueError:
            plain(outputs)  # says which type it was
            raise

    def exported(self):
        return self.outputs if self.export is None else [self.export(output) for output in self.outputs]

    def blob(self):
        return dumps(plain(self.exported()), 2)

    def once(self, seed):
        state = self.make(seed)
        return lambda: self.run(state)

    def profile(self, seeds):
        """Where the time of one run goes; on a GPU of one after a first, which compiles what is compiled when used."""
        if self.gpu is None:
            return {"functions": profiled(self.once(seeds[0])), "kernels": []}
        self.once(seeds[0])()
        self.gpu.wait()
        return {"functions": profiled(self.once(seeds[1])), "kernels": kernels(self.once(seeds[2]), self.gpu.wait)}


def imported():
    """(name, file) of every module that a file was loaded for, in the order of their imports."""
    found = [(name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items())]
    return [(name, file) for name, file in found if type(name) is type(file) is str]


def functions_reached(run):
    """(file, function) of every Python function that starts and Triton kernel that is launched while `run` runs.

    Module bodies do not count.
    """
    seen = set()

    def on_event(frame, event, _argument):
        if event == "call" and frame.f_code.co_name != "<module>":
            seen.add(frame.f_code)

    import threading

    jit = sys.modules.get("triton.runtime.jit")
    launch = getattr(jit, "JITFunction", None) and jit.JITFunction.run

    def launched(kernel, *arguments, **options):
        seen.add(kernel.fn.__code__)
        return launch(kernel, *arguments, **options)

    if launch:
        jit.JITFunction.run = launched
    threading.setprofile(on_event)
    sys.setprofile(on_event)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        if launch:
            jit.JITFunction.run = launch
    return sorted({(code.co_filename, code.co_name) for code in seen})


def profiled(run):
    """(file, line, function, calls, own seconds, total seconds) of every Python function, from cProfile."""
    import cProfile
    import pstats

    profiler = cProfile.Profile(builtins=False)  # time in C counts for the Python function that spends it
    profiler.runcall(run)
    return [
        (file, line, name, calls, own, total)
        for (file, line, name), (_, calls, own, total, _callers) in pstats.Stats(profiler).stats.items()
    ]


def kernels(run, wait):
    """(name, launches, seconds on the GPU) of every kernel and copy that `run` starts, from torch's profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        wait()
    found = {}
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            launches, seconds = found.get(event.name, (0, 0.0))
            found[event.name] = (launches + 1, seconds + event.time_range.elapsed_us() / 1e6)
    return [(name, *figures) for name, figures in found.items()]


def failure(error):
    """What went wrong, for the harness: the exception and the end of its traceback."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return {
        "error": "".join(traceback.format_exception_only(type(error), error)).strip(),
        "trace": "".join(lines)[-4000:],
    }


def serve(config, requests, replies):
    """Answer requests until the input closes."""

    def reply(record):
        replies.write(json.dumps(record).encode() + b"\n")

    def pause():
        reply({"initialised": True})
        requests.readline()

    if config["poison"]:
        Poison()
    try:
        workload = Module(config, pause)
    except BaseException as error:
        reply(failure(error))
        return
    reply({"ready": True})
    while line := requests.readline():
        try:
            if line == b"run\n":
                replies.write(workload.work().encode() + b"\n")
                continue
            request = json.loads(line)
            name = request["do"]
            if name == "setup":
                workload.setup(request["seeds"], request["shape"], request["clean"])
                reply({"ok": True})
            elif name == "look":
                workload.look()
                reply({"ok": True})
            elif name == "kept":
                reply(workload.kept())
            elif name == "renew":
                reply({"renewed": workload.renew(request["seeds"])})
            elif name == "afresh":
                for descriptor, standard in ((requests.fileno(), 0), (replies.fileno(), 1)):
                    os.dup2(descriptor, standard)
                become(ITSELF[0], ITSELF, {**os.environ, **request["env"]})
            elif name == "refer":
                workload.refer()
                reply({"ok": True})
            elif name == "digest":
                replies.write(workload.digest().encode() + b"\n")
            elif name == "export":
                blob = workload.blob()
                replies.write(b"%d\n" % len(blob))
                replies.write(blob)
            elif name == "memory":
                reply({"bytes": workload.gpu.peak()})
            elif name == "inspect":
                reply(workload.inspect())
            elif name == "reach":
                functions = functions_reached(workload.once(request["seed"]))
                reply({"functions": functions, "imported": imported()})
            elif name == "profile":
                reply(workload.profile(request["seeds"]))
        except BaseException as error:
            reply(failure(error))


def main():
    """Set the interpreter up as the task expects it and serve."""
    # Code of the tree must not find the channel on the standard descriptors, nor write into it by printing.
    requests, replies = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    config = json.loads(requests.readline())
    sys.argv = [config["workload"], *config.get("arguments", ())]
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    site.main()
    keep_collecting()
    sys.path[:0] = config["pythonpath"]
    serve(config, requests, replies)
    os._exit(0)  # exit handlers of the tree have nothing to add


if __name__ == "__main__":
    main()
