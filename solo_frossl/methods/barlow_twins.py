"""Barlow Twins: redundancy reduction (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230)."""

from torch import Tensor

from solo_frossl.losses import barlow_twins_terms
from solo_frossl.methods.base import Method, Objective
from solo_frossl.methods.ranges import above_zero, at_least


class BarlowTwins(Method):
    """Barlow Twins (Zbontar et al. 2021, Eq. 1), for two views.

    With M the D x D cross-correlation of the two views' embeddings over the global batch:

        L = scale * (sum_i (1 - M_ii)^2 + off_diagonal_weight * sum_{i != j} M_ij^2)

    Args:
        off_diagonal_weight: weight of the redundancy term, >= 0; lambda in Zbontar et al. 2021, Eq. 1.
        scale: factor on the whole loss, > 0; not in Zbontar et al. 2021, 0.1 in da Costa et al. 2022.
    """

    loss_terms = ("on_diagonal", "off_diagonal")
    max_views = 2

    def __init__(self, *, off_diagonal_weight: float = 0.0051, scale: float = 0.1, **kwargs) -> None:
        at_least(0, off_diagonal_weight=off_diagonal_weight)
        above_zero(scale=scale)
        super().__init__(**kwargs)
        self.off_diagonal_weight = off_diagonal_weight
        self.scale = scale

    def objective(self, views: list[Tensor]) -> Objective:
        """Distance of the cross-correlation from the identity."""
        features, embeddings = self.embed(views)
        on_diagonal, off_diagonal = barlow_twins_terms(*embeddings)
        loss = self.scale * (on_diagonal + self.off_diagonal_weight * off_diagonal)
        return Objective(loss, {"on_diagonal": on_diagonal, "off_diagonal": off_diagonal}, features, embeddings)
