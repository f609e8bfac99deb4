"""The trace problem: its matrix C, networks with orthonormal layers, their losses, and gradient descent on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from solo_frossl.theory.flow import Weights

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
        must_be_points(points)
        centred = points.double() - points.double().mean(0)
        return cls(-centred.T @ centred)

    @classmethod
    def expected_non_contrastive(cls, points: Tensor) -> "TraceMatrix":
        """Mean of C over draws of noise of mean 0 in x^+: -N E[x x^T], centred or not.

        Args:
            points: ``(N, D)``.
        """
        must_be_points(points)
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
    must_be_points(anchors)
    if others.ndim < 2 or others.shape[-2:] != anchors.shape:
        raise ValueError(f"{name} must be (..., *{tuple(anchors.shape)}) like the anchors, got {tuple(others.shape)}")
    summed = others.double().reshape(-1, *anchors.shape).sum(0)
    product = anchors.double().T @ summed
    return (product + product.T) / 2


def must_be_points(points: Tensor) -> None:
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
    must_be_points(points)
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
    must_be_deep(depth)
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
    must_be_deep(depth)
    q = checked_outputs(q, trace.eigenvalues)
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
    must_be_deep(len(weights))
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
    must_be_deep(len(weights))
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


def must_be_deep(depth: int) -> None:
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


# -------------------------------------------------------------------------------------------------------------- checks


def checked_outputs(q: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    q, eigenvalues = np.asarray(q, dtype=np.float64), np.asarray(eigenvalues)
    if q.ndim < 2 or q.shape[-2] != len(eigenvalues):
        raise ValueError(f"q must be (..., {len(eigenvalues)}, z), a row an eigenvalue, got {q.shape}")
    largest = float(np.linalg.norm(q, 2, axis=(-2, -1)).max())
    if not largest <= 1 + _TOLERANCE:
        raise ValueError(f"a singular value of q is {largest:g}: with orthogonal layers none is above 1; scale q down")
    return q
