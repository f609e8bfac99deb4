"""What layers of bounded norm come to: Frobenius norms (Proposition 2) and operator norms (Proposition 3)."""

import numpy as np
import torch

from solo_frossl.theory.flow import Weights
from solo_frossl.theory.orthogonal.problem import TraceMatrix

_TOLERANCE = 1e-8


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
