"""Gathers and reduces that carry gradients; without a process group each is the identity.

Convention: with W processes the backward pass *sums* gradients over processes. A loss that every process computes alike
from gathered values, or the mean over its own samples, followed by DDP's mean over processes, then has exactly
the gradient of one process holding the whole batch.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Rank of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        rows = x.new_empty(world_size() * x.shape[0], *x.shape[1:])
        dist.all_gather_into_tensor(rows, x.contiguous())
        return rows

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        own = grad.new_empty(grad.shape[0] // world_size(), *grad.shape[1:])
        dist.reduce_scatter_tensor(own, grad.contiguous())
        return own


class _ReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _summed(grad)


def _summed(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in rank order, with gradient.

    Args:
        x: ``(N/W, ...)``, any type, the same shape on every process; :func:`gather_ragged` takes unequal ones.

    Returns:
        ``(N, ...)``, the same on every process.
    """
    return _Gather.apply(x) if is_distributed() else x


def reduce_sum(x: Tensor) -> Tensor:
    """Sum over processes, with gradient; any shape, the same on every process. Booleans are counted, as int64."""
    x = x.long() if x.dtype == torch.bool else x
    return _ReduceSum.apply(x) if is_distributed() else x


def reduce_mean(x: Tensor) -> Tensor:
    """Mean over processes, with gradient; floating point of any shape, the same on every process."""
    return _ReduceSum.apply(x) / world_size() if is_distributed() else x


def shared_permutation(
    count: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None
) -> Tensor:
    """A random permutation ``(count,)`` that is the same on every process: the one that rank 0 draws.

    It is drawn on the CPU, so that it is the same on any device. Every process draws, which keeps its generator in step
    with the others'; the sum over processes leaves rank 0's.

    Args:
        count: length.
        device: where the permutation is to be.
        generator: CPU generator; torch's global one by default.
    """
    order = torch.randperm(count, generator=generator)
    return reduce_sum((order if rank() == 0 else torch.zeros_like(order)).to(device))


@torch.no_grad()
def gather_ragged(x: Tensor) -> Tensor:
    """Rows of all processes in rank order, without gradient; the number of rows may differ between processes."""
    if not is_distributed():
        return x
    rows = torch.tensor([x.shape[0]], device=x.device)
    counts = [torch.zeros_like(rows) for _ in range(world_size())]
    dist.all_gather(counts, rows)
    sizes = [int(c) for c in counts]
    padded = x.new_zeros((max(sizes), *x.shape[1:]))
    padded[: x.shape[0]] = x
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([p[:n] for p, n in zip(parts, sizes, strict=True)])
