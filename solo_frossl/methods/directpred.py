"""DirectPred: a linear predictor in closed form (Tian et al. 2021, https://arxiv.org/abs/2102.06810)."""

from torch import Tensor

from solo_frossl.losses import asymmetric_cosine_loss, asymmetric_euclidean_loss
from solo_frossl.methods.closed_form import ClosedFormMethod


class DirectPred(ClosedFormMethod):
    """DirectPred (Tian et al. 2021; Halvagal et al. 2023, Eqs. 1, 3 and 4), for two views.

    With the predictor W_P = U D^alpha U^T of the embeddings' correlation U D U^T,

        l(z, z', W_P) = -mean cos(W_P z, sg(z'))            (cosine)
                      = mean ||W_P z - sg(z')||^2 / 2       (euclidean)

    Args:
        alpha: power of the eigenvalues, > 0.
        stop_gradient: false is the paper's ablation: the gradient flows through both views; needs ``momentum: null``.
        use_predictor: false is the paper's ablation W_P = I.
    """

    def __init__(self, *, alpha: float = 0.5, stop_gradient: bool = True, use_predictor: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        if not stop_gradient and self.momentum_config is not None:
            raise ValueError("stop_gradient is false: that needs momentum: null, a target network passes no gradient")
        self.alpha = alpha
        self.stop_gradient = stop_gradient
        self.use_predictor = use_predictor

    def linear_predictor(self) -> Tensor | None:
        """W_P; None in the ablation without it."""
        return super().linear_predictor() if self.use_predictor else None

    def collapse_causes(self) -> list[str]:
        """As for every method with a target network; before them the two ablations."""
        ablations = {
            "gradients flow through both views (model.stop_gradient is false)": self.stop_gradient,
            "there is no predictor (model.use_predictor is false)": self.use_predictor,
        }
        return [cause for cause, harmless in ablations.items() if not harmless] + super().collapse_causes()

    @property
    def exponent(self) -> float:
        """alpha."""
        return self.alpha

    def one_sided_loss(self, z: Tensor, target: Tensor, predictor: Tensor) -> Tensor:
        """Eq. 4 (cosine) or Eq. 3 (Euclidean)."""
        loss = asymmetric_cosine_loss if self.similarity == "cosine" else asymmetric_euclidean_loss
        return loss(z, target, predictor if self.use_predictor else None, stop_gradient=self.stop_gradient)
