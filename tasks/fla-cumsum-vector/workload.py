"""Cumulative sums inside chunks of 64 steps in float32, both ways, on shifted windows of one buffer."""

import sys
import types
from pathlib import Path

import torch


def without_init(*names):
    """Packages whose own `__init__` is not run: they would import models that no kernel needs."""
    for name in names:
        package = types.ModuleType(name)
        package.__path__ = [str(place) for root in sys.path if (place := Path(root, *name.split("."))).is_dir()]
        package.__version__ = "0"
        sys.modules[name] = package
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, package)


without_init("fla", "fla.modules", "fla.ops", "fla.ops.utils")

from fla.ops.utils.cumsum import chunk_local_cumsum_vector  # noqa: E402

CALLS, STEP = 8, 64  # steps by which the window moves from call to call
BATCH, STEPS, HEADS, WIDTH, CHUNK = 4, 4096, 16, 128, 64
GROUP, SHIFT = 8192, 6144.0


def sketch(tensor, signs):
    """Sums of groups of elements under random signs, shifted away from zero so that a tolerance has meaning."""
    groups = tensor.reshape(-1, signs.numel())
    return torch.addmv(torch.full_like(groups[:, 0], SHIFT), groups, signs).bfloat16()


def setup(seed):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    long = BATCH * STEPS + CALLS * STEP
    x = torch.randn(long, HEADS, WIDTH, generator=generator, device="cuda", dtype=torch.float32)
    signs = torch.randint(0, 2, (GROUP,), generator=generator, device="cuda").mul_(2).sub_(1).float()
    return x, signs


def run(state):
    x, signs = state
    found = []
    for call in range(CALLS):
        window = x[call * STEP : call * STEP + BATCH * STEPS].view(BATCH, STEPS, HEADS, WIDTH)
        found.append(sketch(chunk_local_cumsum_vector(window, CHUNK, call % 2 == 1), signs))
    return torch.stack(found)
