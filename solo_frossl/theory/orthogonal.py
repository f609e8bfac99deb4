"""Contrastive learning with orthogonal layers: the trace problem, its flows, what they come to, and networks beside it.

Esser, Mukherjee, Ghoshdastidar (2024), "Representation Learning Dynamics of Self-Supervised Models". A linear network
u(x) = W_l^T W_{l-1} ... W_1 x with l layers has, for the losses of Eqs. 1 and 12,

    L = Tr(W_l^T ... W_1 C W_1^T ... W_l)        C = V Lambda V^T, symmetric, from the samples

under W_i^T W_i = I (Eq. 7). The layers are W_1 ``(h, d)``, W_2 to W_{l-1} ``(h, h)`` and W_l ``(h, z)``: d inputs,
width h, z outputs. What the loss depends on is q = [u(v_1), ..., u(v_d)]^T ``(d, z)``, the outputs at C's eigenvectors:
L = Tr(q^T Lambda q). Its singular values lie in [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import cumulative_simpson
from scipy.special import expit, logsumexp
from torch import Tensor

from solo_frossl.theory.flow import Trajectory, Weights, integrate

_TOLERANCE = 1e-8

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "linear": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
}


# ------------------------------------------------------------------------------------------------------- the matrix C


@dataclass(frozen=True)
class TraceMatrix:
    """The matrix C of the trace problem.

    Args:
        matrix: ``(D, D)`` float64, symmetric.

    Attributes:
        eigenvalues: ``(D,)`` ascending, the diagonal of Lambda.
        vectors: ``(D, D)`` orthonormal columns V.

    Raises:
        ValueError: it is not square, finite and symmetric.
    """

    matrix: Tensor
    eigenvalues: np.ndarray = field(init=False)
    vectors: Tensor = field(init=False)

    def __post_init__(self) -> None:
        matrix = torch.as_tensor(self.matrix, dtype=torch.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.numel():
            raise ValueError(f"C must be (D, D), got {tuple(matrix.shape)}")
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("C has entries that are infinite or NaN: look for them in the samples")
        apart = float((matrix - matrix.T).abs().max())
        if apart > _TOLERANCE * float(matrix.abs().max()):
            raise ValueError(f"C is not symmetric, C - C^T reaches {apart:g}: take (C + C^T) / 2, the loss is the same")
        eigenvalues, vectors = torch.linalg.eigh(matrix)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "eigenvalues", eigenvalues.numpy())
        object.__setattr__(self, "vectors", vectors)

    @classmethod
    def contrastive(cls, anchors: Tensor, positives: Tensor, negatives: Tensor) -> "TraceMatrix":
        """C of the contrastive loss (Eq. 5): the symmetric part of sum_i x_i (x_i^- - x_i^+)^T.

        Args:
            anchors: ``(N, D)`` x.
            positives: ``(..., N, D)`` x^+; several positives of an anchor stand in the leading dimensions.
            negatives: ``(..., N, D)`` x^-, likewise.

        Raises:
            ValueError: shapes do not fit.
        """
        return cls(_products(anchors, negatives, "negatives") - _products(anchors, positives, "positives"))

    @classmethod
    def non_contrastive(cls, anchors: Tensor, positives: Tensor) -> "TraceMatrix":
        """C of the non-contrastive loss (Eq. 12): the symmetric part of -sum_i x_i x_i^+^T.

        Section 5 prints it without the minus; then descent pushes positives apart. Arguments are those of
        :meth:`contrastive`.
        """
        return cls(-_products(anchors, positives, "positives"))

    @classmethod
    def expected_contrastive(cls, points: Tensor) -> "TraceMatrix":
        """Mean of C over draws of x^- among the points and of noise of mean 0 in x^+: -N Cov(x).

        Section 4.1 prints -N E[x x^T], which is the same for centred points only.

        Args:
            points: ``(N, D)``.
        """
        _must_be_points(points)
        centred = points.double() - points.double().mean(0)
        return cls(-centred.T @ centred)

    @classmethod
    def expected_non_contrastive(cls, points: Tensor) -> "TraceMatrix":
        """Mean of C over draws of noise of mean 0 in x^+: -N E[x x^T], centred or not.

        Args:
            points: ``(N, D)``.
        """
        _must_be_points(points)
        return cls(-points.double().T @ points.double())

    @classmethod
    def of_eigenvalues(
        cls, eigenvalues: Sequence[float] | np.ndarray | Tensor, vectors: Tensor | None = None
    ) -> "TraceMatrix":
        """C with these eigenvalues.

        Args:
            eigenvalues: ``(D,)``.
            vectors: ``(D, D)`` orthonormal columns V; None: the axes.
        """
        diagonal = torch.as_tensor(eigenvalues, dtype=torch.float64)
        if vectors is None:
            return cls(torch.diag(diagonal))
        matrix = (vectors.double() * diagonal) @ vectors.double().T
        return cls((matrix + matrix.T) / 2)


def _products(anchors: Tensor, others: Tensor, name: str) -> Tensor:
    """Symmetric part of sum_i x_i y_i^T."""
    _must_be_points(anchors)
    if others.ndim < 2 or others.shape[-2:] != anchors.shape:
        raise ValueError(f"{name} must be (..., *{tuple(anchors.shape)}) like the anchors, got {tuple(others.shape)}")
    summed = others.double().reshape(-1, *anchors.shape).sum(0)
    product = anchors.double().T @ summed
    return (product + product.T) / 2


def _must_be_points(points: Tensor) -> None:
    if points.ndim != 2 or not points.numel():
        raise ValueError(f"samples must be (N, D) with at least one of them, got {tuple(points.shape)}")


class Pairs(NamedTuple):
    """Samples with their positives and negatives.

    Attributes:
        anchors: ``(N, D)`` x.
        positives: ``(N, D)`` x^+.
        negatives: ``(N, D)`` x^-; None for the non-contrastive loss.
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor | None = None

    @property
    def trace_matrix(self) -> TraceMatrix:
        """C of the linear network's loss on these samples."""
        if self.negatives is None:
            return TraceMatrix.non_contrastive(self.anchors, self.positives)
        return TraceMatrix.contrastive(*self)


