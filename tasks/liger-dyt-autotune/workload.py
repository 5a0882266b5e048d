"""Dynamic tanh of 32,768 rows of 16,384 elements in bfloat16, forward and backward, on shifted windows."""

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

from liger_kernel.ops.dyt import LigerDyTFunction  # noqa: E402

CALLS, STEP = 24, 256  # rows by which the window moves from call to call
GROUP, SHIFT = 65536, 3072.0


def sketch(tensor, signs):
    """Sums of groups of elements under random signs, shifted away from zero so that a tolerance has meaning."""
    groups = tensor.reshape(-1, signs.numel())
    return torch.addmv(torch.full_like(groups[:, 0], SHIFT), groups, signs)


def setup(seed, rows=32768, width=16384):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    x, dy = (
        torch.randn(rows + CALLS * STEP, width, generator=generator, device="cuda", dtype=torch.bfloat16)
        for _ in range(2)
    )
    alpha = torch.rand(1, generator=generator, device="cuda").add_(0.5).to(torch.bfloat16)
    gamma, beta = torch.randn(2, width, generator=generator, device="cuda", dtype=torch.bfloat16)
    signs = torch.randint(0, 2, (GROUP,), generator=generator, device="cuda").mul_(2).sub_(1).to(torch.bfloat16)
    return x, dy, alpha, gamma, beta, signs


def run(state):
    x, dy, *parameters, signs = state
    parameters = [tensor.detach().requires_grad_() for tensor in parameters]
    rows, width = len(x) - CALLS * STEP, x.shape[1]
    found, sums = [], []
    for call in range(CALLS):
        window = slice(call * STEP, call * STEP + rows)
        part = x[window].detach().requires_grad_()
        y = LigerDyTFunction.apply(part, *parameters)
        dx, dalpha, *rest = torch.autograd.grad(y, (part, *parameters), dy[window])
        found += [sketch(y.detach(), signs), sketch(dx, signs)]
        sums += [dalpha + 4 * (rows * width) ** 0.5, *(grad + 8 * rows**0.5 for grad in rest)]
    return [torch.stack(found), torch.cat(sums)]
