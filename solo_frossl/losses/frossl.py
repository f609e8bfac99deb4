"""FroSSL: Frobenius norm minimisation (Skean et al. 2023, https://arxiv.org/abs/2310.02903)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from solo_frossl import distributed
from solo_frossl.losses.normalise import (
    centre,
    check_views,
    divide_by_column_norms,
    global_samples,
    standardise,
    unit_columns,
    unit_rows,
)

Normalization = Literal["dimension", "sample", "both"]

ALTERNATIONS = 10
"""Times that ``normalization="both"`` normalises rows, then columns: of 16 normal samples or more the row norms then
agree to 1e-7, of a handful to about 1e-2 or 1e-4."""

STRIP = 128
"""Rows of a symmetric product that are computed at once."""


def frossl_loss(
    views: Sequence[Tensor],
    *,
    invariance_weight: float = 1.0,
    variance_weight: float = 1.0,
    log_variance: bool = True,
    normalization: Normalization = "dimension",
) -> Tensor:
    r"""FroSSL objective of two or more views (Skean et al. 2023, Eq. 6), over the global batch.

    With y_v the embeddings of view v, centred and every dimension (column) divided by its L2 norm over the batch,

        K_v = y_v^T y_v / D                                                                  (trace 1)
        L   = variance_weight * sum_v log ||K_v||_F^2  +  invariance_weight / N * sum_{u<v} ||y_u - y_v||_F^2

    log ||K_v||_F^2 is 0 for a view of rank one and -log(min(N - 1, D)) for an isotropic one, the least it can be. For
    two views the invariance term is 2 D (1 - r) / N with r the mean correlation of a dimension between the views; for
    more it equals (V / N) sum_v ||y_v - mean_u y_u||_F^2.

    Since ||y^T y||_F = ||y y^T||_F (Eq. 2), the smaller of the two matrices is used: O(min(N, D)^2 max(N, D)).

    The papers differ in the invariance term's weight relative to log ||K||_F^2: Eq. 6 read literally, with unit
    variances, gives 2 D (1 - r), here ``invariance_weight=N``; the pseudocode of Appendix A gives 4 (1 - r) / N; the
    authors' training code gives 2 D (1 - r) / N, as here, and the paper's tables were trained with it.

    A constant dimension counts as zero. It gets no gradient, and a view in which every dimension is constant has the
    variance of a view with a single dimension alive, -2 log D. NaN gives NaN.

    Args:
        views: V >= 2 tensors ``(N/W, D)``, unnormalised; half precision is computed in float32. This process's part of
            the global batch of N samples, of the same size on each of W processes.
        invariance_weight: weight of the distance between views; the authors use 1.0 on CIFAR, 1.4 on STL-10 and 2.0
            on ImageNet.
        variance_weight: weight of the Frobenius term.
        log_variance: false gives the paper's ablation "FroSSL (no logs)", sum_v ||K_v||_F^2. Its scale is unpublished;
            with the trace-one K its gradient equals the logarithm's at rank one and shrinks as K spreads.
        normalization: ``dimension``, columns to unit norm (Prop. 3.1, dimension-contrastive); ``sample``, centred rows
            to unit norm and K_v = y_v^T y_v / N (Prop. 3.2, sample-contrastive); ``both``, the two in turn until rows
            have the norm sqrt(D / N) and columns 1 (Prop. 3.3).

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the views cannot be used (:func:`~solo_frossl.losses.normalise.check_views`), or for an unknown
            normalization.

    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> loss = frossl_loss([z, 3 * z + 1])  # isotropic in D = 2 dimensions, and equal once normalised: -2 log 2
    >>> round(loss.item(), 4)
    -1.3863
    """
    variance, invariance = frossl_terms(views, log_variance=log_variance, normalization=normalization)
    return variance_weight * variance + invariance_weight * invariance


def frossl_terms(
    views: Sequence[Tensor],
    *,
    log_variance: bool = True,
    normalization: Normalization = "dimension",
) -> tuple[Tensor, Tensor]:
    """The two terms of :func:`frossl_loss`, unweighted: the loss is their weighted sum. Arguments as there.

    Returns:
        ``variance``, sum_v log ||K_v||_F^2 (without the logarithm, sum_v ||K_v||_F^2), and ``invariance``,
        sum_{u<v} ||y_u - y_v||_F^2 / N; scalars.
    """
    check_views(views)
    samples, columns = global_samples(views[0]), views[0].shape[1]
    with torch.autocast(views[0].device.type, enabled=False):
        if normalization == "dimension":
            squared_norms, distance = _DimensionTerms.apply(*views)
        elif normalization == "sample":
            squared_norms, distance = plain_terms(unit_rows(centre(views)))
        elif normalization == "both":
            squared_norms, distance = plain_terms(_doubly_normalised(views))
        else:
            raise ValueError(f"normalization must be 'dimension', 'sample' or 'both', got {normalization!r}")
        trace = samples if normalization == "sample" else columns
        # A single unit vector has a squared norm of 1: only a view that is constant falls below.
        variance = squared_norms.clamp(min=1).div(trace**2).log() if log_variance else squared_norms / trace**2
        return variance.sum(), distance / samples


def _doubly_normalised(views: Sequence[Tensor]) -> Tensor:
    """Views ``(V, N/W, D)`` with columns of norm 1 and rows of norm sqrt(D / N), up to what the alternation leaves."""
    y = standardise(views)
    for _ in range(ALTERNATIONS):
        y = divide_by_column_norms(unit_rows(y))
    return y


def plain_terms(y: Tensor) -> tuple[Tensor, Tensor]:
    """Squared Frobenius norms and distance of normalised views, by autograd.

    Args:
        y: ``(V, N/W, D)``, this process's part of the global batch.

    Returns:
        ||y_v^T y_v||_F^2 of every view, ``(V,)``, and sum_{u<v} ||y_u - y_v||_F^2, a scalar.
    """
    if global_samples(y[0]) < y.shape[2]:
        y = distributed.gather(y.transpose(0, 1)).transpose(0, 1)
        gram, distance = y @ y.mT, _distance(y)
    else:
        gram, distance = distributed.reduce_sum(y.mT @ y), distributed.reduce_sum(_distance(y))
    return gram.square().sum((1, 2)), distance


def _distance(y: Tensor) -> Tensor:
    """sum_{u<v} ||y_u - y_v||_F^2 of this process's samples, as V sum_v ||y_v - mean_u y_u||_F^2."""
    if len(y) == 2:
        return torch.linalg.vector_norm(y[0] - y[1]).square()
    return len(y) * torch.linalg.vector_norm(y - y.mean(0)).square()


