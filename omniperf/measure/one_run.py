"""Run a workload for a tool that watches its process. Standard library only: it runs on the task's Python.

usage: python one_run.py CONFIGURATION

CONFIGURATION is JSON: {"workload": path, "pythonpath": [path], "seeds": [int]}. The runs of all seeds but the last come
before the range that CUDA's profilers look at: they compile what is compiled when it is first used.
"""

import json
import sys
import types


def main() -> None:
    """Run one state of each seed, the last between the marks for profilers."""
    config = json.loads(sys.argv[1])
    sys.path[:1] = config["pythonpath"]
    sys.argv = [config["workload"]]
    import torch

    wait, runtime = torch.cuda.synchronize, torch.cuda.cudart()
    workload = sys.modules["workload"] = types.ModuleType("workload")
    workload.__file__ = config["workload"]
    with open(config["workload"], "rb") as source:  # noqa: PTH123
        exec(compile(source.read(), config["workload"], "exec"), workload.__dict__)  # noqa: S102
    *first, last = config["seeds"]
    for seed in first:
        workload.run(workload.setup(seed))
    state = workload.setup(last)
    wait()
    runtime.cudaProfilerStart()
    workload.run(state)
    wait()
    runtime.cudaProfilerStop()


if __name__ == "__main__":
    main()
