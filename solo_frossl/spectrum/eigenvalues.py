"""The eigenvalues of a covariance, and RankMe of its singular values."""

import torch
from torch import Tensor


def covariance_eigenvalues(x: Tensor) -> Tensor:
    """Eigenvalues of the unbiased covariance, through the smaller of covariance and Gram matrix, in float64.

    Args:
        x: ``(N, D)`` features or embeddings.

    Returns:
        ``(min(N - 1, D),)`` float64, descending, 0 or more; the covariance has no others that are not zero.

    Raises:
        ValueError: if ``x`` is not 2-D, has fewer than two rows or no column, or is not finite.

    >>> covariance_eigenvalues(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])) * 3
    tensor([2.0000, 0.5000], dtype=torch.float64)
    """
    if x.ndim == 2 and not torch.isfinite(x).all():
        raise ValueError("features hold NaN or infinity: their covariance has no eigenvalues")
    centred, _ = moment_matrices(x)
    return descending_eigenvalues(centred)[: min(x.shape[0] - 1, x.shape[1])]


def moment_matrices(x: Tensor) -> tuple[Tensor, Tensor]:
    """The smaller of covariance and Gram matrix, around the mean and around zero.

    Nothing waits for the device, and NaN or infinity in ``x`` stays in the matrices.

    Args:
        x: ``(N, D)`` features or embeddings.

    Returns:
        Two symmetric matrices ``(min(N, D), min(N, D))`` float64. The eigenvalues of the first are those of the
        unbiased covariance of ``x``, those of the second the squared singular values of ``x`` itself, but for zeros.

    Raises:
        ValueError: if ``x`` is not 2-D, or has fewer than two rows or no column.
    """
    if x.ndim != 2:
        raise ValueError(f"features must be (samples, dimensions), got shape {tuple(x.shape)}")
    samples, dimensions = x.shape
    if samples < 2 or dimensions < 1:
        raise ValueError(f"a covariance needs at least two samples of one dimension, got shape {tuple(x.shape)}")
    centred, mean = centre(x)
    if samples <= dimensions:
        gram = centred @ centred.T
        shift = centred @ mean
        around_zero = gram + shift + shift[:, None] + mean.square().sum()
    else:
        gram = centred.T @ centred
        around_zero = gram + samples * torch.outer(mean, mean)
    return gram / (samples - 1), around_zero


def centre(x: Tensor) -> tuple[Tensor, Tensor]:
    """The columns of ``(N, D)`` without their means, which are exactly 0 where a column is constant, and the means."""
    x = x.double()
    mean = x.mean(0)
    constant = (x == x[0]).all(0)  # their mean may be off by a rounding error, which is no variance
    return (x - mean).masked_fill(constant, 0), mean


def descending_eigenvalues(matrix: Tensor) -> Tensor:
    """Eigenvalues of a positive semi-definite matrix ``(m, m)``: ``(m,)``, descending, 0 or more."""
    return torch.linalg.eigvalsh(matrix).flip(0).clamp(min=0)


def rankme(singular_values: Tensor, *, epsilon: float = 1e-7) -> Tensor:
    """RankMe of embeddings Z (Garrido et al. 2023, https://arxiv.org/abs/2210.02885, Eq. 1).

        RankMe = exp(-sum_k p_k log p_k),   p_k = s_k / sum_j s_j + epsilon

    Unlike :func:`~solo_frossl.spectrum.effective_rank` it goes by singular values, not by their squares, and by those
    of Z itself, from which the mean is not subtracted. The paper has 25,600 samples; of fewer, as a batch has, it is
    smaller.

    Args:
        singular_values: the ``(min(N, D),)`` of Z, 0 or more.
        epsilon: the paper's, for float32.

    Returns:
        Scalar from 1 to min(N, D), within rounding and epsilon; 0 if all are 0.

    >>> round(float(rankme(torch.tensor([3.0, 3.0, 0.0]))), 3)
    2.0
    """
    p = singular_values / singular_values.sum() + epsilon
    return torch.where(singular_values.sum() > 0, -(p * p.log()).sum(), -torch.inf).exp()
