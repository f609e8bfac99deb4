"""How far non-linear networks are from linear ones, by width (Theorem 1)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from solo_frossl.theory.flow import Weights
from solo_frossl.theory.orthogonal.problem import Activation, network


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


def expected_relative_difference_over(norms: np.ndarray, activation: Activation, width: int) -> float:
    """:func:`expected_relative_difference` of several samples together: both outputs grow with the sample's norm.

    Args:
        norms: ``(N,)`` ||x||, above 0.
        activation: phi, of one entry at a time.
        width: h.
    """
    differences = [norm * expected_relative_difference(activation, norm, width) for norm in norms]
    return float(np.sqrt(np.square(differences).mean() / np.square(norms).mean()))


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
