"""SimSiam: negative cosine similarity (Chen and He 2021, https://arxiv.org/abs/2011.10566)."""

from torch import Tensor

from solo_frossl.losses.normalise import mean_cosine


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

    >>> import torch
    >>> p = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> z = torch.tensor([[3.0, 0.0], [5.0, 0.0]])
    >>> negative_cosine_loss(p, z).item()  # cosines 1 and 0
    -0.5
    """
    return -mean_cosine(prediction, target.detach())
