"""Attention of 64 heads to blocks that were selected for each of 8,192 steps, in bfloat16, forward and backward."""

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


without_init("fla", "fla.modules", "fla.ops", "fla.ops.attn", "fla.ops.nsa")
# A module on the way imports a name of einops for a function that is not used here.
sys.modules["einops"] = types.SimpleNamespace(reduce=None)

from fla.ops.nsa.parallel import ParallelNSAFunction  # noqa: E402

HEADS, SHARED, WIDTH = 64, 16, 64  # heads of queries, how many of them share keys and values, elements of a head
BLOCK, SELECTED = 64, 16  # steps in a block, blocks that are selected for a step
SHIFTS = 64.0, 64.0, 256.0, 384.0


def sketch(tensor, signs, shift):
    """Sums over all steps under random signs, shifted away from zero so that a tolerance has meaning."""
    steps = tensor.reshape(signs.numel(), -1)
    return torch.addmv(torch.full_like(steps[0], shift), steps.t(), signs)


def selection(steps, generator):
    """The blocks of each step and head of keys: its own and random earlier ones, -1 where there are not enough."""
    own = torch.arange(steps, device="cuda")[:, None, None] // BLOCK
    blocks = torch.arange(steps // BLOCK, device="cuda")
    rank = torch.rand(steps, HEADS // SHARED, steps // BLOCK, generator=generator, device="cuda")
    rank = rank.masked_fill(blocks > own, -1.0).masked_fill(blocks == own, 2.0)
    values, chosen = rank.topk(SELECTED, dim=-1)
    return chosen.masked_fill(values < 0, -1).sort(dim=-1).values.unsqueeze(0)


def setup(seed, steps=8192):
    generator = torch.Generator("cuda").manual_seed(seed % 2**63)
    q, k, v, do = (
        torch.randn(1, steps, heads, WIDTH, generator=generator, device="cuda", dtype=torch.bfloat16)
        for heads in (HEADS, HEADS // SHARED, HEADS // SHARED, HEADS)
    )
    # What all values have in common: without it the softmax's own part of the gradients would hardly count.
    v += 1
    do += torch.randint(0, 2, (1, steps, HEADS, 1), generator=generator, device="cuda").mul_(2).sub_(1).to(do.dtype)
    # As many of one sign as of the other: what values have in common drops out of the sums.
    signs = torch.randperm(steps, generator=generator, device="cuda").remainder_(2).mul_(2).sub_(1).to(torch.bfloat16)
    return q, k, v, do, selection(steps, generator), signs


def run(state):
    q, k, v, do, chosen, signs = state
    inputs = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
    o = ParallelNSAFunction.apply(*inputs, chosen, SELECTED, BLOCK, WIDTH**-0.5, None)
    tensors = (o.detach(), *torch.autograd.grad(o, inputs, do))
    return [sketch(tensor, signs, shift) for tensor, shift in zip(tensors, SHIFTS, strict=True)]
