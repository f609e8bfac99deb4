"""Weights, samples, and the eight losses of them, by the product's own functions."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from solo_frossl.losses.closed_form import (
    asymmetric_cosine_loss,
    asymmetric_euclidean_loss,
    iso_cosine_loss,
    iso_euclidean_loss,
    predictor_from_correlation,
)
from solo_frossl.theory.siamese.setting import SIMILARITIES, Siamese, check_sigma, positive


def mode_weights(s: np.ndarray, *, outputs: Tensor, vectors: Tensor) -> Tensor:
    """The weights W = U diag(sqrt(s)) V^T.

    Args:
        s: ``(..., K)`` eigenvalues of W W^T, 0 or more.
        outputs: ``(M, K)`` orthonormal columns U.
        vectors: ``(N, K)`` orthonormal columns V.

    Returns:
        ``(..., M, N)``.
    """
    s = torch.as_tensor(positive("eigenvalue", s, zero=True))
    return (outputs * s.sqrt()[..., None, :]) @ vectors.mT


def correlation(w: Tensor, siamese: Siamese, *, relu: bool = False) -> Tensor:
    """The embeddings' correlation E[z z^T] that the predictor is made of, exactly, without gradient.

    It is W W^T, times k for the views' own. With a ReLU, z = max(W x, 0), it is the arc-cosine kernel of the rows
    (Cho and Saul 2009, Eq. 6, for n = 1): with t the angle between w_i and w_j,

        E[z_i z_j] = |w_i| |w_j| (sin t + (pi - t) cos t) / (2 pi)

    Args:
        w: ``(..., M, N)``.
        siamese: says of which inputs, clean or noisy.
        relu: whether z = max(W x, 0).

    Returns:
        ``(..., M, M)``.
    """
    w = w.detach()
    moments = w @ w.mT
    if relu:
        norms = torch.linalg.vector_norm(w, dim=-1)
        product = norms[..., :, None] * norms[..., None, :]
        cosine = (moments / product.masked_fill(product == 0, 1)).clamp(-1, 1)
        angle = torch.acos(cosine)
        moments = product * (torch.sin(angle) + (torch.pi - angle) * cosine) / (2 * torch.pi)
    return siamese.k * moments if siamese.noisy_correlation else moments


def eigenvalues(w: Tensor, *, relu: bool = False) -> Tensor:
    """Eigenvalues of E[z z^T] over clean inputs, ``(..., M)``, descending; without a ReLU those of W W^T."""
    return torch.linalg.eigvalsh(correlation(w, Siamese("euclidean"), relu=relu)).flip(-1)


def predictor(w: Tensor, siamese: Siamese, *, relu: bool = False) -> Tensor | None:
    """The closed-form predictor W_P (Eq. 1) by the product's own function; None where the loss has none.

    Args:
        w: ``(..., M, N)``.
        siamese: the loss.
        relu: whether z = max(W x, 0).

    Returns:
        ``(..., M, M)``, without gradient.
    """
    if siamese.variant == "no_predictor":
        return None
    c = correlation(w, siamese, relu=relu)
    single = [
        predictor_from_correlation(one, alpha=siamese.alpha, normalize=siamese.normalize)
        for one in c.reshape(-1, *c.shape[-2:])
    ]
    return torch.stack(single).reshape(c.shape)


def draw_views(
    samples: int, inputs: int, sigma: float, generator: torch.Generator, seeds: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Two views of Gaussian inputs, x + sigma n_v.

    Args:
        samples: B, at least 1.
        inputs: N, at least 1.
        sigma: of the noise, 0 or more.
        generator: what to draw from.
        seeds: shape of what stands before the samples, for samples of each seed's own.

    Returns:
        Two ``(*seeds, B, N)`` float64.
    """
    if samples < 1 or inputs < 1:
        raise ValueError(f"samples is {samples} and inputs {inputs}: both must be at least 1")
    check_sigma(sigma)
    x, n1, n2 = (torch.randn(*seeds, samples, inputs, generator=generator, dtype=torch.float64) for _ in range(3))
    return x + sigma * n1, x + sigma * n2


def balanced_views(inputs: int, sigma: float) -> tuple[Tensor, Tensor]:
    """6 N samples whose mean is 0 and whose second moments are exactly E[x_v x_v^T] = k I and E[x_1 x_2^T] = I.

    A loss that is quadratic in the samples, as each Euclidean one is, has on them its expectation, and so has its
    gradient. The cosine's expectation is :func:`expected_loss`.

    Args:
        inputs: N, at least 1.
        sigma: of the noise, 0 or more.

    Returns:
        Two ``(6 N, N)`` float64.
    """
    if inputs < 1:
        raise ValueError(f"inputs is {inputs}: it must be at least 1")
    check_sigma(sigma)
    rows = (3 * inputs) ** 0.5 * torch.eye(3 * inputs, dtype=torch.float64)
    x, n1, n2 = torch.cat([rows, -rows]).chunk(3, dim=1)
    return x + sigma * n1, x + sigma * n2


# --------------------------------------------------------------------------------------------------- losses of samples


