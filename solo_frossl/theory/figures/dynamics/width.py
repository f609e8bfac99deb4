"""Fig. 2 and Theorem 1: how far networks are from linear ones, by width."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from solo_frossl.theory.figures.dynamics.moons import draw_moons, mean_pair_loss
from solo_frossl.theory.figures.figure import TIME, Curve, Panel, Progress, TheoryFigure
from solo_frossl.theory.figures.images import Images
from solo_frossl.theory.flow import descend
from solo_frossl.theory.orthogonal import (
    ACTIVATIONS,
    Activation,
    expected_relative_difference_over,
    loglog_slope,
    output_difference,
    projected_polar,
    random_layers,
    trace_loss,
)


@dataclass(frozen=True)
class WidthDifference:
    """How far networks are from linear ones, by width, while both train from the same layers.

    Attributes:
        widths: ``(H,)``.
        time: ``(T,)`` learning rate times steps.
        absolute: activation to ``(H, T)``: median over initialisations of the root mean square over samples of
            ||u_phi - u_linear||. A mean would be that of one start near the saddle, where the two leave at other times.
        relative: activation to ``(H, T)``: median of that over the same of ||u_linear||.
        expected: activation to ``(H,)``: what Theorem 1's setting gives for the relative difference at the start.
    """

    widths: np.ndarray
    time: np.ndarray
    absolute: dict[str, np.ndarray]
    relative: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


def width_difference(
    *,
    widths: Sequence[int] = (10, 32, 100, 316, 1000),
    activations: Sequence[str] = ("tanh", "relu", "sigmoid"),
    samples: int = 40,
    initialisations: int = 10,
    learning_rate: float = 0.1,
    steps: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> WidthDifference:
    """Theorem 1 and Conjecture 1. The relative difference falls as 1/h for tanh and does not fall for ReLU."""
    points, _, pairs, trace, random = draw_moons(samples, seed)
    norms = points.norm(dim=1).numpy()
    absolute, relative, expected = {}, {}, {}
    for name in activations:
        activation, rows = ACTIVATIONS[name], []
        for width in widths:
            start = random_layers(3, width, 2, random, seeds=(initialisations,))

            def both(w1: Tensor, w2: Tensor, l1: Tensor, l2: Tensor, activation: Activation = activation) -> Tensor:
                return mean_pair_loss(w1, w2, pairs=pairs, activation=activation) + trace_loss(l1, l2, trace=trace)

            def apart(w1: Tensor, w2: Tensor, l1: Tensor, l2: Tensor, activation: Activation = activation) -> Tensor:
                return torch.from_numpy(np.stack(output_difference(points, (w1, w2), activation, (l1, l2))))

            seen = descend(
                both,
                (*start, *start),
                learning_rate=learning_rate,
                steps=steps,
                observe=apart,
                every=max(1, steps // 50),
                retract=projected_polar,
                progress=progress,
            )
            rows.append(seen.values)
        differences = np.stack(rows)
        absolute[name] = np.median(differences[:, :, 0], -1)
        relative[name] = np.median(differences[:, :, 0] / differences[:, :, 1], -1)
        expected[name] = np.array([expected_relative_difference_over(norms, activation, width) for width in widths])
    return WidthDifference(np.array(widths), seen.time, absolute, relative, expected)


def fig2(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Linear against non-linear networks by width, absolute and relative."""
    found = width_difference(seed=seed, progress=progress)
    words = {"tanh": "tanh", "relu": "ReLU", "sigmoid": "sigmoid"}
    panels = [
        Panel(
            f"absolute, while training: {words[name]}",
            TIME,
            "difference of outputs",
            tuple(
                Curve(f"h = {width}", "measured", found.time, row)
                for width, row in zip(found.widths, rows, strict=True)
            ),
            log_y=True,
        )
        for name, rows in found.absolute.items()
    ]
    for title, values, at in (
        ("absolute, at the start", found.absolute, 0),
        ("relative, at the start", found.relative, 0),
        ("relative, after training", found.relative, -1),
    ):
        curves = [Curve(words[name], "measured", found.widths, rows[:, at]) for name, rows in values.items()]
        if values is found.relative and at == 0:
            curves += [Curve(words[name], "closed form", found.widths, y) for name, y in found.expected.items()]
        relative = "relative difference" if values is found.relative else "difference of outputs"
        panels.append(Panel(title, "width h", relative, tuple(curves), True, True))
    slopes = {a: loglog_slope(found.widths, rows[:, -1]) for a, rows in found.relative.items()}
    return TheoryFigure(
        "dynamics-fig2",
        "Representation dynamics, Fig. 2 and Theorem 1: non-linear against linear networks by width",
        "At initialisation a wide network with any smooth activation is close to its linear counterpart; training keeps"
        " it so for tanh and, more slowly, for ReLU, not for sigmoid.",
        "The linear output itself falls with width, so only the relative difference says something. After training it"
        f" goes as h to the power {slopes['tanh']:.2f} with tanh, {slopes['relu']:.2f} with ReLU and"
        f" {slopes['sigmoid']:.2f} with sigmoid: only tanh, which is odd, comes closer to its linear network.",
        tuple(panels),
        "Theorem 1's bound falls no faster than the linear output, so it does not show that the two are close.",
        columns=3,
    )
