"""MoCo v2: momentum contrast (He et al. 2020, https://arxiv.org/abs/1911.05722; Chen et al. 2020,
https://arxiv.org/abs/2003.04297), in the symmetric form that comparisons call "v2+" (Chen and He 2021, Sec. 4.4)."""

import torch
from torch import Tensor, nn

from solo_frossl import distributed
from solo_frossl.losses import KeyQueue, info_nce_queue_loss
from solo_frossl.methods.base import Objective
from solo_frossl.methods.momentum import MomentumMethod
from solo_frossl.methods.ranges import above_zero, at_least


class MoCoV2(MomentumMethod):
    """MoCo v2+ (He et al. 2020, Eq. 1, symmetrised), for two views.

    With q_v the embedding of view v, k_v that by the target network (its key) and Q_v the queue of earlier keys of
    view v, all of unit norm:

        L = (l(q_1, k_2, Q_2) + l(q_2, k_1, Q_1)) / 2,
        l(q, k, Q) = -log( exp(q.k / temperature) / (exp(q.k / temperature) + sum_{n in Q} exp(q.n / temperature)) )

    With several processes the keys' images are shuffled over processes, so that a key's BatchNorm never sees the images
    that its query's saw. That needs BatchNorm of each process by itself: ``trainer.sync_batchnorm: false``.

    Args:
        temperature: of the softmax over cosines, > 0; tau in He et al. 2020, Eq. 1.
        queue_size: keys of each view that are kept as negatives, >= 1; K in He et al. 2020, Eq. 1.
    """

    max_views = 2

    def __init__(self, *, temperature: float = 0.2, queue_size: int = 32768, **kwargs) -> None:
        above_zero(temperature=temperature)
        at_least(1, queue_size=queue_size)
        super().__init__(**kwargs)
        self.temperature = temperature
        self.queue = KeyQueue(queue_size, self.embedding_dimensions, views=2)

    def objective(self, views: list[Tensor]) -> Objective:
        """Each view's embedding finds the other view's key among those in the queue."""
        features, (q1, q2) = self.embed(views)
        k1, k2 = self.targets(views, [q1, q2])
        queue1, queue2 = self.queue.rows
        loss = (
            info_nce_queue_loss(q1, k2, queue2, temperature=self.temperature)
            + info_nce_queue_loss(q2, k1, queue1, temperature=self.temperature)
        ) / 2
        self.queue.enqueue(torch.stack([k1, k2]))
        return Objective(loss, {}, features, [q1, q2])

    def target_embed(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Features and keys, computed by whichever process the shuffle sends each image to."""
        if not distributed.is_distributed():
            return super().target_embed(view)
        images = distributed.gather(view)
        order = distributed.shared_permutation(len(images), view.device)
        shuffled = super().target_embed(images[own_part(order)])
        back = own_part(order.argsort())
        return tuple(distributed.gather(x)[back] for x in shuffled)

    def on_fit_start(self) -> None:
        """Refuse synchronised BatchNorm, with which shuffling would be in vain."""
        if distributed.is_distributed() and any(isinstance(m, nn.SyncBatchNorm) for m in self.modules()):
            raise ValueError(
                "trainer.sync_batchnorm is true: MoCo v2 shuffles images over processes so that BatchNorm cannot tell"
                " a query by its key, which needs BatchNorm of each process by itself: set trainer.sync_batchnorm false"
            )


def own_part(x: Tensor) -> Tensor:
    """This process's part of rows that belong to all processes, ``(N, ...)`` to ``(N/W, ...)``."""
    return x.chunk(distributed.world_size())[distributed.rank()]
