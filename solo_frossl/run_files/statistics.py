"""Numbers that say how evenly eigenvalues are spread."""

import numpy as np
from numpy.typing import ArrayLike

TOP = 14
"""Eigenvalues that are logged one by one, as many as FroSSL's Fig. 3 draws."""


def shannon_entropy(eigenvalues: ArrayLike) -> np.ndarray:
    """Shannon entropy in nats, -sum_i p_i log p_i, of eigenvalues divided by their sum (FroSSL, Sec. 5.2).

    Args:
        eigenvalues: ``(..., K)``, 0 or more.

    Returns:
        ``(...)`` float64 from 0 (one eigenvalue has everything, or all are zero) to log K (all are equal).
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    total = values.sum(-1, keepdims=True)
    p = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    return -(p * np.log(p, out=np.zeros_like(p), where=p > 0)).sum(-1)


def effective_rank(eigenvalues: ArrayLike) -> np.ndarray:
    """Number of directions that the variance is spread over: the exponential of :func:`shannon_entropy`.

    The definition is of Roy & Vetterli (2007), "The effective rank: a measure of effective dimensionality", with
    eigenvalues of the covariance in place of singular values.

    Args:
        eigenvalues: ``(..., K)``, 0 or more.

    Returns:
        ``(...)`` float64 from 1 to K; 0 if there is no variance at all.

    >>> float(effective_rank([1.0, 1.0, 0.0]))
    2.0
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    return np.exp(shannon_entropy(values)) * (values.sum(-1) > 0)


def condition_number(eigenvalues: ArrayLike) -> np.ndarray:
    """The first eigenvalue over the 14th, l1 / l14 (FroSSL, Sec. 5.2).

    Args:
        eigenvalues: ``(..., K)``, descending, 0 or more.

    Returns:
        ``(...)`` float64, 1 or more; infinite if the 14th is 0, NaN if there are fewer than 14 or all are 0.

    >>> float(condition_number([6.0, *[3.0] * 13]))
    2.0
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.shape[-1] < TOP:
        return np.full(values.shape[:-1], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return values[..., 0] / values[..., TOP - 1]
