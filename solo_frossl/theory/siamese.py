"""The eight Siamese losses of Halvagal et al. 2023: losses, equations of the eigenvalues, closed forms.

The paper is https://arxiv.org/abs/2212.04858. A linear network z = W x, W of M x N, sees two views of an input,

    x_v = x + sigma n_v,   x, n_1, n_2 ~ N(0, I) and independent,   so that E[x_v x_v^T] = k I,  k = 1 + sigma^2

and learns by L = d(W_P z_1, sg(z_2)), one-sided, sg being the stop-gradient and W_P = U D^alpha U^T the closed-form
predictor of the embeddings' correlation C = U D U^T (Eq. 1). The squared distance and the cosine, each as it is, as
IsoLoss, without stop-gradient and without predictor, make eight losses (:data:`LOSSES`).

With W = U diag(sqrt(s)) V^T, s are the eigenvalues of W W^T = E[z z^T] over clean inputs, and lambda = s^alpha those of
W_P. Gradient flow, dW/dt = -grad L, turns neither U nor V: flipping the sign of one coordinate of V^T x, V^T n_1 and
V^T n_2 changes no probability, so the gradient is diagonal in these bases. Hence the eigenvalues follow equations of
their own (:func:`rate`), which are exact, the cosine's too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.special import gammaln, hyp2f1, lambertw, wrightomega
from torch import Tensor

from solo_frossl.losses.closed_form import (
    asymmetric_cosine_loss,
    asymmetric_euclidean_loss,
    iso_cosine_loss,
    iso_euclidean_loss,
    predictor_from_correlation,
)

SIMILARITIES = ("euclidean", "cosine")
VARIANTS = ("plain", "iso", "no_stop_gradient", "no_predictor")
_ACCURACY, _NEGLIGIBLE = 1e-11, 1e-30
"""Of integrals: what is left out, relative to the largest value; and the relative variance of a mode that is none."""


def _check_sigma(sigma: float) -> None:
    if not (sigma >= 0 and np.isfinite(sigma)):
        raise ValueError(f"sigma is {sigma}: the noise's standard deviation must be 0 or more, and finite")


@dataclass(frozen=True)
class Siamese:
    """One of the losses, and what it is about.

    Args:
        similarity: ``euclidean``, d(a, b) = ||a - b||^2 / 2, or ``cosine``, d(a, b) = -cos(a, b).
        variant: ``plain`` (Eqs. 3 and 4), ``iso`` (IsoLoss, Eqs. 15 and 17), ``no_stop_gradient`` (Eq. 12, C.2) or
            ``no_predictor`` (Eqs. 13 and 14).
        alpha: power of the predictor's eigenvalues, above 0.
        sigma: standard deviation of the noise on each view, 0 or more.
        normalize: divide the correlation's eigenvalues by the largest before the power, as the authors' code does and
            the paper does not.
        noisy_correlation: the predictor is of the views' correlation, E[z z^T] = k W W^T, as in the product, not of
            the clean inputs' one, W W^T.

    Raises:
        ValueError: a value is out of range.
    """

    similarity: Literal["euclidean", "cosine"]
    variant: Literal["plain", "iso", "no_stop_gradient", "no_predictor"] = "plain"
    alpha: float = 1.0
    sigma: float = 0.1
    normalize: bool = False
    noisy_correlation: bool = False

    def __post_init__(self) -> None:
        for name, known in (("similarity", SIMILARITIES), ("variant", VARIANTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(known)}")
        if not (self.alpha > 0 and np.isfinite(self.alpha)):
            raise ValueError(f"alpha is {self.alpha}: it must be above 0, and finite")
        _check_sigma(self.sigma)

    @property
    def k(self) -> float:
        """Variance of a view's inputs, 1 + sigma^2."""
        return 1 + self.sigma**2


LOSSES = tuple(Siamese(similarity, variant) for similarity in SIMILARITIES for variant in VARIANTS)
"""The paper's eight, with alpha = 1 and sigma = 0.1."""


# ------------------------------------------------------------------------------------------------- weights and samples


def mode_weights(s: np.ndarray, *, outputs: Tensor, vectors: Tensor) -> Tensor:
    """The weights W = U diag(sqrt(s)) V^T.

    Args:
        s: ``(..., K)`` eigenvalues of W W^T, 0 or more.
        outputs: ``(M, K)`` orthonormal columns U.
        vectors: ``(N, K)`` orthonormal columns V.

    Returns:
        ``(..., M, N)``.
    """
    s = torch.as_tensor(_positive("eigenvalue", s, zero=True))
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
    _check_sigma(sigma)
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
    _check_sigma(sigma)
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


