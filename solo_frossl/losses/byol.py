"""BYOL: distance to a target network's embeddings (Grill et al. 2020, https://arxiv.org/abs/2006.07733)."""

from torch import Tensor

from solo_frossl.losses.normalise import mean_cosine


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors (Grill et al. 2020, Eq. 2), over the global batch.

        L = mean_i || p_i / ||p_i|| - sg(z_i) / ||z_i|| ||^2 = 2 - 2 mean_i cos(p_i, sg(z_i))

    with sg the stop-gradient. One-sided: the method adds the other direction. From 0 (aligned) to 4 (opposite). A row
    of norm 0 has the cosine 0 and no gradient. NaN gives NaN.

    Args:
        prediction: ``(N/W, D)`` outputs p of the predictor, unnormalised; half precision is computed in float32. This
            process's part of the global batch of N samples, of the same size on each of W processes.
        target: ``(N/W, D)`` embeddings z of the other view by the target network, unnormalised; they get no gradient.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the two cannot be used (:func:`~solo_frossl.losses.normalise.check_views`).

    >>> import torch
    >>> p = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> z = torch.tensor([[3.0, 0.0], [5.0, 0.0]])
    >>> byol_loss(p, z).item()  # cosines 1 and 0
    1.0
    """
    return 2 - 2 * mean_cosine(prediction, target.detach())
