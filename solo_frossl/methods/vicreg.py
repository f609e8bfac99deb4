"""VICReg: variance-invariance-covariance regularisation (Bardes et al. 2022, https://arxiv.org/abs/2105.04906)."""

from torch import Tensor

from solo_frossl.losses import vicreg_terms
from solo_frossl.methods.base import Method, Objective
from solo_frossl.methods.ranges import at_least


class VICReg(Method):
    """VICReg (Bardes et al. 2022, Eqs. 1 to 6), for two views.

    With C_v the unbiased D x D covariance of view v over the global batch:

        L = invariance_weight * mean (z_1 - z_2)^2
          + variance_weight * sum_v mean_d max(0, 1 - sqrt(C_v,dd + 1e-4))
          + covariance_weight * sum_v sum_{d != e} C_v,de^2 / D

    Args:
        invariance_weight: weight of the mean squared distance, >= 0; lambda in Bardes et al. 2022, Eq. 6.
        variance_weight: weight of the hinge on standard deviations, summed over views, >= 0; mu in Bardes et al. 2022,
            Eq. 6.
        covariance_weight: weight of the squared covariances, >= 0; nu in Bardes et al. 2022, Eq. 6.
    """

    max_views = 2
    loss_terms = ("invariance", "variance", "covariance")

    def __init__(
        self,
        *,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        **kwargs,
    ) -> None:
        at_least(
            0,
            invariance_weight=invariance_weight,
            variance_weight=variance_weight,
            covariance_weight=covariance_weight,
        )
        super().__init__(**kwargs)
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight

    def objective(self, views: list[Tensor]) -> Objective:
        """Invariance, variance and covariance."""
        features, embeddings = self.embed(views)
        invariance, variance, covariance = vicreg_terms(*embeddings)
        loss = (
            self.invariance_weight * invariance + self.variance_weight * variance + self.covariance_weight * covariance
        )
        terms = {"invariance": invariance, "variance": variance, "covariance": covariance}
        return Objective(loss, terms, features, embeddings)
