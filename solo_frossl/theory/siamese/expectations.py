"""The losses in expectation over Gaussian inputs and noise, with their exact gradients.

By 1/|y| = pi^-1/2 int u^-1/2 exp(-u |y|^2) du the expectations of cosines are integrals over two variables, for any
number of outputs, of what is known in closed form.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from solo_frossl.theory.siamese.losses import balanced_views, predictor, sample_loss
from solo_frossl.theory.siamese.setting import Siamese

_ACCURACY, _NEGLIGIBLE = 1e-11, 1e-30
"""Of integrals: what is left out, relative to the largest value; and the relative variance of a mode that is none."""


def expected_loss(w: Tensor, siamese: Siamese) -> Tensor:
    """The expectation of the loss over inputs and noise, with its exact gradient.

    The Euclidean losses are quadratic in the samples, so this is :func:`sample_loss` of :func:`balanced_views`. Those
    with a cosine are integrals over two variables, exact to about 1e-8 (:func:`rate` says how). They are for networks
    of a few outputs: a call inverts about a thousand matrices of M x M.

    Args:
        w: ``(..., M, N)``.
        siamese: the loss.

    Returns:
        ``(...)``.
    """
    if siamese.similarity == "euclidean":
        return sample_loss(w, *balanced_views(w.shape[-1], siamese.sigma), siamese)
    u, _, vh = torch.linalg.svd(w.detach(), full_matrices=False)
    w, w_p = u.mT @ w @ vh.mT, predictor(w, siamese)  # no cosine sees a rotation, nor rows beyond their own span
    w_p = torch.eye(w.shape[-2], dtype=w.dtype) if w_p is None else u.mT @ w_p @ u
    frozen = w.detach()
    if siamese.variant == "iso":
        return _expected_iso_cosine(w, frozen, w_p, siamese.k)
    return -_expected_cosine(w_p @ w, w if siamese.variant == "no_stop_gradient" else frozen, siamese.k)


class _Tilted(NamedTuple):
    """exp(-u |y_1|^2 - v |y_2|^2) under the Gaussian of y_1 = A x_1, y_2 = B x_2, at the nodes of u and v.

    What the exponential makes of the Gaussian is one in which E[y_1 y_2^T] = R X and 2 u E[y_1 y_1^T] = I - R, with

        F = (I + 2 v k B^T B)^-1    X = A F B^T    R = (I + 2 u A ((k - 1/k) I + F / k) A^T)^-1

    and the exponential's expectation is sqrt(det F det R). Nothing cancels, however small the noise is.

    Attributes:
        weight: ``(..., U, V)`` (u v)^-1/2 du dv times the expectation of the exponential.
        inverse: ``(..., U, V, M, M)`` R.
        cross: ``(..., 1, V, M, M)`` X.
    """

    weight: Tensor
    inverse: Tensor
    cross: Tensor


def _tilted(a: Tensor, b: Tensor, k: float) -> _Tilted:
    sides = []
    for matrix in (a.detach(), b.detach()):
        spectrum = torch.linalg.eigvalsh(k * matrix @ matrix.mT)
        largest = spectrum[..., -1:]
        if not bool((largest > 0).all()):
            raise ValueError("weights of zeros have no cosine: start from weights that are not 0")
        y, step = (torch.as_tensor(t) for t in quadrature_nodes((spectrum / largest).clamp(min=0).numpy()))
        sides.append((y / largest.sqrt(), step / y))
    (first, first_step), (second, second_step) = sides  # sqrt(2 u) and sqrt(2 v), and what integrates over them
    a, b, eye = a[..., None, :, :], b[..., None, :, :], torch.eye(a.shape[-1], dtype=a.dtype)
    factor = torch.linalg.cholesky(eye + k * second[..., None, None] ** 2 * (b.mT @ b))
    within = torch.cholesky_inverse(factor)
    spread = (a @ ((k - 1 / k) * eye + within / k) @ a.mT)[..., None, :, :, :]
    outer = torch.linalg.cholesky(eye + first[..., :, None, None, None] ** 2 * spread)
    logs = (torch.diagonal(f, dim1=-2, dim2=-1).log().sum(-1) for f in (outer, factor[..., None, :, :, :]))
    area = 2 * (first * first_step)[..., :, None] * (second * second_step)[..., None, :]
    return _Tilted(area * torch.exp(-sum(logs)), torch.cholesky_inverse(outer), (a @ within @ b.mT)[..., None, :, :, :])


def _expected_cosine(a: Tensor, b: Tensor, k: float) -> Tensor:
    """E[cos(A x_1, B x_2)] = (1/pi) int int (u v)^-1/2 E[y_1 . y_2 exp(-u |y_1|^2 - v |y_2|^2)] du dv."""
    tilted = _tilted(a, b, k)
    dot = (tilted.inverse * tilted.cross.mT).sum((-2, -1))
    return (tilted.weight * dot).sum((-2, -1)) / torch.pi


def _expected_iso_cosine(w: Tensor, frozen: Tensor, w_p: Tensor, k: float) -> Tensor:
    """Eq. 17, linear and quadratic in W with what is under the stop-gradients for coefficients, on the rows' span.

    With p, q the directions of W_P z_1 and z_2, and R the pseudo-inverse of W_P W, so that x_1 is R W_P z_1 there,

        L = -tr(W R E[p q^T]) + tr(W^T W_P W R E[(p . q) p p^T] R^T) / 2
    """
    with torch.no_grad():
        tilted, outputs = _tilted(w_p @ frozen, frozen, k), w.shape[-2]
        own = torch.eye(outputs, dtype=w.dtype) - tilted.inverse  # E[y_1 y_1^T] times 2 u
        cross = tilted.inverse @ tilted.cross
        dot = torch.diagonal(cross, dim1=-2, dim2=-1).sum(-1)[..., None, None]
        crossed = own @ cross.mT
        weight = tilted.weight[..., None, None] / torch.pi
        linear = (weight * cross).sum((-4, -3))
        quadratic = (weight * (own * dot + crossed + crossed.mT)).sum((-4, -3))
        inverse = torch.linalg.pinv(w_p @ frozen, rtol=1e-13)
    back = w @ inverse
    return ((back @ quadratic) * (w_p @ back)).sum((-2, -1)) / 2 - (back * linear.mT).sum((-2, -1))


def quadrature_nodes(relative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
