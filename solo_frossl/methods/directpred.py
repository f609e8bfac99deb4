"""DirectPred: a linear predictor in closed form (Tian et al. 2021, https://arxiv.org/abs/2102.06810)."""

from torch import Tensor

from solo_frossl.losses import asymmetric_cosine_loss, asymmetric_euclidean_loss
from solo_frossl.methods.closed_form import ClosedFormMethod
from solo_frossl.methods.ranges import above_zero


class DirectPred(ClosedFormMethod):
    """DirectPred (Tian et al. 2021; Halvagal et al. 2023, Eqs. 1, 3 and 4), for two views.

    With the predictor W_P = U D^alpha U^T of the embeddings' correlation U D U^T,

        l(z, z', W_P) = -mean cos(W_P z, sg(z'))            (cosine)
                      = mean ||W_P z - sg(z')||^2 / 2       (euclidean)

    Args:
        alpha: power of the eigenvalues, > 0 (Halvagal et al. 2023, Eq. 1); 0.5 in Tian et al. 2021.
    """

    def __init__(self, *, alpha: float = 0.5, **kwargs) -> None:
        above_zero(alpha=alpha)
        super().__init__(**kwargs)
        self.alpha = alpha

    @property
    def exponent(self) -> float:
        """alpha."""
        return self.alpha

    def one_sided_loss(self, z: Tensor, target: Tensor, predictor: Tensor | None) -> Tensor:
        """Eq. 4 (cosine) or Eq. 3 (Euclidean)."""
        loss = asymmetric_cosine_loss if self.similarity == "cosine" else asymmetric_euclidean_loss
        return loss(z, target, predictor, stop_gradient=self.stop_gradient)
