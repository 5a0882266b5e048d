"""PolyNorm of 131,072 rows of 4,096 elements in bfloat16, forward and backward, on shifted windows."""

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

from liger_kernel.ops.poly_norm import LigerPolyNormFunction  # noqa: E402

CALLS, STEP = 24, 256  # rows by which the window moves from call to call
GROUP, SHIFT = 65536, 4096.0


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


def setup(seed, rows=131072, width=4096):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    x, dy = (patterned(rows + CALLS * STEP, width, generator) for _ in range(2))
    weight = torch.rand(3, generator=generator, device="cuda").add_(0.2).to(torch.bfloat16)
    bias = torch.randn((), generator=generator, device="cuda", dtype=torch.bfloat16)
    # As many of one sign as of the other: the outputs have a mean of their own.
    signs = torch.randperm(GROUP, generator=generator, device="cuda").remainder_(2).mul_(2).sub_(1).to(torch.bfloat16)
    return x, dy, weight, bias, signs


def run(state):
    x, dy, *parameters, signs = state
    weight, bias = (tensor.detach().requires_grad_() for tensor in parameters)
    rows, width = len(x) - CALLS * STEP, x.shape[1]
    found, sums = [], []
    for call in range(CALLS):
        window = slice(call * STEP, call * STEP + rows)
        part = x[window].detach().requires_grad_()
        y = LigerPolyNormFunction.apply(part, weight, bias, 1e-6, False)
        dx, *rest = torch.autograd.grad(y, (part, weight, bias), dy[window])
        found += [sketch(y.detach(), signs), sketch(dx, signs)]
        sums += [grad.flatten() + 16 * rows**0.5 * width for grad in rest]
    return [torch.stack(found), torch.cat(sums)]
