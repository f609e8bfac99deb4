"""What the objectives share: checking embeddings, centring them, dividing columns or rows by their norms, cosines.

Everything is over the global batch: N counts the samples of all W processes, each of which holds N/W.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from solo_frossl import distributed


def check_views(views: Sequence[Tensor]) -> None:
    """Refuse embeddings that no objective can use.

    Args:
        views: tensors ``(N/W, D)``, one a view.

    Raises:
        ValueError: for fewer than two views; views that are not 2-D, not floating point or not of one shape; no
            dimension; fewer than two samples in the global batch.
    """
    if len(views) < 2:
        raise ValueError(f"embeddings of at least two views are needed, got {len(views)}")
    for i, view in enumerate(views):
        if view.ndim != 2:
            raise ValueError(f"embeddings must be (samples, dimensions), view {i} has shape {tuple(view.shape)}")
        if view.shape != views[0].shape:
            raise ValueError(
                f"all views must have one shape, view 0 has {tuple(views[0].shape)}, view {i} has {tuple(view.shape)}"
            )
        if not view.is_floating_point():
            raise ValueError(f"embeddings must be floating point, view {i} is {view.dtype}")
    rows, columns = views[0].shape
    if columns < 1:
        raise ValueError(f"embeddings need at least one dimension, got shape {tuple(views[0].shape)}")
    if rows * distributed.world_size() < 2:
        raise ValueError(f"at least two samples are needed over all processes, got {rows}: raise the batch size")


def global_samples(view: Tensor) -> int:
    """N, the samples of all processes, from this process's ``(N/W, D)`` embeddings."""
    return view.shape[0] * distributed.world_size()


# ----------------------------------------------------------------------------- columns to unit norm, on the hot path


def unit_columns(views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Centre every dimension and divide it by its L2 norm, without autograd and in as few passes as can be.

    A dimension that varies by no more than rounding errors is constant, and becomes zero.

    Args:
        views: V tensors ``(N/W, D)``. Half precision is computed in float32, float64 stays.

    Returns:
        The stacked result y ``(V, N/W, D)``, and what each column was multiplied with, ``(V, 1, D)``, 0 if constant.
    """
    dtype = reduce(torch.promote_types, (view.dtype for view in views), torch.float32)
    mean = distributed.reduce_mean(torch.stack([view.mean(0, dtype=dtype) for view in views]))
    y = mean.new_empty(len(views), *views[0].shape)
    squares, squared_norm = torch.empty_like(y[0]), torch.empty_like(mean)
    for view, view_mean, out, sums in zip(views, mean, y, squared_norm, strict=True):
        torch.sub(view, view_mean, out=out)
        torch.sum(torch.mul(out, out, out=squares), 0, out=sums)
    squared_norm = distributed.reduce_sum(squared_norm)
    constant = squared_norm <= global_samples(views[0]) * rounding(mean).square()  # NaN is not, and stays NaN
    scale = squared_norm.rsqrt_().masked_fill_(constant, 0).unsqueeze(1)
    return y.mul_(scale), scale


def rounding(mean: Tensor) -> Tensor:
    """Error that a value may carry once a mean of this size was subtracted from it."""
    return 8 * torch.finfo(mean.dtype).eps * mean


def standardise(views: Sequence[Tensor]) -> Tensor:
    """Stacked views ``(V, N/W, D)`` whose dimensions have mean 0 and L2 norm 1 over the global batch, with gradient.

    Arguments, and what becomes of constant dimensions, as for :func:`unit_columns`.
    """
    return _Standardise.apply(*views)


class _Standardise(torch.autograd.Function):
    """y = c / |c| with c = z - mean(z), so dL/dz = (g - mean(g) - y sum(y g)) / |c| for every dimension."""

    @staticmethod
    def forward(ctx, *views: Tensor) -> Tensor:
        y, scale = unit_columns(views)
        ctx.dtypes = [view.dtype for view in views]
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, ...]:
        y, scale = ctx.saved_tensors
        sums = distributed.reduce_sum(torch.stack([grad.sum(1, keepdim=True), (y * grad).sum(1, keepdim=True)]))
        mean, along = sums[0] / global_samples(y[0]), sums[1]
        grads = torch.addcmul(grad, y, along, value=-1).sub_(mean).mul_(scale)
        return tuple(g.to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True))


# ------------------------------------------------------------------------------------- the same in steps, by autograd


def centre(views: Sequence[Tensor]) -> Tensor:
    """Stacked views ``(V, N/W, D)`` without their mean over the global batch; constant dimensions become zero."""
    dtype = reduce(torch.promote_types, (view.dtype for view in views), torch.float32)
    z = torch.stack([view.to(dtype) for view in views])
    mean = distributed.reduce_mean(z.mean(1, keepdim=True))
    centred = z - mean
    constant = squared_norm(centred.detach()) <= global_samples(z[0]) * rounding(mean.detach()).square()
    return centred.masked_fill(constant, 0)


def divide_by_column_norms(y: Tensor) -> Tensor:
    """Divide each dimension of stacked views ``(V, N/W, D)`` by its L2 norm over the global batch, without centring.

    A dimension of norm 0 stays, with zero gradient.
    """
    squared = squared_norm(y)
    zero = squared == 0
    return y * squared.masked_fill(zero, 1).rsqrt().masked_fill(zero, 0)


def squared_norm(y: Tensor) -> Tensor:
    """Squared L2 norm ``(V, 1, D)`` over the global batch of each dimension of stacked views ``(V, N/W, D)``."""
    return distributed.reduce_sum(y.square().sum(1, keepdim=True))


# ---------------------------------------------------------------------------------------------- rows, and their cosines


def unit_rows(x: Tensor) -> Tensor:
    """Rows ``(..., D)`` divided by their L2 norm, in float32 or better; a row of norm 0 stays, with zero gradient.

    Dividing by the norm itself, not by a root of a sum of squares, keeps the gradient of very short rows finite.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.masked_fill(norm == 0, torch.inf)


def mean_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the global batch of the cosine between rows of ``(N/W, D)`` embeddings, with gradient to both."""
    check_views([a, b])
    with torch.autocast(a.device.type, enabled=False):
        return distributed.reduce_mean((unit_rows(a) * unit_rows(b)).sum(1).mean())
