"""FroSSL, Barlow Twins and their kin with one linear layer a view: losses, equations of the modes, closed forms.

FroSSL's Section 5.1 and Appendix D. Two linear layers W1, W2, one a view, embed N centred samples: Z_v = X_v W_v^T.
Losses depend on the data through its second moments alone, here divided by N:

    G_v = X_v^T X_v / N        K = X1^T X2 / N

If G1, G2 and K have eigenvectors in common (:class:`Modes`) and the layers start aligned with them, every mode moves
by itself: s1, s2 are the singular values of the layers in it, y_v = lambda_v s_v^2 is what spectra show, an
eigenvalue of Z_v^T Z_v / N.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Modes:
    """Eigenvalues of the second moments of two views, in their common eigenvectors.

    Args:
        first: ``(K,)`` lambda of view 1, above 0.
        second: ``(K,)`` gamma of view 2, above 0.
        cross: ``(K,)`` kappa = rho sqrt(lambda gamma) of X1^T X2 / N.

    Raises:
        ValueError: shapes differ, an eigenvalue is not above 0, or a correlation is outside [-1, 1].
    """

    first: np.ndarray
    second: np.ndarray
    cross: np.ndarray

    def __post_init__(self) -> None:
        for name in ("first", "second", "cross"):
            object.__setattr__(self, name, np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64)))
        if not (self.first.shape == self.second.shape == self.cross.shape and self.first.ndim == 1):
            shapes = ", ".join(str(a.shape) for a in (self.first, self.second, self.cross))
            raise ValueError(f"modes of both views and of their product must be as many, got shapes {shapes}")
        for name, values in (("first", self.first), ("second", self.second)):
            if not (values > 0).all():
                raise ValueError(
                    f"eigenvalue {np.argmin(values)} of the {name} view is {values.min():g}: all must be above 0; leave"
                    " out the directions in which the samples do not vary"
                )
        if (np.abs(self.rho) > 1 + _TOLERANCE).any():
            worst = int(np.argmax(np.abs(self.rho)))
            raise ValueError(
                f"the views' correlation rho in mode {worst} is {self.rho[worst]:g}: it must lie in [-1, 1], so |cross|"
                f" must be at most sqrt(first second) = {np.sqrt(self.first[worst] * self.second[worst]):g}"
            )

    @classmethod
    def correlated(cls, rho: float | np.ndarray, first: np.ndarray, second: np.ndarray | None = None) -> "Modes":
        """Modes of given variance and correlation.

        Args:
            rho: correlation of the views, from -1 to 1; one for all modes or ``(K,)``.
            first: ``(K,)`` lambda.
            second: ``(K,)`` gamma; None: the same.
        """
        first = np.atleast_1d(np.asarray(first, dtype=np.float64))
        second = first if second is None else np.atleast_1d(np.asarray(second, dtype=np.float64))
        with np.errstate(invalid="ignore"):
            return cls(first, second, rho * np.sqrt(first * second))

    @property
    def rho(self) -> np.ndarray:
        """``(K,)`` correlation of the views in each mode."""
        return self.cross / np.sqrt(self.first * self.second)


@dataclass(frozen=True)
class Moments:
    """Second moments of two views.

    Args:
        first: ``(D, D)`` float64, G1.
        second: ``(D, D)`` float64, G2.
        cross: ``(D, D)`` float64, K = X1^T X2 / N.

    Raises:
        ValueError: shapes differ, or together they are no covariance: not symmetric, or not positive semi-definite.
    """

    first: Tensor
    second: Tensor
    cross: Tensor

    def __post_init__(self) -> None:
        for name in ("first", "second", "cross"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        shape = self.first.shape
        if len(shape) != 2 or shape[0] != shape[1] or {self.second.shape, self.cross.shape} != {shape}:
            raise ValueError(
                f"moments must be three square matrices of one size, got {tuple(shape)}, {tuple(self.second.shape)},"
                f" {tuple(self.cross.shape)}"
            )
        scale = float(torch.maximum(self.first.abs().max(), self.second.abs().max()))
        for name, matrix in (("first", self.first), ("second", self.second)):
            if float((matrix - matrix.T).abs().max()) > _TOLERANCE * scale:
                raise ValueError(f"the {name} view's second moment is not symmetric")
        whole = torch.cat([torch.cat([self.first, self.cross], 1), torch.cat([self.cross.T, self.second], 1)])
        least = float(torch.linalg.eigvalsh(whole)[0])
        if least < -_TOLERANCE * scale:
            raise ValueError(
                f"the views' joint covariance has the eigenvalue {least:g}: there are no samples with such moments;"
                " compute all three from the same samples, as Moments.of does"
            )

    @classmethod
    def of(cls, view1: Tensor, view2: Tensor) -> "Moments":
        """Moments of samples.

        Args:
            view1: ``(N, D)``, centred or not.
            view2: ``(N, D)``, the same samples seen otherwise.

        Raises:
            ValueError: shapes differ or there is no sample.
        """
        view1, view2 = (torch.as_tensor(x).double() for x in (view1, view2))
        if view1.ndim != 2 or view1.shape != view2.shape or not len(view1):
            raise ValueError(f"views must be (N, D) and of one shape, got {tuple(view1.shape)}, {tuple(view2.shape)}")
        count = len(view1)
        return cls(view1.T @ view1 / count, view2.T @ view2 / count, view1.T @ view2 / count)

    @classmethod
    def aligned(cls, modes: Modes, vectors: Tensor | None = None) -> "Moments":
        """Moments that have these modes.

        Args:
            modes: K of them.
            vectors: ``(D, K)`` orthonormal columns V, the common eigenvectors; None: the axes.
        """
        v = torch.eye(len(modes.first), dtype=torch.float64) if vectors is None else vectors.double()
        return cls(*((v * torch.as_tensor(m)) @ v.T for m in (modes.first, modes.second, modes.cross)))


def frossl_loss(w1: Tensor, w2: Tensor, moments: Moments) -> Tensor:
    """FroSSL's variant for the linear regime (FroSSL, Eqs. 8 and 10).

        L = ||W1 G1 W1^T - I||_F^2 + ||W2 G2 W2^T - I||_F^2 + ||X1 W1^T - X2 W2^T||_F^2 / N

    Args:
        w1: ``(..., M, D)`` layer of view 1.
        w2: ``(..., M, D)`` layer of view 2.
        moments: of the two views.

    Returns:
        ``(...)``, 0 or more.
    """
    c1, c2 = w1 @ moments.first @ w1.mT, w2 @ moments.second @ w2.mT
    distance = _trace(c1) + _trace(c2) - 2 * _trace(w1 @ moments.cross @ w2.mT)
    return _distance_to_identity(c1) + _distance_to_identity(c2) + distance


def frossl_gradient(w1: Tensor, w2: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """Gradient of :func:`frossl_loss`: dL/dW1 = -2 (W1 G1 + W2 K^T - 2 W1 G1 W1^T W1 G1), and W2 by symmetry.

    Printed in FroSSL's Eqs. 12, 13, 28 and 29 as 2 (W G + 2 W2 X2^T X1 + 2 W G W^T W G), which is wrong in the first
    term's sign, the second's factor and sign.
    """
    g1, g2, cross = moments.first, moments.second, moments.cross
    first = -2 * (w1 @ g1 + w2 @ cross.mT - 2 * w1 @ g1 @ w1.mT @ w1 @ g1)
    second = -2 * (w2 @ g2 + w1 @ cross - 2 * w2 @ g2 @ w2.mT @ w2 @ g2)
    return first, second


def barlow_loss(w1: Tensor, w2: Tensor, moments: Moments) -> Tensor:
    """Barlow Twins' variant for the linear regime (Simon et al. 2023): L = ||W1 K W2^T - I||_F^2.

    Arguments and result are those of :func:`frossl_loss`.
    """
    return _distance_to_identity(w1 @ moments.cross @ w2.mT)


def spectral_contrastive_loss(w1: Tensor, w2: Tensor, moments: Moments) -> Tensor:
    """SimCLR's variant for the linear regime, the spectral contrastive loss (HaoChen et al. 2021, Eq. 6).

        L = -2 E[z1 . z2] + E[(z1 . z2')^2] = -2 tr(W1 K W2^T) + tr(W1 G1 W1^T W2 G2 W2^T)

    z2' being view 2 of another sample: SimCLR's loss to second order in the similarities. Arguments are those of
    :func:`frossl_loss`; the result can be negative.
    """
    c1, c2 = w1 @ moments.first @ w1.mT, w2 @ moments.second @ w2.mT
    return _trace(c1 @ c2) - 2 * _trace(w1 @ moments.cross @ w2.mT)


def vicreg_loss(
    w1: Tensor,
    w2: Tensor,
    moments: Moments,
    *,
    variance_weight: float = 25.0,
    invariance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> Tensor:
    """VICReg (Bardes et al. 2022, Eqs. 1 to 6) with one linear layer a view, sums over dimensions in place of means.

        L = mu sum_v sum_i max(0, 1 - sqrt(C_v,ii)) + nu (tr C1 + tr C2 - 2 tr(W1 K W2^T)) + xi sum_v sum_i!=j C_v,ij^2

    with C_v = W_v G_v W_v^T. Arguments and result are those of :func:`frossl_loss`.
    """
    total = -2 * invariance_weight * _trace(w1 @ moments.cross @ w2.mT)
    for w, g in ((w1, moments.first), (w2, moments.second)):
        c = w @ g @ w.mT
        diagonal = torch.diagonal(c, dim1=-2, dim2=-1)
        hinge = (1 - diagonal.clamp(min=1e-300).sqrt()).clamp(min=0).sum(-1)
        off_diagonal = c.square().sum((-2, -1)) - diagonal.square().sum(-1)
        total = (
            total + variance_weight * hinge + invariance_weight * diagonal.sum(-1) + covariance_weight * off_diagonal
        )
    return total


def aligned_weights(s1: np.ndarray, s2: np.ndarray, *, outputs: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Layers W_v = U diag(s_v) V^T.

    U is the same for both layers (the paper's Prop. D.1 lets it differ; then the singular vectors rotate, and no
    equation of the modes holds).

    Args:
        s1: ``(..., K)`` singular values of W1.
        s2: ``(..., K)`` of W2.
        outputs: ``(M, K)`` orthonormal columns U.
        vectors: ``(D, K)`` orthonormal columns V, those of the moments.

    Returns:
        W1 and W2, ``(..., M, D)``.
    """
    first, second = (torch.as_tensor(s, dtype=torch.float64) for s in (s1, s2))
    return (outputs * first[..., None, :]) @ vectors.mT, (outputs * second[..., None, :]) @ vectors.mT


# ----------------------------------------------------------------------------------------------- equations of the modes


def frossl_rate(s: np.ndarray, modes: Modes) -> np.ndarray:
    """FroSSL's gradient flow in the modes (from FroSSL, Eqs. 24 and 27, whose signs are misprinted).

        s1' = 2 lambda s1 + 2 kappa s2 - 4 lambda^2 s1^3
        s2' = 2 gamma  s2 + 2 kappa s1 - 4 gamma^2  s2^3

    Args:
        s: ``(2, K)``: s1 and s2.
        modes: K of them.

    Returns:
        ``(2, K)``.
    """
    variance = np.stack([modes.first, modes.second])
    return 2 * variance * s + 2 * modes.cross * s[::-1] - 4 * variance**2 * s**3


def barlow_rate(s: np.ndarray, modes: Modes) -> np.ndarray:
    """Barlow Twins' gradient flow in the modes, s1' = 2 kappa s2 (1 - kappa s1 s2), and s2 by symmetry.

    It conserves s1^2 - s2^2. Arguments and result are those of :func:`frossl_rate`.
    """
    return 2 * modes.cross * s[::-1] * (1 - modes.cross * s[0] * s[1])


def spectral_contrastive_rate(s: np.ndarray, modes: Modes) -> np.ndarray:
    """Gradient flow of :func:`spectral_contrastive_loss` in the modes, s1' = 2 s2 (kappa - lambda gamma s1 s2).

    It conserves s1^2 - s2^2. Arguments and result are those of :func:`frossl_rate`.
    """
    return 2 * s[::-1] * (modes.cross - modes.first * modes.second * s[0] * s[1])


def vicreg_rate(
    s: np.ndarray, modes: Modes, *, variance_weight: float = 25.0, invariance_weight: float = 25.0
) -> np.ndarray:
    """Gradient flow of :func:`vicreg_loss` in the modes, where each output has one mode to itself (U = I).

        s1' = mu sqrt(lambda) [lambda s1^2 < 1] sign(s1) - 2 nu (lambda s1 - kappa s2)

    and s2 by symmetry. The covariance term is 0 there, and so is its gradient. With another U there are no equations of
    the modes, for the hinge goes by single outputs. Arguments and result are those of :func:`frossl_rate`.
    """
    variance = np.stack([modes.first, modes.second])
    push = variance_weight * np.sqrt(variance) * np.sign(s) * (variance * s**2 < 1)
    return push - 2 * invariance_weight * (variance * s - modes.cross * s[::-1])


# ----------------------------------------------------------------------------------- the objectives as they are trained


def hadamard(outputs: int) -> Tensor:
    """Sylvester's Hadamard matrix over sqrt(M): orthonormal, and all entries +-1 / sqrt(M).

    Layers whose left factor it is have outputs of equal variance, whatever their singular values.

    Args:
        outputs: M, a power of 2.

    Returns:
        ``(M, M)`` float64.

    Raises:
        ValueError: M is no power of 2.
    """
    if outputs < 1 or outputs & (outputs - 1):
        raise ValueError(f"outputs is {outputs}: it must be a power of 2")
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < outputs:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / outputs**0.5


def trained_frossl_rate(
    s: np.ndarray,
    modes: Modes,
    *,
    samples: int,
    invariance_weight: float = 1.0,
    log_variance: bool = True,
) -> np.ndarray:
    """Gradient flow of the objective that is trained, :func:`solo_frossl.losses.frossl_loss`, in the modes.

    That objective divides every output by its standard deviation. The modes have equations all the same if one layer
    serves both views, lambda = gamma, and its left factor is :func:`hadamard`: then all outputs have the variance
    mean_k y_k, y_k = lambda_k s_k^2, and with M modes

        L = 2 log(sum y^2 / (sum y)^2) + (2 M / N) w (1 - sum rho y / sum y)        s' = -dL/ds

    without the logarithm 2 sum y^2 / (sum y)^2 is the first term. Neither depends on the scale of y, so sum_k s_k^2 is
    conserved. At a large batch all y become equal.

    The spectrum of a linear backbone that is trained with the product's FroSSL must follow this if, moreover, the right
    factor is the common eigenvectors of the views' moments, the batch has the data's moments, and it learns by plain
    gradient descent in small steps without weight decay. docs/theory.md has the conditions in full.

    Args:
        s: ``(M,)`` singular values of the layer.
        modes: M of them, with lambda = gamma.
        samples: N, the batch size, which divides the invariance term.
        invariance_weight: w.
        log_variance: false for the objective without logarithm.

    Returns:
        ``(M,)``.
    """
    _must_be_symmetric(modes)
    y = modes.first * s**2
    total, squares = y.sum(), (y**2).sum()
    shape = 2 * (2 * y / squares - 2 / total)
    if not log_variance:
        shape = shape * squares / total**2
    apart = 2 * len(y) * invariance_weight / samples * ((modes.rho * y).sum() / total**2 - modes.rho / total)
    return -(shape + apart) * 2 * modes.first * s


def trained_barlow_rate(
    s: np.ndarray, modes: Modes, *, off_diagonal_weight: float = 0.0051, scale: float = 0.1
) -> np.ndarray:
    """Gradient flow of :func:`solo_frossl.losses.barlow_twins_loss` in the modes, as :func:`trained_frossl_rate`.

        L = scale (M (1 - r)^2 + w (M^2 sum (rho y)^2 / (sum y)^2 - M r^2)),   r = sum rho y / sum y

    Args:
        s: ``(M,)`` singular values of the layer.
        modes: M of them, with lambda = gamma.
        off_diagonal_weight: w.
        scale: factor on the whole.

    Returns:
        ``(M,)``.
    """
    _must_be_symmetric(modes)
    y, rho, outputs = modes.first * s**2, modes.rho, len(s)
    total, squares = y.sum(), (rho**2 * y**2).sum()
    r = (rho * y).sum() / total
    of_r = (rho - r) / total
    of_squares = 2 * rho**2 * y / total**2 - 2 * squares / total**3
    gradient = -2 * outputs * (1 - r) * of_r + off_diagonal_weight * (outputs**2 * of_squares - 2 * outputs * r * of_r)
    return -scale * gradient * 2 * modes.first * s


# --------------------------------------------------------------------------------------------------------- closed forms


class Logistic(NamedTuple):
    """Growth of y = s^2 in the symmetric case s1 = s2, lambda = gamma: y' = rate y (1 - y / limit).

    Attributes:
        rate: ``(K,)`` r.
        limit: ``(K,)`` y*, what s^2 comes to.
    """

    rate: np.ndarray
    limit: np.ndarray

    def at(self, time: np.ndarray, start: float | np.ndarray) -> np.ndarray:
        """y(t) = y* / (1 + (y*/y0 - 1) exp(-r t)).

        Args:
            time: ``(T,)``.
            start: y0, above 0; one for all modes or ``(K,)``.

        Returns:
            ``(T, K)``.
        """
        time, start = np.asarray(time, dtype=np.float64)[..., None], np.asarray(start, dtype=np.float64)
        if not (start > 0).all():
            raise ValueError(f"start is {start.min():g}: from 0 and below nothing grows, it must be above 0")
        return self.limit / (1 + (self.limit / start - 1) * np.exp(-self.rate * time))

    def time_to_reach(self, fraction: float, start: float | np.ndarray) -> np.ndarray:
        """When y is at a fraction q of its limit: t_q = ln[q / (1 - q) (y*/y0 - 1)] / r.

        Args:
            fraction: q, between 0 and 1.
            start: y0, above 0 and below ``fraction`` of the limit.

        Returns:
            ``(K,)``.

        Raises:
            ValueError: a value is out of range.
        """
        start = np.asarray(start, dtype=np.float64)
        if not 0 < fraction < 1:
            raise ValueError(
                f"fraction is {fraction}: it must lie between 0 and 1, for the limit itself is never reached"
            )
        if not ((start > 0) & (start < fraction * self.limit)).all():
            raise ValueError(f"start is {start}: it must lie above 0 and below {fraction} of the limit {self.limit}")
        return np.log(fraction / (1 - fraction) * (self.limit / start - 1)) / self.rate


def frossl_growth(modes: Modes) -> Logistic:
    """FroSSL's closed form: r = 4 (lambda + kappa), y* = (lambda + kappa) / (2 lambda^2).

    Exact for lambda = gamma and s1 = s2 only (FroSSL, Eqs. 18, 33 and 34, print one that decays to 0).

    Raises:
        ValueError: lambda and gamma differ.
    """
    _must_be_symmetric(modes)
    grows = modes.first + modes.cross
    return Logistic(4 * grows, grows / (2 * modes.first**2))


def barlow_growth(modes: Modes) -> Logistic:
    """Barlow Twins' closed form: r = 4 kappa, y* = 1 / kappa; for s1 = s2.

    Raises:
        ValueError: lambda and gamma differ, or a correlation is not above 0.
    """
    _must_be_symmetric(modes)
    _must_correlate(modes)
    return Logistic(4 * modes.cross, 1 / modes.cross)


def spectral_contrastive_growth(modes: Modes) -> Logistic:
    """The spectral contrastive loss's closed form: r = 4 kappa, y* = kappa / lambda^2; for s1 = s2.

    Raises:
        ValueError: lambda and gamma differ, or a correlation is not above 0.
    """
    _must_be_symmetric(modes)
    _must_correlate(modes)
    return Logistic(4 * modes.cross, modes.cross / modes.first**2)


def vicreg_growth(
    time: np.ndarray,
    start: float | np.ndarray,
    modes: Modes,
    *,
    variance_weight: float = 25.0,
    invariance_weight: float = 25.0,
) -> np.ndarray:
    """VICReg's closed form: the standard deviation a = sqrt(lambda) s goes to its limit exponentially, from the start.

        a(t) = a* + (a0 - a*) exp(-2 nu lambda (1 - rho) t),   a* = mu / (2 nu (1 - rho)),   and never above 1

    So a mode takes time in proportion to 1 / lambda and does not wait: its growth does not depend on how small it is.

    Args:
        time: ``(T,)``.
        start: s0, above 0, with a0 at most 1; one for all modes or ``(K,)``.
        modes: K of them, with lambda = gamma.
        variance_weight: mu.
        invariance_weight: nu.

    Returns:
        ``(T, K)``: s.
    """
    _must_be_symmetric(modes)
    time = np.asarray(time, dtype=np.float64)[:, None]
    deviation = np.sqrt(modes.first)
    a0 = deviation * np.asarray(start, dtype=np.float64)
    if not ((a0 > 0) & (a0 <= 1)).all():
        raise ValueError(f"start gives standard deviations {a0}: they must lie above 0 and be at most 1")
    pull = 2 * invariance_weight * modes.first * (1 - modes.rho)
    push = variance_weight * modes.first
    pulled = pull > _TOLERANCE * push
    safe = np.where(pulled, pull, 1.0)
    curved = push / safe + (a0 - push / safe) * np.exp(-safe * time)
    return np.minimum(np.where(pulled, curved, a0 + push * time), 1.0) / deviation


# --------------------------------------------------------------------------------------------------------- fixed points


class FixedPoint(NamedTuple):
    """A point where a mode of FroSSL's flow rests, in a = sqrt(lambda) s1, b = sqrt(gamma) s2.

    Attributes:
        a: of view 1.
        b: of view 2.
        loss: of this mode there.
        curvature: the two eigenvalues of the loss's Hessian in (a, b), ascending.
        kind: ``minimum``, ``spurious minimum`` (a local one above the global one), ``saddle``, ``maximum`` or
            ``degenerate`` (a curvature of 0).
    """

    a: float
    b: float
    loss: float
    curvature: tuple[float, float]
    kind: str


def mode_loss(a: float | np.ndarray, b: float | np.ndarray, rho: float) -> float | np.ndarray:
    """FroSSL's loss of one mode, (a^2 - 1)^2 + (b^2 - 1)^2 + a^2 + b^2 - 2 rho a b.

    Its least value is 2 (1 - ((1 + rho) / 2)^2), at a = b = +-sqrt((1 + rho) / 2).
    """
    return (a**2 - 1) ** 2 + (b**2 - 1) ** 2 + a**2 + b**2 - 2 * rho * a * b


def fixed_points(rho: float) -> list[FixedPoint]:
    """Where a mode of FroSSL's flow rests: 0, a = b = +-sqrt((1 + rho)/2), a = -b = +-sqrt((1 - rho)/2), and beyond.

    a = -b is a saddle for rho > 1/2 and a spurious local minimum for 0 < rho < 1/2, where four more saddles lie between
    it and the minimum: a^2 + b^2 = 1/2 and a b = -rho / 2.

    Args:
        rho: correlation of the views, from -1 to 1.

    Raises:
        ValueError: rho is outside.
    """
    if not -1 <= rho <= 1:
        raise ValueError(f"rho is {rho}: a correlation lies in [-1, 1]")
    same, opposite = np.sqrt((1 + rho) / 2), np.sqrt((1 - rho) / 2)
    places = [(0.0, 0.0)]
    places += [(sign * same, sign * same) for sign in (1, -1) if same > 0]
    places += [(sign * opposite, -sign * opposite) for sign in (1, -1) if opposite > 0]
    if abs(rho) < 0.5:  # a != +-b: from the sum and the difference of the two equations
        total, apart = np.sqrt(0.5 - rho), np.sqrt(0.5 + rho)
        places += [((i * total + j * apart) / 2, (i * total - j * apart) / 2) for i in (1, -1) for j in (1, -1)]
    least = 2 * (1 - ((1 + abs(rho)) / 2) ** 2)
    return [_fixed_point(float(a), float(b), rho, least) for a, b in places]


def _fixed_point(a: float, b: float, rho: float, least: float) -> FixedPoint:
    hessian = np.array([[12 * a * a - 2, -2 * rho], [-2 * rho, 12 * b * b - 2]])
    low, high = (float(value) for value in np.linalg.eigvalsh(hessian))
    loss = float(mode_loss(a, b, rho))
    if min(abs(low), abs(high)) < _TOLERANCE:
        kind = "degenerate"
    elif low > 0:
        kind = "minimum" if loss < least + _TOLERANCE else "spurious minimum"
    else:
        kind = "saddle" if high > 0 else "maximum"
    return FixedPoint(a, b, loss, (low, high), kind)


def _must_be_symmetric(modes: Modes) -> None:
    if not np.allclose(modes.first, modes.second, rtol=_TOLERANCE, atol=0):
        raise ValueError(
            "the views' eigenvalues differ: the closed form holds for first = second only; integrate the rate instead"
        )


def _must_correlate(modes: Modes) -> None:
    if not (modes.cross > 0).all():
        raise ValueError(f"a correlation is {modes.rho.min():g}: this mode does not grow, it must be above 0")


def _trace(matrix: Tensor) -> Tensor:
    return torch.diagonal(matrix, dim1=-2, dim2=-1).sum(-1)


def _distance_to_identity(matrix: Tensor) -> Tensor:
    """Squared Frobenius distance, for ``(..., M, M)``."""
    return (matrix - torch.eye(matrix.shape[-1], dtype=matrix.dtype)).square().sum((-2, -1))
