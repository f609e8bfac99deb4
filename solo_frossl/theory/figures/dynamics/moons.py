"""The half moons of Example 1, and losses as means over samples."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from solo_frossl.seeding import generator
from solo_frossl.theory.orthogonal import Activation, Pairs, TraceMatrix, draw_pairs, pair_loss


class Moons(NamedTuple):
    """Half moons and what is learned from.

    Attributes:
        points: ``(N, 3)``.
        labels: ``(N,)``, 0 and 1.
        pairs: of the points.
        trace: C as a mean over the pairs.
        random: what drew all this, to go on with.
    """

    points: Tensor
    labels: Tensor
    pairs: Pairs
    trace: TraceMatrix
    random: torch.Generator


def draw_moons(samples: int, seed: int) -> Moons:
    """So many points on two moons, with a positive and a negative each."""
    random = generator(seed, "theory")
    points, labels = half_moons(samples, random)
    pairs = draw_pairs(points, random)
    return Moons(points, labels, pairs, mean_trace(pairs), random)


def half_moons(
    samples: int, random: torch.Generator, *, height: float = 0.5, noise_variance: float = 0.005
) -> tuple[Tensor, Tensor]:
    """Two half moons lifted to R^3, one above the other, centred (Fig. 1a; the paper does not say how it lifts them).

    Args:
        samples: N, 2 or more.
        random: draws them.
        height: between the planes of the two moons.
        noise_variance: in each of the three coordinates.

    Returns:
        Points ``(N, 3)`` float64 and labels ``(N,)``, 0 and 1 in turn.

    Raises:
        ValueError: there are fewer than two samples.
    """
    if samples < 2:
        raise ValueError(f"samples is {samples}: two moons need at least 2")
    labels = torch.arange(samples) % 2
    angle = math.pi * torch.rand(samples, generator=random, dtype=torch.float64)
    sign, moved = 1.0 - 2.0 * labels, labels.double()
    points = torch.stack([sign * angle.cos() + moved, sign * angle.sin() + moved / 2, height * moved], 1)
    points += noise_variance**0.5 * torch.randn(samples, 3, generator=random, dtype=torch.float64)
    return points - points.mean(0), labels


def mean_trace(pairs: Pairs) -> TraceMatrix:
    """C over N."""
    return TraceMatrix(pairs.trace_matrix.matrix / len(pairs.anchors))


def mean_pair_loss(*weights: Tensor, pairs: Pairs, activation: Activation) -> Tensor:
    """The network's loss over N: ``(...)``."""
    return pair_loss(*weights, pairs=pairs, activation=activation) / len(pairs.anchors)
