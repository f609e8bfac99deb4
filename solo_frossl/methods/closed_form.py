"""What methods with a closed-form linear predictor share (Halvagal et al. 2023, https://arxiv.org/abs/2212.04858)."""

from abc import abstractmethod
from typing import Literal

from torch import Tensor

from solo_frossl.losses import CorrelationEMA, predictor_from_correlation
from solo_frossl.methods.base import Objective
from solo_frossl.methods.momentum import MomentumMethod


class ClosedFormMethod(MomentumMethod):
    """Base of DirectPred, DirectCopy and IsoLoss: the predictor is computed, not learned.

    With C the moving average of the correlation E[z z^T] of both views' embeddings over the global batch, updated once
    a step, and C = U D U^T, the predictor is W_P = U D^alpha U^T (Eq. 1), and

        L = scale * (l(z_1, z'_2, W_P) + l(z_2, z'_1, W_P))

    where z' are the embeddings by the target network or, with ``momentum: null``, by the network itself.

    Args:
        similarity: which form of the loss, ``cosine`` or ``euclidean``.
        correlation_momentum: share of C that stays in a step, in [0, 1).
        normalize_predictor: divide the eigenvalues of C by the largest before the power, as the authors' code does by
            default; the paper does not say so, and it moves the fixed point of the Euclidean loss.
        predictor_eps: added to the eigenvalues before the power.
        scale: factor on the loss; 2 as in the authors' code, which matters without LARS.
    """

    max_views = 2

    def __init__(
        self,
        *,
        similarity: Literal["cosine", "euclidean"] = "cosine",
        correlation_momentum: float = 0.998,
        normalize_predictor: bool = True,
        predictor_eps: float = 0.0,
        scale: float = 2.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.similarity = similarity
        self.normalize_predictor = normalize_predictor
        self.predictor_eps = predictor_eps
        self.scale = scale
        self.correlation = CorrelationEMA(self.embedding_dimensions, correlation_momentum)

    @property
    @abstractmethod
    def exponent(self) -> float:
        """alpha, the power of the eigenvalues."""

    @abstractmethod
    def one_sided_loss(self, z: Tensor, target: Tensor, predictor: Tensor) -> Tensor:
        """l(z, z', W_P) of embeddings ``(B, D)``, targets ``(B, D)`` and the predictor ``(D, D)``."""

    def predictor(self) -> Tensor:
        """W_P, ``(D, D)``, of the present correlation."""
        return predictor_from_correlation(
            self.correlation.value,
            alpha=self.exponent,
            normalize=self.normalize_predictor,
            eps=self.predictor_eps,
        )

    def linear_predictor(self) -> Tensor | None:
        """W_P."""
        return self.predictor()

    def objective(self, views: list[Tensor]) -> Objective:
        """The loss in both directions."""
        features, (z1, z2) = self.embed(views)
        target1, target2 = self.targets(views, [z1, z2])
        self.correlation.update([z1, z2])
        predictor = self.predictor()
        loss = self.one_sided_loss(z1, target2, predictor) + self.one_sided_loss(z2, target1, predictor)
        return Objective(self.scale * loss, {}, features, [z1, z2])
