"""The losses in the linear regime, of layers and second moments."""

import torch
from torch import Tensor

from solo_frossl.theory.linear_regime.setting import Moments


def frossl_loss(w1: Tensor, w2: Tensor, moments: Moments) -> Tensor:
    """FroSSL's variant for the linear regime (FroSSL, Eqs. 8 and 10).

        L = ||W1 G1 W1^T - I||_F^2 + ||W2 G2 W2^T - I||_F^2 + ||X1 W1^T - X2 W2^T||_F^2 / N

    Args:
        w1: ``(..., M, D)`` layer of view 1.
        w2: ``(..., M, D)`` layer of view 2.
        moments: of the two views.

    Returns:
        ``(...)``, 0 or more.
    """
    c1, c2 = w1 @ moments.first @ w1.mT, w2 @ moments.second @ w2.mT
    distance = _trace(c1) + _trace(c2) - 2 * _trace(w1 @ moments.cross @ w2.mT)
    return _distance_to_identity(c1) + _distance_to_identity(c2) + distance


def frossl_gradient(w1: Tensor, w2: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """Gradient of :func:`frossl_loss`: dL/dW1 = -2 (W1 G1 + W2 K^T - 2 W1 G1 W1^T W1 G1), and W2 by symmetry.

    Printed in FroSSL's Eqs. 12, 13, 28 and 29 as 2 (W G + 2 W2 X2^T X1 + 2 W G W^T W G), which is wrong in the first
    term's sign, the second's factor and sign.
    """
    g1, g2, cross = moments.first, moments.second, moments.cross
    first = -2 * (w1 @ g1 + w2 @ cross.mT - 2 * w1 @ g1 @ w1.mT @ w1 @ g1)
    second = -2 * (w2 @ g2 + w1 @ cross - 2 * w2 @ g2 @ w2.mT @ w2 @ g2)
    return first, second


def barlow_loss(w1: Tensor, w2: Tensor, moments: Moments) -> Tensor:
    """Barlow Twins' variant for the linear regime (Simon et al. 2023): L = ||W1 K W2^T - I||_F^2.

    Arguments and result are those of :func:`frossl_loss`.
    """
    return _distance_to_identity(w1 @ moments.cross @ w2.mT)


def spectral_contrastive_loss(w1: Tensor, w2: Tensor, moments: Moments) -> Tensor:
    """SimCLR's variant for the linear regime, the spectral contrastive loss (HaoChen et al. 2021, Eq. 6).

        L = -2 E[z1 . z2] + E[(z1 . z2')^2] = -2 tr(W1 K W2^T) + tr(W1 G1 W1^T W2 G2 W2^T)

    z2' being view 2 of another sample: SimCLR's loss to second order in the similarities. Arguments are those of
    :func:`frossl_loss`; the result can be negative.
    """
    c1, c2 = w1 @ moments.first @ w1.mT, w2 @ moments.second @ w2.mT
    return _trace(c1 @ c2) - 2 * _trace(w1 @ moments.cross @ w2.mT)


def vicreg_loss(
    w1: Tensor,
    w2: Tensor,
    moments: Moments,
    *,
    variance_weight: float = 25.0,
    invariance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> Tensor:
    """VICReg (Bardes et al. 2022, Eqs. 1 to 6) with one linear layer a view, sums over dimensions in place of means.

        L = mu sum_v sum_i max(0, 1 - sqrt(C_v,ii)) + nu (tr C1 + tr C2 - 2 tr(W1 K W2^T)) + xi sum_v sum_i!=j C_v,ij^2

    with C_v = W_v G_v W_v^T. Arguments and result are those of :func:`frossl_loss`.
    """
    total = -2 * invariance_weight * _trace(w1 @ moments.cross @ w2.mT)
    for w, g in ((w1, moments.first), (w2, moments.second)):
        c = w @ g @ w.mT
        diagonal = torch.diagonal(c, dim1=-2, dim2=-1)
        hinge = (1 - diagonal.clamp(min=1e-300).sqrt()).clamp(min=0).sum(-1)
        off_diagonal = c.square().sum((-2, -1)) - diagonal.square().sum(-1)
        total = (
            total + variance_weight * hinge + invariance_weight * diagonal.sum(-1) + covariance_weight * off_diagonal
        )
    return total


def _trace(matrix: Tensor) -> Tensor:
    return torch.diagonal(matrix, dim1=-2, dim2=-1).sum(-1)


def _distance_to_identity(matrix: Tensor) -> Tensor:
    """Squared Frobenius distance, for ``(..., M, M)``."""
    return (matrix - torch.eye(matrix.shape[-1], dtype=matrix.dtype)).square().sum((-2, -1))