# ----------------------------------------------------------------------------------------------- losses in expectation


def expected_loss(w: Tensor, siamese: Siamese) -> Tensor:
    """The expectation of the loss over inputs and noise, with its exact gradient.

    The Euclidean losses are quadratic in the samples, so this is :func:`sample_loss` of :func:`balanced_views`. Those
    with a cosine are integrals over two variables, exact to about 1e-8 (:func:`rate` says how). They are for networks
    of a few outputs: a call inverts about a thousand matrices of 2 M x 2 M.

    Args:
        w: ``(..., M, N)``.
        siamese: the loss.

    Returns:
        ``(...)``.
    """
    if siamese.similarity == "euclidean":
        return sample_loss(w, *balanced_views(w.shape[-1], siamese.sigma), siamese)
    frozen = w.detach()
    basis = torch.linalg.eigh(frozen @ frozen.mT)[1]  # no cosine sees a rotation, and the integrals are done best so
    w, frozen, w_p = basis.mT @ w, basis.mT @ frozen, predictor(w, siamese)
    w_p = torch.eye(w.shape[-2], dtype=w.dtype) if w_p is None else basis.mT @ w_p @ basis
    if siamese.variant == "iso":
        return _expected_iso_cosine(w, frozen, w_p, siamese.k)
    return -_expected_cosine(w_p @ w, w if siamese.variant == "no_stop_gradient" else frozen, siamese.k)


class _Tilted(NamedTuple):
    """exp(-u |y_1|^2 - v |y_2|^2) under the Gaussian of y_1 = A x_1, y_2 = B x_2, at the nodes of u and v.

    Attributes:
        first: ``(..., U, 1, 1, 1)`` sqrt(2 u).
        second: ``(..., 1, V, 1, 1)`` sqrt(2 v).
        weight: ``(..., U, V)`` (u v)^-1/2 du dv times the expectation of the exponential, det(T)^-1/2.
        inverse: ``(..., U, V, 2 M, 2 M)`` of T = I + S cov(y_1, y_2) S, S = diag(sqrt(2 u), sqrt(2 v)); the covariance
            under what the exponential makes of the Gaussian is S^-1 (I - T^-1) S^-1.
    """

    first: Tensor
    second: Tensor
    weight: Tensor
    inverse: Tensor


def _tilted(a: Tensor, b: Tensor, k: float) -> _Tilted:
    sides = []
    for matrix in (a.detach(), b.detach()):
        spectrum = torch.linalg.eigvalsh(k * matrix @ matrix.mT)
        largest = spectrum[..., -1:]
        if not bool((largest > 0).all()):
            raise ValueError("weights of zeros have no cosine: start from weights that are not 0")
        y, step = (torch.as_tensor(t) for t in _nodes((spectrum / largest).clamp(min=0).numpy()))
        sides.append((y / largest.sqrt(), step / y))
    (first, first_step), (second, second_step) = sides
    first, second = first[..., :, None, None, None], second[..., None, :, None, None]
    own, other, cross = (x[..., None, None, :, :] for x in (k * a @ a.mT, k * b @ b.mT, a @ b.mT))
    rows = (first**2 * own, first * second * cross), (first * second * cross.mT, second**2 * other)
    shape = rows[0][1].shape
    scaled = torch.cat([torch.cat([x.expand(shape) for x in row], -1) for row in rows], -2)
    factor, failed = torch.linalg.cholesky_ex(scaled + torch.eye(scaled.shape[-1], dtype=scaled.dtype))
    if bool(failed.any()):
        raise ValueError(
            "the eigenvalues of W W^T are too far apart for the exact expectation of a cosine without noise: take some"
            " noise, or sample_loss"
        )
    expectation = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1).neg().exp()
    area = 2 * (first * second)[..., 0, 0] * first_step[:, None] * second_step
    return _Tilted(first, second, area * expectation, torch.cholesky_inverse(factor))


