"""SimCLR: contrasting every embedding with all others (Chen et al. 2020, https://arxiv.org/abs/2002.05709)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.losses.normalise import check_views, unit_rows


def nt_xent_loss(views: Sequence[Tensor], *, temperature: float) -> Tensor:
    """Normalised-temperature cross entropy of two or more views (Chen et al. 2020, Eq. 1), over the global batch.

    With y_1 ... y_VN the embeddings of all views divided by their L2 norms, s_ij = y_i . y_j, and P(i) the V - 1 other
    views of the sample that row i shows:

        l_ij = -log( exp(s_ij / temperature) / sum_{k != i} exp(s_ik / temperature) )
        L    = mean of l_ij over all rows i and all j in P(i)

    For V > 2 the other positives stand in the denominator too. VN equal rows give log(VN - 1). A zero row stays zero,
    with zero gradient. NaN gives NaN.

    Each process computes its own rows of the similarities, VN/W x VN; the gradient flows through both factors.

    Args:
        views: V >= 2 tensors ``(N/W, D)``, unnormalised; half precision is computed in float32. This process's part of
            the global batch of N samples, of the same size on each of W processes.
        temperature: of the softmax, > 0.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the views cannot be used (:func:`~solo_frossl.losses.normalise.check_views`), or if the
            temperature is not positive.

    >>> z = torch.eye(2)
    >>> round(nt_xent_loss([z, 3 * z], temperature=1.0).item(), 4)  # -log(e / (e + 2))
    0.5514
    """
    check_views(views)
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    with torch.autocast(views[0].device.type, enabled=False):
        y = unit_rows(torch.stack(list(views)))
        positive = (y * (y.sum(0) - y)).sum(2) / (len(y) - 1)
        own = y.flatten(0, 1)
        logits = (own / temperature) @ distributed.gather(own).T
        logits.diagonal(distributed.rank() * len(own)).fill_(-torch.inf)  # no row is compared with itself
        return distributed.reduce_mean(logits.logsumexp(1).mean() - positive.mean() / temperature)
