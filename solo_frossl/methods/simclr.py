"""SimCLR: a simple framework for contrastive learning (Chen et al. 2020, https://arxiv.org/abs/2002.05709)."""

from torch import Tensor

from solo_frossl.losses import nt_xent_loss
from solo_frossl.methods.base import Method, Objective
from solo_frossl.methods.ranges import above_zero


class SimCLR(Method):
    """SimCLR (Chen et al. 2020, Eq. 1), for two views or more.

    With s the cosine of two embeddings, for each embedding i and each other view j of the same image,

        L_ij = -log( exp(s_ij / temperature) / sum_{k != i} exp(s_ik / temperature) ),

    averaged over all i and j; k runs over all views of the global batch.

    Args:
        temperature: of the softmax over cosines, > 0; tau in Chen et al. 2020, Eq. 1.
    """

    def __init__(self, *, temperature: float = 0.2, **kwargs) -> None:
        above_zero(temperature=temperature)
        super().__init__(**kwargs)
        self.temperature = temperature

    def objective(self, views: list[Tensor]) -> Objective:
        """Normalised-temperature cross entropy between views."""
        features, embeddings = self.embed(views)
        return Objective(nt_xent_loss(embeddings, temperature=self.temperature), {}, features, embeddings)