def _expected_cosine(a: Tensor, b: Tensor, k: float) -> Tensor:
    """E[cos(A x_1, B x_2)] = (1/pi) int int (u v)^-1/2 E[y_1 . y_2 exp(-u |y_1|^2 - v |y_2|^2)] du dv."""
    tilted, outputs = _tilted(a, b, k), a.shape[-2]
    dot = -torch.diagonal(tilted.inverse[..., :outputs, outputs:], dim1=-2, dim2=-1).sum(-1)
    return (tilted.weight * dot / (tilted.first * tilted.second)[..., 0, 0]).sum((-2, -1)) / torch.pi


def _expected_iso_cosine(w: Tensor, frozen: Tensor, w_p: Tensor, k: float) -> Tensor:
    """Eq. 17, linear and quadratic in W with what is under the stop-gradients for coefficients, on the rows' span.

    With p, q the directions of W_P z_1 and z_2, and R the pseudo-inverse of W_P W, so that x_1 is R W_P z_1 there,

        L = -tr(W R E[p q^T]) + tr(W^T W_P W R E[(p . q) p p^T] R^T) / 2
    """
    with torch.no_grad():
        tilted, outputs = _tilted(w_p @ frozen, frozen, k), w.shape[-2]
        own = torch.eye(outputs, dtype=w.dtype) - tilted.inverse[..., :outputs, :outputs]  # E[y_1 y_1^T] times 2 u
        cross = -tilted.inverse[..., :outputs, outputs:] / (tilted.first * tilted.second)
        dot = torch.diagonal(cross, dim1=-2, dim2=-1).sum(-1)[..., None, None]
        crossed = own @ cross.mT
        weight = tilted.weight[..., None, None] / torch.pi
        linear = (weight * cross).sum((-4, -3))
        quadratic = (weight * (own * dot + crossed + crossed.mT)).sum((-4, -3))
        inverse = torch.linalg.pinv(w_p @ frozen, rtol=1e-13)
    back = w @ inverse
    return ((back @ quadratic) * (w_p @ back)).sum((-2, -1)) / 2 - (back * linear.mT).sum((-2, -1))


# ---------------------------------------------------------------------------------------- equations of the eigenvalues


def predictor_eigenvalues(s: np.ndarray, siamese: Siamese) -> np.ndarray:
    """lambda, the eigenvalues of W_P, ``(..., M)``, where those of W W^T are s: s^alpha, or what the options make it.

    Without a predictor they are 1.
    """
    s = np.maximum(np.asarray(s, dtype=np.float64), 0)  # rounding
    if siamese.variant == "no_predictor":
        return np.ones_like(s)
    if siamese.normalize:
        largest = s.max(-1, keepdims=True)
        return (s / np.where(largest > 0, largest, 1)) ** siamese.alpha
    return (s * (siamese.k if siamese.noisy_correlation else 1)) ** siamese.alpha


def rate(s: np.ndarray, siamese: Siamese) -> np.ndarray:
    """ds/dt of the eigenvalues of W W^T under gradient flow of the expected loss: exact.

    Euclidean, every mode by itself (Eqs. 9, 16, 12 and 13, with noise on both views):

        plain                ds/dt =  2 lambda (1 - k lambda) s       Eq. 9 prints (1 - lambda): right for sigma = 0
        iso                  ds/dt =  2 (1 - k lambda) s              Eq. 16, likewise
        no stop-gradient     ds/dt = -2 [(1 - lambda)^2 + sigma^2 (1 + lambda^2)] s    Eq. 12 lacks the second term
        no predictor         ds/dt = -2 sigma^2 s                     Eq. 13 prints 0: right for a clean online view

    So for alpha = 1 the plain loss has dl/dt = 2 l^2 (1 - k l). With a cosine, p = D z_1 / |D z_1| and q = z_2 / |z_2|
    in the eigenbasis (from Eqs. 10, 17 and 14; Eq. 11 approximates it):

        plain, no predictor  ds_m/dt = 2 E[p_m q_m - (p . q) p_m^2]
        iso                  ds_m/dt = 2 E[p_m q_m - (p . q) p_m^2] / lambda_m
        no stop-gradient     ds_m/dt = 2 E[2 p_m q_m - (p . q) (p_m^2 + q_m^2)]

    Their sums, with lambda_m for a weight in IsoLoss's, are 0 (:func:`conserved`). Appendix C.2 prints a different
    gradient without stop-gradient, |D z_1|^3 |z_2| dividing what |D z_1| |z_2|^3 should, and infers from it that all
    eigenvalues diverge.

    By 1/|y| = pi^-1/2 int u^-1/2 exp(-u |y|^2) du the expectations are integrals over two variables, for any M, of what
    is known in closed form. With u and v going as sinh^2 w, equally spaced w give them to about 1e-8 of the largest.

    Args:
        s: ``(..., M)``, 0 or more; what rounding makes less counts as 0.
        siamese: the loss.

    Returns:
        ``(..., M)``.
    """
    s = np.maximum(np.asarray(s, dtype=np.float64), 0)
    if siamese.similarity == "euclidean":
        return 2 * _growth(predictor_eigenvalues(s, siamese), siamese) * s
    lam = predictor_eigenvalues(s, siamese)
    product, first, second = _cosine_moments(s, lam, siamese.k)
    if siamese.variant == "no_stop_gradient":
        return 2 * (2 * product - first - second)
    if siamese.variant == "iso":
        return 2 * np.divide(product - first, lam, out=np.zeros_like(s), where=lam > 0)
    return 2 * (product - first)


