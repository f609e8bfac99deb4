"""DirectCopy: the correlation itself as predictor (Wang et al. 2021, https://arxiv.org/abs/2110.04947)."""

from solo_frossl.methods.directpred import DirectPred


class DirectCopy(DirectPred):
    """DirectCopy (Wang et al. 2021): DirectPred with alpha 1, so that W_P is the embeddings' correlation.

    Args:
        alpha: power of the eigenvalues, > 0 (Halvagal et al. 2023, Eq. 1); 1 in Wang et al. 2021.
    """

    def __init__(self, *, alpha: float = 1.0, **kwargs) -> None:
        super().__init__(alpha=alpha, **kwargs)
