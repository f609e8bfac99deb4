"""Networks with orthogonal layers for the tests of ``theory.orthogonal``: matrices C, starts, pairs, descent."""

from functools import partial

import numpy as np
import torch

from solo_frossl.theory.flow import descend
from solo_frossl.theory.orthogonal import (
    GRASSMANN,
    TraceMatrix,
    draw_pairs,
    outputs_at_eigenvectors,
    projected_flow,
    random_orthonormal,
    trace_loss,
)

INPUTS, OUTPUTS, WIDTH, SEEDS = 3, 2, 7, 2
MIXED = np.array([-1.0, -0.5, 0.8])
SPECTRA = {
    "two negative": np.array([-1.0, -0.4, 0.3, 0.8]),
    "all negative": np.array([-1.2, -0.9, -0.5, -0.1]),
    "all positive": np.array([0.2, 0.5, 0.7, 1.0]),
}
TRACE = TraceMatrix.of_eigenvalues([-1.0, 0.5, 0.8])
FLOWS = {"Eq. 8": GRASSMANN, "projected, 2 layers": projected_flow(2), "projected, 4 layers": projected_flow(4)}


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def rotated(eigenvalues, seed=5):
    """C whose eigenvectors are no axes."""
    return TraceMatrix.of_eigenvalues(eigenvalues, random_orthonormal(len(eigenvalues), len(eigenvalues), random(seed)))


def start(inputs, outputs, seed=0, size=0.5):
    """q whose largest singular value is ``size``."""
    q = np.random.default_rng(seed).normal(size=(inputs, outputs))
    return size * q / np.linalg.norm(q, 2)


def product_loss(p, trace):
    """The trace loss of a network that is one matrix, ``(..., z, d)``."""
    return ((p @ trace.matrix) * p).sum((-2, -1))


def descent(trace, weights, retract, learning_rate, time, *, parts=10, loss=trace_loss, observe=None):
    """Gradient descent seen about so many times on the way; q, or what ``observe`` says."""
    steps = round(time / learning_rate)
    return descend(
        partial(loss, trace=trace),
        weights,
        learning_rate=learning_rate,
        steps=steps,
        every=max(1, steps // parts),
        retract=retract,
        observe=observe or partial(outputs_at_eigenvectors, trace=trace),
    )


def assert_orthonormal(weights, tolerance=1e-7):
    for w in weights:
        eye = torch.eye(w.shape[-1], dtype=torch.float64)
        assert float((w.mT @ w - eye).abs().max()) < tolerance


def some_pairs(samples=12, inputs=4, contrastive=True):
    points = torch.randn(samples, inputs, generator=random(), dtype=torch.float64) + 1.5
    return draw_pairs(points, random(1), contrastive=contrastive)