def _growth(lam: np.ndarray, siamese: Siamese) -> np.ndarray:
    """g(lambda) of the Euclidean ds/dt = 2 g(lambda) s."""
    k = siamese.k
    if siamese.variant == "plain":
        return lam * (1 - k * lam)
    if siamese.variant == "iso":
        return 1 - k * lam
    if siamese.variant == "no_stop_gradient":
        return -((1 - lam) ** 2 + siamese.sigma**2 * (1 + lam**2))
    return np.full_like(lam, -(siamese.sigma**2))


def _nodes(relative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where to evaluate, and with what weight, an even function of y that falls as prod_m (1 + r_m y^2)^-1/2 or faster.

    r are ``(..., M)`` variances relative to the largest. With y = sinh w no pole is nearer to the real axis than
    pi / 2, so the error falls exponentially with the step of w. Poles of high order, as many equal modes make, need a
    finer one, and w goes as far as the integrand matters.
    """
    modes = relative.shape[-1]
    step = min(0.28, 0.7 / modes**0.5)
    least = np.min(relative, initial=1.0, where=relative > _NEGLIGIBLE)
    farthest = 10 - np.log(least) / 2
    w = np.arange(0.5, farthest / step) * step
    size = w - 0.5 * np.log1p(relative[..., None, :] * np.sinh(w)[:, None] ** 2).sum(-1)
    matters = (size > np.log(_ACCURACY)).reshape(-1, len(w)).any(0)
    w = w[: np.flatnonzero(matters)[-1] + 1]
    return np.sinh(w), step * np.cosh(w)


def _cosine_moments(s: np.ndarray, lam: np.ndarray, k: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[p_m q_m], E[(p . q) p_m^2] and E[(p . q) q_m^2], each ``(..., M)``."""
    first, second = (x / np.where(x.max(-1, keepdims=True) > 0, x.max(-1, keepdims=True), 1) for x in (lam**2 * s, s))
    (y1, step1), (y2, step2) = (_nodes(x) for x in (first, second))
    a = first[..., None, None, :] * (y1**2)[:, None, None] / k
    b = second[..., None, None, :] * (y2**2)[:, None] / k
    determinant = 1 + k * (a + b) + (k**2 - 1) * a * b
    weight = np.exp(-0.5 * np.log(determinant).sum(-1)) * step1[:, None] * step2 * 2 / (np.pi * k)
    cross = np.sqrt(first * second)[..., None, None, :] / determinant
    fourth = cross.sum(-1, keepdims=True) + 2 * cross
    moments = (cross, (1 - (1 + k * b) / determinant) * fourth, (1 - (1 + k * a) / determinant) * fourth)
    return tuple(np.einsum("...uvm,...uv->...m", m, weight) for m in moments)


# ---------------------------------------------------------------------------------------------- invariants and limits


def conserved(s: np.ndarray, siamese: Siamese) -> np.ndarray:
    """What gradient flow of a loss with a cosine conserves: sum_m s_m, and for IsoLoss sum_m s_m^(1 + alpha).

    The sum is ||W||_F^2: a cosine does not depend on the length of z, with or without stop-gradient. So no variant's
    eigenvalues can all diverge, as the paper's Table 1 and Appendix C.2 say of the one without stop-gradient.

    Args:
        s: ``(..., M)``, 0 or more.
        siamese: the loss.

    Returns:
        ``(...)``.
    """
    _needs_cosine(siamese, "conserves nothing")
    power = 1 + siamese.alpha if siamese.variant == "iso" else 1.0
    return (np.asarray(s, dtype=np.float64) ** power).sum(-1)


def common_eigenvalue(s: np.ndarray, siamese: Siamese) -> np.ndarray:
    """What all eigenvalues come to under a loss with a cosine: their mean, and for IsoLoss their power mean.

    Args:
        s: ``(..., M)`` at some time, above 0: an eigenvalue of 0 stays 0.
        siamese: the loss.

    Returns:
        ``(...)``.

    Raises:
        ValueError: without stop-gradient there is no such value: which modes survive depends on the start.
    """
    s = _positive("eigenvalue", s)
    if siamese.variant == "no_stop_gradient":
        raise ValueError(
            "without stop-gradient eigenvalues do not all become equal: modes that start small go to 0; integrate rate"
        )
    power = 1 + siamese.alpha if siamese.variant == "iso" else 1.0
    return (conserved(s, siamese) / s.shape[-1]) ** (1 / power)


def equalisation_rate(s: float, modes: int, siamese: Siamese) -> float:
    """How fast M eigenvalues that are nearly s become equal under a loss with a cosine: closed form.

    Where all are equal the expected loss is stationary, and deviations go as e^(-rate t):

        plain, no predictor   2 / ((M + 2) s) {alpha E[c] + E[c (1 - c^2)] / (M - 1)}    (alpha = 0 without predictor)
        iso                   the same over lambda
        no stop-gradient      2 / ((M + 2) s) 2 (alpha + 1) E[c (1 - c^2)] / (M - 1)

    c being the cosine of two M-dimensional standard Gaussians of correlation rho = 1 / k:

        E[c]                       = (2 / M) (Gamma((M+1)/2) / Gamma(M/2))^2 rho F(1/2, 1/2; M/2 + 1; rho^2)
        E[c (1 - c^2)] / (M - 1)   = the same with (1 - rho^2) F(3/2, 3/2; M/2 + 2; rho^2) / (M + 2) for the F

    Without noise c is 1: the plain loss has 2 alpha / ((M + 2) s), and the one without predictor does nothing. It is
    noise alone that equalises without predictor, which is why that takes thousands of units of time. The same term
    makes equal eigenvalues stable without stop-gradient, if only for small deviations.

    Args:
        s: the common eigenvalue of W W^T, above 0.
        modes: M, at least 2.
        siamese: the loss.

    Returns:
        0 or more, in 1 / time.
    """
    _needs_cosine(siamese, "brings each eigenvalue to its own limit: see fixed_points")
    _positive("eigenvalue", s)
    if modes < 2:
        raise ValueError(f"modes is {modes}: one mode alone has nothing to become equal to, take 2 or more")
    rho = 1 / siamese.k
    scale = 2 * rho / modes * np.exp(2 * (gammaln((modes + 1) / 2) - gammaln(modes / 2)))
    cosine = scale * hyp2f1(0.5, 0.5, modes / 2 + 1, rho**2)
    noise = 0.0
    if siamese.sigma > 0:
        noise = scale * (1 - rho**2) * hyp2f1(1.5, 1.5, modes / 2 + 2, rho**2) / (modes + 2)
    if siamese.variant == "no_stop_gradient":
        strength = 2 * (siamese.alpha + 1) * noise
    else:
        strength = (0 if siamese.variant == "no_predictor" else siamese.alpha) * cosine + noise
    lam = float(predictor_eigenvalues(np.array([s]), siamese)[0]) if siamese.variant == "iso" else 1.0
    return float(2 * strength / ((modes + 2) * s * lam))


class FixedPoint(NamedTuple):
    """Where a Euclidean loss lets an eigenvalue rest.

    Attributes:
        predictor: lambda there; s where there is no predictor.
        exponent: deviations of it go as e^(exponent t) while they are small.
        kind: ``stable``; ``unstable``; ``half-stable``: from above it is approached, below it is left; ``neutral``.
    """

    predictor: float
    exponent: float
    kind: str


def fixed_points(siamese: Siamese) -> list[FixedPoint]:
    """Where the eigenvalue of a mode rests under a Euclidean loss, by ascending eigenvalue.

    The plain loss leaves 0 no faster than as a power of time, IsoLoss exponentially. Without stop-gradient and noise
    lambda = 1 is approached from above only; with noise there is no such point, but an eigenvalue from above stays near
    1 for a time of about pi / (2 sqrt(2) alpha sigma).

    Raises:
        ValueError: for the cosine, or a predictor divided by its largest eigenvalue: there modes are not apart.
    """
    if siamese.similarity != "euclidean":
        raise ValueError(
            "similarity is cosine: it rests wherever all eigenvalues agree; see common_eigenvalue and equalisation_rate"
        )
    _needs_unnormalised(siamese)
    k, alpha, sigma = siamese.k, siamese.alpha, siamese.sigma
    if siamese.variant == "plain":
        return [FixedPoint(0.0, 0.0, "unstable"), FixedPoint(1 / k, -2 * alpha / k, "stable")]
    if siamese.variant == "iso":
        return [FixedPoint(0.0, 2 * alpha, "unstable"), FixedPoint(1 / k, -2 * alpha, "stable")]
    if siamese.variant == "no_stop_gradient":
        crossing = [FixedPoint(1.0, 0.0, "half-stable")] if sigma == 0 else []
        return [FixedPoint(0.0, -2 * alpha * k, "stable"), *crossing]
    return [FixedPoint(0.0, -2 * sigma**2, "stable" if sigma > 0 else "neutral")]


# --------------------------------------------------------------------------------------------------------- closed forms


def solution(time: np.ndarray, start: float | np.ndarray, siamese: Siamese) -> np.ndarray:
    """s(t) under a Euclidean loss, where it can be written down.

    In lambda, with y = 1 / (k lambda) - 1 and Lambert's W (plain; the paper has no closed form):

        plain           lambda = 1 / (k (1 + W(y0 e^(y0 - 2 alpha t / k))))
        iso             lambda = 1 / (k + (1 / lambda0 - k) e^(-2 alpha t))
        no predictor    s = s0 e^(-2 sigma^2 t)

    IsoLoss with the predictor's eigenvalues divided by the largest: the largest s goes as e^(-2 sigma^2 t), whatever it
    is, and the others' lambda as 1 / (1 + (1 / lambda0 - 1) e^(-2 alpha k t)): all become equal, at a scale set by the
    start.

    Args:
        time: ``(T,)``, 0 or more.
        start: s0, above 0: ``()`` or ``(M,)``.
        siamese: the loss.

    Returns:
        ``(T, M)``, or ``(T,)`` where `start` is a number.

    Raises:
        ValueError: for a cosine, no stop-gradient (:func:`time_to_reach` has that one's inverse) and the plain loss
            with a normalised predictor: integrate :func:`rate`.
    """
    start = _positive("start", start)
    time = np.asarray(time, dtype=np.float64).reshape(-1, *[1] * start.ndim)
    if (time < 0).any():
        raise ValueError(f"time goes down to {time.min():g}: it must be 0 or more")
    _needs_euclidean(siamese)
    k, alpha, noise = siamese.k, siamese.alpha, siamese.sigma**2
    if siamese.variant == "no_predictor":
        return start * np.exp(-2 * noise * time)
    if siamese.variant == "no_stop_gradient":
        raise ValueError("without stop-gradient s(t) has no closed form: time_to_reach has t(s), rate the equation")
    if siamese.normalize:
        if siamese.variant == "plain":
            raise ValueError("with normalize the plain loss has no closed form: integrate rate")
        lam = predictor_eigenvalues(np.atleast_1d(start), siamese).reshape(start.shape)
        ratio = (1 + (1 / lam - 1) * np.exp(-2 * alpha * k * time)) ** (-1 / alpha)
        return ratio * start.max() * np.exp(-2 * noise * time)
    lam = predictor_eigenvalues(start, siamese)
    if siamese.variant == "iso":
        later = 1 / (k + (1 / lam - k) * np.exp(-2 * alpha * time))
    else:
        later = 1 / (k * (1 + _lambert(1 / (k * lam) - 1, 2 * alpha * time / k)))
    return _eigenvalue(later, siamese)


def time_to_reach(s: float | np.ndarray, start: float | np.ndarray, siamese: Siamese) -> np.ndarray:
    """When an eigenvalue that was s0 is s, under a Euclidean loss: t = F(lambda) - F(lambda0).

        plain               2 alpha F = k ln(lambda / |1 - k lambda|) - 1 / lambda
        iso                 2 alpha F = ln(lambda / |1 - k lambda|)
        no stop-gradient    2 alpha F = -(1/k) {ln lambda - ln(q) / 2 + arctan((k lambda - 1) / r) / r}
                                        q = k lambda^2 - 2 lambda + k,   r = sqrt(k^2 - 1);   for sigma = 0
                            2 alpha F = -ln(lambda / |1 - lambda|) - 1 / (1 - lambda)
        no predictor        2 sigma^2 F = -ln s

    Args:
        s: what is reached, above 0.
        start: s0, above 0; the two broadcast.
        siamese: the loss.

    Returns:
        Times, 0 or more.

    Raises:
        ValueError: it is never reached: it lies behind the start, or at or beyond a fixed point.
    """
    s, start = np.broadcast_arrays(_positive("eigenvalue", s), _positive("start", start))
    _needs_euclidean(siamese)
    _needs_unnormalised(siamese)
    goal, now = (x if siamese.variant == "no_predictor" else predictor_eigenvalues(x, siamese) for x in (s, start))
    stop = -1.0  # no eigenvalue
    if siamese.variant in ("plain", "iso"):
        stop = 1 / siamese.k
    elif siamese.variant == "no_stop_gradient" and siamese.sigma == 0:
        stop = 1.0
    ahead = ((goal - now) * _growth(now, siamese) > 0) & ((goal - stop) * (now - stop) > 0)
    there = goal == now
    never = ~(ahead | there)
    if never.any():
        first = np.flatnonzero(never.ravel())[0]
        raise ValueError(
            f"an eigenvalue of {start.ravel()[first]:g} never becomes {s.ravel()[first]:g} here: take one between the"
            " start and the fixed point that it goes to"
        )
    goal, now = (np.where(there, np.nan, lam) for lam in (goal, now))
    return np.where(there, 0.0, _clock(goal, siamese) - _clock(now, siamese))


def _clock(lam: np.ndarray, siamese: Siamese) -> np.ndarray:
    """F(lambda) of :func:`time_to_reach`."""
    k, noise = siamese.k, siamese.sigma**2
    if siamese.variant == "no_predictor":
        return -np.log(lam) / (2 * noise or 1)
    logit = np.log(lam / np.abs(1 - k * lam))
    if siamese.variant == "plain":
        clock = k * logit - 1 / lam
    elif siamese.variant == "iso":
        clock = logit
    elif noise:
        r = np.sqrt(k**2 - 1)
        q = k * lam**2 - 2 * lam + k
        clock = -(np.log(lam) - np.log(q) / 2 + np.arctan((k * lam - 1) / r) / r) / k
    else:
        clock = -logit - 1 / (1 - lam)
    return clock / (2 * siamese.alpha)


def _lambert(y: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """W(y e^(y - delay)) of y above -1; for large y without e^y."""
    y, delay = np.broadcast_arrays(y, delay)
    safe = np.where(y > 0, y, 1.0)
    above = wrightomega(np.log(safe) + safe - delay).real
    low = np.minimum(y, 0.0)
    below = lambertw(low * np.exp(low - delay)).real
    return np.where(y > 0, above, below)


def _eigenvalue(lam: np.ndarray, siamese: Siamese) -> np.ndarray:
    """s whose lambda this is, without normalising."""
    return lam ** (1 / siamese.alpha) / (siamese.k if siamese.noisy_correlation else 1)


# -------------------------------------------------------------------------------------------------------------- checks


def _positive(name: str, values: float | np.ndarray, *, zero: bool = False) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if not (np.isfinite(values) & ((values >= 0) if zero else (values > 0))).all():
        raise ValueError(f"{name} is {values}: it must be {'0 or more' if zero else 'above 0'}, and finite")
    return values


def _needs_cosine(siamese: Siamese, otherwise: str) -> None:
    if siamese.similarity != "cosine":
        raise ValueError(f"similarity is euclidean, which {otherwise}; this is for the cosine")


def _needs_euclidean(siamese: Siamese) -> None:
    if siamese.similarity != "euclidean":
        raise ValueError("similarity is cosine: its modes are coupled and have no closed form; integrate rate")


def _needs_unnormalised(siamese: Siamese) -> None:
    if siamese.normalize and siamese.variant != "no_predictor":
        raise ValueError("normalize couples each mode to the largest one: integrate rate, or take normalize=False")
