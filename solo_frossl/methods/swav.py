"""SwAV: swapping assignments between views (Caron et al. 2020, https://arxiv.org/abs/2006.09882)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from solo_frossl import distributed
from solo_frossl.losses import KeyQueue, sinkhorn_knopp, swav_loss
from solo_frossl.losses.normalise import unit_rows
from solo_frossl.methods.base import Method, Objective
from solo_frossl.methods.heads import LinearScores, check_global_views
from solo_frossl.methods.ranges import above_zero, at_least


class SwAV(Method):
    """SwAV (Caron et al. 2020, Eqs. 1 to 5), for two views or more, also multi-crop.

    With s_v the cosines of view v's embeddings with K learnable prototypes, and q_v their assignments, by
    Sinkhorn-Knopp such that the global batch is spread evenly over the prototypes:

        L = mean over a < global_views and v != a of  -q_a . log softmax(s_v / temperature)

    Args:
        num_prototypes: number of prototypes, >= 2; K in Caron et al. 2020, Sec. 3.1.
        global_views: the first so many views are assigned, all must predict; from 1 to the number of views (Caron et
            al. 2020, Eq. 6).
        temperature: of the softmax over cosines, > 0; tau in Caron et al. 2020, Eq. 2.
        epsilon: weight of the entropy of the assignments, > 0; epsilon in Caron et al. 2020, Eq. 3.
        sinkhorn_iterations: rounds of Sinkhorn-Knopp, >= 1 (Caron et al. 2020, Sec. 3.1).
        queue_size: earlier embeddings of each assigned view that take part in the assignment, 0 for none (Caron et al.
            2020, Sec. 3.1).
        queue_from_epoch: epoch in which the queue begins to fill, from 0; it is used once it is full (code of Caron et
            al. 2020; 50 in da Costa et al. 2022).
        freeze_prototypes_epochs: first epochs in which the prototypes stand still, >= 0 (code of Caron et al. 2020; 2
            in da Costa et al. 2022).
    """

    def __init__(
        self,
        *,
        num_prototypes: int = 3000,
        global_views: int = 2,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        sinkhorn_iterations: int = 3,
        queue_size: int = 3840,
        queue_from_epoch: int = 50,
        freeze_prototypes_epochs: int = 2,
        **kwargs,
    ) -> None:
        at_least(2, num_prototypes=num_prototypes)
        at_least(1, global_views=global_views, sinkhorn_iterations=sinkhorn_iterations)
        above_zero(temperature=temperature, epsilon=epsilon)
        at_least(
            0,
            queue_size=queue_size,
            queue_from_epoch=queue_from_epoch,
            freeze_prototypes_epochs=freeze_prototypes_epochs,
        )
        super().__init__(**kwargs)
        self.global_views = global_views
        self.temperature = temperature
        self.epsilon = epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        self.queue_size = queue_size
        self.queue_from_epoch = queue_from_epoch
        self.freeze_prototypes_epochs = freeze_prototypes_epochs
        self.prototypes = LinearScores(self.embedding_dimensions, num_prototypes, bias=False)
        self.queue = KeyQueue(queue_size, self.embedding_dimensions, views=global_views) if queue_size else None

    def objective(self, views: list[Tensor]) -> Objective:
        """Each view predicts the assignments of the others."""
        with torch.no_grad():
            self.prototypes.weight.copy_(unit_rows(self.prototypes.weight))
        features, embeddings = self.embed(views)
        normalised = [unit_rows(z) for z in embeddings]
        scores = [self.prototypes(z) for z in normalised]
        assignments = self._assign([z.detach() for z in normalised[: self.global_views]], scores)
        loss = swav_loss(scores, assignments, temperature=self.temperature)
        return Objective(loss, {}, features[: self.global_views], embeddings[: self.global_views])

    def check_views(self, number: int) -> None:
        """As for every method; also refuse more global views than there are."""
        super().check_views(number)
        check_global_views(self.global_views, number)

    @torch.no_grad()
    def _assign(self, embeddings: list[Tensor], scores: list[Tensor]) -> list[Tensor]:
        """Assignments ``(B, K)`` of the views ``(B, D)``, with the queue where it is in use."""
        samples = len(embeddings[0])
        everyone = [score.detach() for score in scores[: len(embeddings)]]
        queued = self._steps_of_queue()
        if queued > 0 and queued * samples * distributed.world_size() >= self.queue_size:
            own = [rows.tensor_split(distributed.world_size())[distributed.rank()] for rows in self.queue.rows]
            everyone = [torch.cat([s, self.prototypes(rows)]) for s, rows in zip(everyone, own, strict=True)]
        if queued >= 0:
            self.queue.enqueue(torch.stack(embeddings))
        return [
            sinkhorn_knopp(s, epsilon=self.epsilon, iterations=self.sinkhorn_iterations)[:samples] for s in everyone
        ]

    def _steps_of_queue(self) -> int:
        """Batches that went into the queue so far; -1 while it is not yet filling."""
        if self.queue is None:
            return -1
        return max(-1, self.progress.step - self.queue_from_epoch * self.progress.steps_per_epoch)

    def learnable_modules(self) -> dict[str, nn.Module]:
        """Backbone, projector and prototypes."""
        return super().learnable_modules() | {"prototypes": self.prototypes}

    def frozen_parameters(self) -> Sequence[nn.Parameter]:
        """The prototypes in the first epochs."""
        return [self.prototypes.weight] if self.progress.epoch < self.freeze_prototypes_epochs else ()
