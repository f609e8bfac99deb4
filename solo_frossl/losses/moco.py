"""MoCo: contrast with a queue of earlier keys (He et al. 2020, https://arxiv.org/abs/1911.05722)."""

from functools import reduce

import torch
from torch import Tensor, nn

from solo_frossl import distributed
from solo_frossl.losses.normalise import check_views, unit_rows


def info_nce_queue_loss(query: Tensor, key: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE of queries with one positive key each and a queue of negatives (He et al. 2020, Eq. 1).

    With all rows divided by their L2 norms, over the global batch:

        L = -mean_i log( exp(q_i . k_i / temperature)
                         / (exp(q_i . k_i / temperature) + sum_{n in queue} exp(q_i . n / temperature)) )

    Key and queue are constants. Equal rows give log(Q + 1). A zero row stays zero, with zero gradient. NaN gives NaN.

    Args:
        query: ``(N/W, D)`` embeddings, unnormalised; half precision is computed in float32. This process's part of the
            global batch of N samples, of the same size on each of W processes.
        key: ``(N/W, D)`` embeddings of another view of the same samples, usually by an EMA of the network.
        queue: ``(Q, D)`` negatives, Q >= 1, the same on every process (:class:`KeyQueue`).
        temperature: of the softmax, > 0.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if query and key cannot be used (:func:`~solo_frossl.losses.normalise.check_views`), if the queue
            does not fit them, or if the temperature is not positive.

    >>> q = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    >>> queue = torch.tensor([[0.0, 1.0]])
    >>> round(info_nce_queue_loss(q, q, queue, temperature=0.5).item(), 4)  # log(1 + exp(-2))
    0.1269
    """
    check_views([query, key])
    if queue.ndim != 2 or queue.shape[0] < 1 or queue.shape[1] != query.shape[1] or not queue.is_floating_point():
        raise ValueError(
            f"queue must be floating point (keys, {query.shape[1]}) with at least one key,"
            f" got {queue.dtype} of shape {tuple(queue.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    with torch.autocast(query.device.type, enabled=False):
        dtype = reduce(torch.promote_types, (query.dtype, key.dtype, queue.dtype), torch.float32)
        q, k, n = (unit_rows(x.to(dtype)) for x in (query, key.detach(), queue.detach()))
        positive = (q * k).sum(1, keepdim=True) / temperature
        logits = torch.cat([positive, (q / temperature) @ n.T], 1)
        return distributed.reduce_mean((logits.logsumexp(1, keepdim=True) - positive).mean())


class KeyQueue(nn.Module):
    """The latest keys of all processes, for each of some views: a ring of rows of norm 1, the same on every process.

    It begins with random directions from torch's global generator, so processes must begin with one seed (or be
    synchronised, as DDP does). Without the call of :meth:`enqueue` it does not change.

    Args:
        size: keys kept for each view, >= 1.
        dimensions: D, of a key.
        views: rings that turn together, >= 1.

    Attributes:
        rows: buffer ``(views, size, D)``; the type is that of the module's weights.
        position: buffer, int64 scalar in [0, size): where the next key goes, the oldest row.

    Raises:
        ValueError: if an argument is below 1.

    >>> queue = KeyQueue(3, 2)
    >>> queue.enqueue(torch.tensor([[[2.0, 0.0], [0.0, 5.0]]]))
    >>> queue.rows[0, :2].tolist(), queue.position.item()
    ([[1.0, 0.0], [0.0, 1.0]], 2)
    """

    rows: Tensor
    position: Tensor

    def __init__(self, size: int, dimensions: int, views: int = 1) -> None:
        super().__init__()
        if min(size, dimensions, views) < 1:
            raise ValueError(f"size, dimensions and views must be at least 1, got {size}, {dimensions} and {views}")
        self.register_buffer("rows", unit_rows(torch.randn(views, size, dimensions)))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write the keys of all processes, in rank order, over the oldest rows; as if they came one by one.

        The buffers are replaced, not written into: a loss of the rows from before can still be differentiated.

        Args:
            keys: ``(views, N/W, D)``, unnormalised, any N; of more than ``size`` keys the last ``size`` remain.

        Raises:
            ValueError: if the keys do not fit the rows.
        """
        views, size, dimensions = self.rows.shape
        if keys.ndim != 3 or keys.shape[0] != views or keys.shape[2] != dimensions:
            raise ValueError(f"keys must be ({views}, samples, {dimensions}), got shape {tuple(keys.shape)}")
        keys = distributed.gather(keys.transpose(0, 1)).transpose(0, 1)
        count = keys.shape[1]
        kept = min(count, size)
        last = unit_rows(keys[:, count - kept :])
        end = self.position + count
        # The position stays on the device: reading it would wait for the accelerator in every step.
        index = (end - kept + torch.arange(kept, device=end.device)) % size
        self.rows = self.rows.index_copy(1, index, last.to(self.rows.dtype))
        self.position = end % size
