"""Fig. 5: a linear SVM on what was learned, and how long a step takes."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.svm import LinearSVC
from torch import Tensor

from solo_frossl.seeding import generator
from solo_frossl.theory.figures.dynamics.moons import draw_moons, mean_pair_loss, mean_trace
from solo_frossl.theory.figures.figure import Curve, Panel, Progress, TheoryFigure
from solo_frossl.theory.figures.images import Images
from solo_frossl.theory.flow import descend
from solo_frossl.theory.orthogonal import (
    ACTIVATIONS,
    GRASSMANN,
    draw_pairs,
    evolve,
    network,
    outputs_at_eigenvectors,
    projected_flow,
    projected_polar,
    random_layers,
    trace_loss,
    trace_rate,
)


@dataclass(frozen=True)
class Downstream:
    """Fig. 5: a linear SVM on embeddings of two classes of images; and how long a step takes.

    Attributes:
        widths: ``(H,)``.
        accuracy: name to ``(H, S)`` percent of held-out images, by start. Names: ``tanh network`` and ``linear
            network`` (projected descent), ``Eq. 8`` and ``projected flow`` (the equations from the linear network's
            start), and ``start`` (the tanh network before training).
        pixels: percent, an SVM on the images themselves.
        held_out: how many images the percentages are of.
    """

    widths: np.ndarray
    accuracy: dict[str, np.ndarray]
    pixels: float
    held_out: int


def downstream(
    images: Tensor,
    labels: Tensor,
    *,
    widths: Sequence[int] = (100, 200, 400),
    outputs: int = 2,
    noise_variance: float = 0.1,
    starts: int = 3,
    learning_rate: float = 0.02,
    steps: int = 150,
    seed: int = 0,
    progress: Progress | None = None,
) -> Downstream:
    """Downstream accuracy of the equation against training networks.

    Args:
        images: ``(N, D)``, N rows of numbers of order 1.
        labels: ``(N,)`` of two classes.
        widths: h, at least D.
        outputs: z.
        noise_variance: of each pixel of a positive.
        starts: random starts for each width.
        learning_rate: of gradient descent.
        steps: of gradient descent.
        seed: of the split, the noise and the starts.
        progress: told of steps, 2 x widths x steps in all.

    Raises:
        ValueError: shapes do not fit, there are not two classes, or a width is below D.
    """
    if images.ndim != 2 or labels.shape != images.shape[:1] or len(labels.unique()) != 2:
        raise ValueError(
            f"images must be (N, D) with labels (N,) of two classes, got {tuple(images.shape)}, {tuple(labels.shape)}"
            f" and {len(labels.unique())} classes"
        )
    random = generator(seed, "theory")
    order = torch.randperm(len(images), generator=random)
    images, labels = images.double()[order], labels[order]
    train, test = slice(0, len(images) // 2), slice(len(images) // 2, None)
    images = images - images[train].mean(0)
    pairs = draw_pairs(images[train], random, noise_variance=noise_variance)
    trace = mean_trace(pairs)
    score = partial(_svm_accuracy, labels=labels.numpy(), train=train, test=test)
    accuracy: dict[str, list[list[float]]] = {
        name: [] for name in ("tanh network", "linear network", "Eq. 8", "projected flow", "start")
    }
    tanh = ACTIVATIONS["tanh"]
    for width in widths:
        start = random_layers(images.shape[1], width, outputs, random, seeds=(starts,))
        options = {"learning_rate": learning_rate, "steps": steps, "every": steps, "retract": projected_polar}
        for name, loss, activation in (
            ("tanh network", partial(mean_pair_loss, pairs=pairs, activation=tanh), tanh),
            ("linear network", partial(trace_loss, trace=trace), ACTIVATIONS["linear"]),
        ):
            embed = partial(network, images, activation=activation)
            seen = descend(loss, start, observe=embed, progress=progress, **options).values
            accuracy[name].append([score(u) for u in seen[-1]])
            if name == "tanh network":
                accuracy["start"].append([score(u) for u in seen[0]])
        q = outputs_at_eigenvectors(*start, trace=trace).numpy()
        for name, flow in (("Eq. 8", GRASSMANN), ("projected flow", projected_flow())):
            end = evolve(q, trace.eigenvalues, [0.0, learning_rate * steps], flow=flow).values[-1]
            coordinates = (images @ trace.vectors).numpy()  # u(x) = q^T V^T x
            accuracy[name].append([score(coordinates @ each) for each in end])
    return Downstream(
        np.array(widths),
        {name: np.array(values) for name, values in accuracy.items()},
        score(images.numpy()),
        len(labels[test]),
    )


def _svm_accuracy(embeddings: np.ndarray, *, labels: np.ndarray, train: slice, test: slice) -> float:
    """Percent of the test part that a linear SVM gets right, on embeddings of unit variance."""
    scale = embeddings[train].std(0)
    scaled = (embeddings - embeddings[train].mean(0)) / np.where(scale > 1e-12, scale, 1.0)
    svm = LinearSVC(dual=False, random_state=0).fit(scaled[train], labels[train])
    return 100 * float(svm.score(scaled[test], labels[test]))


@dataclass(frozen=True)
class StepTimes:
    """Fig. 5, left: seconds a step by width, of this machine at this moment; compare them within one result only.

    Attributes:
        widths: ``(H,)``.
        network: ``(H,)`` a gradient step of the tanh network with its projection.
        equation: ``(H,)`` a step of Eq. 8's Euler scheme, which does not know the width.
    """

    widths: np.ndarray
    network: np.ndarray
    equation: np.ndarray


def step_times(
    *,
    widths: Sequence[int] = (10, 32, 100, 316, 1000),
    outputs: int = 2,
    samples: int = 200,
    repeats: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> StepTimes:
    """Time a step of gradient descent and of the equation: the fastest of some repeats."""
    _, _, pairs, trace, random = draw_moons(samples, seed)
    loss = partial(mean_pair_loss, pairs=pairs, activation=ACTIVATIONS["tanh"])
    by_network, by_equation = [], []
    for width in widths:
        weights = random_layers(3, width, outputs, random)
        q = outputs_at_eigenvectors(*weights, trace=trace).numpy()
        step = partial(
            descend, loss, weights, learning_rate=0.01, steps=1, observe=lambda *w: w[0][0], retract=projected_polar
        )
        by_network.append(_fastest(step, repeats))
        by_equation.append(_fastest(partial(trace_rate, q, trace.eigenvalues), repeats))
        if progress is not None:
            progress(1)
    return StepTimes(np.array(widths), np.array(by_network), np.array(by_equation))


def _fastest(work: Callable[[], object], repeats: int) -> float:
    best = math.inf
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def fig5(images: Images, seed: int, progress: Progress) -> TheoryFigure:
    """A linear SVM on embeddings of two classes, and how long a step takes."""
    found = downstream(images.x, images.label, seed=seed, progress=progress)
    against = " against ".join(images.classes)
    seconds = step_times(progress=progress)
    accuracy = tuple(
        Curve(name, "measured", found.widths, np.median(values, axis=1)) for name, values in found.accuracy.items()
    )
    flat = Curve("pixels", "guide", found.widths, np.full(len(found.widths), found.pixels))
    times = (
        Curve("tanh network", "measured", seconds.widths, 1e3 * seconds.network),
        Curve("Eq. 8", "measured", seconds.widths, 1e3 * seconds.equation),
    )
    best = {name: float(np.median(values[-1])) for name, values in found.accuracy.items()}
    return TheoryFigure(
        "dynamics-fig5",
        "Representation dynamics, Fig. 5: time of a step, and a linear SVM on what was learned",
        "Solving the equation is much faster than training the network, and its embedding is as good for a linear SVM"
        " on two classes of images.",
        f"At width {seconds.widths[-1]} a step of the tanh network takes"
        f" {seconds.network[-1] / seconds.equation[-1]:.0f} times as long as one of Eq. 8. On {found.held_out} held-out"
        f" images ({images.name}), {against}, at width {found.widths[-1]}: "
        + ", ".join(f"{name} {value:.1f} %" for name, value in best.items())
        + f", the pixels themselves {found.pixels:.1f} %.",
        (
            Panel("time of a step", "width h", "milliseconds", times, log_x=True, log_y=True),
            Panel(f"linear SVM, {_short(against)}", "width h", "accuracy, %", (*accuracy, flat)),
        ),
    )


def _short(text: str, most: int = 36) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
