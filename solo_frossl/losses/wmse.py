"""W-MSE: whitening for self-supervised learning (Ermolov et al. 2021, https://arxiv.org/abs/2007.06346)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.losses.normalise import check_views, global_samples, rounding, unit_rows


def wmse_loss(
    views: Sequence[Tensor],
    *,
    whitening_size: int,
    iterations: int = 1,
    eps: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """W-MSE objective of two or more views (Ermolov et al. 2021, Eqs. 4 to 7), over the global batch.

    The N samples are split at random into sub-batches of S = ``whitening_size``, `iterations` times, all views alike.
    With m the mean and C the unbiased covariance (divided by S - 1) of one view in one sub-batch,

        (1 - eps) C + eps I = L_C L_C^T,   w_i = L_C^-1 (z_i - m),   y_i = w_i / ||w_i||
        L = mean ||y_i^u - y_i^v||^2 = mean (2 - 2 cos(w_i^u, w_i^v))

    the mean being over samples, pairs of views u < v and partitions. From 0 to 4. The gradient flows through both
    views of a pair, and through the whitening. A sample at the mean of its sub-batch has the cosine 0 and no gradient.

    Processes: embeddings are gathered with gradient, and every process computes the whole loss. The partition is the
    one that rank 0 draws. On a GPU one value is waited for in each call, to be able to refuse a bad covariance.

    Args:
        views: V >= 2 tensors ``(N/W, D)``, unnormalised; half precision is computed in float32. This process's part of
            the global batch of N samples, of the same size on each of W processes.
        whitening_size: samples S of a sub-batch, at least 2 D; divides N.
        iterations: random partitions to average over, at least 1.
        eps: share of the identity in the covariance, in [0, 1).
        generator: CPU generator of the partition; by default torch's global one.

    Returns:
        Scalar, the same on every process. NaN embeddings give NaN.

    Raises:
        ValueError: if the views cannot be used (:func:`~solo_frossl.losses.normalise.check_views`); for a
            `whitening_size` that is below 2 D or does not divide N; for `iterations` or `eps` out of range; if a
            covariance is not positive definite, up to rounding errors.

    >>> z = torch.tensor([[1.0], [2.0], [4.0], [5.0]])
    >>> wmse_loss([z, 5 * z - 2], whitening_size=4).item()  # equal once whitened
    0.0
    >>> wmse_loss([z, -z], whitening_size=4).item()  # opposite
    4.0
    """
    check_views(views)
    samples, columns = global_samples(views[0]), views[0].shape[1]
    _check(samples, columns, whitening_size, iterations, eps)
    with torch.autocast(views[0].device.type, enabled=False):
        z = torch.stack([view.to(torch.promote_types(view.dtype, torch.float32)) for view in views], dim=1)
        z = distributed.gather(z).transpose(0, 1)
        order = torch.cat([distributed.shared_permutation(samples, z.device, generator) for _ in range(iterations)])
        w = whiten(z[:, order].unflatten(1, (-1, whitening_size)), eps)
        y = unit_rows(w.flatten(1, 2))
        # sum_{u<v} y_u . y_v = (||sum_v y_v||^2 - sum_v ||y_v||^2) / 2
        cosines = (y.sum(0).square().sum() - y.square().sum()) / 2
        pairs = len(views) * (len(views) - 1) / 2
        return 2 - 2 * cosines / (pairs * len(order))


def whiten(z: Tensor, eps: float = 0.0) -> Tensor:
    """Subtract the mean of each batch, then apply the inverse Cholesky factor of its covariance, with gradient.

    Args:
        z: ``(..., S, D)``, any number of batches of S samples.
        eps: share of the identity in the covariance; with 0 the result has the covariance I.

    Returns:
        ``(..., S, D)``.

    Raises:
        ValueError: if a covariance is not positive definite, up to rounding errors.
    """
    samples, columns = z.shape[-2:]
    mean = z.mean(-2, keepdim=True)
    c = z - mean
    constant = c.detach().square().sum(-2, keepdim=True) <= samples * rounding(mean.detach()).square()
    c = c.masked_fill(constant, 0)
    covariance = (1 - eps) * (c.mT @ c) / (samples - 1) + eps * torch.eye(columns, dtype=z.dtype, device=z.device)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    _check_definite(covariance, factor, failed)
    return torch.linalg.solve_triangular(factor.mT, c, upper=True, left=False)


@torch.no_grad()
def _check_definite(covariance: Tensor, factor: Tensor, failed: Tensor) -> None:
    # A squared pivot is the variance that the dimensions before it leave unexplained: below this it is rounding error.
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    singular = pivots <= variance.shape[-1] * torch.finfo(variance.dtype).eps * variance
    if bool((failed.any() | singular.any()) & covariance.isfinite().all()):  # what is NaN goes on as NaN
        raise ValueError(
            "the covariance of a sub-batch is not positive definite: dimensions of the embeddings are constant or"
            " depend on each other. Raise eps, raise whitening_size, or look for collapse"
        )


def _check(samples: int, columns: int, whitening_size: int, iterations: int, eps: float) -> None:
    if whitening_size < 2 * columns:
        raise ValueError(
            f"whitening_size is {whitening_size}: it must be at least twice the {columns} dimensions of the embeddings,"
            f" {2 * columns}"
        )
    if samples % whitening_size:
        raise ValueError(f"whitening_size is {whitening_size}: it must divide the global batch of {samples} samples")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be in [0, 1), got {eps}")
