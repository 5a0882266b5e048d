"""One forward pass of LayerNorm in bfloat16 and many backward passes, on shifted windows of one gradient."""

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

from liger_kernel.ops.layer_norm import LigerLayerNormFunction  # noqa: E402

CALLS, STEP = 24, 64  # rows by which the window moves from call to call
GROUP, SHIFT = 32768, 2560.0


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
    x, dy = (patterned(count, width, generator) for count in (rows, rows + CALLS * STEP))
    weight, bias = torch.randn(2, width, generator=generator, device="cuda", dtype=torch.bfloat16)
    signs = torch.randint(0, 2, (GROUP,), generator=generator, device="cuda").mul_(2).sub_(1).to(torch.bfloat16)
    return x, dy, weight.add_(1), bias, signs


def run(state):
    x, dy, *parameters, signs = state
    rows = len(x)
    inputs = [tensor.detach().requires_grad_() for tensor in (x, *parameters)]
    y = LigerLayerNormFunction.apply(*inputs, 1e-6)
    found, sums = [sketch(y.detach(), signs)], []
    for call in range(CALLS):
        window = dy[call * STEP : call * STEP + rows]
        dx, *rest = torch.autograd.grad(y, inputs, window, retain_graph=True)
        found.append(sketch(dx, signs))
        sums += [grad + 16 * rows**0.5 for grad in rest]
    return [torch.stack(found), torch.stack(sums)]
