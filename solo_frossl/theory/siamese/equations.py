"""The equations of the eigenvalues of W W^T, what they conserve, where they rest, and their solutions."""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, hyp2f1, lambertw, wrightomega

from solo_frossl.theory.siamese.expectations import quadrature_nodes
from solo_frossl.theory.siamese.setting import Siamese, positive


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


def _cosine_moments(s: np.ndarray, lam: np.ndarray, k: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[p_m q_m], E[(p . q) p_m^2] and E[(p . q) q_m^2], each ``(..., M)``."""
    first, second = (x / np.where(x.max(-1, keepdims=True) > 0, x.max(-1, keepdims=True), 1) for x in (lam**2 * s, s))
    (y1, step1), (y2, step2) = (quadrature_nodes(x) for x in (first, second))
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
    s = positive("eigenvalue", s)
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
    positive("eigenvalue", s)
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
    start = positive("start", start)
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
    s, start = np.broadcast_arrays(positive("eigenvalue", s), positive("start", start))
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


def _needs_cosine(siamese: Siamese, otherwise: str) -> None:
    if siamese.similarity != "cosine":
        raise ValueError(f"similarity is euclidean, which {otherwise}; this is for the cosine")


def _needs_euclidean(siamese: Siamese) -> None:
    if siamese.similarity != "euclidean":
        raise ValueError("similarity is cosine: its modes are coupled and have no closed form; integrate rate")


def _needs_unnormalised(siamese: Siamese) -> None:
    if siamese.normalize and siamese.variant != "no_predictor":
        raise ValueError("normalize couples each mode to the largest one: integrate rate, or take normalize=False")