def draw_pairs(
    points: Tensor, generator: torch.Generator, *, noise_variance: float = 0.1, contrastive: bool = True
) -> Pairs:
    """Pairs as in Example 1: x^+ = x + noise, and x^- any of the points.

    Args:
        points: ``(N, D)``.
        generator: draws them.
        noise_variance: of each input's Gaussian noise, 0 or more.
        contrastive: with negatives.
    """
    _must_be_points(points)
    if not noise_variance >= 0:
        raise ValueError(f"noise_variance is {noise_variance}: a variance is 0 or more")
    points = points.double()
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    positives = points + noise_variance**0.5 * noise
    others = torch.randint(len(points), (len(points),), generator=generator)
    return Pairs(points, positives, points[others] if contrastive else None)


# ----------------------------------------------------------------------------------------------- networks and losses


def random_orthonormal(rows: int, columns: int, generator: torch.Generator, seeds: Sequence[int] = ()) -> Tensor:
    """Uniformly random matrices with orthonormal columns, ``(*seeds, rows, columns)`` float64.

    Raises:
        ValueError: there are more columns than rows.
    """
    if not 1 <= columns <= rows:
        raise ValueError(f"{columns} orthonormal columns do not fit into {rows} dimensions: take more rows")
    return _orthonormal_by_qr(torch.randn(*seeds, rows, columns, generator=generator, dtype=torch.float64))


def random_layers(
    inputs: int, width: int, outputs: int, generator: torch.Generator, *, depth: int = 2, seeds: Sequence[int] = ()
) -> Weights:
    """Uniformly random layers W_1 to W_l with orthonormal columns (Eq. 7).

    Args:
        inputs: d.
        width: h, at least d and z.
        outputs: z.
        generator: draws them.
        depth: l, 2 or more.
        seeds: leading dimensions.

    Raises:
        ValueError: the depth or the width is too small.
    """
    _must_be_deep(depth)
    if width < max(inputs, outputs):
        raise ValueError(
            f"width is {width}: layers with orthonormal columns need at least inputs = {inputs} and outputs = {outputs}"
        )
    sizes = [inputs] + [width] * (depth - 2) + [outputs]
    return tuple(random_orthonormal(width, columns, generator, seeds) for columns in sizes)


