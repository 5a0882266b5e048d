"""The process that runs a workload under the harness's clock. Standard library only: it runs on the task's Python.

It is told what to do by JSON lines and answers with JSON lines, except for the two timed moments: `run` is answered by
the 64 hex digits of the outputs' digest, and `export` by a length and the bytes that digest was taken of. The clock is
the parent's: it starts when `run` is written and stops when the digest has arrived. Nothing here measures.

Outputs are plain data of exact types; numpy arrays and torch tensors become (..., kind, dtype, shape, bytes). They are
written with marshal, version 2, which has no references and refuses every subclass; `checker` reads them with a reader
of its own that makes nothing but plain data.
"""

import functools
import gc
import hashlib
import io
import json
import marshal
import os
import runpy
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


class Gpu:
    """What a task on a GPU needs of torch, bound before any code of the tree is imported."""

    def __init__(self, flush):
        import torch

        self.wait, self.stats = torch._C._cuda_synchronize, torch.cuda.memory_stats
        torch.cuda.init()
        # Twice the L2 cache: written before a run, it leaves nothing there of what earlier runs read.
        size = 2 * torch.cuda.get_device_properties(0).L2_cache_size if flush else 0
        self.filler = torch.empty(size, dtype=torch.uint8, device="cuda") if flush else None
        self.fill = torch.Tensor.zero_

    def flush(self):
        if self.filler is not None:
            self.fill(self.filler)

    def peak(self):
        """Bytes that torch's allocator had taken from the device at most."""
        return self.stats().get("reserved_bytes.all.peak", 0)


# What makes arrays without writing them: functions of a library, methods of its tensors.
UNWRITTEN = {
    "numpy": ("empty", "empty_like"),
    "torch": ("empty", "empty_like", "empty_strided", "empty_permuted"),
}
UNWRITTEN_METHODS = ("new_empty", "new_empty_strided")


class Poison:
    """Fills the memory that numpy and torch hand out unwritten, from the moment they are imported.

    Floats become NaN, integers their largest, truths True, all else bytes of 0xFF: whoever reads them before writing
    gives himself away.
    """

    def __init__(self):
        self.libraries = set()
        for name in UNWRITTEN:
            if name in sys.modules:
                self.spoil(sys.modules[name])
        sys.meta_path.insert(0, self)

    def find_spec(self, name, path=None, target=None):
        """The spec that the other finders have, with a loader that spoils the module it has run."""
        if name not in UNWRITTEN:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_spoil(module):
                run(module)
                self.spoil(module)

            spec.loader.exec_module = run_and_spoil
        return spec

    def spoil(self, library):
        """Replace a library's functions that make unwritten arrays."""
        name = library.__name__
        self.libraries.add(name)
        owners = [(library, UNWRITTEN[name])]
        if name == "torch":
            owners.append((library.Tensor, UNWRITTEN_METHODS))
        for owner, names in owners:
            for each in names:
                if hasattr(owner, each):
                    setattr(owner, each, self.filling(library, getattr(owner, each)))

    def filling(self, library, make):
        """The function, with what it makes filled."""
        fill = self.fill_array if library.__name__ == "numpy" else self.fill_tensor

        @functools.wraps(make)
        def made(*args, **kwargs):
            array = make(*args, **kwargs)
            fill(library, array)
            return array

        return made

    @staticmethod
    def fill_array(numpy, array):
        kind = array.dtype.kind
        if kind in "fc":
            array.fill(numpy.nan)
        elif kind in "iu":
            array.fill(numpy.iinfo(array.dtype).max)
        elif kind == "b":
            array.fill(True)
        elif kind in "MmSUV" and array.nbytes and not array.dtype.hasobject:
            # A new array is one piece of memory in whatever order, so this is a view of it.
            numpy.asarray(array).ravel("K").view(numpy.uint8).fill(0xFF)

    @staticmethod
    def fill_tensor(torch, tensor):
        if tensor.layout is not torch.strided or tensor.device.type == "meta" or tensor.is_quantized:
            return
        with torch.no_grad():
            if tensor.dtype is torch.bool:
                tensor.fill_(True)
            elif tensor.is_floating_point() or tensor.is_complex():
                tensor.fill_(float("nan"))
            else:
                tensor.fill_(torch.iinfo(tensor.dtype).max)


