"""SimSiam: negative cosine similarity (Chen and He 2021, https://arxiv.org/abs/2011.10566)."""

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.losses.normalise import check_views


def negative_cosine_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Negative cosine similarity of predictions and targets (Chen and He 2021, Eqs. 1 and 3), over the global batch.

        L = -mean_i cos(p_i, sg(z_i))

    with sg the stop-gradient. One-sided: the method adds the other direction. From -1 (aligned) to 1 (opposite). A
    row of norm 0 has the cosine 0 and no gradient. NaN gives NaN.

    Args:
        prediction: ``(N/W, D)`` outputs p of the predictor, unnormalised; half precision is computed in float32. This
            process's part of the global batch of N samples, of the same size on each of W processes.
        target: ``(N/W, D)`` embeddings z of the other view, unnormalised; they get no gradient.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the two cannot be used (:func:`~solo_frossl.losses.normalise.check_views`).

    >>> p = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> z = torch.tensor([[3.0, 0.0], [5.0, 0.0]])
    >>> negative_cosine_loss(p, z).item()  # cosines 1 and 0
    -0.5
    """
    return -mean_cosine(prediction, target.detach())


def mean_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the global batch of the cosine between rows of ``(N/W, D)`` embeddings, with gradient to both."""
    check_views([a, b])
    with torch.autocast(a.device.type, enabled=False):
        return distributed.reduce_mean((unit_rows(a) * unit_rows(b)).sum(1).mean())


def unit_rows(x: Tensor) -> Tensor:
    """Rows of ``(N, D)`` divided by their L2 norm, in float32 or better; a row of norm 0 stays, with zero gradient.

    Dividing by the norm itself, not by a root of a sum of squares, keeps the gradient of very short rows finite.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norm.masked_fill(norm == 0, torch.inf)
