"""What gradient descent follows in q, what that comes to, and for one output its solution (Theorems 2 and 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.integrate import cumulative_simpson
from scipy.special import expit, logsumexp

from solo_frossl.theory.flow import Trajectory, integrate
from solo_frossl.theory.orthogonal.problem import checked_outputs, must_be_deep

_TOLERANCE = 1e-8


class Flow(NamedTuple):
    """Factors of q' = -[linear Lambda q - right Lambda q q^T q - left q q^T Lambda q].

    In every flow here linear = right + left.
    """

    linear: float
    right: float
    left: float


GRASSMANN = Flow(4.0, 2.0, 2.0)
"""Eq. 8, q' = -2 [2 Lambda q - Lambda q q^T q - q q^T Lambda q], for any depth."""
PRINTED_EQ_11 = Flow(2.0, 1.0, 1.0)
"""What Eq. 11 is as printed, without the factor 2 of Eq. 8: half as fast."""


def projected_flow(depth: int = 2) -> Flow:
    """What :func:`projected_polar` follows, which depends on the depth l and is not Eq. 8.

        q' = -[(l + 2) Lambda q - Lambda q q^T q - (l + 1) q q^T Lambda q]

    For a raw gradient G the polar factor of W - eta G moves W along -(G - W sym(W^T G)). So the first and the last
    layer turn within their span too, and so do square layers. The limits are those of Eq. 8.

    Args:
        depth: l, 2 or more.
    """
    must_be_deep(depth)
    return Flow(depth + 2.0, 1.0, depth + 1.0)


def trace_rate(q: np.ndarray, eigenvalues: np.ndarray, flow: Flow = GRASSMANN) -> np.ndarray:
    """The flow of q (Theorem 2, Eq. 8; for z = 1 Eq. 9). Eq. 11, its :func:`euler` step, prints the factor 2 away.

    With B = q^T Lambda q and D = I - q^T q, D' = linear (B D + D B). So the ranks of D and q are conserved, a singular
    value below 1 never reaches it, one that is 1 stays so, and d/dt ln det D = 2 linear Tr(q^T Lambda q).

    Args:
        q: ``(..., d, z)``.
        eigenvalues: ``(d,)`` of C.
        flow: which one.

    Returns:
        ``(..., d, z)``.
    """
    scaled = eigenvalues[:, None] * q
    transposed = q.swapaxes(-1, -2)
    return -(flow.linear * scaled - flow.right * scaled @ (transposed @ q) - flow.left * q @ (transposed @ scaled))


