"""The loss and both gradients of a vocabulary of 32,000 with 32,768 tokens in bfloat16."""

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

from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction  # noqa: E402

GROUP, SHIFT = 8192, 512.0
SPREAD = 4.0  # of the logits: probabilities that are neither equal nor all in one place


def sketch(tensor, signs, scale):
    """Sums of groups of elements under random signs, shifted away from zero so that a tolerance has meaning."""
    groups = tensor.reshape(-1, signs.numel())
    return torch.addmv(torch.full_like(groups[:, 0], SHIFT), groups, signs, alpha=scale)


def setup(seed, tokens=32768, width=2048, vocabulary=32000):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    x = torch.randn(tokens, width, generator=generator, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(vocabulary, width, generator=generator, device="cuda", dtype=torch.bfloat16)
    target = torch.randint(0, vocabulary, (tokens,), generator=generator, device="cuda")
    signs = torch.randint(0, 2, (GROUP,), generator=generator, device="cuda").mul_(2).sub_(1).to(torch.bfloat16)
    return x, weight.mul_(SPREAD * width**-0.5), target, signs


def run(state):
    x, weight, target, signs = state
    tokens, width = x.shape
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    loss = LigerFusedLinearCrossEntropyFunction.apply(x, weight, target)
    dx, dw = torch.autograd.grad(loss, (x, weight))
    # Gradients of a mean are small: they are brought to elements of about 1.
    scales = tokens * width**0.5 / SPREAD, float(tokens)
    found = [sketch(grad, signs, scale) for grad, scale in zip((dx, dw), scales, strict=True)]
    return [loss.detach().bfloat16(), *found]
