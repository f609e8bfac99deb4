"""FroSSL: Frobenius norm minimisation (Skean et al. 2023, https://arxiv.org/abs/2310.02903)."""

from typing import Literal

from torch import Tensor

from solo_frossl.losses import frossl_terms
from solo_frossl.methods.base import Method, Objective
from solo_frossl.methods.ranges import at_least


class FroSSL(Method):
    """FroSSL (Skean et al. 2023, Eq. 6), for two views or more.

    With y_v the centred embeddings of view v, each dimension divided by its norm over the global batch, and
    K_v = y_v^T y_v / D:

        L = variance_weight * sum_v log ||K_v||_F^2 + (invariance_weight / N) * sum_{u<v} ||y_u - y_v||_F^2

    Args:
        invariance_weight: weight of the distance between views, >= 0 (Skean et al. 2023, Eq. 5); the authors train with
            1.0 on CIFAR, 1.4 on STL-10, 2.0 on ImageNet.
        variance_weight: weight of the Frobenius term, >= 0 (Skean et al. 2023, Eq. 4).
        log_variance: take the logarithm of the squared norm; false is the ablation "no logs" (Skean et al. 2023,
            Sec. 6.3).
        normalization: ``dimension`` (columns to unit norm), ``sample`` (rows), or ``both`` alternately (Skean et al.
            2023, Props. 3.1, 3.2 and 3.3).
    """

    loss_terms = ("variance", "invariance")

    def __init__(
        self,
        *,
        invariance_weight: float = 1.0,
        variance_weight: float = 1.0,
        log_variance: bool = True,
        normalization: Literal["dimension", "sample", "both"] = "dimension",
        **kwargs,
    ) -> None:
        at_least(0, invariance_weight=invariance_weight, variance_weight=variance_weight)
        super().__init__(**kwargs)
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.log_variance = log_variance
        self.normalization = normalization

    def objective(self, views: list[Tensor]) -> Objective:
        """Log Frobenius norms of the views' covariances plus the distances between views."""
        features, embeddings = self.embed(views)
        variance, invariance = frossl_terms(
            embeddings, log_variance=self.log_variance, normalization=self.normalization
        )
        loss = self.variance_weight * variance + self.invariance_weight * invariance
        return Objective(loss, {"variance": variance, "invariance": invariance}, features, embeddings)
