"""The equations of the modes, their closed forms, and where FroSSL's rest."""

from typing import NamedTuple

import numpy as np

from solo_frossl.theory.linear_regime.setting import TOLERANCE, Modes, must_be_symmetric


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
    must_be_symmetric(modes)
    grows = modes.first + modes.cross
    return Logistic(4 * grows, grows / (2 * modes.first**2))


def barlow_growth(modes: Modes) -> Logistic:
    """Barlow Twins' closed form: r = 4 kappa, y* = 1 / kappa; for s1 = s2.

    Raises:
        ValueError: lambda and gamma differ, or a correlation is not above 0.
    """
    must_be_symmetric(modes)
    _must_correlate(modes)
    return Logistic(4 * modes.cross, 1 / modes.cross)


def spectral_contrastive_growth(modes: Modes) -> Logistic:
    """The spectral contrastive loss's closed form: r = 4 kappa, y* = kappa / lambda^2; for s1 = s2.

    Raises:
        ValueError: lambda and gamma differ, or a correlation is not above 0.
    """
    must_be_symmetric(modes)
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
    must_be_symmetric(modes)
    time = np.asarray(time, dtype=np.float64)[:, None]
    deviation = np.sqrt(modes.first)
    a0 = deviation * np.asarray(start, dtype=np.float64)
    if not ((a0 > 0) & (a0 <= 1)).all():
        raise ValueError(f"start gives standard deviations {a0}: they must lie above 0 and be at most 1")
    pull = 2 * invariance_weight * modes.first * (1 - modes.rho)
    push = variance_weight * modes.first
    pulled = pull > TOLERANCE * push
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
    if min(abs(low), abs(high)) < TOLERANCE:
        kind = "degenerate"
    elif low > 0:
        kind = "minimum" if loss < least + TOLERANCE else "spurious minimum"
    else:
        kind = "saddle" if high > 0 else "maximum"
    return FixedPoint(a, b, loss, (low, high), kind)


def _must_correlate(modes: Modes) -> None:
    if not (modes.cross > 0).all():
        raise ValueError(f"a correlation is {modes.rho.min():g}: this mode does not grow, it must be above 0")
