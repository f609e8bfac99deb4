"""Contrastive learning with orthogonal layers: the trace problem, its flows, what they come to, and networks beside it.

Esser, Mukherjee, Ghoshdastidar (2024), "Representation Learning Dynamics of Self-Supervised Models". A linear network
u(x) = W_l^T W_{l-1} ... W_1 x with l layers has, for the losses of Eqs. 1 and 12,

    L = Tr(W_l^T ... W_1 C W_1^T ... W_l)        C = V Lambda V^T, symmetric, from the samples

under W_i^T W_i = I (Eq. 7). The layers are W_1 ``(h, d)``, W_2 to W_{l-1} ``(h, h)`` and W_l ``(h, z)``: d inputs,
width h, z outputs. What the loss depends on is q = [u(v_1), ..., u(v_d)]^T ``(d, z)``, the outputs at C's eigenvectors:
L = Tr(q^T Lambda q). Its singular values lie in [0, 1].
"""

from solo_frossl.theory.orthogonal.collapse import (
    expected_gradient_products,
    gradient_products,
    kernel_rate,
    kernel_unconstrained,
    unconstrained,
)
from solo_frossl.theory.orthogonal.flows import (
    GRASSMANN,
    FixedPoint,
    Flow,
    evolve,
    fixed_points,
    limit,
    limit_singular_values,
    path,
    projected_flow,
    projected_qr_rate,
    projection_norms,
    trace_of,
    trace_rate,
)
from solo_frossl.theory.orthogonal.nonlinear import (
    Difference,
    expected_relative_difference,
    loglog_slope,
    output_difference,
)
from solo_frossl.theory.orthogonal.optima import (
    best_layers,
    frobenius_best_layers,
    frobenius_least_loss,
    least_loss,
    required_width,
)
from solo_frossl.theory.orthogonal.problem import (
    ACTIVATIONS,
    Activation,
    Pairs,
    TraceMatrix,
    draw_pairs,
    grassmann_polar,
    grassmann_qr,
    layers_at,
    network,
    outputs_at_eigenvectors,
    pair_loss,
    product,
    projected_polar,
    projected_qr,
    random_layers,
    random_orthonormal,
    squared_norms,
    trace_loss,
    within_frobenius_norms,
    within_operator_norms,
)

__all__ = [
    "ACTIVATIONS",
    "GRASSMANN",
    "Activation",
    "Difference",
    "FixedPoint",
    "Flow",
    "Pairs",
    "TraceMatrix",
    "best_layers",
    "draw_pairs",
    "evolve",
    "expected_gradient_products",
    "expected_relative_difference",
    "fixed_points",
    "frobenius_best_layers",
    "frobenius_least_loss",
    "gradient_products",
    "grassmann_polar",
    "grassmann_qr",
    "kernel_rate",
    "kernel_unconstrained",
    "layers_at",
    "least_loss",
    "limit",
    "limit_singular_values",
    "loglog_slope",
    "network",
    "output_difference",
    "outputs_at_eigenvectors",
    "pair_loss",
    "path",
    "product",
    "projected_flow",
    "projected_polar",
    "projected_qr",
    "projected_qr_rate",
    "projection_norms",
    "random_layers",
    "random_orthonormal",
    "required_width",
    "squared_norms",
    "trace_loss",
    "trace_of",
    "trace_rate",
    "unconstrained",
    "within_frobenius_norms",
    "within_operator_norms",
]
