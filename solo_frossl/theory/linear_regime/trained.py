"""The objectives as they are trained, which normalise every output: their equations of the modes."""

import numpy as np
import torch
from torch import Tensor

from solo_frossl.theory.linear_regime.setting import Modes, must_be_symmetric


def hadamard(outputs: int) -> Tensor:
    """Sylvester's Hadamard matrix over sqrt(M): orthonormal, and all entries +-1 / sqrt(M).

    Layers whose left factor it is have outputs of equal variance, whatever their singular values.

    Args:
        outputs: M, a power of 2.

    Returns:
        ``(M, M)`` float64.

    Raises:
        ValueError: M is no power of 2.
    """
    if outputs < 1 or outputs & (outputs - 1):
        raise ValueError(f"outputs is {outputs}: it must be a power of 2")
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < outputs:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / outputs**0.5


def trained_frossl_rate(
    s: np.ndarray,
    modes: Modes,
    *,
    samples: int,
    invariance_weight: float = 1.0,
    log_variance: bool = True,
) -> np.ndarray:
    """Gradient flow of the objective that is trained, :func:`solo_frossl.losses.frossl_loss`, in the modes.

    That objective divides every output by its standard deviation. The modes have equations all the same if one layer
    serves both views, lambda = gamma, and its left factor is :func:`hadamard`: then all outputs have the variance
    mean_k y_k, y_k = lambda_k s_k^2, and with M modes

        L = 2 log(sum y^2 / (sum y)^2) + (2 M / N) w (1 - sum rho y / sum y)        s' = -dL/ds

    without the logarithm 2 sum y^2 / (sum y)^2 is the first term. Neither depends on the scale of y, so sum_k s_k^2 is
    conserved. At a large batch all y become equal.

    The spectrum of a linear backbone that is trained with the product's FroSSL must follow this if, moreover, the right
    factor is the common eigenvectors of the views' moments, the batch has the data's moments, and it learns by plain
    gradient descent in small steps without weight decay. docs/theory.md has the conditions in full.

    Args:
        s: ``(M,)`` singular values of the layer.
        modes: M of them, with lambda = gamma.
        samples: N, the batch size, which divides the invariance term.
        invariance_weight: w.
        log_variance: false for the objective without logarithm.

    Returns:
        ``(M,)``.
    """
    must_be_symmetric(modes)
    y = modes.first * s**2
    total, squares = y.sum(), (y**2).sum()
    shape = 2 * (2 * y / squares - 2 / total)
    if not log_variance:
        shape = shape * squares / total**2
    apart = 2 * len(y) * invariance_weight / samples * ((modes.rho * y).sum() / total**2 - modes.rho / total)
    return -(shape + apart) * 2 * modes.first * s


def trained_barlow_rate(
    s: np.ndarray, modes: Modes, *, off_diagonal_weight: float = 0.0051, scale: float = 0.1
) -> np.ndarray:
    """Gradient flow of :func:`solo_frossl.losses.barlow_twins_loss` in the modes, as :func:`trained_frossl_rate`.

        L = scale (M (1 - r)^2 + w (M^2 sum (rho y)^2 / (sum y)^2 - M r^2)),   r = sum rho y / sum y

    Args:
        s: ``(M,)`` singular values of the layer.
        modes: M of them, with lambda = gamma.
        off_diagonal_weight: w.
        scale: factor on the whole.

    Returns:
        ``(M,)``.
    """
    must_be_symmetric(modes)
    y, rho, outputs = modes.first * s**2, modes.rho, len(s)
    total, squares = y.sum(), (rho**2 * y**2).sum()
    r = (rho * y).sum() / total
    of_r = (rho - r) / total
    of_squares = 2 * rho**2 * y / total**2 - 2 * squares / total**3
    gradient = -2 * outputs * (1 - r) * of_r + off_diagonal_weight * (outputs**2 * of_squares - 2 * outputs * r * of_r)
    return -scale * gradient * 2 * modes.first * s