def projected_qr_rate(p: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """What :func:`projected_qr` follows for two layers, in P = W_2^T W_1; the coordinates of the samples enter.

        P' = -4 P C + U(2 P C P^T)^T P + P U(2 P^T P C)

    with U(A) upper triangular, the diagonal of A and above it A + A^T. The optimum P = v_1^T is a fixed point only if
    v_1 is an axis.

    Args:
        p: ``(z, d)``.
        matrix: ``(d, d)`` C.

    Returns:
        ``(z, d)``.
    """

    def triangular(a: np.ndarray) -> np.ndarray:
        return np.triu(a) + np.triu(a.T, 1)

    return -4 * p @ matrix + triangular(2 * p @ matrix @ p.T).T @ p + p @ triangular(2 * p.T @ p @ matrix)


def evolve(
    start: np.ndarray, eigenvalues: np.ndarray, times: Sequence[float] | np.ndarray, *, flow: Flow = GRASSMANN
) -> Trajectory:
    """Solve the flow of q from time 0.

    Args:
        start: ``(..., d, z)`` q at time 0.
        eigenvalues: ``(d,)`` of C.
        times: increasing, 0 or more; learning rate times steps.
        flow: which one.

    Raises:
        ValueError: a singular value of the start is above 1: no orthogonal layers have such outputs, and the solution
            would run away.
    """
    start = checked_outputs(start, eigenvalues)
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    return integrate(lambda q: trace_rate(q, eigenvalues, flow), start, times)


def euler(
    start: np.ndarray,
    eigenvalues: np.ndarray,
    *,
    learning_rate: float,
    steps: int,
    every: int = 1,
    flow: Flow = GRASSMANN,
) -> Trajectory:
    """The flow of q by Euler's scheme, q + learning_rate q' (Eq. 11), seen as ``descend`` sees gradient descent.

    Args:
        start: ``(..., d, z)`` q at time 0.
        eigenvalues: ``(d,)`` of C.
        learning_rate: the step in time.
        steps: 0 or more.
        every: steps between two values that are kept; the last one is.
        flow: which one; :data:`PRINTED_EQ_11` for what the paper prints.
    """
    q, times, seen = start, [], []
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            times.append(learning_rate * step)
            seen.append(q)
        q = q + learning_rate * trace_rate(q, eigenvalues, flow)
    return Trajectory(np.array(times), np.stack(seen))


def trace_of(q: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """The loss by q, Tr(q^T Lambda q): ``(...)`` for ``(..., d, z)``."""
    return (eigenvalues[:, None] * q**2).sum((-2, -1))


def projection_norms(q: np.ndarray, *, tolerance: float = 1e-9) -> np.ndarray:
    """Norms of the eigenvectors' projections onto the space that q's columns span (Conjecture 2, Fig. 4).

    Args:
        q: ``(..., d, z)``.
        tolerance: singular values below this times the largest count as 0, and their directions are left out.

    Returns:
        ``(..., d)`` from 0 to 1; the squares sum to q's rank.
    """
    u, s, _ = np.linalg.svd(q, full_matrices=False)
    kept = s > tolerance * s[..., :1].clip(min=np.finfo(float).tiny)
    return np.sqrt((u**2 * kept[..., None, :]).sum(-1))


def limit_singular_values(eigenvalues: np.ndarray, outputs: int) -> np.ndarray:
    """Singular values that q comes to from almost any start, descending ``(z,)``: a 1 for each negative eigenvalue.

    Conjecture 2 in full: q comes to span the eigenvectors of the min(z, number of negative eigenvalues) least
    eigenvalues, if none is 0. With fewer negative ones than outputs q loses rank, which the conjecture leaves out.
    """
    negative = int((np.asarray(eigenvalues) < 0).sum())
    return (np.arange(outputs) < negative).astype(float)


# -------------------------------------------------------------------------------------------- one output: Theorem 3


class FixedPoint(NamedTuple):
    """A point where q rests, for one output.

    Attributes:
        q: ``(d,)``.
        rates: ``(d,)`` eigenvalues of the flow's Jacobian there, one along each v_j.
        kind: ``stable``, ``saddle``, ``unstable`` or ``degenerate`` (a rate of 0).
    """

    q: np.ndarray
    rates: np.ndarray
    kind: str


def fixed_points(eigenvalues: np.ndarray, *, flow: Flow = GRASSMANN) -> list[FixedPoint]:
    """Where q rests for z = 1: at 0 and at each +-v_k; there are no others if the eigenvalues differ and none is 0.

    The rates are -linear lambda_j at 0; at v_k -left (lambda_j - lambda_k) along v_j and 2 linear lambda_k along v_k.
    So 0 is stable when all eigenvalues are positive, +-v_1 when the least is negative, and no other ever is.

    Args:
        eigenvalues: ``(d,)`` of C.
        flow: which one.
    """
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    points = [_fixed_point(np.zeros(len(eigenvalues)), -flow.linear * eigenvalues)]
    for k, eigenvalue in enumerate(eigenvalues):
        rates = -flow.left * (eigenvalues - eigenvalue)
        rates[k] = 2 * flow.linear * eigenvalue
        place = np.eye(len(eigenvalues))[k]
        points += [_fixed_point(place, rates), _fixed_point(-place, rates)]
    return points


def _fixed_point(place: np.ndarray, rates: np.ndarray) -> FixedPoint:
    if np.abs(rates).min() < _TOLERANCE * max(1.0, np.abs(rates).max()):
        kind = "degenerate"
    else:
        growing = int((rates > 0).sum())
        kind = {0: "stable", len(rates): "unstable"}.get(growing, "saddle")
    return FixedPoint(place, rates, kind)


def limit(start: np.ndarray, eigenvalues: np.ndarray, *, flow: Flow = GRASSMANN) -> np.ndarray:
    """What q comes to for z = 1 (Theorem 3), from any start.

    Let lambda_1 be the least eigenvalue along which the start has a component, c that component. Then q comes to 0 if
    lambda_1 > 0, to c / |c| if lambda_1 < 0, so to +-v_1 with the sign of v_1 . q_0, and for lambda_1 = 0 to a point in
    between along c. The paper gives v_1 without the sign and without v_1 . q_0 != 0, and has |q_0| < 1 in its proof.

    Args:
        start: ``(d,)`` q_0 with |q_0| < 1.
        eigenvalues: ``(d,)`` of C.
        flow: which one.

    Returns:
        ``(d,)``.

    Raises:
        ValueError: |q_0| is 1 or more. With 1, q stays on the sphere and comes to c / |c| whatever the sign of
            lambda_1; with more it runs away.
    """
    start, eigenvalues = _one_output(start, eigenvalues)
    if not start.any():
        return start
    least = eigenvalues[start != 0].min()
    margin = _TOLERANCE * np.abs(eigenvalues).max()
    component = np.where(np.abs(eigenvalues - least) <= margin, start, 0.0)
    if least > margin:
        return np.zeros_like(start)
    squared = float(component @ component)
    if least < -margin:
        return component / np.sqrt(squared)
    log_norm = _log_squared_norm(np.log(squared), float(start @ start), flow)[0]
    return component * np.exp((log_norm - np.log(squared)) / 2)


def path(
    start: np.ndarray, eigenvalues: np.ndarray, until: float, *, flow: Flow = GRASSMANN, points: int = 2001
) -> Trajectory:
    """The solution for z = 1 in closed form, up to one integral that gives the time.

    The paper says that there seems to be no simple closed form. But in the time tau with d tau = (linear - right n) dt,
    n = |q|^2, all of q turns as exp(-Lambda tau) q_0, and n follows from the length of that:

        q = sqrt(n / N) exp(-Lambda tau) q_0        N(tau) = |exp(-Lambda tau) q_0|^2
        n^linear / (1 - n)^left = N^linear / (1 - n_0)^left        t = integral of d tau / (linear - right n)

    For Eq. 8, n = (sqrt(A^2 + 4 A) - A) / 2 with A = N^2 / (1 - n_0). As N goes to 0 or grows without bound with tau,
    n goes to 0 or to 1: this is Theorem 3.

    Args:
        start: ``(d,)`` q_0 with |q_0| < 1.
        eigenvalues: ``(d,)`` of C.
        until: time that the solution has to reach, above 0.
        flow: which one.
        points: of the solution; the time's error falls with the fourth power of their number.

    Returns:
        q ``(T, d)`` at times that are not equally spaced, from 0 to at least ``until``.

    Raises:
        ValueError: |q_0| is 1 or more, or until is not above 0.
    """
    start, eigenvalues = _one_output(start, eigenvalues)
    if not until > 0:
        raise ValueError(f"until is {until}: it must be above 0")
    tau = np.linspace(0, flow.linear * until, points)
    if not start.any():
        return Trajectory(tau / flow.linear, np.zeros((points, len(start))))
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(start)) - eigenvalues * tau[:, None]
    log_length = logsumexp(2 * logs, axis=1)
    log_norm = _log_squared_norm(log_length, float(start @ start), flow)
    q = np.sign(start) * np.exp(logs + (log_norm - log_length)[:, None] / 2)
    time = cumulative_simpson(1 / (flow.linear - flow.right * np.exp(log_norm)), x=tau, initial=0.0)
    return Trajectory(time, q)


def _log_squared_norm(log_length: np.ndarray | float, start: float, flow: Flow) -> np.ndarray:
    """ln n of n^linear / (1 - n)^left = N^linear / (1 - n_0)^left, by Newton's method in ln(n / (1 - n))."""
    target = flow.linear * np.atleast_1d(log_length) - flow.left * np.log1p(-start)
    x = target / flow.linear  # the left side is concave in x and at most linear * x: x comes to the root from below
    for _ in range(60):
        value = flow.left * np.logaddexp(0, x) - flow.linear * np.logaddexp(0, -x)
        n = expit(x)
        x = x - (value - target) / (flow.linear * (1 - n) + flow.left * n)
    return -np.logaddexp(0, -x)


def _one_output(start: np.ndarray, eigenvalues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    start, eigenvalues = (np.asarray(a, dtype=np.float64) for a in (start, eigenvalues))
    if start.shape != eigenvalues.shape or start.ndim != 1:
        raise ValueError(f"q_0 and the eigenvalues must both be (d,), got {start.shape} and {eigenvalues.shape}")
    norm = float(np.linalg.norm(start))
    if not norm < 1:
        raise ValueError(
            f"|q_0| is {norm:g}: Theorem 3 needs it below 1; from 1 q stays on the sphere, from above it runs away"
        )
    return start, eigenvalues