def layers_at(q: np.ndarray, trace: TraceMatrix, width: int, generator: torch.Generator, *, depth: int = 2) -> Weights:
    """Random layers with given outputs at the eigenvectors, so that networks of any width can start as one.

    Args:
        q: ``(..., d, z)`` with singular values of at most 1.
        trace: C.
        width: h, at least d + z.
        generator: draws them.
        depth: l, 2 or more.

    Raises:
        ValueError: there are no such layers.
    """
    _must_be_deep(depth)
    q = _outputs(q, trace.eigenvalues)
    *seeds, inputs, outputs = q.shape
    if width < inputs + outputs:
        raise ValueError(f"width is {width}: to start at any q it must be at least d + z = {inputs + outputs}")
    first = random_orthonormal(width, inputs, generator, seeds)
    middle = [random_orthonormal(width, width, generator, seeds) for _ in range(depth - 2)]
    within = first
    for layer in middle:
        within = layer @ within
    beside = torch.randn(*seeds, width, outputs, generator=generator, dtype=torch.float64)
    beside = torch.linalg.qr(torch.cat([within, beside], -1))[0][..., inputs:]
    values, vectors = np.linalg.eigh(np.eye(outputs) - q.swapaxes(-1, -2) @ q)
    rest = vectors * np.sqrt(values.clip(min=0))[..., None, :] @ vectors.swapaxes(-1, -2)
    last = within @ trace.vectors @ torch.from_numpy(q) + beside @ torch.from_numpy(rest)
    return (first, *middle, last)


def product(*weights: Tensor) -> Tensor:
    """The linear network as one matrix, W_l^T W_{l-1} ... W_1: ``(..., z, d)``.

    Raises:
        ValueError: there is one layer only.
    """
    _must_be_deep(len(weights))
    through = weights[0]
    for layer in weights[1:-1]:
        through = layer @ through
    return weights[-1].mT @ through


def outputs_at_eigenvectors(*weights: Tensor, trace: TraceMatrix) -> Tensor:
    """q = [u(v_1), ..., u(v_d)]^T of the linear network (Theorem 2): ``(..., d, z)``.

    Of a new sample it gives u(x) = q^T V^T x.
    """
    return (product(*weights) @ trace.vectors).mT


def trace_loss(*weights: Tensor, trace: TraceMatrix) -> Tensor:
    """L = Tr(W_l^T ... W_1 C W_1^T ... W_l) (Eqs. 4 and 7): ``(...)``."""
    p = product(*weights)
    return ((p @ trace.matrix) * p).sum((-2, -1))


def network(x: Tensor, *weights: Tensor, activation: Activation = ACTIVATIONS["linear"]) -> Tensor:
    """u(x) = W_l^T phi(W_{l-1} ... phi(W_1 x)) (Section 3).

    Args:
        x: ``(N, d)``.
        weights: two layers or more.
        activation: phi.

    Returns:
        ``(..., N, z)``.
    """
    _must_be_deep(len(weights))
    for layer in weights[:-1]:
        x = activation(x @ layer.mT)
    return x @ weights[-1]


def pair_loss(*weights: Tensor, pairs: Pairs, activation: Activation = ACTIVATIONS["linear"]) -> Tensor:
    """The network's loss on samples: ``(...)``.

    sum_i u(x_i)^T (u(x_i^-) - u(x_i^+)) (Eq. 1), and without negatives sum_i -u(x_i)^T u(x_i^+) (Eq. 12).
    """
    sets = [x for x in pairs if x is not None]
    anchors, *others = network(torch.cat(sets), *weights, activation=activation).split(len(pairs.anchors), dim=-2)
    towards = -others[0] if len(others) == 1 else others[1] - others[0]
    return (anchors * towards).sum((-2, -1))


def squared_norms(*weights: Tensor) -> Tensor:
    """Product of the layers' squared operator norms: ``(...)``.

    A loss divided by it is the first problem of Proposition 3, which needs no constraint.
    """
    return torch.stack([torch.linalg.matrix_norm(w, 2) for w in weights]).square().prod(0)


def _must_be_deep(depth: int) -> None:
    if depth < 2:
        raise ValueError(f"depth is {depth}: the problem has a first and a last layer, it must be 2 or more")


# ------------------------------------------------------------------------------ gradient descent under the constraint