class Module:
    """A workload of the kind `module`."""

    def __init__(self, config):
        self.gpu = Gpu(config["flush"]) if config["gpu"] else None
        # Compiled here and never cached: a cache that a warm-up may write is no place for the workload.
        self.module = sys.modules["workload"] = types.ModuleType("workload")
        self.module.__file__ = config["workload"]
        with open(config["workload"], "rb") as source:
            exec(compile(source.read(), config["workload"], "exec"), self.module.__dict__)
        # Bound before any code of the tree has run for real: what it puts in their place later is never called.
        self.make, self.run = self.module.setup, self.module.run
        self.export = self.module.export if config["export"] else None
        self.states, self.spent, self.outputs = [], [], []

    def setup(self, seeds):
        self.states = self.spent = None
        collect_as_started()
        collect()
        self.states = [self.make(seed) for seed in seeds]
        collect()
        if self.gpu is not None:
            self.gpu.wait()

    def work(self):
        """Run every state once and return the digest of all outputs.

        Spent states are kept until others are made: to free them is no part of the workload.
        """
        run, self.spent, self.states, self.outputs = self.run, self.states, [], []
        for state in self.spent:
            collect_as_started()
            if self.gpu is not None:
                self.gpu.flush()
            self.outputs.append(run(state))
            collect_what_was_put_off()
        if self.gpu is not None:
            self.gpu.wait()
        return self.digest()

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


class Script:
    """A workload of the kind `script`: it is timed as a process, so here it only runs under a profiler."""

    def __init__(self, config):
        self.config = config

    def once(self, seed):
        os.environ["OMNIPERF_SEED"] = str(seed)
        sys.argv = [self.config["workload"], *self.config["args"]]

        def run():
            sys.stdout, stdout = io.StringIO(), sys.stdout
            try:
                runpy.run_path(self.config["workload"], run_name="__main__")
            except SystemExit as ended:
                if ended.code not in (None, 0):
                    raise RuntimeError(f"the script ended with status {ended.code}") from None
            finally:
                sys.stdout = stdout

        return run

    def profile(self, seeds):
        return {"functions": profiled(self.once(seeds[0])), "kernels": []}

    def become(self, seed, channel):
        """Turn this process into the script; its output goes where the replies went."""
        os.dup2(channel, 1)
        os.environ["OMNIPERF_SEED"] = str(seed)
        os.environ["PYTHONPATH"] = os.pathsep.join(self.config["pythonpath"])
        os.execv(sys.executable, [sys.executable, self.config["workload"], *self.config["args"]])


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

    poison = Poison() if config["poison"] else None
    try:
        workload = (Module if config["kind"] == "module" else Script)(config)
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
                workload.setup(request["seeds"])
                reply({"ok": True})
            elif name == "digest":
                replies.write(workload.digest().encode() + b"\n")
            elif name == "export":
                blob = workload.blob()
                replies.write(b"%d\n" % len(blob))
                replies.write(blob)
            elif name == "memory":
                reply({"bytes": workload.gpu.peak()})
            elif name == "become":
                reply({"ok": True})
                if requests.readline() == b"run\n":
                    workload.become(request["seed"], replies.fileno())
            elif name == "poisoned":
                reply({"libraries": sorted(poison.libraries)})
            elif name == "reach":
                functions = functions_reached(workload.once(request["seed"]))
                files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
                reply({"functions": functions, "imported": sorted({file for file in files if type(file) is str})})
            elif name == "profile":
                reply(workload.profile(request["seeds"]))
        except BaseException as error:
            reply(failure(error))


def main():
    """Set the interpreter up as the task expects it and serve."""
    # Code of the tree must not find the channel on the standard descriptors, nor write into it by printing.
    requests, replies = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    config = json.loads(requests.readline())
    sys.argv = [config["workload"]]
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
