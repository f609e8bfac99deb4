"""VICReg: variance-invariance-covariance regularisation (Bardes et al. 2022, https://arxiv.org/abs/2105.04906)."""

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.losses.normalise import centre, check_views, global_samples, squared_norm

EPSILON = 1e-4
"""Added to the variance under the root (Eq. 2)."""


def vicreg_loss(
    z1: Tensor,
    z2: Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> Tensor:
    """VICReg objective (Bardes et al. 2022, Eqs. 1 to 6), over the global batch.

    With C_v the unbiased D x D covariance of view v (divided by N - 1), and sums over the two views:

        L = invariance_weight  * mean (z_1 - z_2)^2
          + variance_weight    * sum_v (1 / D) sum_i max(0, 1 - sqrt(C_v,ii + 1e-4))
          + covariance_weight  * sum_v (1 / D) sum_{i != j} C_v,ij^2

    The authors' code differs from the paper in two places. It halves the variance term, which is a
    ``variance_weight`` half as large; here it is summed, as in Eq. 6. It takes the invariance's mean over all N * D
    values, as here, where Eq. 5 sums over dimensions, an ``invariance_weight`` D times as large.

    A constant dimension gets no gradient from the variance and covariance terms. NaN gives NaN. The cost is
    O(N D min(N, D)).

    Args:
        z1: ``(N/W, D)`` embeddings of the first view, unnormalised; half precision is computed in float32. This
            process's part of the global batch of N samples, of the same size on each of W processes.
        z2: ``(N/W, D)`` embeddings of the second view.
        invariance_weight: weight of the mean squared distance; the paper's lambda.
        variance_weight: weight of the hinge on standard deviations; mu.
        covariance_weight: weight of the squared covariances; nu.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the views cannot be used (:func:`~solo_frossl.losses.normalise.check_views`).

    >>> z = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -3.0]])  # covariance 6 I
    >>> vicreg_loss(z, z + 1).item()  # neither hinge nor covariance: 25 * 1
    25.0
    """
    invariance, variance, covariance = vicreg_terms(z1, z2)
    return invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance


def vicreg_terms(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of :func:`vicreg_loss`, unweighted. Arguments as there.

    Returns:
        ``invariance``, mean (z_1 - z_2)^2; ``variance``, the hinges' means, and ``covariance``, the squared
        off-diagonal covariances divided by D, both summed over views; scalars.
    """
    check_views([z1, z2])
    samples, columns = global_samples(z1), z1.shape[1]
    with torch.autocast(z1.device.type, enabled=False):
        c = centre([z1, z2])
        difference = z1.to(c.dtype) - z2.to(c.dtype)
        invariance = distributed.reduce_mean(difference.square().mean())
        variances = squared_norm(c).squeeze(1) / (samples - 1)
        hinge = torch.relu(1 - (variances + EPSILON).sqrt()).mean(1)
        if samples < columns:  # ||C||_F = ||c c^T||_F / (N - 1), by the smaller N x N matrix
            c = distributed.gather(c.transpose(0, 1)).transpose(0, 1)
            squared_norms = (c @ c.mT).square().sum((1, 2)) / (samples - 1) ** 2
            off_diagonal = squared_norms - variances.square().sum(1)
        else:
            covariance = distributed.reduce_sum(c.mT @ c) / (samples - 1)
            covariance.diagonal(dim1=1, dim2=2).zero_()
            off_diagonal = covariance.square().sum((1, 2))
        return invariance, hinge.sum(), off_diagonal.sum() / columns