def grassmann_qr(weights: Weights, gradients: Weights, learning_rate: float) -> Weights:
    """A step along the Grassmann gradient (I - W W^T) grad, back to orthonormal columns by QR; for ``descend``.

    The columns of R have a positive diagonal: LAPACK's own signs would turn layers around at each step. In a square
    layer (I - W W^T) = 0, so it never moves. Eq. 10 prints a step along +grad, on which the loss rises.
    """
    return _step(weights, gradients, learning_rate, tangent=True, retract=_orthonormal_by_qr)


def grassmann_polar(weights: Weights, gradients: Weights, learning_rate: float) -> Weights:
    """As :func:`grassmann_qr`, back by the polar factor: the same flow."""
    return _step(weights, gradients, learning_rate, tangent=True, retract=_polar_factor)


def projected_polar(weights: Weights, gradients: Weights, learning_rate: float) -> Weights:
    """A step along the raw gradient, projected back with the polar factor; for ``descend``.

    What the paper says it runs (below Eq. 10). It follows :func:`projected_flow` and not Eq. 8.
    """
    return _step(weights, gradients, learning_rate, tangent=False, retract=_polar_factor)


def projected_qr(weights: Weights, gradients: Weights, learning_rate: float) -> Weights:
    """A step along the raw gradient, back by QR: it stalls above the optimum, see :func:`projected_qr_rate`."""
    return _step(weights, gradients, learning_rate, tangent=False, retract=_orthonormal_by_qr)


def within_frobenius_norms(*bounds: float) -> Callable[[Weights, Weights, float], Weights]:
    """Steps that keep ||W_i||_F at most at its bound (Proposition 2); for ``descend``."""

    def retract(weights: Weights, gradients: Weights, learning_rate: float) -> Weights:
        moved = [w - learning_rate * g for w, g in zip(weights, gradients, strict=True)]
        norms = [torch.linalg.matrix_norm(w, keepdim=True) for w in moved]
        return tuple(w * (c / n).clamp(max=1) for w, n, c in zip(moved, norms, bounds, strict=True))

    return retract