def sample_loss(w: Tensor, view1: Tensor, view2: Tensor, siamese: Siamese, *, relu: bool = False) -> Tensor:
    """One of the eight losses on samples, by the product's own functions; the predictor is of the exact correlation.

    Args:
        w: ``(..., M, N)``.
        view1: ``(B, N)``, or ``(..., B, N)`` for samples of each seed's own.
        view2: the other view, likewise.
        siamese: the loss; its sigma says only, with ``noisy_correlation``, how large the predictor is.
        relu: whether z = max(W x, 0) (the paper's Fig. 6).

    Returns:
        ``(...)``.
    """
    w_p = predictor(w, siamese, relu=relu)
    z1, z2 = (_embedded(w, view, relu) for view in (view1, view2))
    if siamese.variant == "iso":
        loss = iso_euclidean_loss if siamese.similarity == "euclidean" else iso_cosine_loss
        options = {}
    else:
        loss = asymmetric_euclidean_loss if siamese.similarity == "euclidean" else asymmetric_cosine_loss
        options = {"stop_gradient": siamese.variant != "no_stop_gradient"}
    return _each_seed(lambda a, b, p=None: loss(a, b, p, **options), z1, z2, *(() if w_p is None else (w_p,)))


def fresh_loss(
    siamese: Siamese, *, samples: int, generator: torch.Generator, relu: bool = False
) -> Callable[[Tensor], Tensor]:
    """The loss on samples drawn anew at each call, each seed's own: what ``flow.descend`` takes for the paper's runs.

    Args:
        siamese: the loss.
        samples: B of each call and seed.
        generator: what to draw from.
        relu: whether z = max(W x, 0).

    Returns:
        A function of ``(..., M, N)`` weights to ``(...)`` losses.
    """

    def loss(w: Tensor) -> Tensor:
        views = draw_views(samples, w.shape[-1], siamese.sigma, generator, w.shape[:-2])
        return sample_loss(w, *views, siamese, relu=relu)

    return loss


def trainable_loss(
    w: Tensor,
    p: Tensor,
    view1: Tensor,
    view2: Tensor,
    *,
    similarity: Literal["euclidean", "cosine"],
    weight_decay: float = 0.0,
) -> Tensor:
    """The loss with a linear predictor that is trained too (the paper's Fig. 4; SimSiam with linear networks).

        L = d(P z_1, sg(z_2)) + weight_decay (||W||_F^2 + ||P||_F^2) / 2

    Without weight decay gradient flow conserves W W^T - P^T P, whatever d is; with it that goes as
    e^(-2 weight_decay t) (:func:`imbalance`). For the squared distance the predictor that rests while W stands is
    P = C (k C + weight_decay I)^-1, C = W W^T, which has the eigenvectors of C (:func:`alignment`). A mode of such a
    predictor dies out while its eigenvalue p has p (1 - k p) < weight_decay.

    Args:
        w: ``(..., M, N)``.
        p: ``(..., M, M)``.
        view1: ``(B, N)`` or ``(..., B, N)``.
        view2: likewise.
        similarity: d.
        weight_decay: 0 or more.

    Returns:
        ``(...)``.
    """
    if weight_decay < 0:
        raise ValueError(f"weight_decay is {weight_decay}: it must be 0 or more")
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity is {similarity!r}: it must be one of {', '.join(SIMILARITIES)}")
    loss = asymmetric_euclidean_loss if similarity == "euclidean" else asymmetric_cosine_loss
    z1, z2 = (_embedded(w, view, relu=False) for view in (view1, view2))
    squares = w.square().sum((-2, -1)) + p.square().sum((-2, -1))
    return _each_seed(loss, z1 @ p.mT, z2) + weight_decay * squares / 2


def imbalance(w: Tensor, p: Tensor) -> Tensor:
    """W W^T - P^T P, ``(..., M, M)``: what gradient flow of :func:`trainable_loss` conserves without weight decay."""
    return w @ w.mT - p.mT @ p


def alignment(w: Tensor, p: Tensor) -> Tensor:
    """cos(u_i, P u_i) of each eigenvector u_i of W W^T, by the product's own measure (the paper's Fig. 4).

    Args:
        w: ``(..., M, N)``.
        p: ``(..., M, M)``.

    Returns:
        ``(..., M)``, by descending eigenvalue; 1 is aligned.
    """
    from solo_frossl.spectrum.measure import predictor_alignment  # with it comes Lightning, which takes seconds

    return _each_seed(predictor_alignment, (w @ w.mT).detach(), p.detach())


def _embedded(w: Tensor, view: Tensor, relu: bool) -> Tensor:
    if view.shape[-1] != w.shape[-1]:
        raise ValueError(f"weights {tuple(w.shape)} take {w.shape[-1]} inputs, and the views have {view.shape[-1]}")
    z = view @ w.mT
    return z.relu() if relu else z


def _each_seed(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """The function of two-dimensional tensors, for each seed."""
    seeds = tensors[0].shape[:-2]
    flat = [t.reshape(-1, *t.shape[-2:]) for t in tensors]
    results = [function(*one) for one in zip(*flat, strict=True)]
    return torch.stack(results).reshape((*seeds, *results[0].shape))
