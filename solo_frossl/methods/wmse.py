"""W-MSE: whitening for self-supervised learning (Ermolov et al. 2021, https://arxiv.org/abs/2007.06346)."""

from torch import Tensor

from solo_frossl.losses import wmse_loss
from solo_frossl.methods.base import Method, Objective


class WMSE(Method):
    """W-MSE (Ermolov et al. 2021, Eqs. 4 to 7), for two views or more (W-MSE 2, W-MSE 4).

    The embeddings of each view are whitened in random sub-batches of the global batch by the Cholesky factor of their
    covariance and brought to unit norm; the loss is the squared distance of two views, averaged over samples, pairs
    and partitions:

        L = mean (2 - 2 cos(w_u, w_v))

    Args:
        whitening_size: samples of a sub-batch, at least twice the embedding's dimensions; divides the batch.
        whitening_iterations: random partitions of each batch.
        whitening_eps: share of the identity in the covariance, in [0, 1).
    """

    def __init__(
        self,
        *,
        whitening_size: int = 128,
        whitening_iterations: int = 1,
        whitening_eps: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.whitening_size = whitening_size
        self.whitening_iterations = whitening_iterations
        self.whitening_eps = whitening_eps

    def objective(self, views: list[Tensor]) -> Objective:
        """Distance between whitened views."""
        features, embeddings = self.embed(views)
        loss = wmse_loss(
            embeddings,
            whitening_size=self.whitening_size,
            iterations=self.whitening_iterations,
            eps=self.whitening_eps,
        )
        return Objective(loss, {}, features, embeddings)
