"""Cross entropy of 8,192 tokens over a vocabulary of 128,256 in bfloat16, loss and gradient, of ever new logits."""

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

from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction  # noqa: E402

CALLS, STEP = 6, 64  # tokens by which the window moves from call to call
RANK = 64  # of the matrix of logits
PARTS = 8  # of a row of the vocabulary, summed one by one


def setup(seed, tokens=8192, vocabulary=128256):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    left = torch.randn(tokens + CALLS * STEP, RANK, generator=generator, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(RANK, vocabulary, generator=generator, device="cuda", dtype=torch.bfloat16)
    target = torch.randint(0, vocabulary, (tokens + CALLS * STEP,), generator=generator, device="cuda")
    weights = torch.randint(1, 4, (vocabulary // PARTS,), generator=generator, device="cuda").to(torch.bfloat16)
    return left, right.mul_(2 * RANK**-0.5), target, weights


def run(state):
    left, right, target, weights = state
    tokens = len(left) - CALLS * STEP
    found, losses = [], []
    for call in range(CALLS):
        window = slice(call * STEP, call * STEP + tokens)
        # The kernel writes the gradient over the logits, so they are made anew.
        logits, wanted = (left[window] @ right).requires_grad_(), target[window].unsqueeze(1)
        loss, *_ = LigerCrossEntropyFunction.apply(logits, target[window], None)
        (grad,) = torch.autograd.grad(loss, logits)
        # All but the targets' elements are positive, so that sums of parts of a row have a size of their own.
        chosen = grad.gather(1, wanted)
        grad.scatter_(1, wanted, 0)
        found += [chosen.flatten(), torch.mv(grad.reshape(-1, weights.numel()), weights)]
        losses.append(loss.detach().bfloat16())
    return [torch.cat(found) * tokens, torch.stack(losses)]
