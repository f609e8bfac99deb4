"""Barlow Twins: redundancy reduction (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230)."""

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.losses.normalise import check_views, standardise


def barlow_twins_loss(z1: Tensor, z2: Tensor, *, off_diagonal_weight: float = 0.0051, scale: float = 0.1) -> Tensor:
    """Barlow Twins objective (Zbontar et al. 2021, Eq. 1), over the global batch.

    With M the D x D correlation of the dimensions of one view with those of the other, biased variances:

        L = scale * (sum_i (1 - M_ii)^2 + off_diagonal_weight * sum_{i != j} M_ij^2)

    The all-reduce of M carries the gradient, which an in-place one makes W times too small. A constant dimension has
    the correlation 0 with everything, and no gradient. NaN gives NaN.

    Args:
        z1: ``(N/W, D)`` embeddings of the first view, unnormalised; half precision is computed in float32. This
            process's part of the global batch of N samples, of the same size on each of W processes.
        z2: ``(N/W, D)`` embeddings of the second view.
        off_diagonal_weight: weight of the redundancy term; the paper's lambda.
        scale: factor on the whole loss.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the views cannot be used (:func:`~solo_frossl.losses.normalise.check_views`).

    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> round(barlow_twins_loss(z, -z).item(), 4)  # M = -I: 0.1 * (4 + 4)
    0.8
    """
    on_diagonal, off_diagonal = barlow_twins_terms(z1, z2)
    return scale * (on_diagonal + off_diagonal_weight * off_diagonal)


def barlow_twins_terms(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of :func:`barlow_twins_loss`, unweighted. Arguments as there.

    Returns:
        ``on_diagonal``, sum_i (1 - M_ii)^2, and ``off_diagonal``, sum_{i != j} M_ij^2; scalars.
    """
    check_views([z1, z2])
    with torch.autocast(z1.device.type, enabled=False):
        y1, y2 = standardise([z1, z2])
        correlation = distributed.reduce_sum(y1.T @ y2)
        on_diagonal = (1 - correlation.diagonal()).square().sum()
        return on_diagonal, correlation.fill_diagonal_(0).square().sum()
