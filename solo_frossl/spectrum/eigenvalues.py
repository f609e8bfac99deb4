"""The eigenvalues of a covariance and what they say about collapse."""

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
    if x.ndim != 2:
        raise ValueError(f"features must be (samples, dimensions), got shape {tuple(x.shape)}")
    samples, dimensions = x.shape
    if samples < 2 or dimensions < 1:
        raise ValueError(f"a covariance needs at least two samples of one dimension, got shape {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError("features hold NaN or infinity: their covariance has no eigenvalues")
    x = x.double()
    mean = x.mean(0)
    constant = (x == x[0]).all(0)  # their mean may be off by a rounding error, which is no variance
    centred = (x - mean).masked_fill(constant, 0)
    gram = centred @ centred.T if samples <= dimensions else centred.T @ centred
    eigenvalues = torch.linalg.eigvalsh(gram / (samples - 1)).flip(0).clamp(min=0)
    return eigenvalues[: min(samples - 1, dimensions)]


def shannon_entropy(eigenvalues: Tensor) -> Tensor:
    """Shannon entropy in nats, -sum_i p_i log p_i, of eigenvalues divided by their sum (FroSSL, Sec. 5.2).

    Args:
        eigenvalues: ``(K,)``, 0 or more.

    Returns:
        Scalar from 0 (one eigenvalue has everything, or all are zero) to log K (all are equal).
    """
    p = eigenvalues / eigenvalues.sum()
    return -torch.where(eigenvalues > 0, p * p.log(), 0.0).sum()


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """Number of directions that the variance is spread over: the exponential of :func:`shannon_entropy`.

    The definition is of Roy & Vetterli (2007), "The effective rank: a measure of effective dimensionality", with
    eigenvalues of the covariance in place of singular values.

    Args:
        eigenvalues: ``(K,)``, 0 or more.

    Returns:
        Scalar from 1 to K; 0 if there is no variance at all.

    >>> effective_rank(torch.tensor([1.0, 1.0, 0.0]))
    tensor(2.)
    """
    return shannon_entropy(eigenvalues).exp() * (eigenvalues.sum() > 0)
