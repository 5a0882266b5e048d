"""RMSNorm of 262,144 rows of 128 elements in bfloat16, forward and backward, on shifted windows of one buffer."""

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

CALLS, STEP = 6, 1024  # rows by which the window moves from call to call
ROWS, WIDTH = 8192 * 32, 128
GROUP, SHIFT = 8192, 896.0


def sketch(tensor, signs):
    """Sums of groups of elements under random signs, shifted away from zero so that a tolerance has meaning."""
    groups = tensor.reshape(-1, signs.numel())
    return torch.addmv(torch.full_like(groups[:, 0], SHIFT), groups, signs)


def setup(seed):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    x, dy = (
        torch.randn(ROWS + CALLS * STEP, WIDTH, generator=generator, device="cuda", dtype=torch.bfloat16)
        for _ in range(2)
    )
    weight = 1 + torch.randn(WIDTH, generator=generator, device="cuda", dtype=torch.bfloat16)
    signs = torch.randint(0, 2, (GROUP,), generator=generator, device="cuda").mul_(2).sub_(1).to(torch.bfloat16)
    return x, dy, weight, signs


def run(state):
    x, dy, weight, signs = state
    weight = weight.detach().requires_grad_()
    found, weights = [], []
    for call in range(CALLS):
        window = slice(call * STEP, call * STEP + ROWS)
        rows = x[window].detach().requires_grad_()
        y = LigerRMSNormFunction.apply(rows, weight, 1e-6, 0.0, "llama")
        # The kernels write the gradient over the one they are given.
        dx, dw = torch.autograd.grad(y, (rows, weight), dy[window].clone())
        found += [sketch(y.detach(), signs), sketch(dx, signs)]
        weights.append(dw + 8 * ROWS**0.5)
    return [torch.stack(found), torch.stack(weights)]
