"""SwAV: swapping assignments between views (Caron et al. 2020, https://arxiv.org/abs/2006.09882)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.losses.normalise import check_views


def sinkhorn_knopp(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Assign samples to prototypes such that the prototypes are used alike (Caron et al. 2020, Eqs. 3 to 5).

    Of the global N x K scores S, start from Q = exp(S / epsilon) and ``iterations`` times divide

        every column by K times its sum     (each prototype gets 1 / K of the batch),
        every row by N times its sum        (each sample gives 1 / N),

    then return N Q. What stands last holds exactly: rows sum to 1, columns to N / K only in the limit. It is computed
    with logarithms, so scores of any size neither overflow nor leave a row empty. No gradient. NaN spreads to all rows.

    Args:
        scores: ``(n, K)``, this process's rows; n may differ between processes, and be 0 on some. Half precision is
            computed in float32.
        epsilon: weight of the entropy, > 0; a small one gives assignments near 0 and 1.
        iterations: at least 1.

    Returns:
        Assignments ``(n, K)`` of this process's rows, float32 or better.

    Raises:
        ValueError: if scores are not 2-D floating point with a prototype or more, or epsilon or iterations too small.

    >>> scores = torch.tensor([[0.9, 0.8], [0.9, 0.1]])  # both samples prefer the first prototype
    >>> sinkhorn_knopp(scores, epsilon=0.5).round(decimals=2)
    tensor([[0.3300, 0.6700],
            [0.6700, 0.3300]])
    """
    if scores.ndim != 2 or scores.shape[1] < 1 or not scores.is_floating_point():
        raise ValueError(
            f"scores must be floating point (samples, prototypes), got {scores.dtype} of shape {tuple(scores.shape)}"
        )
    if not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, got {epsilon}")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    with torch.no_grad(), torch.autocast(scores.device.type, enabled=False):
        log_q = scores.to(torch.promote_types(scores.dtype, torch.float32)) / epsilon
        for _ in range(iterations):
            # Without the factors K and N: each step removes the scale of the one before, and rows of N Q sum to 1.
            own = log_q.logsumexp(0, keepdim=True)
            log_q = log_q - distributed.gather(own).logsumexp(0)
            log_q = log_q.log_softmax(1)
        return log_q.exp()


def swav_loss(logits: Sequence[Tensor], assignments: Sequence[Tensor], *, temperature: float) -> Tensor:
    """Swapped prediction of assignments (Caron et al. 2020, Eqs. 1, 2 and 6), over the global batch.

    With A assignments q_a, of the first A of V views:

        L = 1 / A sum_a  1 / (V - 1) sum_{v != a}  -mean_i sum_k q_a,ik log softmax(logits_v,i / temperature)_k

    The paper's Eq. 6 is a sum over pairs instead of a mean: A (V - 1) times as much. Assignments are constants; equal
    logits give log K. NaN gives NaN.

    Args:
        logits: V >= 2 tensors ``(N/W, K)``, scores of the prototypes, one a view; half precision is computed in
            float32. This process's part of the global batch of N samples, of the same size on each of W processes.
        assignments: 1 to V tensors ``(N/W, K)`` of rows that sum to 1 (:func:`sinkhorn_knopp`), for the first views.
        temperature: of the softmax, > 0.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the logits cannot be used (:func:`~solo_frossl.losses.normalise.check_views`), if the assignments
            do not fit them, or if the temperature is not positive.

    >>> logits, q = torch.zeros(2, 3), torch.eye(3)[:2]
    >>> round(swav_loss([logits, logits], [q, q], temperature=0.1).item(), 4)  # log 3
    1.0986
    """
    check_views(logits)
    check_targets("assignments", assignments, logits)
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    return cross_entropy_between_views(logits, assignments, temperature)


def check_targets(name: str, targets: Sequence[Tensor], logits: Sequence[Tensor]) -> None:
    """Refuse targets that do not belong to the first views.

    Args:
        name: what the targets are, for the message.
        targets: 1 to V tensors of the logits' shape.
        logits: V tensors ``(N/W, K)``.

    Raises:
        ValueError: for none, for more than views, or for another shape.
    """
    if not 1 <= len(targets) <= len(logits):
        raise ValueError(f"{name} are needed for 1 to {len(logits)} views, got {len(targets)}")
    for i, target in enumerate(targets):
        if target.shape != logits[0].shape:
            raise ValueError(
                f"{name} must have the shape of the views, {tuple(logits[0].shape)},"
                f" those of view {i} have {tuple(target.shape)}"
            )


def cross_entropy_between_views(logits: Sequence[Tensor], targets: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean over all pairs of different views of the cross entropy of one's target and the other's prediction.

    Args:
        logits: V tensors ``(N/W, K)``.
        targets: distributions ``(N/W, K)`` of the first views, constants.
        temperature: of the softmax of logits, > 0.

    Returns:
        Scalar, the same on every process: the mean over the global batch.
    """
    with torch.autocast(logits[0].device.type, enabled=False):
        log_p = [(z.to(torch.promote_types(z.dtype, torch.float32)) / temperature).log_softmax(1) for z in logits]
        pairs = [-(q.detach() * p).sum(1).mean() for a, q in enumerate(targets) for v, p in enumerate(log_p) if v != a]
        return distributed.reduce_mean(torch.stack(pairs).mean())
