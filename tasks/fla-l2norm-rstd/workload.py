"""L2 normalization of rows of 128 elements in bfloat16, forward and backward, on shifted windows of one buffer."""

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


without_init("fla", "fla.modules", "fla.ops")

from fla.modules.l2norm import l2norm  # noqa: E402

CALLS, STEP = 16, 4096  # rows by which the window moves from call to call
GROUP, SHIFT = 65536, 192.0


def sketch(tensor, signs):
    """Sums of groups of elements under random signs, shifted away from zero so that a tolerance has meaning."""
    groups = tensor.reshape(-1, signs.numel())
    return torch.addmv(torch.full_like(groups[:, 0], SHIFT), groups, signs)


def patterned(rows, width, generator):
    """Noise, and in every row one pattern under a sign of the row's own: sums over a row count in what comes of it."""
    noise = torch.randn(rows, width, generator=generator, device="cuda", dtype=torch.bfloat16)
    pattern = torch.arange(width, device="cuda").remainder(2).mul(2).to(noise.dtype)
    signs = torch.randint(0, 2, (rows, 1), generator=generator, device="cuda").mul_(2).sub_(1).to(noise.dtype)
    return noise.addcmul_(signs, pattern)


def setup(seed, rows=4194304, width=128):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    x, dy = (patterned(rows + CALLS * STEP, width, generator) for _ in range(2))
    signs = torch.randint(0, 2, (GROUP,), generator=generator, device="cuda").mul_(2).sub_(1).to(torch.bfloat16)
    return x, dy, signs


def run(state):
    x, dy, signs = state
    rows = len(x) - CALLS * STEP
    found = []
    for call in range(CALLS):
        window = slice(call * STEP, call * STEP + rows)
        part = x[window].detach().requires_grad_()
        y = l2norm(part)
        (dx,) = torch.autograd.grad(y, part, dy[window])
        found += [sketch(y.detach(), signs), sketch(dx, signs)]
    return torch.stack(found)
