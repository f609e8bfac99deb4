"""W-MSE: whitening for self-supervised learning (Ermolov et al. 2021, https://arxiv.org/abs/2007.06346)."""

from torch import Tensor

from solo_frossl.losses import wmse_loss
from solo_frossl.methods.base import Method, Objective
from solo_frossl.methods.ranges import at_least, below_one


class WMSE(Method):
    """W-MSE (Ermolov et al. 2021, Eqs. 4 to 7), for two views or more (W-MSE 2, W-MSE 4).

    The embeddings of each view are whitened in random sub-batches of the global batch by the Cholesky factor of their
    covariance and brought to unit norm; the loss is the squared distance of two views, averaged over samples, pairs
    and partitions:

        L = mean (2 - 2 cos(w_u, w_v))

    Args:
        whitening_size: samples of a sub-batch, at least twice the embedding's dimensions; divides ``data.batch_size``
            (batch slicing, Ermolov et al. 2021, Sec. 3).
        whitening_iterations: random partitions of each batch, >= 1 (Ermolov et al. 2021, Sec. 3).
        whitening_eps: share of the identity in the covariance by which Ermolov et al. 2021, Eq. 4, whiten, in [0, 1).
    """

    def __init__(
        self,
        *,
        whitening_size: int = 128,
        whitening_iterations: int = 1,
        whitening_eps: float = 0.0,
        **kwargs,
    ) -> None:
        at_least(1, whitening_size=whitening_size, whitening_iterations=whitening_iterations)
        below_one(whitening_eps=whitening_eps)
        super().__init__(**kwargs)
        if whitening_size < 2 * self.embedding_dimensions:
            raise ValueError(
                f"model.whitening_size is {whitening_size}: it must be at least twice model.projector.output,"
                f" {self.embedding_dimensions}"
            )
        if self.batch_size % whitening_size:
            raise ValueError(
                f"model.whitening_size is {whitening_size}: it must divide data.batch_size, {self.batch_size}"
            )
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
