"""What methods with a closed-form linear predictor share (Halvagal et al. 2023, https://arxiv.org/abs/2212.04858)."""

from abc import abstractmethod
from typing import Literal

from torch import Tensor

from solo_frossl.losses import CorrelationEMA, predictor_from_correlation
from solo_frossl.methods.base import Objective
from solo_frossl.methods.momentum import MomentumMethod
from solo_frossl.methods.ranges import above_zero, at_least, below_one


class ClosedFormMethod(MomentumMethod):
    """Base of DirectPred, DirectCopy and IsoLoss: the predictor is computed, not learned.

    With C the moving average of the correlation E[z z^T] of both views' embeddings over the global batch, updated once
    a step, and C = U D U^T, the predictor is W_P = U D^alpha U^T (Eq. 1), and

        L = scale * (l(z_1, z'_2, W_P) + l(z_2, z'_1, W_P))

    where z' are the embeddings by the target network or, with ``momentum: null``, by the network itself.

    Args:
        similarity: which form of the loss, ``cosine`` or ``euclidean`` (Halvagal et al. 2023, Sec. 2).
        correlation_momentum: share of C that stays in a step, in [0, 1); tau in Halvagal et al. 2023, Appendix D.
        normalize_predictor: divide the eigenvalues of C by the largest before the power, as the code of Halvagal et al.
            2023 does by default; the paper does not say so, and it moves the fixed point of the Euclidean loss.
        predictor_eps: added to the eigenvalues before the power, >= 0 (code of Halvagal et al. 2023, 0.25 for a power
            of 1).
        scale: factor on the loss, > 0; 2 as in the code of Halvagal et al. 2023, which matters without LARS.
        stop_gradient: false is the ablation of Halvagal et al. 2023, Sec. 2.3: the gradient flows through both views;
            needs ``momentum: null``.
        use_predictor: false is the ablation W_P = I of Halvagal et al. 2023, Sec. 2.3.
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
        stop_gradient: bool = True,
        use_predictor: bool = True,
        **kwargs,
    ) -> None:
        below_one(correlation_momentum=correlation_momentum)
        at_least(0, predictor_eps=predictor_eps)
        above_zero(scale=scale)
        super().__init__(**kwargs)
        if not stop_gradient and self.momentum_config is not None:
            raise ValueError(
                "model.stop_gradient is false: that needs momentum: null, since a target network passes no gradient"
            )
        self.stop_gradient = stop_gradient
        self.use_predictor = use_predictor
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
    def one_sided_loss(self, z: Tensor, target: Tensor, predictor: Tensor | None) -> Tensor:
        """l(z, z', W_P) of embeddings ``(B, D)``, targets ``(B, D)`` and the predictor ``(D, D)``; None for W_P = I."""

    def linear_predictor(self) -> Tensor | None:
        """W_P of the present correlation; None in the ablation without it."""
        if not self.use_predictor:
            return None
        return predictor_from_correlation(
            self.correlation.value,
            alpha=self.exponent,
            normalize=self.normalize_predictor,
            eps=self.predictor_eps,
        )

    def collapse_causes(self) -> list[str]:
        """As for every method with a target network; before them the ablations, and a power that does as much.

        W_P goes to the identity with alpha to 0, and to the projection on the first eigenvector with alpha to infinity.
        """
        ablations = {
            "gradients flow through both views (model.stop_gradient is false)": self.stop_gradient,
            "there is no predictor (model.use_predictor is false)": self.use_predictor,
        }
        alpha, why = self.exponent, [cause for cause, harmless in ablations.items() if not harmless]
        if self.use_predictor and alpha < 0.1:
            why += [f"the predictor is nearly the identity (model.alpha is {alpha:g})"]
        elif self.use_predictor and alpha > 2:
            why += [f"the predictor keeps little but the largest eigenvalues (model.alpha is {alpha:g})"]
        return why + super().collapse_causes()

    def objective(self, views: list[Tensor]) -> Objective:
        """The loss in both directions."""
        features, (z1, z2) = self.embed(views)
        target1, target2 = self.targets(views, [z1, z2])
        self.correlation.update([z1, z2])
        predictor = self.linear_predictor()
        loss = self.one_sided_loss(z1, target2, predictor) + self.one_sided_loss(z2, target1, predictor)
        return Objective(self.scale * loss, {}, features, [z1, z2])
