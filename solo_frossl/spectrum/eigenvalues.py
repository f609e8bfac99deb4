"""Eigenvalues of a covariance matrix and what they say about collapse."""

import torch
from torch import Tensor


@torch.no_grad()
def covariance_eigenvalues(x: Tensor) -> Tensor:
    """Eigenvalues of the covariance (1/N) sum_i (x_i - mean)(x_i - mean)^T, in descending order.

    They are computed in float64 from the smaller of the D x D covariance and the N x N Gram matrix, whose non-zero
    eigenvalues are the same.

    Args:
        x: ``(N, D)``, N >= 2.

    Returns:
        ``(min(N, D),)`` float64, none below 0; the smallest is 0 where centring leaves only N - 1 of them.

    Raises:
        ValueError: the input is not ``(N, D)`` with N >= 2.

    >>> covariance_eigenvalues(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])).tolist()
    [2.0, 0.5]
    """
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"x must be (N, D) with at least two rows, got {tuple(x.shape)}")
    x = x.double()
    x = x - x.mean(0)
    matrix = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    return torch.linalg.eigvalsh(matrix / len(x)).flip(0).clamp(min=0)


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """Exponential of the Shannon entropy of the normalised eigenvalues (Roy & Vetterli 2007).

    With p = eigenvalues / sum: exp(-sum_i p_i log p_i). It is 1 when one direction holds all variance, and the number
    of eigenvalues when they are equal.

    Args:
        eigenvalues: ``(K,)``, none below 0.

    Returns:
        A scalar from 1 to K; 0 when all eigenvalues are 0, which is total collapse.

    >>> effective_rank(torch.tensor([3.0, 3.0, 0.0])).item()
    2.0
    """
    total = eigenvalues.sum()
    p = eigenvalues / total
    rank = torch.special.entr(p).sum().exp()
    return torch.where(total > 0, rank, torch.zeros_like(total))
