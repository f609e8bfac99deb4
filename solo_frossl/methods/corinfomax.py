"""CorInfoMax: correlative information maximisation (Ozsoy et al. 2022, https://arxiv.org/abs/2209.07999)."""

from torch import Tensor

from solo_frossl.losses import CorInfoMaxLoss
from solo_frossl.methods.base import Method, Objective
from solo_frossl.methods.ranges import at_least, below_one


class CorInfoMax(Method):
    """CorInfoMax (Ozsoy et al. 2022), for two views.

    With R_v a running covariance of view v that gives the past the weight `forgetting_factor`:

        L = -(log det(R_1 + eps I) + log det(R_2 + eps I)) / D + invariance_weight * mean (z_1 - z_2)^2

    Args:
        invariance_weight: weight of the mean squared distance, >= 0; alpha in Ozsoy et al. 2022.
        forgetting_factor: weight of the past in the running mean and covariance, in [0, 1); lambda in Ozsoy et al.
            2022.
        eps: added to the diagonal of the covariances, >= 0; epsilon in Ozsoy et al. 2022.
        normalize: bring embeddings to unit norm first, an option of the code of Ozsoy et al. 2022; the comparison in
            FroSSL's tables does not use it.
    """

    max_views = 2
    loss_terms = ("log_determinant", "invariance")

    def __init__(
        self,
        *,
        invariance_weight: float = 250.0,
        forgetting_factor: float = 0.01,
        eps: float = 1e-6,
        normalize: bool = False,
        **kwargs,
    ) -> None:
        at_least(0, invariance_weight=invariance_weight, eps=eps)
        below_one(forgetting_factor=forgetting_factor)
        super().__init__(**kwargs)
        self.running = CorInfoMaxLoss(
            self.embedding_dimensions,
            invariance_weight=invariance_weight,
            forgetting_factor=forgetting_factor,
            eps=eps,
            normalize=normalize,
        )

    @property
    def invariance_weight(self) -> float:
        """Weight of the mean squared distance."""
        return self.running.invariance_weight

    def collapse_causes(self) -> list[str]:
        """As for every method; before them a batch whose covariances cannot have full rank."""
        samples, dimensions = self.batch_size, self.embedding_dimensions
        few = f"the batch is small for the embeddings (data.batch_size {samples}, model.projector.output {dimensions})"
        return ([few] if samples <= dimensions else []) + super().collapse_causes()

    def objective(self, views: list[Tensor]) -> Objective:
        """Log-determinants of the running covariances, and the distance between views."""
        features, embeddings = self.embed(views)
        log_determinant, invariance = self.running.terms(*embeddings)
        loss = log_determinant + self.running.invariance_weight * invariance
        return Objective(loss, {"log_determinant": log_determinant, "invariance": invariance}, features, embeddings)