def within_operator_norms(weights: Weights, gradients: Weights, learning_rate: float) -> Weights:
    """A step that keeps ||W_i||_2 at most at 1 (Proposition 3, second and third problem); for ``descend``."""

    def clipped(matrix: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        return u * s.clamp(max=1)[..., None, :] @ vh

    return tuple(clipped(w - learning_rate * g) for w, g in zip(weights, gradients, strict=True))


def _step(
    weights: Weights,
    gradients: Weights,
    learning_rate: float,
    *,
    tangent: bool,
    retract: Callable[[Tensor], Tensor],
) -> Weights:
    if tangent:
        gradients = tuple(g - w @ (w.mT @ g) for w, g in zip(weights, gradients, strict=True))
    return tuple(retract(w - learning_rate * g) for w, g in zip(weights, gradients, strict=True))


def _orthonormal_by_qr(matrix: Tensor) -> Tensor:
    q, r = torch.linalg.qr(matrix)
    diagonal = torch.diagonal(r, dim1=-2, dim2=-1)
    return q * torch.where(diagonal < 0, -1.0, 1.0)[..., None, :]


def _polar_factor(matrix: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh


# ------------------------------------------------------------------------------------------------------ flows of q


class Flow(NamedTuple):
    """Factors of q' = -[linear Lambda q - right Lambda q q^T q - left q q^T Lambda q].

    In every flow here linear = right + left.
    """

    linear: float
    right: float
    left: float


GRASSMANN = Flow(4.0, 2.0, 2.0)
"""Eq. 8, q' = -2 [2 Lambda q - Lambda q q^T q - q q^T Lambda q], for any depth."""


def projected_flow(depth: int = 2) -> Flow:
    """What :func:`projected_polar` follows, which depends on the depth l and is not Eq. 8.

        q' = -[(l + 2) Lambda q - Lambda q q^T q - (l + 1) q q^T Lambda q]

    For a raw gradient G the polar factor of W - eta G moves W along -(G - W sym(W^T G)). So the first and the last
    layer turn within their span too, and so do square layers. The limits are those of Eq. 8.

    Args:
        depth: l, 2 or more.
    """
    _must_be_deep(depth)
    return Flow(depth + 2.0, 1.0, depth + 1.0)


def trace_rate(q: np.ndarray, eigenvalues: np.ndarray, flow: Flow = GRASSMANN) -> np.ndarray:
    """The flow of q (Theorem 2, Eq. 8; for z = 1 Eq. 9). Eq. 11, its Euler step, prints the factor 2 away.

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
    start = _outputs(start, eigenvalues)
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    return integrate(lambda q: trace_rate(q, eigenvalues, flow), start, times)


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


def _outputs(q: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    q, eigenvalues = np.asarray(q, dtype=np.float64), np.asarray(eigenvalues)
    if q.ndim < 2 or q.shape[-2] != len(eigenvalues):
        raise ValueError(f"q must be (..., {len(eigenvalues)}, z), a row an eigenvalue, got {q.shape}")
    largest = float(np.linalg.norm(q, 2, axis=(-2, -1)).max())
    if not largest <= 1 + _TOLERANCE:
        raise ValueError(f"a singular value of q is {largest:g}: with orthogonal layers none is above 1; scale q down")
    return q


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


# ----------------------------------------------------------------------------------- collapse: Propositions 1 and 2


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


def frobenius_least_loss(trace: TraceMatrix, first_bound: float, second_bound: float) -> float:
    """Least loss of two layers with ||W_1||_F <= c_1, ||W_2||_F <= c_2 (Proposition 2): min(lambda_1, 0) c_1^2 c_2^2.

    For Tr(P C P^T) >= lambda_1 ||P||_F^2 and ||W_2^T W_1||_F <= c_1 c_2, with equality only for two layers of rank one:
    every optimum has collapsed, not just one as the proposition says. With a penalty on the squared norms, which the
    paper takes for equivalent, there is no optimum: the loss has degree 4 in the layers and the penalty 2, so the sum
    falls without bound.
    """
    _must_be_bounds(first_bound, second_bound)
    return min(float(trace.eigenvalues[0]), 0.0) * first_bound**2 * second_bound**2


def frobenius_best_layers(
    trace: TraceMatrix, width: int, outputs: int, first_bound: float, second_bound: float
) -> Weights:
    """An optimum of Proposition 2, u(x) = [c_1 c_2 v_1^T x, 0, ..., 0]; zero if no eigenvalue is negative."""
    _must_be_bounds(first_bound, second_bound)
    first = torch.zeros(width, len(trace.eigenvalues), dtype=torch.float64)
    second = torch.zeros(width, outputs, dtype=torch.float64)
    if trace.eigenvalues[0] < 0:
        first[0] = first_bound * trace.vectors[:, 0]
        second[0, 0] = second_bound
    return first, second


def _must_be_bounds(*bounds: float) -> None:
    if not all(bound > 0 for bound in bounds):
        raise ValueError(f"bounds of the norms are {bounds}: they must be above 0")


# ------------------------------------------------------------------------------------------------- Proposition 3


def required_width(trace: TraceMatrix, outputs: int) -> int:
    """Least width h at which orthonormal layers reach the optimum of the operator norm problems (Proposition 3).

    In narrower ones d + z - h singular values of q are 1 by force, and if those are more than the eigenvalues that are
    not positive, one of them costs: h >= d + z - (number of eigenvalues that are not positive), and h >= d, z. The
    proposition does not say so.
    """
    inputs = len(trace.eigenvalues)
    return max(inputs, outputs, inputs + outputs - _not_positive(trace))


def least_loss(trace: TraceMatrix, outputs: int, width: int | None = None) -> float:
    """Least loss of Proposition 3, for two layers.

        problems 1 to 3:  sum over i <= min(d, z) of min(lambda_i, 0)
        problem 4:        the same, but lambda_i itself for i <= d + z - h

    The first three are: L / (||W_1||_2^2 ||W_2||_2^2); L with ||W_i||_2 <= 1; L with ||W_2^T W_1||_2 <= 1. They are one
    for any h >= min(d, z). The fourth has orthonormal columns and is the same from :func:`required_width` on.

    Args:
        trace: C.
        outputs: z.
        width: h, at least d and z, for problem 4; None: for the first three.

    Raises:
        ValueError: orthonormal columns do not fit into this width.
    """
    inputs = len(trace.eigenvalues)
    taken = trace.eigenvalues[: min(inputs, outputs)]
    if width is None:
        return float(np.minimum(taken, 0).sum())
    if width < max(inputs, outputs):
        raise ValueError(f"width is {width}: orthonormal columns need at least d = {inputs} and z = {outputs}")
    forced = np.arange(len(taken)) < inputs + outputs - width
    return float(np.where(forced, taken, np.minimum(taken, 0)).sum())


def best_layers(trace: TraceMatrix, outputs: int, width: int) -> Weights:
    """Two layers that are optimal for all four problems of Proposition 3.

    Outputs are v_1^T x, v_2^T x, ... as far as the eigenvalues are not positive, and 0 beyond.

    Args:
        trace: C.
        outputs: z.
        width: h, at least :func:`required_width`.

    Raises:
        ValueError: the width is below it.
    """
    inputs, needed = len(trace.eigenvalues), required_width(trace, outputs)
    if width < needed:
        raise ValueError(
            f"width is {width}: with {inputs} inputs, {outputs} outputs and {_not_positive(trace)} eigenvalues that are"
            f" not positive, orthonormal layers reach the optimum from a width of {needed} on"
        )
    used = min(inputs, outputs, _not_positive(trace))
    first = torch.eye(width, inputs, dtype=torch.float64)
    second = torch.zeros(width, outputs, dtype=torch.float64)
    second[:inputs, :used] = trace.vectors[:, :used]
    second[inputs : inputs + outputs - used, used:] = torch.eye(outputs - used, dtype=torch.float64)
    return first, second


def _not_positive(trace: TraceMatrix) -> int:
    return int((trace.eigenvalues <= _TOLERANCE * np.abs(trace.eigenvalues).max()).sum())


# --------------------------------------------------------------------------------------- non-linear networks: Theorem 1


class Difference(NamedTuple):
    """How far a network is from its linear counterpart.

    Attributes:
        absolute: ``(...)`` root of the mean over samples of ||u_phi - u_linear||^2.
        linear: ``(...)`` the same of ||u_linear||^2.
    """

    absolute: np.ndarray
    linear: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        """``(...)`` absolute over linear."""
        return self.absolute / self.linear


def output_difference(
    x: Tensor, weights: Weights, activation: Activation, linear_weights: Weights | None = None
) -> Difference:
    """The difference of Theorem 1, u_phi - u_linear.

    Args:
        x: ``(N, d)``.
        weights: of the network, leading dimensions are seeds.
        activation: phi.
        linear_weights: of the linear network, if it has others (during training); None: the same.
    """
    linear = network(x, *(weights if linear_weights is None else linear_weights))
    apart = network(x, *weights, activation=activation) - linear
    return Difference(*(u.square().sum(-1).mean(-1).sqrt().detach().numpy() for u in (apart, linear)))


def expected_relative_difference(activation: Activation, norm: float, width: int) -> float:
    """Root mean square of ||u_phi - u_linear|| over that of ||u_linear||, for two random layers and a sample.

        sqrt(E[(phi(s g) - s g)^2]) / s        s = ||x|| / sqrt(h), g a standard Gaussian

    up to a share of order 1/h; for phi = tanh it is sqrt(5/3) ||x||^2 / h, for ReLU 1/sqrt(2) at any width, for sigmoid
    about sqrt(h) / (2 ||x||). The absolute difference is this times ||x|| sqrt(z / h), for u_linear itself falls as
    h^-1/2: so does Theorem 1's bound, up to logarithms, which therefore says nothing about the relative difference.

    Args:
        activation: phi, of one entry at a time.
        norm: ||x||, above 0.
        width: h.
    """
    if not norm > 0 or width < 1:
        raise ValueError(f"norm is {norm} and width {width}: they must be above 0")
    nodes, weights = np.polynomial.hermite_e.hermegauss(128)
    scaled = torch.from_numpy(nodes) * norm / width**0.5
    squared = (activation(scaled) - scaled).square().numpy()
    return float(np.sqrt(weights @ squared / weights.sum()) / (norm / width**0.5))


def loglog_slope(widths: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray) -> float:
    """Slope of the straight line through ln values over ln widths.

    Raises:
        ValueError: there are fewer than two widths, or something is not above 0.
    """
    widths, values = np.asarray(widths, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if widths.shape != values.shape or widths.ndim != 1 or len(widths) < 2:
        raise ValueError(f"widths and values must both be (K,) with K of 2 or more, got {widths.shape}, {values.shape}")
    if not (widths > 0).all() or not (values > 0).all():
        raise ValueError("a width or a value is not above 0 and has no logarithm")
    return float(np.polyfit(np.log(widths), np.log(values), 1)[0])