class _DimensionTerms(torch.autograd.Function):
    """``plain_terms(standardise(views))`` with a backward pass that makes no matrix twice and few passes over the rest.

    With S_v = y_v^T y_v, a_v the gradient of ||S_v||_F^2 and b that of sum_{u<v} ||y_u - y_v||_F^2,

        g_v     = dL/dy_v = 4 a_v y_v S_v - 2 b o_v + ...,  y_v S_v = y_v (y_v^T y_v) = (y_v y_v^T) y_v
        dL/dz_v = (g_v - y_v diag(q_v)) / |c_v|,            q_v = sum over samples of y_v * g_v

    since a column of y_v keeps its norm. What is along y_v cancels: the multiple of y_v left out at "...", and y_v in
    o_v, which may be the sum of all views or of the others. The mean of g_v needs no step: it is zero, as that of y.

    With D <= N the D x D matrices S_v are summed over processes, and q_v becomes part of them, with
    sum(y_v * y_v S_v) = diag(S_v S_v). With N < D the embeddings are gathered, and each process computes its own rows
    of the N x N matrices y_v y_v^T.
    """

    @staticmethod
    def forward(ctx, *views: Tensor) -> tuple[Tensor, Tensor]:
        y, scale = unit_columns(views)
        ctx.dtypes = [view.dtype for view in views]
        ctx.wide = global_samples(y[0]) < y.shape[2]
        everyone = y
        if not ctx.wide:
            gram = distributed.reduce_sum(_self_product(y.mT))
        elif distributed.is_distributed():
            everyone = distributed.gather(y.transpose(0, 1)).transpose(0, 1)
            gram = y @ everyone.mT
        else:
            gram = _self_product(y)
        rows = torch.linalg.vector_norm(gram, dim=2).square()
        ctx.save_for_backward(y, scale, gram, rows, everyone)
        squared_norms = distributed.reduce_sum(rows.sum(1)) if ctx.wide else rows.sum(1)
        return squared_norms, distributed.reduce_sum(_distance(y))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_norms: Tensor, grad_distance: Tensor) -> tuple[Tensor, ...]:
        y, scale, gram, rows, everyone = ctx.saved_tensors
        grads = distributed.reduce_sum(torch.cat([4 * grad_norms, -2 * grad_distance[None]]))
        a, b = grads[:-1, None, None], grads[-1]
        scratch = torch.empty_like(y[0])
        if len(y) == 2:
            others, along_others = (y[1], y[0]), _column_products(y[:1], y[1:], scratch)
        else:
            others = [y.sum(0)] * len(y)
            along_others = _column_products(y, others, scratch)
        along_others = b * distributed.reduce_sum(along_others)
        with torch.autocast(y.device.type, enabled=False):
            if ctx.wide:
                grad = gram @ everyone
                q = a * distributed.reduce_sum(_column_products(y, grad, scratch)) + along_others
                grad.mul_(a * scale).addcmul_(y, q * scale, value=-1)
            else:
                q = a * rows.unsqueeze(1) + along_others
                weights = gram * (a * scale)
                weights.diagonal(0, 1, 2).sub_((q * scale).squeeze(1))
                grad = y @ weights
        for out, other, factor in zip(grad, others, b * scale, strict=True):
            out.addcmul_(other, factor)
        return tuple(g.to(dtype) for g, dtype in zip(grad, ctx.dtypes, strict=True))


def _column_products(x: Sequence[Tensor], y: Sequence[Tensor], scratch: Tensor) -> Tensor:
    """Inner products of this process's columns, ``(V, 1, D)``, of views ``(N/W, D)`` in pairs."""
    return torch.stack([torch.mul(a, b, out=scratch).sum(0, keepdim=True) for a, b in zip(x, y, strict=True)])


def _self_product(x: Tensor) -> Tensor:
    """x x^T of stacked matrices ``(V, m, k)``; on a CPU the large ones in strips that start at the diagonal."""
    size = x.shape[1]
    if x.device.type != "cpu" or size < 4 * STRIP:
        return x @ x.mT
    product = x.new_empty(len(x), size, size)
    for start in range(0, size, STRIP):
        stop = min(start + STRIP, size)
        strip = x[:, start:stop] @ x[:, start:].mT
        product[:, start:stop, start:] = strip
        product[:, stop:, start:stop] = strip[:, :, stop - start :].mT
    return product
