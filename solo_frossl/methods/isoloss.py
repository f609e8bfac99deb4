"""IsoLoss: every eigenmode learns at one rate (Halvagal et al. 2023, https://arxiv.org/abs/2212.04858)."""

from torch import Tensor

from solo_frossl.losses import iso_cosine_loss, iso_euclidean_loss
from solo_frossl.methods.closed_form import ClosedFormMethod
from solo_frossl.methods.ranges import above_zero


class IsoLoss(ClosedFormMethod):
    """IsoLoss (Halvagal et al. 2023, Eqs. 15 and 17), for two views.

    DirectPred's losses without the factor lambda_m that the predictor's eigenvalues put before the gradient of each
    mode; sg is the stop-gradient, means are over the global batch:

        l = mean ||z - sg(z' + z - W_P z)||^2 / 2                                                       (euclidean)
        l = mean -z . sg(z' / (||W_P z|| ||z'||))
               + sg(W_P z . z' / (||W_P z||^3 ||z'||)) ||W_P^(1/2) z||^2 / 2                               (cosine)

    Args:
        alpha: power of the eigenvalues, > 0 (Halvagal et al. 2023, Eq. 1).
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
        """Eq. 17 (cosine) or Eq. 15 (Euclidean)."""
        loss = iso_cosine_loss if self.similarity == "cosine" else iso_euclidean_loss
        return loss(z, target, predictor, stop_gradient=self.stop_gradient)
