"""The loss and both gradients of a vocabulary of 128,256 with 2,048 tokens in bfloat16."""

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

TOKENS, WIDTH, VOCABULARY = 2048, 2048, 128256


def setup(seed):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    x = torch.randn(TOKENS, WIDTH, generator=generator, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, device="cuda", dtype=torch.bfloat16)
    target = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator, device="cuda")
    return x, weight.mul_(WIDTH**-0.5), target


def run(state):
    x, weight, target = state
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    accumulate = torch.float32
    loss = LigerFusedLinearCrossEntropyFunction.apply(
        x, weight, target, None, None, -100, 0.0, 0.0, "mean", None, False, accumulate
    )
    loss = loss[0] if isinstance(loss, tuple) else loss
    dx, dw = torch.autograd.grad(loss, (x, weight))
    # Norms of rows: positive, so that a relative tolerance has meaning, and of every element.
    return [loss.detach().bfloat16(), dx.norm(dim=1), dw.norm(dim=1), dw.norm(dim=0)]
