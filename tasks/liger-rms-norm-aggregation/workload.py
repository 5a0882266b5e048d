"""RMSNorm of 32,768 rows of 4,096 elements in bfloat16, forward and backward, on shifted windows of one buffer."""

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


without_init("liger_kernel", "liger_kernel.ops")
sys.modules["peft"] = None  # it is optional, and takes several seconds to import

from liger_kernel.ops.rms_norm import LigerRMSNormFunction  # noqa: E402

CALLS, STEP = 8, 64  # rows by which the window moves from call to call
GROUP, SHIFT = 16384, 1536.0


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


def setup(seed, rows=32768, width=4096):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    noise = patterned(rows + (CALLS + 1) * STEP, width, generator)
    weight = 1 + torch.randn(width, generator=generator, device="cuda", dtype=torch.bfloat16)
    signs = torch.randint(0, 2, (GROUP,), generator=generator, device="cuda").mul_(2).sub_(1).to(torch.bfloat16)
    return noise, weight, signs


def both_ways(x, dy, weight, signs):
    """A pass forward and one backward, whose tensors are gone when it returns."""
    rows, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = LigerRMSNormFunction.apply(rows, weight, 1e-6, 0.0, "llama")
    # The kernels write the gradient over the one they are given.
    dx, dw = torch.autograd.grad(y, (rows, weight), dy.clone())
    return torch.cat([sketch(y.detach(), signs), sketch(dx, signs), dw + 16 * len(x) ** 0.5])


def run(state):
    noise, weight, signs = state
    rows = len(noise) - (CALLS + 1) * STEP
    starts = range(0, CALLS * STEP, STEP)
    windows = ((noise[at : at + rows], noise[at + STEP : at + STEP + rows]) for at in starts)
    return torch.stack([both_ways(x, dy, weight, signs) for x, dy in windows])
