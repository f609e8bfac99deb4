"""BYOL: bootstrap your own latent (Grill et al. 2020, https://arxiv.org/abs/2006.07733)."""

from torch import Tensor, nn

from solo_frossl.losses import byol_loss
from solo_frossl.methods.base import Objective
from solo_frossl.methods.heads import PredictorConfig, build_predictor
from solo_frossl.methods.momentum import MomentumMethod


class BYOL(MomentumMethod):
    """BYOL (Grill et al. 2020, Eqs. 2 and 3), for two views.

    With p_v = predictor(z_v), z'_v the embedding by the target network and the cosines' mean over the global batch:

        L = (2 - 2 cos(p_1, z'_2)) + (2 - 2 cos(p_2, z'_1))

    Args:
        predictor: sizes of the predictor; q in Grill et al. 2020, Sec. 3.1.
    """

    max_views = 2

    def __init__(self, *, predictor: PredictorConfig = PredictorConfig(hidden=4096), **kwargs) -> None:
        super().__init__(**kwargs)
        self.predictor = build_predictor(self.embedding_dimensions, predictor)

    def objective(self, views: list[Tensor]) -> Objective:
        """Distance between each view's prediction and the target network's embedding of the other view."""
        features, (z1, z2) = self.embed(views)
        target1, target2 = self.targets(views, [z1, z2])
        loss = byol_loss(self.predictor(z1), target2) + byol_loss(self.predictor(z2), target1)
        return Objective(loss, {}, features, [z1, z2])

    def learnable_modules(self) -> dict[str, nn.Module]:
        """Backbone, projector and predictor."""
        return super().learnable_modules() | {"predictor": self.predictor}
