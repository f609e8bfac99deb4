"""Models without a constraint: their outputs do not see each other (Lemma 1) and come to one dimension (Proposition 1).

For u = Theta psi(x), be it linear, psi(x) = x, or a kernel machine, k(x, y) = psi(x) . psi(y), the gradients of two
outputs have the products

    <grad u_l(x), grad u_j(y)> = [l = j] k(x, y)

at any Theta: Lemma 1, exactly, without the infinite width that it asks for. With U the outputs at all points and K the
points' kernel matrix, gradient flow of Eq. 1 is U' = K A U, A being 1 between an anchor and its positive, -1 between it
and its negative: Proposition 1, the same equation for each column of U.

For networks, of which the proof in Appendix A.1 is, Lemma 1 holds in part. With two layers

    <grad u_l(x), grad u_j(y)> = [l = j] phi(W_1 x) . phi(W_1 y) + (x . y) sum_k w_lk w_jk phi'(W_1 x)_k phi'(W_1 y)_k

The second term, of the first layer, falls with the width as h^-1/2 or faster for l != j. The proof lets it go to 0 for
l = j too, since W_1 hardly moves; but it stays, and for random orthonormal layers comes to (x . y) E[phi' phi'], which
makes a linear network's kernel 2 x . y, not x . y.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from solo_frossl.theory.flow import Trajectory
from solo_frossl.theory.orthogonal.problem import Activation, TraceMatrix

_TOLERANCE = 1e-8


# ------------------------------------------------------------------------------------------------------------- Lemma 1


def gradient_products(model: Callable[..., Tensor], weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """<grad u_l(x), grad u_j(y)> over all weights, by automatic differentiation (Lemma 1).

    Args:
        model: ``model(points, *weights)``: ``(N, z)`` outputs, as :func:`network` gives them.
        weights: two-dimensional, without seeds.
        x: ``(N, d)``.
        y: ``(M, d)``.

    Returns:
        ``(z, z, N, M)``.
    """
    sides = []
    for points in (x, y):
        by_weight = torch.func.jacrev(lambda *w, points=points: model(points, *w), tuple(range(len(weights))))(*weights)
        sides.append(torch.cat([g.flatten(2) for g in by_weight], -1))
    return torch.einsum("nlp,mjp->ljnm", *sides)


def expected_gradient_products(x: Tensor, y: Tensor, activation: Activation, width: int) -> tuple[Tensor, Tensor]:
    """What :func:`gradient_products` comes to for l = j, for two random orthonormal layers of great width; else 0.

    With (a, b) Gaussian of covariance [[x . x, x . y], [x . y, y . y]] / h these are

        last layer: h E[phi(a) phi(b)]        first layer: (x . y) E[phi'(a) phi'(b)]

    Args:
        x: ``(N, d)``, not 0.
        y: ``(M, d)``, not 0.
        activation: phi, differentiable but in a few places; a kink costs accuracy, about 1 %.
        width: h.

    Returns:
        The last layer's part and the first one's, each ``(N, M)``. Their sum is the kernel; Appendix A.1 has the first
        only.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    g, p = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    x, y = x.double(), y.double()
    norms = x.norm(dim=1)[:, None], y.norm(dim=1)[None]
    cosine = (x @ y.T / (norms[0] * norms[1])).clamp(-1, 1)[..., None, None]
    a = norms[0][..., None, None] / width**0.5 * g[:, None].expand(*cosine.shape[:2], -1, len(g))
    b = norms[1][..., None, None] / width**0.5 * (cosine * g[:, None] + (1 - cosine**2).sqrt() * g)

    def mean(f: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.einsum("nmij,i,j->nm", f(a) * f(b), p, p)

    def slope(t: Tensor) -> Tensor:
        t = t.clone().requires_grad_()
        return torch.autograd.grad(activation(t).sum(), t)[0]

    return width * mean(activation), (x @ y.T) * mean(slope)


# -------------------------------------------------------------------------------------------------------- Proposition 1


def unconstrained(start: Tensor, trace: TraceMatrix, times: Sequence[float] | np.ndarray) -> Trajectory:
    """One linear layer u = Theta x without constraint (Proposition 1): Theta(t) = Theta_0 exp(-2 C t).

    The gradient flow of Tr(Theta C Theta^T). All outputs obey one equation; the second singular value over the first
    falls as exp(-2 (lambda_2 - lambda_1) t), so the output comes to one dimension, Theta_0 v_1 v_1^T. If lambda_1 < 0
    its norm grows as exp(-2 lambda_1 t), and only its direction converges.

    Args:
        start: ``(..., z, d)`` Theta_0.
        trace: C.
        times: ``(T,)`` 0 or more.

    Returns:
        Theta, ``(T, ..., z, d)``.
    """
    times, v = np.asarray(times, dtype=np.float64), trace.vectors.numpy()
    growth = np.exp(-2 * times[:, None] * trace.eigenvalues)
    outputs = start.double().numpy() @ v
    growth = growth.reshape(len(times), *(1,) * (outputs.ndim - 1), -1)
    return Trajectory(times, (outputs * growth) @ v.T)


def kernel_rate(u: np.ndarray, kernel: np.ndarray, pairs: int, *, contrastive: bool = True) -> np.ndarray:
    """Gradient flow of a kernel machine's outputs, for the loss of Eq. 1 or 12 (Proposition 1).

        u_l'(x) = sum_i k(x, x_i) (u_l(x_i^+) - u_l(x_i^-)) + (k(x, x_i^+) - k(x, x_i^-)) u_l(x_i)

    and without the negatives' terms for Eq. 12.

    Args:
        u: ``(P, z)`` outputs at n anchors, then their n positives, then their n negatives, then at any other points.
        kernel: ``(P, P)`` k between all these points.
        pairs: n.
        contrastive: whether there are negatives.

    Returns:
        ``(P, z)``.
    """
    return kernel @ (_links(len(kernel), pairs, contrastive) @ u)


def kernel_unconstrained(
    start: np.ndarray,
    kernel: np.ndarray,
    pairs: int,
    times: Sequence[float] | np.ndarray,
    *,
    contrastive: bool = True,
) -> Trajectory:
    """The solution of :func:`kernel_rate`; for k = x . y it is :func:`unconstrained`.

        U(t) = K^(1/2) exp(K^(1/2) A K^(1/2) t) K^(-1/2) U_0

    The exponent is symmetric. If its largest eigenvalue mu_1 is above 0 the loss falls without bound, and the second
    singular value of U over the first as exp(-(mu_1 - mu_2) t): the outputs come to one dimension, at new points too.

    Args:
        start: ``(P, z)`` U_0, outputs as :func:`kernel_rate` takes them, of some Theta: in the span of K's columns.
        kernel: ``(P, P)`` K, symmetric and positive semi-definite.
        pairs: n.
        times: ``(T,)`` 0 or more.
        contrastive: whether there are negatives.

    Returns:
        U, ``(T, P, z)``.

    Raises:
        ValueError: K is no kernel matrix, or no Theta has these outputs.
    """
    start, kernel, times = (np.asarray(a, dtype=np.float64) for a in (start, kernel, times))
    links = _links(len(kernel), pairs, contrastive)
    if kernel.shape != links.shape or start.ndim != 2 or len(start) != len(kernel):
        raise ValueError(f"K must be (P, P) and the outputs (P, z), got {kernel.shape} and {start.shape}")
    scale = np.abs(kernel).max()
    values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
    if np.abs(kernel - kernel.T).max() > _TOLERANCE * scale or values[0] < -_TOLERANCE * scale:
        raise ValueError(
            f"K is no kernel matrix: its least eigenvalue is {values[0]:g}, and K - K^T reaches"
            f" {np.abs(kernel - kernel.T).max():g}; compute it as k(x, y) of all points, for a positive definite k"
        )
    kept = values > 1e-12 * len(values) * values[-1]
    vectors, roots = vectors[:, kept], np.sqrt(values[kept])
    inside = vectors.T @ start
    if np.abs(vectors @ inside - start).max() > 1e-6 * np.abs(start).max():
        raise ValueError("no Theta has these outputs: take K times any (P, z), which is in the span of its columns")
    rates, turned = np.linalg.eigh(roots[:, None] * (vectors.T @ links @ vectors) * roots)
    growing = np.exp(rates * times[:, None])[..., None] * (turned.T @ (inside / roots[:, None]))
    return Trajectory(times, (vectors * roots) @ turned @ growing)


def _links(points: int, pairs: int, contrastive: bool) -> np.ndarray:
    """A: 1 between an anchor and its positive, -1 between it and its negative."""
    sets = 3 if contrastive else 2
    if not 1 <= pairs <= points // sets:
        raise ValueError(
            f"pairs is {pairs}: K is of {points} points, and each pair takes {sets} of them; take 1 to {points // sets}"
        )
    links, one = np.zeros((points, points)), np.eye(pairs)
    links[:pairs, pairs : 2 * pairs] = one
    if contrastive:
        links[:pairs, 2 * pairs : 3 * pairs] = -one
    return links + links.T
