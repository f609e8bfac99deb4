"""SimSiam: simple Siamese representation learning (Chen and He 2021, https://arxiv.org/abs/2011.10566)."""

from torch import Tensor, nn

from solo_frossl.losses import negative_cosine_loss
from solo_frossl.methods.base import Method, Objective
from solo_frossl.methods.heads import PredictorConfig, build_predictor


class SimSiam(Method):
    """SimSiam (Chen and He 2021, Eqs. 1 and 2), for two views.

    With p_v = predictor(z_v), sg the stop-gradient and the cosines' mean over the global batch:

        L = -cos(p_1, sg(z_2)) / 2 - cos(p_2, sg(z_1)) / 2

    The predictor's learning rate stays at its peak throughout (their Sec. 4.2).

    Args:
        predictor: sizes of the predictor; h in Chen and He 2021, Sec. 3.
    """

    max_views = 2
    unscheduled_modules = ("predictor",)

    def __init__(self, *, predictor: PredictorConfig = PredictorConfig(hidden=512), **kwargs) -> None:
        super().__init__(**kwargs)
        self.predictor = build_predictor(self.embedding_dimensions, predictor)

    def objective(self, views: list[Tensor]) -> Objective:
        """Negative cosine between each view's prediction and the other view."""
        features, (z1, z2) = self.embed(views)
        loss = (negative_cosine_loss(self.predictor(z1), z2) + negative_cosine_loss(self.predictor(z2), z1)) / 2
        return Objective(loss, {}, features, [z1, z2])

    def learnable_modules(self) -> dict[str, nn.Module]:
        """Backbone, projector and predictor."""
        return super().learnable_modules() | {"predictor": self.predictor}
